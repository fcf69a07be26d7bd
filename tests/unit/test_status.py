"""The figures of a run for the network: the options, the requests that get an answer, and the answers."""

import configparser
import json
import os
import re
import socket
import sys
import threading

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet
from stoker.trainer.fleet_options import FleetOptions, host_and_port
from stoker.trainer.status import status as status_module
from stoker.trainer.status import server as status_server
from stoker.trainer.status.metrics import gauges_of, metrics_page
from stoker.trainer.status.server import Gate, Refused, StatusServer
from stoker.trainer.status.status import LAST_SEEN_S, OVER_SEEN_S, VERSION, Status
from tests.support.documents import ROOT

TOKEN = b"0123456789abcdef"


@pytest.mark.parametrize("options, sentence", [
    ({"status": "8265"}, "status must look like 127.0.0.1:8265, with a port from 1 to 65535, or 0 for a free one, not "
                         "'8265'"),
    ({"status": "127.0.0.1:65536"}, "not '127.0.0.1:65536'"),
    ({"status": ":8265"}, "not ':8265'"),
    ({"status": "http://127.0.0.1:8265"}, "not 'http://127.0.0.1:8265'"),
    ({"status": "::1:8265"}, "not '::1:8265'"),
    ({"status": 8265}, "not 8265"),
    ({"status": "0.0.0.0:8265"}, "status 0.0.0.0:8265 is open to other hosts: give status_token_file='FILE' "
                                 "(--status-token-file FILE), a file with a token that each request must have. To make "
                                 "one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)"),
    ({"status": "*:8265"}, "status *:8265 is open to other hosts"),
    ({"status": "[::]:8265"}, "status [::]:8265 is open to other hosts"),
    ({"status": "trainer:8265"}, "status trainer:8265 is open to other hosts"),
    ({"status_token_file": "token"}, "status_token_file is for the status address, and there is none: give "
                                     "status='HOST:PORT' (--status HOST:PORT) as well"),
    ({"min_workers": -1}, "min_workers must be a whole number from 0 to 100000, not -1"),
    ({"max_workers": 0}, "max_workers must be a whole number from 1 to 100000, not 0"),
    ({"min_workers": 9, "max_workers": 8}, "min_workers 9 is more than max_workers 8"),
])
def test_invalid_options(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        FleetOptions(**options)


@pytest.mark.parametrize("address, host, port", [
    ("127.0.0.1:0", "127.0.0.1", 0), ("localhost:8265", "localhost", 8265), ("[::1]:8265", "::1", 8265),
    ("*:80", "0.0.0.0", 80)])
def test_addresses(address, host, port):
    assert host_and_port(address) == (host, port)


def file_with(path, content, mode=0o600):
    path.write_bytes(content)
    os.chmod(str(path), mode)
    return str(path)


def token_of(path):
    return FleetOptions(status="0.0.0.0:0", status_token_file=path).token()


def test_the_token_is_the_line_of_its_file(tmp_path):
    assert token_of(file_with(tmp_path / "token", TOKEN + b"\n")) == TOKEN
    assert token_of(file_with(tmp_path / "secret", TOKEN, 0o400)) == TOKEN
    assert FleetOptions(status="127.0.0.1:0").token() is None


@pytest.mark.parametrize("content, mode, sentence", [
    (TOKEN, 0o640, "other users of this host may read "), (TOKEN, 0o604, "run  chmod 600 "),
    (b"short", 0o600, "must hold one line of 16 to 512 letters, digits or signs, and no spaces"),
    (TOKEN + b"\n" + TOKEN, 0o600, "must hold one line of 16 to 512"), (b"", 0o600, "must hold one line"),
    (b"x" * 5000, 0o600, "it has more than the 1,024 bytes")])
def test_a_file_that_is_no_token(tmp_path, content, mode, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
        token_of(file_with(tmp_path / "token", content, mode))
    assert str(caught.value).startswith("status_token_file: ") and TOKEN.decode() not in str(caught.value)


def test_a_token_file_that_is_not_there_or_a_pipe(tmp_path):
    with pytest.raises(ConfigError, match="status_token_file: cannot read .*No such file or directory. To make one"):
        token_of(str(tmp_path / "none"))
    os.mkfifo(str(tmp_path / "pipe"), 0o600)
    with pytest.raises(ConfigError, match="cannot be used: it is a pipe"):
        token_of(str(tmp_path / "pipe"))


def request(first="GET /status.json HTTP/1.1", *headers):
    return "\r\n".join((first,) + (headers or ("Host: 127.0.0.1:8265",)) + ("", "")).encode("latin-1")


def code_of(gate, *parts):
    with pytest.raises(Refused) as caught:
        gate.path(request(*parts))
    return caught.value.code


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8265", "127.0.0.1", "127.0.0.1:9", "127.1.2.3", "[::1]:8265",
                                  "[::1]"])
