"""The sockets: one ROUTER at the trainer, one DEALER a worker. All of zmq is here, but for the keys' files.

A peer is known by the routing id that its connection got, never by a name it gave itself, so a new connection is a
new worker and nobody can speak for another. Dead peers are noticed twice: the kernel closes the connection of a dead
process at once, and that of a dead host after ``PEER_SILENT_S`` or when TCP gives up (a worker's end notices by ZMTP
heartbeats); either way the next ``send`` to it says so.

With keys (CURVE), the worker checks that the trainer is its own, and the trainer who the worker is: libzmq asks for
every connection (ZAP, ZeroMQ RFC 27), and the Listener answers. It never waits for a peer, and what it holds for one
is bounded in both directions.
"""

import errno
from typing import Any, List, Optional, Sequence, Tuple

import zmq
from zmq.utils import z85

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.transport.keys import TrainerKeys
from stoker.pipeline.transport.quota import ByteQuota, Limits
from stoker.pipeline.transport.sockets import FAILED, PEER_SILENT_S, Waker, _NOBLOCK, _Socket

MAX_FRAMES = 17         # of a message: a header and an array each
MAX_SKIPPED_FRAMES = 10000        # further frames that are thrown away in one turn
EXTRA_ANSWERS = 64       # messages to a worker besides a lease and its end for each step that it may hold


