"""The answers of the status address: JSON of figures and of pictures, how often they are made, and who gets them."""

import base64
import io
import json
import math
import os
import socket
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring.observation import Observation
from stoker.pipeline.monitoring.throughput import BatchTimings
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Dataset
from stoker.trainer.status.batch_page import INTERVAL_S, MAX_PICTURE_BYTES, MAX_SIDE, STALE_S, BatchPage, document
from stoker.trainer.status.details import ANSWERS_PER_S, MAX_NEXT_S, MAX_SHARE, MIN_NEXT_S, Rhythm
from stoker.trainer.status.figures import Kept, json_bytes, memory_bytes, rounded
from stoker.trainer.status.gate import HEADERS, Gate, Refused, head_of
from stoker.trainer.status.server import MAX_TOLD, StatusServer
from stoker.trainer.status.static_pages import static_pages
from stoker.trainer.status.status import Page
from tests.support.asking import ask, connected

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize("value, shown", [
    (None, None), (math.nan, None), (math.inf, None), (-math.inf, None), (1e300, None), (0.123456789, 0.12346),
    (12345.678, 12345.68), (0, 0), (-3.5, -3.5)])
def test_what_is_no_finite_number_is_null(value, shown):
    assert rounded(value) == shown
    json_bytes({"value": rounded(value)})


def test_json_is_ascii_and_no_html():
    body = json_bytes({"path": "</script>\udcff\u202e\U0001f600"})
    assert b"<" not in body and json.loads(body.decode("ascii")) == {"path": "</script>\udcff\u202e\U0001f600"}
    with pytest.raises(ValueError):
        json_bytes({"value": math.nan})


def test_the_memory_is_that_of_this_process():
    psutil = pytest.importorskip("psutil")
    assert memory_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_what_is_kept_is_made_again_after_its_time_or_when_its_key_changes():
    now, made = [100.0], []

    def make():
        made.append(now[0])
        return len(made)
    kept = Kept(make, 0.5, lambda: now[0])
    assert [kept.get(False) for _ in range(100)] == [1] * 100
    now[0] += 0.4
    assert kept.get(False) == 1 and kept.get(True) == 2 and kept.get(True) == 2
    now[0] += 0.6
    assert kept.get(True) == 3 and made == [100.0, 100.4, 101.0]


def play(askers, seconds, cost_s=0.0):
    """So many pages ask, each after ``next_s``. Returns the Rhythm, and the answers in the last half."""
    rhythm, due, answers = Rhythm(0.0), [number / (askers + 1) for number in range(askers)], 0
    now = 0.0
    while now < seconds:
        now = min(due)
        page = due.index(now)
        rhythm.asked(now)
        rhythm.cost(cost_s)
        answers += now > seconds / 2
        due[page] = now + rhythm.next_s
    return rhythm, answers / (seconds / 2)


@pytest.mark.parametrize("askers, next_s", [(1, 1.0), (3, 1.0), (10, 1.0), (40, 4.0), (100, 10.0), (1000, MAX_NEXT_S)])
def test_the_more_ask_the_more_rarely_each_should(askers, next_s):
    rhythm, answers_per_s = play(askers, 120.0)
    assert rhythm.next_s == pytest.approx(next_s, rel=0.3)
    assert answers_per_s <= max(1.5 * ANSWERS_PER_S, 1.2 * askers / MAX_NEXT_S)


def test_pages_that_have_gone_are_forgotten():
    rhythm, _ = play(100, 60.0)
    for second in range(100, 160):
        rhythm.asked(float(second))
    assert rhythm.next_s == MIN_NEXT_S


def test_a_page_that_costs_much_is_made_more_rarely():
    assert play(1, 60.0, 0.008)[0].next_s == pytest.approx(0.008 / MAX_SHARE, rel=0.1)
    assert play(1, 60.0, 60.0)[0].next_s == MAX_NEXT_S


class View:
    def __init__(self, name="image", kind="picture", png=b"", text=""):
        self.name, self.kind, self.png, self.text = name, kind, png, text


SOURCE = Dataset("/data", ("cats", "<dogs>"), ("cats/a\udcff.jpg", "<dogs>/\x1b[2Jb.jpg"), (0, 1), ())


def batch_of(count=2, source=SOURCE, **more):
    return Batch(7, 2, True, tuple(range(count)), (np.zeros((count, 4, 4, 3), np.uint8),), (), "host:1/0", 1, 0.1,
                 tuple(range(count)), specs=(ArraySpec("image", "uint8", (4, 4, 3)),), source=source, **more)


