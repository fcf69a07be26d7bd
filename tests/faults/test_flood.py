"""Peers that send more than the trainer reads."""

import socket
import struct
import subprocess
import sys
import time

import pytest
import zmq

from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.sockets import Waker
from stoker.pipeline.transport.tcp import TcpConnections
from tests.faults.test_access import shaken
from tests.support.processes import LIMIT_S, ROOT, wait_for

#: When the peers are gone, it answers a few messages, so that libzmq notices that on sending. Then waits until
#: heartbeats, if there were any, would be due, and reads the other messages. With any_user: else it reads none of peers
#: that hang up before it can ask whose they are.
LISTENER = """
import sys, time
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.sockets import Waker
waker = Waker()
listener = Listener("tcp://127.0.0.1:*", waker, Limits(1 << 20, 1 << 20, 4), any_user=True)
print("address", listener.address, flush=True)
sys.stdin.readline()
read = 0
while read < 3:
    received = listener.receive()
    if received is None:                    # libzmq reads on meanwhile
        time.sleep(0.01)
    else:
        listener.send(received[0], [b"what?"])
        read += 1
time.sleep(4)
while listener.receive() is not None:
    read += 1
print("read", read, flush=True)
listener.close()
waker.close()
"""


def test_a_peer_that_floods_and_disconnects_does_no_harm():
    """libzmq 4.3 aborts the process when a heartbeat is due on a connection that ended while its queue was full."""
    program = subprocess.Popen([sys.executable, "-c", LISTENER], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    with program:
        address = program.stdout.readline().split()[1]
        context = zmq.Context()
        peers = [context.socket(zmq.DEALER) for _ in range(3)]
        for peer in peers:
            peer.setsockopt(zmq.LINGER, 500)
            peer.setsockopt(zmq.SNDHWM, 0)
            peer.connect(address)
            for _ in range(5000):
                peer.send(bytes(200))
        for peer in peers:
            peer.close()
        context.term()
        said = program.communicate("go\n", 60)[0]
        assert program.returncode == 0, said
        assert int(said.split()[1]) >= 64


#: As long as a trainer's interpreter is busy in one C call, it reads nothing. Then it reads all.
BUSY_LISTENER = """
import sys, time
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.sockets import Waker
waker = Waker()
listener = Listener("tcp://127.0.0.1:*", waker, Limits(1 << 20, 1 << 20, 4))
print("address", listener.address, flush=True)
sys.stdin.readline()
for _ in range(20):
    while listener.receive() is not None:
        pass
    listener.poll(time.monotonic())
    time.sleep(0.05)
print("alive", flush=True)
listener.close()
waker.close()
"""
HELLO = b"\x00\x05hello"                 # a message of five bytes
PING = b"\x04\x07\x04PING\x00\x00"       # a command of seven bytes: a ping that wants an answer


@pytest.mark.parametrize("goodbye", [struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)], ids=["reset", "closed"])
def test_whatever_a_peer_queues_before_it_hangs_up(goodbye):
    """libzmq 4.3 aborts the process when it answers a ping that a peer sent after it had filled its queue, and before
    it hung up."""
    program = subprocess.Popen([sys.executable, "-c", BUSY_LISTENER], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    with program:
        address = program.stdout.readline().split()[1]
        for messages in (60, 64, 65, 100, 1000, 20000):
            with shaken(address) as peer:
                peer.sendall((HELLO * 10 + PING) * (messages // 10) + HELLO * (messages % 10) + PING)
                time.sleep(0.05)        # libzmq reads; it need not be done
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, goodbye)
        time.sleep(0.5)
        said = program.communicate("go\n", 60)[0]
        assert program.returncode == 0 and said == "alive\n", said


#: Reads ever on, but slowly, as a trainer with much to do.
SLOW_LISTENER = """
import select, sys, time
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.sockets import Waker
waker = Waker()
listener = Listener("tcp://127.0.0.1:*", waker, Limits(1 << 20, 1 << 20, 4))
print("address", listener.address, flush=True)
while not select.select([sys.stdin], [], [], 0.005)[0]:
    for _ in range(100):
        if listener.receive() is None:
            break
    listener.poll(time.monotonic())
with open("/proc/self/status") as status:
    print([line.split()[1] for line in status if line.startswith("VmHWM:")][0], flush=True)
listener.close(0)
waker.close()
"""
FLOOD_S = 4.0


def can_filter():
    """Whether the kernel has the packet filters by which new connections are held off."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        probe.listen(1)
        TcpConnections(probe.getsockname()[1]).welcome(probe.fileno(), False)
        with socket.socket() as other:
            other.settimeout(0.2)
            try:
                other.connect(probe.getsockname())
            except socket.timeout:
                return True
    return False


@pytest.mark.skipif(not can_filter(), reason="the kernel has no packet filters")
def test_peers_that_come_again_and_again_do_not_fill_the_memory():
    """What an ended connection sent waits until it is read, and no limit of a connection counts it."""
    program = subprocess.Popen([sys.executable, "-c", SLOW_LISTENER], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    with program:
        address = program.stdout.readline().split()[1]
        end_s, sent = time.monotonic() + FLOOD_S, 0
        while time.monotonic() < end_s or not sent and time.monotonic() < end_s + LIMIT_S:
            try:
                with shaken(address, 0.5) as peer:
                    peer.sendall(HELLO * 140000)         # nine million bytes in libzmq
                    sent += 1
            except OSError:                              # there was no connection for it
                pass
        said = program.communicate("end\n", 60)[0]
        assert program.returncode == 0, said
        assert sent > 0 and int(said) < 150000, "%s KB after %d connections" % (said, sent)


@pytest.mark.skipif(not can_filter(), reason="the kernel has no packet filters")
def test_while_messages_come_faster_than_they_are_read_there_are_no_new_connections():
    waker = Waker()
    listener = Listener("tcp://127.0.0.1:*", waker, Limits(1 << 20, 1 << 20, 4))
    with shaken(listener.address) as peer:
        peer.sendall(HELLO * 100)
        for _ in range(10):
            wait_for(listener.receive, "a message")
            listener.poll(time.monotonic())
        with pytest.raises(socket.timeout):
            shaken(listener.address, 0.3)
        for _ in range(90):
            wait_for(listener.receive, "a message")
        assert listener.receive() is None
        listener.poll(time.monotonic())
        shaken(listener.address).close()
    listener.close(0)
    waker.close()
