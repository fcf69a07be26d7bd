"""The status address of real runs: what it says from the beginning to the end, and to whom."""

import re
import signal
import threading
import time

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.trainer.feed import open_stream
from stoker.trainer.status.server import MAX_CONNECTIONS, StatusServer
from stoker.trainer.status.status import VERSION, Page
from tests.support.asking import TOKEN, ask, connected, figures, token_file, url_of
from tests.support.processes import Program, free_port, opened, wait_for, workers_program

OPTIONS = dict(image_size=32, batch_size=8, status="127.0.0.1:0")      # 120 pictures: 15 steps


class Client(threading.Thread):
    """Asks again and again, as what scales the workers does, until the address has gone."""

    def __init__(self, url, interval_s):
        super().__init__(name="client", daemon=True)
        self._url, self._interval_s, self.said = url, interval_s, []
        self.start()

    def run(self):
        while True:
            try:
                self.said.append(figures(self._url))
            except OSError:
                return
            time.sleep(self._interval_s)


def test_a_run_from_its_beginning_to_its_end(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=0, min_workers=2, max_workers=5, **OPTIONS) as run:
        url = url_of(run.stream)
        run.log.wait_for("status: %s/" % url)
        said = figures(url)
        assert said.pop("memory_mb") > 1 and said.pop("elapsed_s") >= 0 and said.pop("since_last_batch_s") >= 0
        assert said == {
            "stoker": VERSION, "run": run.stream.run_id, "connect": run.stream.address, "step": 0, "steps": 15,
            "over": False,
            "workers": {"wanted": 2, "min": 2, "max": 5, "alive": 0, "ready": 0, "why": "no figures yet"},
            "unit": "images", "samples_per_s": None, "waiting_share": None, "bottleneck": None, "workers_needed": None,
            "window": {"size": said["window"]["size"], "ready": 0, "leased": 0}, "bad_files": 0, "epoch": 1,
            "epochs": 1}
        client = Client(url, 0.3)
        with workers_program(run.stream.address, "--processes", "1", "--once", python=worker_python):
            run.take(5)
            wait_for(lambda: figures(url)["workers"]["ready"] == 1, "the worker")
            assert figures(url)["step"] == 5
            run.take_all()
            assert figures(url)["over"] is True and figures(url)["workers"]["wanted"] == 0
            run.stream.close()
            client.join(60)
            assert not client.is_alive()
    assert client.said[0]["workers"]["wanted"] == 2
    assert client.said[-1]["over"] is True and client.said[-1]["workers"] == dict(
        client.said[-1]["workers"], wanted=0, why="the run is over")
    assert {said["run"] for said in client.said} == {run.stream.run_id}
    with pytest.raises(OSError):
        figures(url)


def test_a_client_that_asks_rarely_sees_the_end_of_a_quick_run(worker_python):
    with open_stream(400, "numerical", batch_size=8, workers=1, worker_python=worker_python,
                     status="127.0.0.1:0") as stream:
        client = Client(url_of(stream), 1.0)
        wait_for(lambda: client.said, "its first question")
        list(stream)
    client.join(60)
    assert client.said[-1]["over"] is True


@pytest.mark.parametrize("how", ["interrupted", "error"])
def test_a_run_that_ends_early_is_never_over(pictures, tmp_path, worker_python, how):
    """The trainer may come back: its workers should not end."""
    try:
        with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **OPTIONS) as run:
            client = Client(url_of(run.stream), 0.05)
            run.take(3)
            wait_for(lambda: client.said, "its first question")
            if how == "error":
                raise OverflowError
            run.stream.interrupt()
            run.take_all()
            assert len(run.batches) == 3
    except OverflowError:
        assert how == "error"
    client.join(60)
    assert not client.is_alive() and not any(said["over"] for said in client.said)


def test_the_answers(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **OPTIONS) as run:
        url = url_of(run.stream)
        code, headers, body = ask(url)
        assert code == 200 and headers["Content-Type"] == "application/json" and headers["Connection"] == "close"
        assert int(headers["Content-Length"]) == len(body) and headers["Cache-Control"] == "no-store"
        code, headers, body = ask(url, method="HEAD")
        assert code == 200 and body == b"" and int(headers["Content-Length"]) > 100
        assert ask(url, "/status.json?pretty=1")[0] == 200
        code, _, body = ask(url, "/nothing")
        assert (code, body) == (404, b"there is no such page; there are /, /batch.json, /details.json, /metrics, "
                                     b"/page.css, /page.js, /status.json\n")
        code, headers, _ = ask(url, method="DELETE")
        assert code == 405 and headers["Allow"] == "GET, HEAD"
        assert ask(url, "/metrics")[0] in (200, 501)
        run.take_all()