def test_requests_of_this_host(host):
    assert Gate(None, True).path(request("GET /status.json?a=b HTTP/1.1", "host: " + host, "User-Agent: curl/8")) == (
        "/status.json", "curl/8")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8265", "127.0.0.1.evil.example",
                                  "localhost.evil.example", "10.0.0.5", "", "0.0.0.0", "[::]",
                                  "127.0.0.1@evil.example", "a:b:c"])
def test_a_web_page_whose_name_leads_to_loopback_is_refused(host):
    assert code_of(Gate(None, True), "GET /status.json HTTP/1.1", "Host: " + host) == 403


def test_beyond_loopback_any_host_may_be_named_and_the_token_counts():
    gate = Gate(TOKEN, False)
    good = "Authorization: Bearer " + TOKEN.decode()
    assert gate.path(request("GET /metrics HTTP/1.0", "Host: trainer:8265", good))[0] == "/metrics"
    assert gate.path(request("HEAD / HTTP/1.1", "Host: x", "authorization: bearer  %s " % TOKEN.decode()))[0] == "/"
    for bad in ("Authorization: Bearer " + TOKEN.decode()[:-1], "Authorization: Bearer", "Authorization: Bearer x",
                "Authorization: Basic " + TOKEN.decode(), "Authorization: " + TOKEN.decode(), "X: y"):
        assert code_of(gate, "GET /status.json HTTP/1.1", "Host: trainer", bad) == 401
    assert code_of(gate, "GET /status.json HTTP/1.1", "Host: trainer", good, good) == 401
    assert code_of(gate, "POST /nothing HTTP/1.1", "Host: trainer") == 401        # a stranger learns nothing more


@pytest.mark.parametrize("parts, code", [
    (("POST /status.json HTTP/1.1",), 405), (("PUT / HTTP/1.1",), 405), (("get / HTTP/1.1",), 400),
    (("GET http://evil.example/ HTTP/1.1",), 400), (("GET / HTTP/2",), 400), (("GET /\x00 HTTP/1.1",), 400),
    (("GET / HTTP/1.1", "X: y"), 400), (("GET / HTTP/1.1", "Host: localhost", "Host: localhost"), 400),
    (("GET / HTTP/1.1", "Host: localhost", " continued"), 400), (("GET / HTTP/1.1", "Host : localhost"), 400),
    (("GET / HTTP/1.1", "Host: localhost", "no header"), 400), (("",), 400)])
def test_requests_that_are_none(parts, code):
    assert code_of(Gate(None, True), *parts) == code


class TRAINING:
    """A batch, as far as it matters here."""
    training = True


class FakeStream:
    """A stream in the middle of a run."""

    class plan:
        steps, training, evaluations_per_epoch = 400, True, 0

    run_id, connect_address, step, is_over = "ab12cd34", "tcp://trainer:5555", 12, False
    fleet = Fleet(3, 4, {"trainer:1": 1, "alpha:2": 2}, {"alpha:2": ["no pillow"]}, ready=2)


@pytest.fixture
def status():
    return Status(FakeStream(), 1, 8, 32, 0)


def test_the_figures(status):
    status.local_supervisor = "trainer:1"
    page = status.page()
    assert (page.code, page.content_type) == (200, "application/json")
    assert json.loads(page.body.decode()) == {
        "stoker": VERSION, "run": "ab12cd34", "connect": "tcp://trainer:5555", "step": 12, "steps": 400, "over": False,
        "workers": {"wanted": 1, "min": 1, "max": 8, "alive": 2, "ready": 1, "why": "no figures yet"}}
    status._stream.is_over = True
    assert json.loads(status.page().body.decode())["over"] is True
    assert json.loads(status.page().body.decode())["workers"]["wanted"] == 0


@pytest.mark.parametrize("least, local, total, wanted", [
    (0, 0, None, 1), (0, 2, None, 0), (3, 2, None, 3), (1, 0, 5, 5), (1, 2, 5, 3), (1, 5, 5, 1), (0, 5, 5, 0),
    (2, 0, 1, 2), (1, 0, 100, 8)])
def test_the_number_that_is_wanted_stays_within_the_limits(least, local, total, wanted):
    status = Status(FakeStream(), least, 8, 32, local)
    status._demand.workers = total
    assert status.wanted() == wanted


@pytest.mark.parametrize("least, local, total, sentence", [
    (1, 0, 5, "5 are needed"), (0, 5, 5, "5 are needed, and the local ones are enough"),
    (1, 5, 5, "5 are needed, and the local ones are enough; min_workers asks for 1 elsewhere in any case"),
    (2, 2, 3, "3 are needed, 2 of them local; min_workers asks for 2 elsewhere in any case"),
    (2, 0, 1, "1 are needed; min_workers asks for 2 elsewhere in any case"), (1, 2, 5, "5 are needed, 2 of them local"),
    (1, 2, 11, "11 are needed, 2 of them local; max_workers allows 8 elsewhere")])
