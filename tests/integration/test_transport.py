"""Both ends of the wire in one process: no message is missed when two threads use a socket."""

import re
import select
import socket
import threading
import time

import pytest
import zmq

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.transport import connection as connections
from stoker.pipeline.transport import listener as listeners
from stoker.pipeline.transport import route
from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.connections import Connections
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.owners import SocketOwners
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import COPY_BELOW_BYTES, Waker

LIMIT_S = 30.0     # of a test that would wait for ever


@pytest.fixture
def ends():
    wakers = Waker(), Waker()
    listener = Listener("tcp://127.0.0.1:*", wakers[0], Limits(8 * COPY_BELOW_BYTES, 8 * COPY_BELOW_BYTES, 4))
    connection = Connection(listener.address, wakers[1], 8 * COPY_BELOW_BYTES)
    deadline = time.monotonic() + LIMIT_S
    while not connection.send([b"hello"]):
        connection.wait(0.01)
        assert time.monotonic() < deadline
    yield listener, connection, wakers
    connection.close(0)
    listener.close(0)
    for waker in wakers:
        waker.close()


def next_of(end):
    deadline = time.monotonic() + LIMIT_S
    while True:
        received = end.receive()
        if received is not None:
            return received
        assert time.monotonic() < deadline
        end.wait(deadline - time.monotonic())


def test_frames_of_any_size_arrive_as_they_are(ends):
    listener, connection, _ = ends
    peer, frames = next_of(listener)
    assert [bytes(frame) for frame in frames] == [b"hello"]
    for size in (0, 1, 9000, COPY_BELOW_BYTES - 1, COPY_BELOW_BYTES, 3 * COPY_BELOW_BYTES):
        sent = [b"header", memoryview(b"x" * size), b"labels"]
        assert connection.send(sent)
        same, frames = next_of(listener)
        assert same == peer and [bytes(frame) for frame in frames] == [bytes(frame) for frame in sent]
        assert listener.send(peer, [b"lease"]) and bytes(next_of(connection)[0]) == b"lease"


def test_a_message_that_came_while_the_socket_was_used_ends_the_next_wait(ends):
    listener, connection, _ = ends
    peer, _ = next_of(listener)
    assert listener.send(peer, [b"lease"])
    descriptor = select.poll()
    descriptor.register(connection._socket.getsockopt(zmq.FD), select.POLLIN)
    descriptor.poll(1000)                          # until the lease is there, if its signal is still to come
    assert connection.send([b"batch"])
    connection._socket.getsockopt(zmq.EVENTS)      # consumes the descriptor's signal, as a send may do
    start = time.monotonic()
    connection.wait(LIMIT_S)
    assert time.monotonic() < start + LIMIT_S and connection.receive() is not None


def test_a_wake_ends_a_wait_once(ends):
    listener, _, wakers = ends
    next_of(listener)
    for _ in range(3):
        wakers[0].wake()
    start = time.monotonic()
    listener.wait(LIMIT_S)
    assert time.monotonic() < start + LIMIT_S
    listener.wait(0.0)
    assert not select.select([wakers[0].fileno()], [], [], 0)[0]