def test_the_samples_of_a_batch_with_their_names():
    found = document(batch_of(), [[View(png=b"PNG")], [View("<b>", "text", text="1 2\n3")]])
    assert (found["step"], found["epoch"], found["training"], found["size"]) == (7, 3, True, 2)
    assert found["samples"] == [
        {"index": 0, "name": "cats/a\\xff.jpg", "label": "cats",
         "views": [{"name": "image", "kind": "picture", "png": base64.b64encode(b"PNG").decode(), "text": ""}]},
        {"index": 1, "name": "<dogs>/\\x1b[2Jb.jpg", "label": "<dogs>",
         "views": [{"name": "<b>", "kind": "text", "png": "", "text": "1 2\\n3"}]}]
    json_bytes(found)


def test_the_samples_of_a_batch_function_have_no_names():
    found = document(batch_of(source=None), [[View()]])
    assert (found["samples"][0]["index"], found["samples"][0]["name"], found["samples"][0]["label"]) == (None, "", "")


def test_large_pictures_are_fewer():
    found = document(batch_of(), [[View(png=b"x" * MAX_PICTURE_BYTES)]] * 2)
    assert len(found["samples"]) == 1


def test_pictures_are_small_and_are_what_the_batch_holds():
    Image = pytest.importorskip("PIL.Image")
    from stoker.trainer.drawing.pictures import views_of
    batch = batch_of()
    batch.arrays[0][1] = 200
    shown = document(batch, views_of(batch, range(2), MAX_SIDE, level=0))["samples"]
    for number, colour in ((0, 0), (1, 200)):
        picture = Image.open(io.BytesIO(base64.b64decode(shown[number]["views"][0]["png"])))
        assert picture.getpixel((1, 1)) == (colour,) * 3 and max(picture.size) <= MAX_SIDE


class Insight:
    """Of a run in which batches come when the test says so."""

    def __init__(self):
        self.seconds, self.is_over = 100.0, False
        self.observation = Observation(Plan(1000, 2, 1, 0, 0), 0, self.seconds)

    def now(self):
        return self.seconds

    def comes(self, step=7):
        batch = replace(batch_of(), step=step)
        self.observation.taken(batch, BatchTimings(*[0.01] * 7), None, self.seconds)
        return weakref.ref(batch.arrays[0])


def shown(page):
    return json.loads(page.page().body.decode())["step"]


def test_a_batch_is_shown_only_if_asked_for_and_its_memory_is_given_back():
    pytest.importorskip("PIL")
    run = Insight()
    page = BatchPage(run, run)
    run.comes()
    assert run.observation.batch is None                     # nobody has asked
    assert shown(page) is None
    memory = run.comes(8)
    assert memory() is not None
    run.comes(9)
    page.draw()
    assert memory() is None and shown(page) == 8
    run.seconds += INTERVAL_S - 0.1
    assert shown(page) == 8
    run.comes(10)
    assert run.observation.batch is None                     # too early for another one
    run.seconds += 0.2
    assert shown(page) == 8
    run.comes(11)
    page.draw()
    assert shown(page) == 11
    page.draw()                                              # there is nothing new
    assert shown(page) == 11
    run.seconds += STALE_S + 1
    assert shown(page) is None                               # a newer one is waited for
    run.is_over = True
    assert shown(page) == 11


def test_without_pillow_a_sentence_says_so(monkeypatch):
    run = Insight()
    page = BatchPage(run, run)
    page.page()
    run.comes()
    monkeypatch.setitem(sys.modules, "stoker.trainer.drawing.pictures", None)
    page.draw()
    assert page.page().code == 501 and b"pip install pillow" in page.page().body


def test_a_batch_that_cannot_be_drawn_ends_nothing(monkeypatch, caplog):
    run = Insight()
    page = BatchPage(run, run)
    page.page()
    run.observation.taken(replace(batch_of(), source=Broken()), BatchTimings(*[0.01] * 7), None, run.seconds)
    page.draw()
    assert page.page().code == 500 and b"step 7 cannot be shown: ZeroDivisionError" in page.page().body
    assert "(a bug in Stoker)" in caplog.text


class Broken:
    """A source that fails."""
    classes = ()

    def samples(self, indices):
        return 1 // 0


