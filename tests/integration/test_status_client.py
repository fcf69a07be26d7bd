"""The client of status addresses, of which stoker-ray and stoker-top are made, at real servers."""

import socket
import threading

import pytest

from stoker.trainer.status.server import StatusServer
from stoker.trainer.status.status import Page
from stoker.workers.status_client import StatusThread, fetch, headers_of, reason_of
from tests.support.asking import TOKEN
from tests.support.processes import wait_for

PAGES = {"/good": lambda: Page(200, "text/plain", b"good"), "/long": lambda: Page(200, "text/plain", b"x" * 1001),
         "/refused": lambda: Page(403, "text/plain", b"only for the user of the trainer\x1b[2J\n" + b"x" * 9999)}


@pytest.fixture
def server():
    """A server that wants TOKEN."""
    server = StatusServer("127.0.0.1", 0, TOKEN.encode(), PAGES)
    yield server
    server.stop()


def asked(server, path, token=TOKEN, most=1000):
    return fetch("127.0.0.1", int(server.url.rpartition(":")[2]), path, headers_of("test", token), most, "--token")


def test_answers_and_refusals(server):
    assert asked(server, "/good") == b"good"
    for path, token, why in (
            ("/good", None, r"it answers 401 Unauthorized: give the token that it needs with --token$"),
            ("/good", "wrong" * 9, "401 Unauthorized"), ("/nothing", TOKEN, "404 Not Found: "),
            ("/long", TOKEN, "its answer is longer than 1000 bytes"),
            ("/refused", TOKEN, r"it answers 403 Forbidden: only for the user of the trainer\\x1b\[2J")):
        with pytest.raises(ValueError, match=why) as caught:
            asked(server, path, token)
        assert reason_of(caught.value).isprintable() and len(reason_of(caught.value)) <= 300


def test_a_server_that_says_nothing_is_asked_again(monkeypatch):
    from stoker.workers import status_client
    monkeypatch.setattr(status_client, "ANSWER_S", 0.1)
    answered, reasons = [], []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        port = silent.getsockname()[1]
        thread = StatusThread(lambda: fetch("127.0.0.1", port, "/", {}, 100), answered.append, reasons.append,
                              lambda: 0.01)
        try:
            wait_for(lambda: len(reasons) >= 3, "three questions")
        finally:
            thread.end()
            thread.join(60)
    assert not answered and set(reasons) <= {"timed out"} and thread not in threading.enumerate()
