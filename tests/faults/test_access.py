"""Which peers are let in, with keys and without. A peer that is let in cannot change the run, and cannot use much of
the trainer's memory."""

import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import time
from contextlib import contextmanager

import pytest
import zmq

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.codec import encode
from stoker.pipeline.protocol.messages import Alive, Hello
from stoker.pipeline.transport import keys, tcp
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import Waker
from tests.faults.test_workers import Liar
from tests.support.processes import (LIMIT_S, command_line, consumer_program, free_port, opened, wait_for, worker_pids,
                                     workers_program)
from tests.support.relay import Relay

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
SLOW = "user_generators:slow"
ALLOW = ("--allow-generator", SLOW, "--processes", "1")
MB = 1 << 20
REJECTED = "rejected connections: "    # begins the line of the log that counts rejected connections


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of twelve epochs without keys: a shorter run is its beginning."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=12, **OPTIONS) as run:
        run.take_all()
    return run.content()


@pytest.fixture
def folder(tmp_path):
    """Keys of a trainer and of the worker alpha."""
    keys.make(str(tmp_path / "keys"), ["alpha"])
    return tmp_path / "keys"


# ---------------------------------------------------------------------------------------------------------- access

def test_a_run_with_keys_equals_one_without(reference, pictures, tmp_path, folder, own_generators):
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, epochs=12, keys=str(folder),
                prefetch=4, **OPTIONS) as run, workers_program(run.stream.address, "--keys",
                                                               str(folder / "workers" / "alpha"), *ALLOW):
        run.joined(2)
        local, = [pid for pid in worker_pids() if '"once": true' in command_line(pid)]
        assert run.stream.local_keys.secret.decode() not in command_line(local)
        run.take_all()                               # long enough for the second worker to have a batch, too
    assert run.content() == reference
    assert len({entry["worker"] for entry in run.entries()}) == 2
    assert not run.log.having(REJECTED)
    assert os.listdir(str(folder / "workers")) == ["alpha"]         # the local worker's keys are not in a file


def strangers(folder, tmp_path):
    """Options of workers that the trainer with ``folder`` must not let in."""
    other = tmp_path / "other"
    keys.make(str(other), ["alpha"])
    for name in ("unknown", "misled"):
        shutil.copytree(str(other / "workers" / "alpha"), str(tmp_path / name))
    shutil.copy(str(folder / "trainer.key"), str(tmp_path / "unknown"))          # knows this trainer
    for name in ("worker.key", "worker.key_secret"):                             # known to this trainer
        shutil.copy(str(folder / "workers" / "alpha" / name), str(tmp_path / "misled"))
    return {"unknown key": ["--keys", str(tmp_path / "unknown")], "wrong trainer": ["--keys", str(tmp_path / "misled")],
            "no keys": []}


@pytest.mark.parametrize("stranger, reports, counted", [
    ("unknown key", "does not know this worker's key", "connections with an unknown key refused"),
    ("wrong trainer", "is not the trainer whose trainer.key this worker has", "handshakes failed"),
    ("no keys", "it may require keys", "handshakes failed"),
])
def test_a_worker_with_wrong_keys_gets_nowhere(reference, pictures, tmp_path, folder, own_generators,
                                               stranger, reports, counted):
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, epochs=2, keys=str(folder), **OPTIONS) as run:
        with workers_program(run.stream.address, *ALLOW + tuple(strangers(folder, tmp_path)[stranger])) as program:
            program.wait_for_line(re.escape(reports))
            run.rejected(counted)
            run.take_all()
            assert program.running() and "Traceback" not in program.text and "restart" not in program.text
    assert run.content() == reference[:30]
    assert len(run.log.having(" joined (")) == 1
    assert counted in run.log.having(REJECTED)[0]
    assert len([line for line in run.log.lines if "127.0.0.1" in line and "key" in line]) <= 2     # not once per try


def test_a_worker_is_let_in_by_the_first_trainer_that_accepts_it(pictures, tmp_path, folder, own_generators):
    port = free_port()
    bind = "tcp://127.0.0.1:%d" % port
    options = dict(OPTIONS, workers=0, bind=bind)
    with workers_program(bind, *ALLOW) as plain, \
            workers_program(bind, "--keys", str(folder / "workers" / "alpha"), *ALLOW) as keyed:
        with opened(pictures, tmp_path / "audit-1", keys=str(folder), **options) as run:
            plain.wait_for_line("it may require keys")
            run.take(3)
        with opened(pictures, tmp_path / "audit-2", **options) as run:
            keyed.wait_for_line("it has no keys")
            run.take(3)
        with opened(pictures, tmp_path / "audit-3", keys=str(folder), **options) as run:
            run.take(3)