def test_prometheus_reads_the_metrics(pictures, tmp_path, worker_python):
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **OPTIONS) as run:
        run.take(4)
        code, headers, body = ask(url_of(run.stream), "/metrics")
        assert code == 200 and headers["Content-Type"].startswith("text/plain; version=")
        values = {family.name: family.samples[0].value for family in text_string_to_metric_families(body.decode())}
        assert values["stoker_step"] == 4 and values["stoker_steps"] == 15 and values["stoker_workers_wanted"] == 1
        run.take_all()


def test_ipv6_with_a_token(pictures, tmp_path, worker_python):
    options = dict(OPTIONS, status="[::1]:0", status_token_file=token_file(tmp_path))
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **options) as run:
        url = url_of(run.stream)
        assert re.match(r"http://\[::1\]:\d+$", url)
        assert ask(url)[0] == 401 and figures(url, TOKEN)["steps"] == 15
        run.take_all()


def test_beyond_loopback_the_url_has_the_name_of_the_host(pictures, tmp_path, worker_python):
    options = dict(OPTIONS, status="0.0.0.0:0", status_token_file=token_file(tmp_path))
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **options) as run:
        port = url_of(run.stream).rpartition(":")[2]
        assert figures("http://127.0.0.1:" + port, TOKEN)["step"] == 0
        run.take_all()


def test_a_port_that_is_in_use(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **OPTIONS) as run:
        address = url_of(run.stream)[len("http://"):]
        with pytest.raises(ConfigError, match="status %s: cannot listen there: Address already in use. Choose another "
                                              "port .0: a free one. or an address of this host" % address):
            open_stream(pictures, workers=1, worker_python=worker_python, status=address)
        with pytest.raises(ConfigError, match="cannot listen there: Cannot assign requested address"):
            open_stream(pictures, workers=1, status="203.0.113.1:0", status_token_file=token_file(tmp_path))
        with pytest.raises(ConfigError, match="status no-such-host.invalid:80: cannot listen there: "):
            open_stream(pictures, workers=1, status="no-such-host.invalid:80", status_token_file=token_file(tmp_path))
        run.take_all()


def test_a_connection_that_ends_for_a_new_one_while_it_sends():
    """Both are news of the same moment, and the server goes on."""
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(60)
        return Page(200, "text/plain", b"slow")
    server = StatusServer("127.0.0.1", 0, None, {"/slow": slow, "/quick": lambda: Page(200, "text/plain", b"quick")})
    idle = [connected(server.url) for _ in range(MAX_CONNECTIONS - 1)]
    try:
        wait_for(lambda: len(server._connections) == MAX_CONNECTIONS - 1, "the connections")
        with connected(server.url) as asking:
            asking.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert begun.wait(60)
            with connected(server.url):              # the oldest has to end for it ...
                idle[0].sendall(b"x")                # ... just as it sends
                go_on.set()
                assert asking.recv(65536).endswith(b"slow")
                assert ask(server.url, "/quick")[2] == b"quick"
                assert ask(server.url, "/quick")[2] == b"quick"
    finally:
        go_on.set()
        for sock in idle:
            sock.close()
        server.stop()
    assert not server._thread.is_alive()


CONSUMER = """
import sys
import stoker
with stoker.open_stream(sys.argv[1], workers=0, status=sys.argv[2]) as stream:
    print("ready", flush=True)
    next(stream)
"""


def test_the_port_is_free_after_ctrl_c(pictures, tmp_path):
    status = "127.0.0.1:%d" % free_port()
    for _ in range(2):
        with Program(["-c", CONSUMER, pictures, status]) as program:
            program.wait_for_line("ready")
            assert figures("http://" + status)["over"] is False
            program.send_signal(signal.SIGINT)
            assert program.wait() != 0
            assert "KeyboardInterrupt" in program.text and "Address already in use" not in program.text


def test_an_interrupted_stop_frees_the_port_all_the_same():
    """Ctrl-C comes while the server waits for clients that have yet to see the end."""
    def interrupted():
        raise KeyboardInterrupt
    server = StatusServer("127.0.0.1", 0, None, {}, lingers=interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    assert not server._thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        connected(server.url)
