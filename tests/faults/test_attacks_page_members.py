"""Workers with hostile names, versions, reasons and times: the status page's JSON and Prometheus' metrics stay what
they are, and what the workers said stays text."""

import threading
import time
from contextlib import contextmanager

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.protocol.codec import decode_from_trainer, encode
from stoker.pipeline.protocol.messages import Alive, Hello, Leaving, Ready, Unfit, Welcome
from stoker.pipeline.text import printable
from tests.faults.test_attacks_page import HOSTILE
from tests.support.asking import ask, url_of
from tests.support.processes import opened, wait_for
from tests.support.visiting import strict, texts_of

#: What a name may hold on the wire: no surrogates, which are no UTF-8.
NAMES = st.one_of(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=300),
                  st.sampled_from([name for name in HOSTILE if name.isprintable() or "\x1b" in name]))


class Member:
    """A connection that says Hello, and then ``says(run)``."""

    def __init__(self, context, address, hello, says):
        self._socket, self._says, self._run = context.socket(zmq.DEALER), says, None
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._socket.send_multipart(encode(hello))

    def go_on(self):
        while self._socket.poll(0):
            message = decode_from_trainer(self._socket.recv_multipart())
            if isinstance(message, Welcome) and self._run is None:
                self._run = message.run
                for said in self._says(message.run):
                    self._socket.send_multipart(encode(said))
        return self._run is not None

    def alive(self):
        if self._run is not None:
            self._socket.send_multipart(encode(Alive(self._run)))

    def close(self):
        self._socket.close()


@contextmanager
def members(address, hellos, says):
    """One for each Hello, all welcome; they go on saying Alive."""
    context, ends = zmq.Context(), threading.Event()
    peers = [Member(context, address, hello, say) for hello, say in zip(hellos, says)]

    def go_on():
        said_s = time.monotonic()
        while not ends.wait(0.01):
            for peer in peers:
                peer.go_on()
            if time.monotonic() > said_s + 0.5:
                said_s = time.monotonic()
                for peer in peers:
                    peer.alive()
    wait_for(lambda: len([peer for peer in peers if peer.go_on()]) == len(peers), "a welcome for each")
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
        for peer in peers:
            peer.close()
        context.term()


def is_text(text):
    """It is printable, in one line, and no longer than the page may show."""
    return printable(text) == text and len(text) <= 600 and "\n" not in text


def table_of(url):
    """What the details say of the workers, if these are three or four."""
    table = strict(ask(url, "/details.json")[2])["worker_table"]
    return 3 <= len(table) <= 4 and table


def test_whatever_workers_call_themselves(tmp_path, attacks):
    parser = pytest.importorskip("prometheus_client.parser")
    with opened(100000, tmp_path / "audit", generator="numerical", batch_size=8, workers=0, status="127.0.0.1:0",
                max_workers=8) as run:
        url, seen = url_of(run.stream), []

        @given(NAMES, NAMES, NAMES, st.integers(0, 2 ** 62))
        def check(name, versions, reason, pid):
            hellos = [Hello("%s:%d/%d" % (name[:280], number, len(seen)), pid, versions, 2, reason, 1, versions)
                      for number in range(3)] + [Hello(name, pid, versions, 2, reason)]
            says = [lambda run: [Ready(run)], lambda run: [Unfit(run, reason, versions)], lambda run: [],
                    lambda run: [Ready(run), Leaving(run, -1, reason)]]
            seen.append(name)
            with members(run.stream.address, hellos, says):
                time.sleep(0.55)         # the details are made twice a second at most
                # those of the example before may not be gone at once
                table = wait_for(lambda: table_of(url), "a table of three or four workers")
                assert {row["state"] for row in table} <= {"works", "idle", "set aside", "starting", "leaving"}
                for page in ("/details.json", "/status.json"):
                    code, _, body = ask(url, page)
                    assert code == 200 and b"<" not in body
                    for text in texts_of(strict(body)):
                        assert is_text(text), repr(text)
                code, _, body = ask(url, "/metrics")
                families = {family.name: family for family in parser.text_string_to_metric_families(body.decode())}
                assert code == 200 and sum(sample.value for sample in families["stoker_workers_state"].samples) >= 3
                assert {tuple(sample.labels) for sample in families["stoker_host_workers"].samples} <= {("host",)}
        check()
        assert not run.log.having("(a bug in Stoker)")
    attacks("a member with a valid key", "names, versions and reasons of any characters, for the status page and "
            "Prometheus", "they are text of one line there, with all else escaped, and of 300 characters at most; the "
            "metrics stay in their format")