def test_strangers_without_zeromq_at_a_trainer_with_keys(reference, pictures, tmp_path, folder, own_generators):
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, keys=str(folder), **OPTIONS) as run:
        run.joined(1)
        with Liar(run.stream.address) as liar:
            liar.say(Hello("liar", 1, "none", 2, ""))
            for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, GREETING, GREETING + ready() + frame(b"x")):
                with connected(run.stream.address) as peer:
                    peer.sendall(data)
                    wait_for(lambda peer=peer: ended(peer), "the end of the connection")
            run.rejected("handshakes failed")        # the Liar goes on trying
            run.take_all()
    assert run.content() == reference[:15]
    assert len(run.log.having(" joined (")) == 1
    assert "handshakes failed" in run.log.having(REJECTED)[0]


def test_the_listener_knows_the_name_of_each_peer_s_key(tmp_path):
    keys.make(str(tmp_path / "keys"), ["alpha", "beta"])
    with listening(keys.load_trainer(str(tmp_path / "keys"))) as listener:
        context = zmq.Context()
        for name in ("beta", "alpha"):
            peer = context.socket(zmq.DEALER)
            own = keys.load_worker(str(tmp_path / "keys" / "workers" / name))
            peer.curve_serverkey, peer.curve_publickey, peer.curve_secretkey = own
            peer.connect(listener.address)
            peer.send(b"here")

            def received():
                listener.poll(time.monotonic())          # answers whether the key is known
                return listener.receive()

            key, _ = wait_for(received, "its message")
            assert (listener.key_of(key), listener.host_of(key)) == (name, "127.0.0.1")
            peer.close(0)
        context.term()


def test_folders_without_the_trainer_s_keys(pictures, tmp_path, folder):
    for where in (folder / "workers" / "alpha", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="keys: "):
            opened(pictures, tmp_path / "audit", workers=1, keys=str(where), **OPTIONS).__enter__()


# --------------------------------------------------------------------------------------------------- eavesdropping

@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without"])
def test_an_eavesdropper_reads_nothing_with_keys(pictures, tmp_path, folder, keyed):
    options = ["--processes", "1"] + ["--keys", str(folder / "workers" / "alpha")] * keyed
    with opened(pictures, tmp_path / "audit", workers=0, keys=str(folder) if keyed else None, shared_memory=False,
                **OPTIONS) as run, Relay(run.stream.address) as relay, workers_program(relay.address, *options):
        run.take(3)
        pixels = [batch.images.tobytes()[:3000] for batch in run.batches]
    secrets = [b".jpg", b"left/", os.path.basename(pictures).encode(), b"labels", b"hello", b"produced"] + pixels
    assert [secret in relay.seen for secret in secrets] == [not keyed] * len(secrets)
    assert len(relay.seen) > 3 * 8 * 32 * 32 * 3


