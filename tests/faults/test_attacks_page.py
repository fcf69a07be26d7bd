"""Attacks on the status page and its data: a hundred pages, floods and slow readers of large answers, other users of
the host, hostile names, batches that are strange or huge. The run goes on, with the bytes of an undisturbed one."""

import base64
import io
import os
import re
import socket
import sys
import threading
import time
import weakref
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image

from stoker.pipeline.text import printable
from tests.support.asking import TOKEN, answer_to, ask, connected, figures, token_file, url_of, went_well
from tests.support.other_user import as_other_user
from tests.support.processes import opened, wait_for
from tests.support.visiting import codes, status_cpu_s, strict, texts_of, visiting

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3, "workers": 1}      # 120 pictures: 15 steps an epoch
EPOCHS = 16
LOOKS = ("/details.json", "/batch.json")
BASE64 = re.compile(r"[A-Za-z0-9+/]+=*$")


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory, worker_python):
    """The content of the undisturbed run."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", epochs=EPOCHS, worker_python=worker_python,
                **OPTIONS) as run:
        run.take_all()
    return run.content()


@pytest.fixture
def looked_at(pictures, tmp_path, worker_python):
    """A run whose page is made already: what is imported first was imported."""
    with opened(pictures, tmp_path / "audit", epochs=EPOCHS, status="127.0.0.1:0", worker_python=worker_python,
                **OPTIONS) as run:
        run.take(1)
        url = url_of(run.stream)
        assert ask(url, "/metrics")[0] == 200
        run.shown = next_batch(run, url)
        yield run


def next_batch(run, url, token=None):
    """What /batch.json says, as soon as there is one: the run goes on meanwhile."""
    for _ in range(200):
        code, _, body = ask(url, "/batch.json", token)
        assert code == 200, body
        said = strict(body)
        if said["step"] is not None:
            return said
        run.take(1)
    raise AssertionError("no batch was shown")


def paced(run, seconds, batches_s=15):
    """Takes batches for so long, evenly. Returns how many."""
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        run.take(1)
        count += 1
        time.sleep(max(0.0, begun + count / batches_s - time.monotonic()))
    return count


def test_a_hundred_open_pages(looked_at, reference, attacks):
    url = url_of(looked_at.stream)

    def cost(pages, seconds):
        """CPU seconds of the server's thread, and the number of its answers."""
        cpu_s = status_cpu_s()
        with visiting(url, pages, 1) as visitor:
            paced(looked_at, seconds)
        for path in LOOKS + ("/metrics",):
            assert set(codes(visitor.got, path)) == {"200"}, (path, visitor.got)
        return status_cpu_s() - cpu_s, sum(sum(codes(visitor.got, path).values()) for path in visitor.got), visitor.got
    small_s = status_cpu_s()
    for _ in range(50):
        ask(url, "/page.css")
    small_s = (status_cpu_s() - small_s) / 50           # for an answer that is there
    one_s, _, _ = cost(1, 5)
    hundred_s, answers, got = cost(100, 5)
    # a page is made once for all, and many are asked to come less often: they cost what it takes to send it
    assert hundred_s < 4 * one_s + 3 * answers * small_s, (one_s, hundred_s, small_s, got)
    assert sum(codes(got, "/details.json").values()) < 100 * 5
    went_well(looked_at, reference)
    attacks("a client of --status", "a hundred open pages", "each gets its answers; they are made once for all, twice "
            "a second at most, and many pages are told to ask less often; the run goes on, with the same bytes")


def test_a_flood_for_the_batch(looked_at, reference, attacks):
    url, stop, bodies = url_of(looked_at.stream), threading.Event(), []

    def flood():
        while not stop.is_set():
            for path in LOOKS:
                try:
                    bodies.append(answer_to(url, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()))
                except OSError:
                    pass
    flooding = [threading.Thread(target=flood, name="flood", daemon=True) for _ in range(6)]
    begun = time.monotonic()
    for thread in flooding:
        thread.start()
    paced(looked_at, 5)
    stop.set()
    for thread in flooding:
        thread.join()
    passed = time.monotonic() - begun
    answered = [strict(body.partition(b"\r\n\r\n")[2]) for body in bodies if body.startswith(b"HTTP/1.1 200 ")]
    made = {said["made_s"] for said in answered if said.get("step", None) is not None and "samples" in said}
    assert len(answered) > 50 and 1 <= len(made) <= passed / 2 + 2, (len(answered), len(made), passed)
    assert len({said["now_s"] for said in answered if "now_s" in said}) <= passed / 0.5 + 2
    went_well(looked_at, reference)
    attacks("a client of --status", "asks for the pictures and the details as often as it can, on 6 connections",
            "pictures are made every 2 s at most, details every 0.5 s: the others get the same bytes again")


