"""Peers that send more than the trainer reads."""

import zmq

from tests.support.processes import Program

#: Answers a few messages, so that libzmq notices on sending that the peers are gone. Then waits until heartbeats, if
#: there were any, would be due, and reads the other messages.
LISTENER = """
import time
from stoker.pipeline.transport.quota import Limits
from stoker.pipeline.transport.listener import Listener
from stoker.pipeline.transport.sockets import Waker
waker = Waker()
listener = Listener("tcp://127.0.0.1:*", waker, Limits(1 << 20, 1 << 20, 4))
print("address", listener.address, flush=True)
time.sleep(2)
read = 3
for _ in range(read):
    listener.send(listener.receive()[0], [b"what?"])
time.sleep(4)
while listener.receive() is not None:
    read += 1
print("read", read, flush=True)
listener.close()
waker.close()
"""


def test_a_peer_that_floods_and_disconnects_does_no_harm():
    """libzmq 4.3 aborts the process when a heartbeat is due on a connection that ended while its queue was full."""
    with Program(["-c", LISTENER]) as program:
        address = program.wait_for_line("^address ")[0].split()[1]
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
        assert program.wait() == 0, program.text
        assert int(program.wait_for_line("^read ")[0].split()[1]) >= 64