# ------------------------------------------------------------------------------------------------ floods and memory

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def ready():
    """The second and last part of a NULL handshake."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    return b"\x04" + bytes([len(body)]) + body


def frame(data, more=False):
    return bytes([2 + more]) + struct.pack(">Q", len(data)) + data


def connected(address, limit_s=LIMIT_S):
    return socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), limit_s)


def shaken(address, limit_s=LIMIT_S):
    """A connection after its handshake: libzmq disconnects a peer that sends a message before."""
    peer = connected(address, limit_s)
    peer.sendall(GREETING + ready())
    heard = b""
    while b"READY" not in heard:
        received = peer.recv(1000)
        if not received:
            raise ConnectionError("the other end closed the connection")
        heard += received
    return peer


def ended(peer):
    """Whether the other end closed the connection."""
    try:
        return bool(select.select([peer], [], [], 0)[0]) and not peer.recv(1 << 16)
    except OSError:
        return True


def resident(pid, line="VmRSS"):
    with open("/proc/%d/status" % pid) as status:
        return int(re.search(line + r":\s+(\d+) kB", status.read()).group(1)) * 1024


def send_until_cut(peer, data, limit):
    """Sends ``data`` again and again until the other end closes the connection; returns the bytes sent."""
    sent = 0
    try:
        while sent < limit:
            peer.sendall(data)
            sent += len(data)
    except OSError:
        pass
    return sent


def test_messages_without_end_take_no_memory(reference, pictures, tmp_path, own_generators):
    audit = tmp_path / "audit"
    with consumer_program(data=pictures, audit=str(audit), workers=1, generator=SLOW, epochs=1000,
                          **OPTIONS) as program:
        address = program.wait_for_line("address")[0].split()[1]
        program.wait_for_line("step 2$")
        before = resident(program.pid)
        sent = []
        for size, most in ((60000, 600 * MB), (0, 20 * MB), (1, 20 * MB), (MB - 100, 600 * MB)):
            with shaken(address) as peer:
                sent.append(send_until_cut(peer, frame(bytes(size), more=True) * max(1, 600000 // (size + 9)), most))
                assert sent[-1] < most, "it was never cut off"
        peak = resident(program.pid, "VmHWM")
        finish(program, reference)
    assert peak - before < 200 * MB, "%d MB of %s" % ((peak - before) // MB, [size // MB for size in sent])
    assert content_of(audit)[:len(reference)] == reference


def finish(program, reference):
    """Ends a run in good order that is longer than the reference, however long an attack on it takes."""
    program.wait_for_line("step %d$" % len(reference))
    program.send_signal(signal.SIGINT)
    assert program.wait() == 1 and program.lines[-1] == "KeyboardInterrupt", program.text


def content_of(audit):
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    return [(entry["step"], entry["epoch"], entry["indices"], entry["crc32"]) for entry in lines]


def test_a_worker_with_a_key_that_sends_more_than_it_may(reference, pictures, tmp_path, folder, own_generators):
    audit, own = tmp_path / "audit", keys.load_worker(str(folder / "workers" / "alpha"))
    with consumer_program(data=pictures, audit=str(audit), workers=1, generator=SLOW, epochs=1000, keys=str(folder),
                          **OPTIONS) as program:
        address = program.wait_for_line("address")[0].split()[1]
        program.wait_for_line("step 2$")
        before = resident(program.pid)
        context = zmq.Context()
        enemy = context.socket(zmq.DEALER)
        enemy.setsockopt(zmq.LINGER, 0)
        enemy.curve_serverkey, enemy.curve_publickey, enemy.curve_secretkey = own
        enemy.connect(address)
        enemy.send_multipart(encode(Hello("enemy", 1, "none", 2, "")))
        enemy.recv_multipart()
        enemy.send_multipart([bytes(500000)] * 600)                # 300 MB
        program.wait_for_line("cut off 127.0.0.1: it sent more than")
        peak = resident(program.pid, "VmHWM")
        enemy.close()
        context.term()
        finish(program, reference)
    assert peak - before < 200 * MB, "%d MB" % ((peak - before) // MB)
    assert content_of(audit)[:len(reference)] == reference


@pytest.mark.parametrize("words, counted", [
    (encode(Hello("liar", 1, "none", 2, "")), "cut off for too many Hellos"),
    ([b"nonsense"], "cut off for malformed messages"),
    ([b""] * 1000, "cut off for malformed messages"),
    (encode(Alive("an old run")), "messages of older runs answered"),
], ids=["hello", "malformed", "frames", "older"])
def test_floods(reference, pictures, tmp_path, own_generators, words, counted):
    flood = b"".join(frame(word, more=number < len(words) - 1) for number, word in enumerate(words)) * 100
    with opened(pictures, tmp_path / "audit", workers=1, generator=SLOW, epochs=4, prefetch=4, **OPTIONS) as run:
        run.joined(1)
        for _ in range(3):
            with shaken(run.stream.address) as peer:             # it never reads
                send_until_cut(peer, flood, 4 * MB)
            run.take(2)
        run.take_all()
    assert run.content() == reference[:60]
    assert counted in run.log.having(REJECTED)[0]
    lines = [line for line in run.log.lines if line.startswith("cut off")]
    assert len(lines) == len(set(lines)) <= 3       # as a member, as a stranger, for what a busy trainer has not read


@contextmanager
def listening(trainer_keys=None):
    waker = Waker()
    listener = Listener("tcp://127.0.0.1:*", waker, Limits(MB, 4 * MB, 32), trainer_keys)
    yield listener
    listener.close()
    waker.close()


def test_answers_to_a_peer_that_does_not_read_do_not_pile_up():
    with listening() as listener:
        with shaken(listener.address) as peer:
            peer.sendall(frame(b"here"))
            key, _ = wait_for(listener.receive, "its message")
            sent = 0
            while listener.send(key, [bytes(10000)]):
                sent += 1
                assert sent < 20000
        with shaken(listener.address) as peer:                   # others are served
            peer.sendall(frame(b"there"))
            key, frames = wait_for(listener.receive, "its message")
            assert bytes(frames[0]) == b"there"
            assert listener.send(key, [b"welcome"])


def test_a_connection_beyond_the_limit_is_closed(monkeypatch):
    monkeypatch.setattr(tcp, "MAX_CONNECTIONS", 5)
    with listening() as listener:
        peers = []

        def is_served():
            """Opens one more connection, and sends messages until one arrives or it ends; whether it stays open."""
            peer, text = shaken(listener.address), b"%d" % len(peers)
            peers.append(peer)

            def is_decided():
                try:
                    peer.sendall(frame(text))
                except OSError:
                    return True
                came = [bytes(frames[0]) for _, frames in iter(listener.receive, None)]
                listener.poll(time.monotonic())
                return ended(peer) or text in came

            wait_for(is_decided, "its message, or its end")
            return not ended(peer)

        assert [is_served() for _ in range(8)] == [True] * 5 + [False] * 3
        assert not any(ended(peer) for peer in peers[:5])
        assert {kind for kind, _ in listener.incidents} == {"connections"}
        peers[0].close()
        wait_for(is_served, "room for another connection")
        for peer in peers:
            peer.close()


def test_a_peer_that_sends_short_segments_occupies_few_of_libzmq_s_buffers():
    with listening() as listener, shaken(listener.address) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = 0
        while not ended(peer):
            peer.sendall(frame(bytes(40), more=True))            # each may occupy 8 KB
            sent += 1
            listener.poll(time.monotonic())
            assert sent < 100000
        assert listener.incidents == [("memory", "127.0.0.1")]
