"""Workers that die, freeze and lie: the stream goes on, nothing is lost, done twice or different, nothing is left."""

import os
import random
import signal
import socket
import time

import msgpack
import pytest
import zmq

from stoker.pipeline.protocol.codec import MAX_HEADER_BYTES, decode_from_trainer, encode
from stoker.pipeline.protocol.messages import PROTOCOL_VERSION, Alive, Failed, Hello, Lease, Leaving, Produced, Ready
from stoker.pipeline.protocol.messages import Refused, Skipped, Welcome
from tests.support.processes import diary, kill, opened, wait_for, worker_pids

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
SLOW, SLOWER = "user_generators:slow", "user_generators:slower"


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of six epochs by one worker: a shorter run is its beginning."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=6, **OPTIONS) as run:
        run.take_all()
    return run.content()


# -------------------------------------------------------------------------------------------------------------- death

def test_the_step_of_a_killed_worker_is_redone_long_before_its_lease_ends(reference, pictures, tmp_path,
                                                                          own_generators):
    lease_s = 120.0
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOWER, lease_s=lease_s, **OPTIONS) as run:
        position, pid = wait_for(lambda: diary(own_generators, "begin"), "a worker at work")[0]
        start = time.monotonic()
        kill(pid)
        run.take_all()
    assert time.monotonic() - start < lease_s / 2       # the connection's end told of it, not the clock
    assert run.content() == reference[:15]
    assert (position, pid) not in diary(own_generators, "end")
    assert run.entries()[position]["attempt"] == 2
    assert len(run.log.having(" are reassigned")) == 1


def test_all_workers_killed_again_and_again(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=3, generator=SLOW, epochs=2, prefetch=6, **OPTIONS) as run:
        for _ in range(3):
            run.take(5)
            pids = worker_pids()
            for pid in pids:
                kill(pid)
            wait_for(lambda pids=pids: not set(pids) & set(worker_pids()), "their end")
        run.take_all()
    assert run.content() == reference[:30]


# ------------------------------------------------------------------------------------------------------- suspension

def test_a_frozen_worker_holds_no_other_up_and_works_again_when_woken(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=3, generator=SLOW, epochs=6, lease_s=1.0, prefetch=6,
                **OPTIONS) as run:
        run.joined(3)
        run.take(5)
        frozen = worker_pids()[1]
        os.kill(frozen, signal.SIGSTOP)
        run.take(20)                                    # more than the window: what it held was done by others
        run.log.wait_for("was silent for")
        begun = len([pid for _, pid in diary(own_generators, "begin") if pid == frozen])
        os.kill(frozen, signal.SIGCONT)
        run.ready(3)
        while len([pid for _, pid in diary(own_generators, "begin") if pid == frozen]) < begun + 2:
            assert len(run.batches) < 85, "it did not work again"
            run.take(1)
            time.sleep(0.1)                             # a trainer that trains: the others alone need long for 60 steps
        run.take_all()
        assert frozen in worker_pids()                  # no other process replaced it
    assert run.content() == reference
    assert {entry["attempt"] for entry in run.entries()} <= {1, 2}


def test_all_workers_frozen_and_woken(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=2, lease_s=1.0, prefetch=4,
                **OPTIONS) as run:
        run.joined(2)
        run.take(5)
        pids = worker_pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        run.log.wait_for("was silent for", 2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        run.take_all()
        assert worker_pids() == pids
    assert run.content() == reference[:30]


def test_frozen_workers_end_with_the_stream(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, **OPTIONS) as run:
        run.joined(2)                                   # the second one may start late
        run.take(1)
        pids = worker_pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert len(pids) == 2 and worker_pids() == []       # close() has waited for it


# ------------------------------------------------------------------------------------------------------------ nonsense

class Liar:
    """A peer that speaks ZeroMQ and, if it likes, the protocol."""

    def __init__(self, address, identity=None):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        if identity is not None:
            self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def send(self, *frames):
        self._socket.send_multipart(list(frames))

    def say(self, message):
        self._socket.send_multipart(encode(message))

    def hear(self, kind):
        """The next message of this kind."""
        return wait_for(lambda: self.heard(kind), kind.__name__)

    def heard(self, kind):
        """The next message of this kind, if one has come."""
        while self._socket.poll(0):
            message = decode_from_trainer(self._socket.recv_multipart())
            if isinstance(message, kind):
                return message
        return None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.close()
        self._context.term()


def header(*value):
    return msgpack.packb(list(value), use_bin_type=True)


def test_garbage_before_hello(reference, pictures, tmp_path, own_generators):
    chance = random.Random(0)
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, prefetch=4, **OPTIONS) as run:
        run.joined(2)
        with Liar(run.stream.address) as liar, Liar(run.stream.address, b"host/0") as namesake:
            run.take(1)
            for peer in (liar, namesake):
                peer.send(b"")
                peer.send(b"\xc1")                                        # no msgpack
                peer.send(b"\x93" * 3000)                                 # lists in lists in lists
                peer.send(header(PROTOCOL_VERSION, "no such kind", []))
                peer.send(header(PROTOCOL_VERSION, "hello", ["", -1, None, 10 ** 9, "", 1]))
                peer.send(header(PROTOCOL_VERSION, "produced", [[]] * 6), b"x", b"y")
                peer.hear(Refused)
                for message in (Alive("an old run"), Produced("an old run", 1, 0, 0, (), 0.0, ()),
                                Failed("an old run", 1, 0, "no", "no"), Leaving("an old run", 1, "bored")):
                    peer.say(message)
                for _ in range(200):
                    peer.send(*[bytes(chance.getrandbits(8) for _ in range(chance.randrange(60)))
                                for _ in range(chance.randrange(1, 5))])
            run.log.wait_for("it sent 10 malformed messages")             # they are disconnected
            run.take(3)
            liar.send(bytes(MAX_HEADER_BYTES + 1))                        # ZeroMQ hangs up on it
            liar.send(header(0, "alive", ["of another version"]))
            run.take_all()
    assert run.content() == reference[:15]
    assert run.reassigned == 0                                                # not a single lease was disturbed
    assert 3 < len(run.log.having("dropped a message of an unknown peer")) < 200
    assert "messages of older runs answered" in run.log.having("rejected connections: ")[0]
    assert not run.log.having("an old run")                               # which deserves no warning