def test_the_sentence_on_the_number_is_right_with_and_without_workers_elsewhere(least, local, total, sentence):
    status = Status(FakeStream(), least, 8, 32, local)
    status._demand.workers, status._demand.why = total, "%d are needed" % total
    assert status.why() == sentence


def test_the_version_is_that_of_the_package():
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"))
    assert VERSION == config["metadata"]["version"]


def test_the_end_waits_for_clients_that_ask_again_and_again(status, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(status_module.time, "monotonic", lambda: now[0])
    status.taken(TRAINING, BatchTimings(*[0.01] * 7), FakeStream.fleet, now[0])
    status.asked("a")
    assert not status.lingers()                    # the run is not over
    now[0] += 1
    status.asked("b")
    status.taken(TRAINING, BatchTimings(*[0.01] * 7), FakeStream.fleet, now[0])
    status._stream.is_over = True
    assert status.lingers()
    for client in "abc":
        status.asked(client)
    assert status.lingers()                        # another one of this kind may be there
    now[0] += OVER_SEEN_S + 0.01
    assert not status.lingers()
    status._clients["d"] = now[0] - 2              # one that has not asked again
    assert status.lingers()
    now[0] += LAST_SEEN_S - OVER_SEEN_S
    assert not status.lingers()


def test_the_end_does_not_wait_for_clients_that_have_not_asked_for_long(status, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(status_module.time, "monotonic", lambda: now[0])
    status.asked("a")
    now[0] += 60
    status.taken(TRAINING, BatchTimings(*[0.01] * 7), FakeStream.fleet, now[0])
    status._stream.is_over = True
    assert not status.lingers()


def test_clients_that_are_remembered_are_few(status):
    for number in range(1000):
        status.asked(str(number))
    assert len(status._clients) == status_module.MAX_CLIENTS


class Gauges:
    def __init__(self, status):
        self._status = status

    def collect(self):
        return gauges_of(self._status.figures())


def test_the_metrics_are_those_of_the_figures(status):
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families
    page = metrics_page(Gauges(status))
    assert page.code == 200 and page.content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(page.body.decode())}
    assert {name: family.samples[0].value for name, family in families.items()} == {
        "stoker_workers_wanted": 1, "stoker_workers_alive": 3, "stoker_workers_ready": 2, "stoker_step": 12,
        "stoker_steps": 400}
    assert {family.type for family in families.values()} == {"gauge"}
    assert all(family.documentation for family in families.values())


def test_metrics_without_the_package(status, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    page = metrics_page(Gauges(status))
    assert page.code == 501 and b"pip install 'stoker[metrics]'" in page.body


def test_a_server_that_is_stopped_while_it_is_woken(monkeypatch):
    """What ``wake`` writes must not go into a file that gets the number of the pipe."""
    server, write, found = StatusServer("127.0.0.1", 0, None, {}), os.write, []
    stopping = threading.Thread(target=server.stop)

    def slow(descriptor, text):
        if text == b"w":
            stopping.start()
            stopping.join(0.2)
            found.append(os.fstat(descriptor).st_ino)
        return write(descriptor, text)
    pipe = os.fstat(server._stop_fd).st_ino
    monkeypatch.setattr(status_server, "STOP_S", 60)
    monkeypatch.setattr(status_server.os, "write", slow)
    server.wake()
    stopping.join(60)
    assert found == [pipe]
    with pytest.raises(OSError):
        os.fstat(server._stop_fd)
    server.wake()
    assert found == [pipe]


def test_a_server_that_is_stopped_by_a_signals_handler_in_the_middle_of_wake(monkeypatch):
    """``wake`` neither waits nor is waited for without end."""
    server, write = StatusServer("127.0.0.1", 0, None, {}), os.write

    def interrupted(descriptor, text):
        if text == b"w":
            server.wake()
            server.stop()
        return write(descriptor, text)
    monkeypatch.setattr(status_server, "STOP_S", 0.01)
    monkeypatch.setattr(status_server.os, "write", interrupted)
    server.wake()
    server._thread.join(60)
    assert not server._thread.is_alive()
    os.close(server._stop_fd)


def test_a_server_that_sees_its_end_by_a_client_before_it_is_woken(monkeypatch):
    server, write = StatusServer("127.0.0.1", 0, None, {}), os.write
    address = "127.0.0.1", int(server.url.rpartition(":")[2])

    def late(descriptor, text):
        socket.create_connection(address, 60).close()
        server._thread.join(60)
        return write(descriptor, text)
    monkeypatch.setattr(status_server.os, "write", late)
    server.stop()
    assert not server._thread.is_alive() and server._listening.fileno() < 0
