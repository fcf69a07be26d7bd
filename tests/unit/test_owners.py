"""Which user is at the other end of a connection: as the kernel says it in two ways."""

import contextlib
import os
import socket
import struct
import time

import pytest
import zmq

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.transport import owners
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.owners import SocketOwners, by_table
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import Waker
from tests.support.strangers import as_stranger, needs_root


@pytest.fixture(params=["netlink", "table"])
def told(request, monkeypatch):
    """SocketOwners that ask in this way."""
    if request.param == "table":
        monkeypatch.setattr(owners, "NETLINK_SOCK_DIAG", 31)        # there is none
    one = SocketOwners()
    assert (one._ask is by_table) == (request.param == "table")
    yield one
    one.close()
    one.close()


def listening(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family)
    if host == "::":
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((host, 0))
    server.listen(5)
    return server


@pytest.mark.parametrize("host, connects", [("127.0.0.1", "127.0.0.1"), ("127.0.0.9", "127.0.0.9"), ("::1", "::1"),
                                            ("::", "127.0.0.1")])
def test_the_user_of_both_ends(told, host, connects):
    with listening(host) as server, socket.create_connection((connects, server.getsockname()[1])) as client:
        accepted, _ = server.accept()
        with accepted:
            assert told.of_peer(accepted.fileno()) == os.geteuid()
            assert told.of_peer(client.fileno()) == os.geteuid()


@needs_root
def test_a_stranger_is_known(told):
    with listening("127.0.0.1") as server:
        with as_stranger(lambda: socket.create_connection(server.getsockname()).recv(1)):
            accepted, _ = server.accept()
            with accepted:
                assert told.of_peer(accepted.fileno()) == 65534


def test_a_socket_without_a_process_has_no_user(told):
    with listening("127.0.0.1") as server:
        client = socket.create_connection(server.getsockname())
        assert told.of_peer(client.fileno()) is None                # not taken by ``accept`` yet
        accepted, _ = server.accept()
        with accepted:
            client.close()                                          # the kernel keeps it for a while, as the user 0's
            assert told.of_peer(accepted.fileno()) is None


def test_a_listener_in_place_of_the_peer_is_not_the_peer(told):
    for _ in range(10):
        with contextlib.suppress(OSError):         # another process of this machine was given the port
            a_listener_is_not_the_peer(told)
            return
    pytest.fail("the port was never free")


def a_listener_is_not_the_peer(told):
    with listening("127.0.0.1") as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.connect(server.getsockname())
        name = client.getsockname()
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with accepted, socket.socket() as other:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()                                          # at once, by a reset
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(name)
            other.listen(1)
            assert told._ask(owners._ends(name, server.getsockname())) is None


def test_what_is_no_connection_has_no_user(told):
    with open(os.devnull) as file, socket.socket() as unconnected, listening("127.0.0.1") as server:
        for fd in (file.fileno(), unconnected.fileno(), server.fileno(), 999999):
            assert told.of_peer(fd) is None


def test_a_system_that_does_not_tell_is_an_error(monkeypatch):
    monkeypatch.setattr(owners, "NETLINK_SOCK_DIAG", 31)
    monkeypatch.setattr(owners, "TABLES", dict.fromkeys(owners.TABLES, "/proc/no/such/table"))
    with pytest.raises(ConfigError, match="does not tell which user .*stoker-keys"):
        SocketOwners()


def test_no_message_of_a_peer_that_is_gone_before_it_can_be_asked_is_read(monkeypatch):
    with zmq.Context() as context, listener_of_own_user() as listener:
        context.setsockopt(zmq.LINGER, 5000)               # also a test that fails ends
        for _ in range(5):
            with context.socket(zmq.DEALER) as own:
                own.connect(listener.address)
                own.send(b"own")
                assert received(listener, 30.0) == [b"own"]
                assert listener.receive() is None          # else it takes no connections: messages come too fast
                own.send(b"and the last one")
                time.sleep(0.1)
            time.sleep(0.1)
            listener.poll(time.monotonic())                # knows that the connection has ended
            assert received(listener, 30.0) == [b"and the last one"]
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        for _ in range(5):
            with context.socket(zmq.DEALER) as strange:
                strange.connect(listener.address)
                strange.send(b"strange")
                time.sleep(0.1)
            time.sleep(0.1)                                # the connection has ended
            assert received(listener, 0.3) == []


@contextlib.contextmanager
def listener_of_own_user():
    waker = Waker()
    listener = Listener("tcp://127.0.0.1:*", waker, Limits(1000, 1000, 1))
    yield listener
    listener.close(0)
    waker.close()


def received(listener, seconds):
    """The first frame of the first message that is read within so many seconds, in a list."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        message = listener.receive()
        if message is not None:
            return [bytes(message[1][0])]
        time.sleep(0.01)
    return []