class Listener(_Socket):
    """The trainer's end. ``keys``: whom to let in; None: everybody. Raises ConfigError where ``bind`` cannot be bound.

    ``incidents``: (kind of pipeline.peers.KINDS, host) of what went wrong at the door, for the caller to take out.
    """

    def __init__(self, bind: str, waker: Waker, limits: Limits, keys: Optional[TrainerKeys] = None) -> None:
        super().__init__(zmq.ROUTER, waker, limits.frame_bytes, keys is not None)
        self.incidents: List[Tuple[str, str]] = []
        self._keys = keys
        self._skipping = False      # the frames that come are the rest of a message that is not read
        self._failed = False        # the next connection that closes is the one whose handshake just failed
        self._shaking = 0           # connections amid their handshake
        self._make(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
                   | zmq.EVENT_HANDSHAKE_SUCCEEDED | FAILED)
        set_option = self._socket.setsockopt
        set_option(zmq.ROUTER_MANDATORY, 1)   # sending to a peer that is gone is an error ...
        set_option(zmq.SNDHWM, 2 * limits.steps + EXTRA_ANSWERS)    # ... and so it is to one that does not read
        set_option(zmq.RCVHWM, 64)            # messages of one peer that wait here; then its TCP does
        # No ZMTP heartbeats here: libzmq 4.3.4 aborts the process when one is due on a connection that ended while
        # RCVHWM held it up (its issue 4767 is a sister), so any peer could. The kernel looks after dead hosts instead;
        # TCP_MAXRT, for words that nobody acknowledges, is not in every build of 4.3.4: there TCP gives up later.
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, int(PEER_SILENT_S) // 2),
                              (zmq.TCP_KEEPALIVE_INTVL, 1), (zmq.TCP_KEEPALIVE_CNT, int(PEER_SILENT_S) // 2),
                              (zmq.TCP_MAXRT, int(PEER_SILENT_S * 1000))):
            set_option(option, value)
        self._zap = self._context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            self._zap.bind("inproc://zeromq.zap.01")
            self._watch(self._zap)
            set_option(zmq.CURVE_SERVER, 1)
            set_option(zmq.CURVE_SECRETKEY, keys.secret)
            set_option(zmq.ZAP_DOMAIN, b"stoker")
            set_option(zmq.ZAP_ENFORCE_DOMAIN, 1)    # without an answer nobody is let in
        try:
            self._socket.setsockopt(zmq.IPV6, int("[" in bind))
            self._socket.bind(bind.replace("//localhost:", "//127.0.0.1:"))     # libzmq binds no names
        except zmq.ZMQError as error:
            self.close(0)
            code = error.errno or 0
            what = {errno.EADDRINUSE: "the port is in use: is another trainer running? Stop it, or choose another "
                                      "port (port * takes a free one)",
                    errno.ENODEV: "this machine has no such address"}.get(code, zmq.strerror(code))
            raise ConfigError("cannot bind %s: %s" % (bind, what)) from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._quota = ByteQuota(limits, int(self.address.rpartition(":")[2]))

    def next_deadline(self) -> float:
        """When ``look`` wants to be called, at the latest."""
        return self._quota.next_deadline()

    def poll(self, now: float) -> None:
        """Answers who knocks, and shuts out who takes too much. To be called when all waiting messages are read."""
        self._answer()
        self._follow()
        self.incidents += [("memory", host) for host in self._quota.check(now)]

    def receive(self) -> Optional[Tuple[bytes, List[Any]]]:
        """(peer, frames as flat memoryviews), or None if no message waits."""
        while True:
            try:
                if self._skipping and not self._skip():
                    return None
                parts = [self._socket.recv(_NOBLOCK, copy=False)]
            except zmq.Again:
                return None
            while parts[-1].more and len(parts) <= MAX_FRAMES + 1:
                parts.append(self._socket.recv(_NOBLOCK, copy=False))
            self._skipping = parts[-1].more
            peer, frames = parts[0].bytes, [part.buffer for part in parts[1:]]
            if self._is_heard(parts[-1], peer, frames):
                return peer, frames

    def _skip(self) -> bool:
        """Throws the rest of an endless message away. False: there is still more of it."""
        for _ in range(MAX_SKIPPED_FRAMES):
            if not self._socket.recv(zmq.NOBLOCK, copy=False).more:
                self._skipping = False
                return True
        return False

    def _is_heard(self, last: Any, peer: bytes, frames: List[Any]) -> bool:
        """The message counts as delivered, and is to be read. ``last``: its last part."""
        try:
            fd = last.get(zmq.SRCFD)          # not of the first one, which is the ROUTER's own
        except zmq.ZMQError:                  # a peer of ZMTP 2 or older, which cannot be watched
            return False
        if not self._quota.knows(fd):
            self._follow()                    # it was quicker than the news of it
        return self._quota.delivered(fd, peer, len(frames) + 1, sum(map(len, frames)) + len(peer))

    def send(self, peer: bytes, frames: Sequence[Any]) -> bool:
        """False: the peer is gone, or does not read."""
        try:
            self._send([peer] + list(frames))
        except zmq.ZMQError as error:
            if error.errno in (errno.EHOSTUNREACH, errno.EAGAIN):
                return False
            raise
        return True

    def admit(self, peer: bytes, capacity: int) -> None:
        """The peer is a worker that may hold so many leases, and have their batches under way."""
        self._quota.admit(peer, capacity)

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
        self._quota.shut(peer)

    def close(self, linger: Optional[int] = None) -> None:
        self._drop(linger)
        self._zap.close()
        self._context.term()

    def _follow(self) -> None:
        """Keeps the guard's list of connections."""
        for event, value in self._events():
            if event & (FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED):     # says not whose, but a failed one is closed next
                self._shaking = max(0, self._shaking - 1)
                self._failed = bool(event & FAILED & ~zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            elif event == zmq.EVENT_ACCEPTED:
                refused = self._quota.accepted(value)
                self._shaking += not refused
                if refused:
                    self.incidents.append(("connections", refused))
            else:
                host = self._quota.closed(value)
                if host and self._failed:
                    self.incidents.append(("handshake", host))
                elif host and self._shaking:         # what is no ZeroMQ has no handshake that could fail
                    self._shaking -= 1
                    self.incidents.append(("silent", host))
                self._failed = False

    def _answer(self) -> None:
        """Says who is let in, in the words of RFC 27."""
        while self._keys is not None:
            try:
                request = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            known = (len(request) == 7 and request[0] == b"1.0" and request[5] == b"CURVE" and len(request[6]) == 32
                     and z85.encode(request[6]) in self._keys.workers)
            if not known:
                self.incidents.append(("key", request[3].decode("ascii", "replace") if len(request) > 3 else "?"))
            self._zap.send_multipart([b"1.0", request[1] if len(request) > 1 else b"",
                                      b"200" if known else b"400", b"OK" if known else b"unknown key", b"", b""])


