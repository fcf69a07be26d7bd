"""Both ends of the wire in one process: no message is missed when two threads use a socket."""

import select
import threading
import time

import pytest
import zmq

from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.listener import Listener
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
