"""Workers on hosts that are unreachable for a while; and a test of the simulated network itself."""

import subprocess
import sys
import time

import pytest

from tests.support.network import Network, missing
from tests.support.processes import Program


@pytest.fixture(scope="module")
def namespaces():
    """Skips where network namespaces are not possible."""
    why = missing()
    if why:
        pytest.skip(why)


ECHO = """
import socket
listener = socket.socket()
listener.bind(("0.0.0.0", 5555))
listener.listen(5)
print("listens", flush=True)
while True:
    peer, (host, port) = listener.accept()
    peer.sendall(host.encode() + peer.recv(1))
    peer.close()
"""
ASK = """
import socket, sys, time
begun_s = time.monotonic()
peer = socket.create_connection((sys.argv[1], 5555), float(sys.argv[2]))
peer.sendall(b"!")
print(peer.recv(100).decode(), time.monotonic() - begun_s)
"""


def test_a_link_can_be_slow_or_broken(namespaces):
    def ask(host, limit_s=30):
        done = subprocess.run(host.command([sys.executable, "-c", ASK, host.centre, str(limit_s)]),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        if done.returncode != 0:
            return done.stderr.splitlines()[-1]
        answer, seconds = done.stdout.split()
        assert answer == host.address + "!"
        return float(seconds)
    with Network() as network:
        host = network.add_host()
        command = network.centre.command([sys.executable, "-c", ECHO])
        with Program(command[1:], command[0]) as echo:
            echo.wait_for_line("listens")
            assert network.centre.listening() == [5555]
            assert ask(host) > 0
            host.shape(delay_s=0.1)
            assert ask(host) >= 0.4                  # two round trips: to connect, and to ask
            host.shape()
            host.cut()
            assert not host.reachable and "timed out" in ask(host, 3)
            host.mend()
            host.link_down()
            assert "unreachable" in ask(host)
            host.link_up()
            host.change_address()
            assert ask(host) > 0                     # the answer contains the new address


def test_namespaces_are_gone_when_something_fails(namespaces):
    with pytest.raises(KeyError):
        with Network() as network:
            network.add_host()
            assert network.left()
            raise KeyError
    assert network.left() == []


LISTEN = """
import zmq
router = zmq.Context().socket(zmq.ROUTER)
router.bind("tcp://0.0.0.0:5555")
print("listens", flush=True)
while True:
    router.recv_multipart()
"""
SEEK = """
import socket, sys, threading, time
from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.sockets import Waker

def plain():
    socket.create_connection((sys.argv[1], 5555), 60)
    print("plain TCP has connected", flush=True)

threading.Thread(target=plain).start()
connection = Connection("tcp://%s:5555" % sys.argv[1], Waker(), 100)
print("seeks", flush=True)
while not connection.send([b"hello"]):
    time.sleep(0.01)
print("connected", flush=True)
"""


def test_a_worker_does_not_wait_for_tcp_to_try_again(namespaces):
    """TCP doubles its pauses: after a minute without an answer, the next packet follows half a minute later."""
    with Network() as network:
        host = network.add_host()
        listen, seek = (namespace.command([sys.executable, "-c", program] + words) for namespace, program, words in (
            (network.centre, LISTEN, []), (host, SEEK, [host.centre])))
        with Program(listen[1:], listen[0]) as listener:
            listener.wait_for_line("listens")
            host.cut()
            with Program(seek[1:], seek[0]) as seeker:
                seeker.wait_for_line("seeks")
                time.sleep(8)
                host.mend()
                seeker.wait_for_line("plain TCP has connected")
                assert "connected" in seeker.lines