def test_static_pages_need_no_token_and_everything_else_does():
    gate, host = Gate(TOKEN, True, ("/", "/page.js")), b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for path in (b"/", b"/page.js", b"/?a=b"):
        assert gate.path(b"GET " + path + host)[0] == path.decode().partition("?")[0]
        assert gate.path(b"HEAD " + path + host)[0]
    for line in (b"GET /status.json", b"GET /details.json", b"GET /page.js/", b"GET //", b"GET /page%2Ejs",
                 b"POST /", b"GET /PAGE.JS"):
        with pytest.raises(Refused) as caught:
            gate.path(line + host)
        assert caught.value.code == 401
    with pytest.raises(Refused) as caught:
        gate.path(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert caught.value.code == 403


@pytest.mark.timeout(60)
def test_a_header_of_spaces_is_read_in_one_pass():
    """With a pattern that takes spaces in two places, these would take minutes of the trainer's time."""
    gate, line = Gate(None, True), b"GET / HTTP/1.1\r\nHost: localhost\r\na:" + b" " * 8000
    for _ in range(200):
        with pytest.raises(Refused) as caught:
            gate.path(line + b"\0\r\n\r\n")
        assert caught.value.code == 400
    assert gate.path(line + b"\r\n\r\n")[0] == "/"


def test_the_head_of_an_answer():
    head = head_of(Page(200, "text/html; charset=utf-8", b"12345")).decode("ascii")
    for line in ("HTTP/1.1 200 OK", "Content-Type: text/html; charset=utf-8", "Content-Length: 5", "Connection: close",
                 "X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer", "X-Frame-Options: DENY",
                 "Cache-Control: no-store", "Cross-Origin-Resource-Policy: same-origin",
                 "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
                 "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"):
        assert line + "\r\n" in head
    assert head.endswith("\r\n\r\n") and "unsafe" not in HEADERS


def test_the_static_pages_are_in_the_package():
    pages = static_pages()
    assert set(pages) == {"/", "/page.css", "/page.js"} and all(page.body for page in pages.values())
    assert b"/page.js" in pages["/"].body or b"page.js" in pages["/"].body


@pytest.fixture
def served():
    """A server with one page for all users and one for this user, and the users that it takes its clients for."""
    woken, users = [], [0]
    pages = {"/all": lambda: Page(200, "text/plain", b"all"), "/own": lambda: Page(200, "text/plain", b"own")}
    server = StatusServer("127.0.0.1", 0, None, pages, static={"/": Page(200, "text/html", b"static")},
                          private=("/own",), woken=lambda: woken.append(True))
    server.woken, server.users = woken, users
    yield server
    server.stop()


def test_this_user_may_see_its_own_pages(served):
    assert ask(served.url, "/own")[2] == b"own" and ask(served.url, "/")[2] == b"static"


@pytest.mark.parametrize("user", [None, 54321])
def test_other_users_may_not(served, user):
    class Owners:
        def of_peer(self, fd):
            return user

        def close(self):
            pass
    served._owners = Owners()
    code, _, body = ask(served.url, "/own")
    assert code == 403 and b"--status-token-file FILE" in body and b"own\n" not in body
    assert ask(served.url, "/all")[2] == b"all" and ask(served.url, "/")[2] == b"static"


def test_one_client_that_is_many_users_does_not_fill_the_log(served, caplog):
    class Owners:
        def of_peer(self, fd):
            served.users.append(served.users[-1] + 100000)
            return served.users[-1]

        def close(self):
            pass
    served._owners = Owners()
    for _ in range(110):
        assert ask(served.url, "/own")[0] == 403
    assert len(served.users) == 111 and len(caplog.records) == MAX_TOLD


def test_a_server_that_is_woken(served):
    from tests.support.processes import wait_for
    served.wake()
    wait_for(lambda: served.woken, "the server's thread")
    served.stop()
    reading, writing = os.pipe()
    try:
        os.dup2(writing, served._stop_fd)
        served.wake()                            # nothing is written into another file
        os.write(writing, b"end")
        assert os.read(reading, 10) == b"end"
    finally:
        for descriptor in {reading, writing, served._stop_fd}:
            os.close(descriptor)


def test_a_client_that_has_gone_is_no_refusal(served, caplog):
    """Its socket has no user any more: as if it were another user's."""
    asked, gone = threading.Event(), threading.Event()

    class Owners:
        def of_peer(self, fd):
            asked.set()
            assert gone.wait(60)
            return None

        def close(self):
            pass
    served._owners = Owners()
    with connected(served.url) as sock:
        sock.sendall(b"GET /own HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asked.wait(60)
        sock.shutdown(socket.SHUT_WR)
        gone.set()
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert ask(served.url, "/all")[2] == b"all" and not caplog.records