def test_plain_tcp_garbage(reference, pictures, tmp_path, own_generators):
    chance = random.Random(1)
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, prefetch=4, **OPTIONS) as run:
        run.joined(2)
        port = int(run.stream.address.rpartition(":")[2])
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        peers = []
        for data in (b"", b"GET / HTTP/1.1\r\nHost: trainer\r\n\r\n", bytes(range(256)) * 400, greeting,
                     greeting + b"\x02\xff\xff\xff\xff\xff\xff\xff\xff", greeting + bytes(100000),
                     bytes(chance.getrandbits(8) for _ in range(10000))):
            peer = socket.create_connection(("127.0.0.1", port), 10)
            peers.append(peer)
            try:
                peer.sendall(data)
            except OSError:                                               # hung up on already
                pass
            run.take(1)
        run.take_all()
        for peer in peers:
            peer.close()
    assert run.content() == reference[:15]
    assert run.reassigned == 0


def lies(welcome, lease):
    """Messages of a member that holds this lease, each wrong in another way; none may be believed."""
    pixels = len(lease.samples) * 32 * 32 * 3
    images, labels = bytes(pixels), bytes(4 * len(lease.samples))

    def produced(number, position, count, skipped=()):
        return header(PROTOCOL_VERSION, "produced", [welcome.run, number, position, count,
                                                     [list(skip) for skip in skipped], 0.1, [0.0] * 4, [], 0,
                                                     True, []])
    count, good = len(lease.samples), produced(lease.lease, lease.position, len(lease.samples))
    return {
        "no arrays": [good],
        "one array": [good, images],
        "three arrays": [good, images, labels, b""],
        "too short": [good, images[1:], labels],
        "too long": [good, images + b"\0", labels],
        "labels first": [good, labels, images],
        "fewer samples": [produced(lease.lease, lease.position, count - 1), images[:-32 * 32 * 3], labels[:-4]],
        "more samples": [produced(lease.lease, lease.position, count + 1), images + bytes(32 * 32 * 3),
                         labels + bytes(4)],
        "skipped that it never had": [produced(lease.lease, lease.position, count - 1, [Skipped(10 ** 6, "gone")]),
                                      images[:-32 * 32 * 3], labels[:-4]],
        "a lease that never was": [produced(10 ** 9, lease.position, count), images, labels],
        "another's lease": [produced(max(1, lease.lease - 1), max(0, lease.position - 1), count), images, labels],
        "another step for its lease": [produced(lease.lease, lease.position + 1, count), images, labels],
        "a step far away": [produced(lease.lease, 10 ** 9, count), images, labels],
        "a failure of a lease that never was": encode(Failed(welcome.run, 10 ** 9, lease.position, "no", "no")),
        "two headers": [good, good],
        "bytes": [b"\x93\x01"],
    }


def test_members_that_lie(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, epochs=4, prefetch=8, **OPTIONS) as run:
        run.joined(2)
        run.take(1)
        told = []
        for name in lies(Welcome("", None, 0.0), Lease(0, 0, 0, True, ())):
            with Liar(run.stream.address) as liar:
                # it gets a lease as the window moves
                liar.say(Hello("liar", 1, "none", 1, ""))
                welcome = liar.hear(Welcome)
                liar.say(Ready(welcome.run))
                run.joined(3 + len(told))       # else the two good ones may get what the window has room for
                run.take(3)
                lease = liar.hear(Lease)
                liar.send(*lies(welcome, lease)[name])
                liar.say(Leaving(welcome.run, -1, "done with lying"))
                told.append(name)
        run.take_all()
    assert len(told) == 16
    assert run.content() == reference[:60]
    assert "liar" not in {entry["worker"] for entry in run.entries()}


def test_a_member_that_only_takes(reference, pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator=SLOW, prefetch=4, lease_s=5.0, **OPTIONS) as run:
        run.joined(2)
        with Liar(run.stream.address) as liar:           # it says no Alive: it must get its lease before it is silent
            liar.say(Hello("liar", 1, "none", 1024, ""))
            liar.say(Ready(liar.hear(Welcome).run))
            run.joined(3)
            run.take(3)
            liar.hear(Lease)
            run.take_all()                                                # though it holds a step and is silent
    assert run.content() == reference[:15]