def test_one_thread_may_send_while_another_waits(ends):
    listener, connection, wakers = ends
    peer, _ = next_of(listener)
    count, at_once, seen = 2000, 20, []      # the listener drops what is over its limit for one peer

    def answer():
        for _ in range(count):
            key, frames = next_of(listener)
            listener.send(key, frames)

    def wait():
        while len(seen) < count and time.monotonic() < deadline:
            connection.wait(LIMIT_S)
            take()

    def take():
        with connection.lock:
            while True:
                frames = connection.receive()
                if frames is None:
                    return
                seen.append(bytes(frames[0]))

    deadline = time.monotonic() + LIMIT_S
    threads = [threading.Thread(target=answer), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    for number in range(count):
        while number - len(seen) >= at_once and time.monotonic() < deadline:
            time.sleep(0.0001)
        with connection.lock:
            assert connection.send([b"%d" % number])
            take()
    while len(seen) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    wakers[1].wake()
    for thread in threads:
        thread.join(LIMIT_S)
    assert seen == [b"%d" % number for number in range(count)]


# -------------------------------------------------------------------------------------------------------- host names

def answering(listener, connection):
    """Whether a message arrives within the limit."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        now = time.monotonic()
        connection.poll(now)
        listener.poll(now)
        connection.send([b"hello"])      # again and again: it is lost where the connection has just ended
        if listener.receive() is not None:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def ipv6():
    """Skips on a host without it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip("no IPv6 here: %s" % error)


def opened(bind, connect, wakers):
    return (Listener(bind, wakers[0], Limits(1 << 20, 1 << 20, 4)),
            lambda listener: Connection("tcp://%s:%s" % (connect, listener.address.rpartition(":")[2]), wakers[1],
                                        1 << 20))


@pytest.mark.parametrize("bind", ["tcp://[::1]:*", "tcp://127.0.0.1:*"])
@pytest.mark.parametrize("others", [[], ["127.0.0.2"], ["::1"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1", "::1"]],
                         ids=",".join)
def test_a_name_leads_to_the_trainer_whatever_else_it_is(bind, others, monkeypatch, ipv6):
    addresses = others + [route.host_and_port(bind)[0]]
    monkeypatch.setattr(connections, "resolve", lambda name: (addresses if name == "trainer" else [], ""))
    wakers = Waker(), Waker()
    listener, connected = opened(bind, "trainer", wakers)
    connection = connected(listener)
    try:
        assert answering(listener, connection), connection.trouble()
    finally:
        connection.close(0)
        listener.close(0)
        for waker in wakers:
            waker.close()


def test_a_trainer_that_moves_to_another_address_is_found_again(monkeypatch):
    """As a container does that is started again: its name stays."""
    where = ["127.0.0.2"]
    monkeypatch.setattr(connections, "resolve", lambda name: (list(where), ""))
    wakers = Waker(), Waker()
    listener, connected = opened("tcp://127.0.0.2:*", "trainer", wakers)
    connection = connected(listener)
    try:
        assert answering(listener, connection)
        port = listener.address.rpartition(":")[2]
        listener.close(0)
        where[:] = ["127.0.0.3"]
        listener = Listener("tcp://127.0.0.3:" + port, wakers[0], Limits(1 << 20, 1 << 20, 4))
        assert answering(listener, connection), connection.trouble()
    finally:
        connection.close(0)
        listener.close(0)
        for waker in wakers:
            waker.close()


def test_a_trainer_that_takes_connections_and_does_not_answer():
    """As one that is suspended: the kernel takes them."""
    waker = Waker()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(5)
        connection = Connection("tcp://127.0.0.1:%d" % busy.getsockname()[1], waker, 1 << 20)
        deadline = time.monotonic() + LIMIT_S
        while "takes connections, but does not answer" not in connection.trouble():
            connection.wait(0.1)
            connection.poll(time.monotonic())
            assert time.monotonic() < deadline
        assert connection.refusal() == ""
    connection.close(0)
    waker.close()


@pytest.mark.parametrize("host, found, says", [
    ("trainer", [], "the name 'trainer' does not resolve (unknown), and this machine has no interface of this name"),
    ("trainer", ["192.0.2.77", "2001:db8::7"],
     "the name 'trainer' is 192.0.2.77 and 2001:db8::7, which is no address of this machine"),
    ("192.0.2.77", [], "this machine has no such address"),
])
def test_an_address_at_which_the_trainer_cannot_listen(host, found, says, monkeypatch):
    monkeypatch.setattr(listeners, "resolve", lambda name: (found, "" if found else "unknown"))
    waker = Waker()
    with pytest.raises(ConfigError, match=re.escape("cannot bind tcp://%s:*: %s" % (host, says))):
        Listener("tcp://%s:*" % host, waker, Limits(1 << 20, 1 << 20, 4))
    waker.close()


@pytest.mark.parametrize("host", ["localhost", "lo", "trainer"])
def test_a_trainer_may_listen_at_a_name(host, monkeypatch, ipv6):
    monkeypatch.setattr(listeners, "resolve", lambda name: (["192.0.2.77", "::1"], ""))
    waker = Waker()
    listener = Listener("tcp://%s:*" % host, waker, Limits(1 << 20, 1 << 20, 4))
    assert listener.address.startswith("tcp://[::1]:" if host == "trainer" else "tcp://127.0.0.1:")
    listener.close()
    waker.close()


def test_one_wait_for_several_connections():
    """Each gets its trainer's messages; the end of one is not the end of the others."""
    waker, wakers = Waker(), [Waker() for _ in range(3)]
    trainers = [Listener("tcp://127.0.0.1:*", each, Limits(1 << 20, 1 << 20, 4)) for each in wakers]
    fleet = Connections([each.address for each in trainers], waker, 1 << 20, None, SocketOwners())
    try:
        deadline = time.monotonic() + LIMIT_S
        for number, connection in enumerate(fleet):
            while not connection.send([b"hello %d" % number]):
                fleet.wait(0.01)
                assert time.monotonic() < deadline
        peers = [next_of(each) for each in trainers]
        assert [bytes(frames[0]) for _, frames in peers] == [b"hello 0", b"hello 1", b"hello 2"]
        for gone in (None, 1):
            for number, listener in enumerate(trainers):
                if number == gone:
                    fleet[number].leave()
                    continue
                assert listener.send(peers[number][0], [b"lease %d" % number])
                received = None
                while received is None:
                    fleet.wait(LIMIT_S)
                    received = fleet[number].receive()
                    assert time.monotonic() < deadline
                assert bytes(received[0]) == b"lease %d" % number
        start = time.monotonic()
        waker.wake()
        fleet.wait(LIMIT_S)
        assert time.monotonic() < start + LIMIT_S
    finally:
        fleet.close()
        for listener in trainers:
            listener.close(0)
        for each in [waker] + wakers:
            each.close()