def test_slow_readers_of_a_large_answer(pictures, tmp_path, worker_python, attacks):
    """Each holds its connection for as long as a request may take, and no copy of the answer."""
    options = dict(OPTIONS, image_size=(160, 160), batch_size=16, prefetch=2)
    with opened(pictures, tmp_path / "undisturbed", epochs=6, worker_python=worker_python, **options) as undisturbed:
        undisturbed.take_all()
    with opened(pictures, tmp_path / "audit", epochs=6, status="127.0.0.1:0", worker_python=worker_python,
                **options) as run:
        url, process = url_of(run.stream), psutil.Process()
        next_batch(run, url)
        large = len(ask(url, "/batch.json")[2])
        assert large > 300000
        memory, cpu_s, slow = process.memory_info().rss, status_cpu_s(), []
        for _ in range(40):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            parts = urlsplit(url)
            sock.settimeout(60)
            sock.connect((parts.hostname, parts.port))
            sock.sendall(b"GET /batch.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.setblocking(False)
            slow.append(sock)
        end, read, gone, answered_s, taken = time.monotonic() + 7, 0, 0, [], 0
        while time.monotonic() < end:
            for sock in slow:
                try:
                    read += len(sock.recv(512))
                except BlockingIOError:
                    pass
                except OSError:
                    gone += 1
            asked = time.monotonic()
            assert figures(url)["over"] is False
            answered_s.append(time.monotonic() - asked)
            if taken < 30:              # and not kept: its pictures are larger than the answer
                next(run.stream)
                taken += 1
            time.sleep(0.02)
        grown = process.memory_info().rss - memory
        assert grown < 40 * large, "each reader has a copy of its own: %d MB" % (grown >> 20)
        assert status_cpu_s() - cpu_s < 0.3 * 7, "a slow reader keeps the thread busy"
        for sock in slow:
            sock.close()
        run.take_all()
        assert run.content() == undisturbed.content() and not run.log.having("(a bug in Stoker)")
    attacks("a client of --status", "40 connections that read an answer of %.0f MB at 512 bytes a time" % (large / 1e6),
            "each ends after 5 s, others are answered at once; the answer is in memory once")


def test_clients_that_hang_up_in_the_middle(looked_at, reference):
    url = url_of(looked_at.stream)
    files = psutil.Process().num_fds()
    for number in range(300):
        sock = connected(url)
        request = b"GET /batch.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sock.sendall(request[:number % len(request) + 1])
        if number % 3 == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")     # a reset
        elif number % 3 == 1:
            sock.shutdown(socket.SHUT_WR)
        sock.close()
        if number % 50 == 0:
            looked_at.take(1)
    wait_for(lambda: psutil.Process().num_fds() <= files + 2, "the end of the connections")
    went_well(looked_at, reference)


def test_only_get_and_head_and_only_these_paths(looked_at, reference):
    url = url_of(looked_at.stream)
    for path in ("/", "/page.css", "/page.js") + LOOKS + ("/status.json", "/metrics"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PRI"):
            answer = answer_to(url, ("%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (method, path)).encode())
            assert answer.startswith(b"HTTP/1.1 405 "), (method, path, answer[:80])
        answer = answer_to(url, ("HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path).encode())
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n"), answer[-80:]
    for path in ("/page.py", "/../page.css", "/page.css/", "//page.css", "/./page.css", "/%70age.css", "/page.css%00",
                 "/page/page.css", "/index.html/../../status.py", "/..%2fstatus.py", "/page.js.map", "/.", "/..",
                 "/batch.json/", "/Batch.json", "/details.json;x", "/\\page.css", "/page.css\\..\\x"):
        answer = answer_to(url, ("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path).encode())
        assert answer[9:12] in (b"404", b"400"), (path, answer[:60])
        assert b"def " not in answer and b"import " not in answer
    for query in ("?", "?a=b", "?token=" + TOKEN, "?/../../etc/passwd", "?%00"):
        assert ask(url, "/details.json" + query)[0] == 200
    went_well(looked_at, reference)


def test_the_page_itself_permits_nothing_from_outside(looked_at, reference):
    url = url_of(looked_at.stream)
    for path in ("/", "/page.css", "/page.js") + LOOKS + ("/status.json", "/metrics", "/nothing"):
        _, headers, body = ask(url, path)
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store", path
        assert "Access-Control-Allow-Origin" not in headers
        if path in ("/", "/page.css", "/page.js"):
            assert b"://" not in body.replace(b"http://www.w3.org/2000/svg", b""), path
            assert looked_at.stream.run_id.encode() not in body
    policy = ask(url, "/")[1]["Content-Security-Policy"]
    wanted = {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "data:",
              "connect-src": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    given = dict(part.strip().partition(" ")[::2] for part in policy.split(";") if part.strip())
    assert given == wanted
    went_well(looked_at, reference)


def test_another_user_of_the_host(looked_at, reference, attacks):
    url = url_of(looked_at.stream)

    def ask_as_other():
        for path in LOOKS:
            code, _, body = ask(url, path)
            assert code == 403 and b".jpg" not in body and b"samples" not in body, (path, code, body)
        for path in ("/status.json", "/metrics", "/", "/page.css"):
            assert ask(url, path)[0] == 200, path
    as_other_user(ask_as_other)
    assert looked_at.log.having("status: refused a request from ")
    went_well(looked_at, reference)
    attacks("another user of the host", "asks for the details and the pictures at --status, without a token", "403: "
            "without a token, names of files and pictures are for the trainer's user (and root), as the kernel says "
            "whose the connection is; step, rate and numbers of workers are for every user")


def test_guessing_the_token(reference, pictures, tmp_path, worker_python, attacks):
    """No answer says how much of a guess was right."""
    options = dict(OPTIONS, status="127.0.0.1:0", status_token_file=token_file(tmp_path), worker_python=worker_python)
    with opened(pictures, tmp_path / "audit", epochs=2, **options) as run:
        url, answers = url_of(run.stream), set()
        guesses = [TOKEN[:length] + "x" * (32 - length) for length in range(0, 32, 3)] + ["", "x", TOKEN + "0", "\xe9"]
        for guess in guesses:
            for path in LOOKS + ("/status.json", "/metrics", "/nothing"):
                code, headers, body = ask(url, path, guess)
                answers.add((code, body, headers["WWW-Authenticate"]))
        assert len(answers) == 1 and answers.pop()[0] == 401
        for header in ("Basic " + base64.b64encode(TOKEN.encode()).decode(), TOKEN, "Bearer", "Token " + TOKEN):
            assert ask(url, "/details.json", Authorization=header)[0] == 401
        assert ask(url, "/details.json?token=" + TOKEN)[0] == 401
        for path in ("/", "/page.css", "/page.js"):
            assert ask(url, path)[0] == 200
        for path in LOOKS + ("/status.json", "/metrics"):
            assert ask(url, path, TOKEN)[0] == 200
        assert not [line for line in run.log.lines if TOKEN in line]
        run.take_all()
    assert run.content() == reference[:len(run.content())]
    attacks("another host, or user", "guesses the token of --status, in a header, with other schemes, in the address",
            "401, the same answer whatever part of a guess is right")


HOSTILE = ("<script>alert(1)<", "'\"><img src=x onerror=alert(1)>", "\x1b]0;owned\x07\x1b[2J", "two\nlines\r\n",
           "\u202egpj.exe", "&lt;b&gt;", "\udcff\udcfe bytes", "%3Cscript%3E", "${7*7}{{7*7}}", " ", "\u2028",
           "a" * 200, "\x7f\x9b31m", "\ufeff", "{\"step\": 1}", "</script>", "\U0001f600", "NaN")


def test_hostile_names_stay_text(tmp_path, worker_python, attacks):
    """Of class folders, good files and bad files."""
    root = tmp_path / "data"
    for number, name in enumerate(HOSTILE):
        folder = os.path.join(os.fsencode(str(root)), os.fsencode(HOSTILE[number % 5].replace("/", "_")))
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, os.fsencode(name.replace("/", "_")))
        Image.fromarray(np.full((40, 40, 3), 13 * number, np.uint8)).save(os.fsdecode(file) + ".png")
        with open(file + b".bad.png", "wb") as bad:
            bad.write(b"no picture")
    with opened(str(root), tmp_path / "audit", epochs=3, status="127.0.0.1:0", worker_python=worker_python,
                **dict(OPTIONS, batch_size=36)) as run:
        url = url_of(run.stream)
        shown = next_batch(run, url)
        run.take(1)
        wait_for(lambda: strict(ask(url, "/details.json")[2])["bad"]["count"] == len(HOSTILE), "all bad files")
        details = strict(ask(url, "/details.json")[2])
        names = {text for page in (shown, details) for text in texts_of(page)}
        for text in names:
            assert printable(text) == text and (len(text) <= 310 or BASE64.match(text)), repr(text)
        assert any("<script>alert(1)<" in name for name in names)          # as it is: not escaped for HTML
        assert len(details["bad"]["newest"]) == len(HOSTILE)
        for path in LOOKS:
            _, headers, body = ask(url, path)
            assert headers["Content-Type"].startswith("application/json")
            assert b"<" not in body and b"\x1b" not in body and b"\n" not in body.strip(), "not even a browser that " \
                "guesses the type could take it for a page"
        run.take_all()
        assert not run.log.having("(a bug in Stoker)")
    attacks("a downloaded dataset", "names of folders and files with HTML, escape sequences, ends of lines, bytes that "
            "are no text", "on the status page they are text: they are escaped in its JSON, shown by textContent "
            "alone, and its policy permits no script but its own")


STRANGE = '''
import numpy as np
import stoker

@stoker.sample({"x": ("float32", (20, 30)), "deep": ("uint16", (24, 24)), "f": "float64", "flag": "bool",
                "many": ("int64", (stoker.UpTo(50), 3))})
def strange(sample, random):
    if sample.index % 3 == 0:
        raise stoker.Skip("<b>every third</b>\\x1b[31m")
    x = np.full((20, 30), np.nan if sample.index % 2 else np.inf, np.float32)
    return {"x": x, "deep": np.full((24, 24), 65535, np.uint16), "f": float("-inf"), "flag": True,
            "many": np.full((sample.index % 50, 3), 2 ** 62)}

@stoker.sample({"x": ("uint8", (8, 8, 3))})
def hollow(sample, random):
    if sample.index < 24:
        raise stoker.Skip("all of the first three batches")
    return {"x": np.zeros((8, 8, 3), np.uint8)}

@stoker.sample({"picture": ("uint8", (4000, 4000, 3)), "map": ("float32", (2000, 2000))})
def huge(sample, random):
    return {"picture": np.full((4000, 4000, 3), sample.index % 256, np.uint8),
            "map": np.full((2000, 2000), sample.index, np.float32)}
'''


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """A folder with the module ``strange_functions``, which is the current one."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "strange_functions.py").write_text(STRANGE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield folder
    sys.modules.pop("strange_functions", None)


def test_strange_arrays(strange, tmp_path, worker_python):
    """NaN, infinities, 16 bits, large integers, arrays without a value: JSON of the standard, and pictures that are."""
    with opened(60, tmp_path / "audit", generator="strange_functions:strange", batch_size=10, epochs=2, workers=1,
                worker_python=worker_python, status="127.0.0.1:0") as run:
        url = url_of(run.stream)
        shown = next_batch(run, url)
        assert 0 < len(shown["samples"]) <= 16
        for sample in shown["samples"]:
            assert [view["name"] for view in sample["views"]] == ["x", "deep", "f", "flag", "many"]
            for view in sample["views"]:
                if view["png"]:
                    picture = Image.open(io.BytesIO(base64.b64decode(view["png"], validate=True)))
                    picture.load()
                    assert max(picture.size) <= 400
        strict(ask(url, "/details.json")[2])
        run.take_all()
        assert not run.log.having("(a bug in Stoker)")


def test_batches_without_samples(strange, tmp_path, worker_python):
    with opened(80, tmp_path / "audit", generator="strange_functions:hollow", batch_size=8, epochs=2, workers=1,
                order="sequential", worker_python=worker_python, status="127.0.0.1:0") as run:
        url, sizes = url_of(run.stream), set()
        while not run.stream.is_over:
            ask(url, "/batch.json")
            run.take(1)
            said = strict(ask(url, "/batch.json")[2])
            if said["step"] is not None:
                assert len(said["samples"]) == min(16, said["size"])
                sizes.add(said["size"])
            time.sleep(0.1)
        assert 0 in sizes, sizes
        assert not run.log.having("(a bug in Stoker)")


def test_huge_pictures(strange, tmp_path, worker_python, figures, attacks):
    """A batch of 4000 x 4000 pictures: the consumer goes on meanwhile, and one batch at most is held."""
    batch_mb = 2 * (48 + 16)
    with opened(400, tmp_path / "audit", generator="strange_functions:huge", batch_size=2, epochs=1, workers=1,
                worker_python=worker_python, status="127.0.0.1:0", prefetch=2, prefetch_mb=1024) as run:
        url, process = url_of(run.stream), psutil.Process()
        alive, longest, stop = [], [0.0], threading.Event()

        def take():
            batch = next(run.stream)
            alive.append(weakref.ref(batch.arrays[0].base))
        for _ in range(5):
            take()
        memory = process.memory_info().rss

        def watch():
            """The longest time for which this interpreter was kept from a thread that only wants to run."""
            while not stop.is_set():
                begun = time.monotonic()
                time.sleep(0.001)
                longest[0] = max(longest[0], time.monotonic() - begun)
        watching = threading.Thread(target=watch, name="watch", daemon=True)
        watching.start()
        cpu_s, shown, asked = status_cpu_s(), None, time.monotonic()
        while shown is None:
            take()
            code, _, body = ask(url, "/batch.json")
            assert code == 200 and len(body) < 1 << 22
            shown = strict(body) if strict(body)["step"] is not None else None
            assert time.monotonic() < asked + 60
        cpu_s, took = status_cpu_s() - cpu_s, time.monotonic() - asked
        assert len(shown["samples"]) == 2
        for _ in range(6):
            take()
            ask(url, "/batch.json")
        stop.set()
        watching.join()
        grown = (process.memory_info().rss - memory) / 1e6
        time.sleep(2.5)
        blocks = len({id(reference()) for reference in alive if reference() is not None})
        figures("the status page with a batch of two pictures of 4000 x 4000 and maps: there in %.2f s, %.3f s of CPU; "
                "other threads waited %.3f s at most; memory grew by %.0f MB" % (took, cpu_s, longest[0], grown))
        assert grown < 2 * batch_mb, "%.0f MB" % grown
        assert blocks <= 8, blocks
        run.stream.interrupt()
    attacks("the data: a picture", "pictures of 4000 x 4000 in the batch that the status page shows", "they are "
            "thinned before they are made smaller; one batch is held, and let go of when it is drawn")


def test_a_page_that_was_open_leaves_nothing_in_memory(looked_at, reference):
    """Buffers are used again afterwards: no batch is kept."""
    url, kept = url_of(looked_at.stream), []

    def take(count):
        for _ in range(count):
            batch = next(looked_at.stream)
            kept.append(weakref.ref(batch))
            looked_at.batches.append(None)
    made = set()
    while len(made) < 4:                      # another one is shown every 2 s
        take(1)
        made.add(strict(ask(url, "/batch.json")[2])["made_s"])
        time.sleep(0.1)
    take(2)
    time.sleep(0.5)
    alive = [reference for reference in kept[:-1] if reference() is not None]
    assert len(alive) <= 1, len(alive)
    went_well(looked_at, reference)


def test_batches_of_evaluation_and_the_end(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", epochs=1, status="127.0.0.1:0", worker_python=worker_python,
                validation_split=0.5, **OPTIONS) as run:
        url, seen = url_of(run.stream), set()            # 8 steps of training, and 8 of the evaluation
        while not run.stream.is_over:
            run.take(1)
            said = strict(ask(url, "/batch.json")[2])
            strict(ask(url, "/details.json")[2])
            seen.add((said["step"] is not None, said.get("training")))
            time.sleep(0.1 if run.stream.due or (True, False) in seen else 0.8)     # another batch is shown every 2 s
        details = strict(ask(url, "/details.json")[2])
        assert details["over"] is True and details["step"] == details["steps"]
        assert ask(url, "/batch.json")[0] == 200
        assert (True, True) in seen and (True, False) in seen, seen
        assert not run.log.having("(a bug in Stoker)")
