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
import os
import select
import struct
import threading
import time
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import zmq
from zmq.utils import z85

from pipeline.config import is_loopback
from pipeline.errors import ConfigError
from pipeline.guard import Guard, Limits
from pipeline.keys import TrainerKeys, WorkerKeys

PEER_SILENT_S = 10.0     # a host that answers no ZMTP ping for so long is gone
CONNECT_S = 5.0          # then a new attempt: TCP would repeat its packet after ever longer pauses, of minutes at last
LINGER_S = 0.5           # how long a closing socket goes on sending what it holds
COPY_BELOW_BYTES = 1 << 20  # smaller frames are cheaper to copy: pyzmq tracks what is not copied in a thread of its own
SEND_BUFFER_BYTES = 256 << 10   # to this host: a batch goes through memory that the processor's cache still has
HANDSHAKE_S = 10.0       # a connection that has not come to terms by then is closed
CURVE_BYTES = 64         # that encryption adds to a frame, and a few more
FRAMES_MOST = 17         # of a message: a header and an array each
SKIP_MOST = 10000        # further frames that are thrown away in one turn
ANSWERS_SPARE = 64       # messages to a worker besides a lease and its end for each step that it may hold
RETRY_S = 1.0            # from a failed handshake to the next try, where libzmq itself would not try again
FAILURES_LEAST = 3       # handshakes in a row that failed before a worker says so: a trainer may just be going

_NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)    # to combine enums takes Python 4 us

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class Waker:
    """A pipe that makes a ``poll`` in another thread return."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Safe from any thread and from signal handlers; does nothing once closed."""
        try:
            os.write(self._write_fd, b"w")
        except OSError:  # full: it is awake anyway; closed: nobody is left to wake
            pass

    def fileno(self) -> int:
        """The end to poll."""
        return self._read_fd

    def clear(self) -> None:
        """Takes back the wakes so far. If there were thousands, some are left: the next ``poll`` returns at once."""
        try:
            os.read(self._read_fd, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Frees both ends; once."""
        read_fd, write_fd, self._read_fd, self._write_fd = self._read_fd, self._write_fd, -1, -1
        for fd in (read_fd, write_fd):
            if fd >= 0:
                os.close(fd)


def _can_be_read(source: Any) -> bool:
    return bool(source.getsockopt(zmq.EVENTS) & zmq.POLLIN)


class _Socket:
    """What both ends share. ``_make`` sets the socket up; it may be called again."""

    def __init__(self, kind: int, waker: Waker, max_frame_bytes: int, encrypted: bool) -> None:
        self._context = zmq.Context()
        self._kind, self._waker, self._made = kind, waker, 0
        self._max_frame_bytes = max_frame_bytes + CURVE_BYTES * encrypted

    def _make(self, events: int) -> None:
        self._socket = self._context.socket(self._kind)
        set_option = self._socket.setsockopt
        set_option(zmq.LINGER, int(LINGER_S * 1000))
        set_option(zmq.HANDSHAKE_IVL, int(HANDSHAKE_S * 1000))
        set_option(zmq.MAXMSGSIZE, self._max_frame_bytes)   # of one frame; the peer is disconnected beyond it
        self._made += 1
        endpoint = "inproc://events-%d" % self._made        # libzmq frees the name of a closed one later
        self._socket.monitor(endpoint, events)
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.RCVHWM, 0)             # libzmq's own thread would wait for room
        self._monitor.connect(endpoint)
        self._sources: List[Any] = []
        self._poll = select.poll()
        self._poll.register(self._waker.fileno(), select.POLLIN)
        self._watch(self._socket)
        self._watch(self._monitor)

    def _watch(self, source: Any) -> None:
        self._sources.append(source)
        self._poll.register(source.getsockopt(zmq.FD), select.POLLIN)

    def _has_news(self) -> bool:
        """A socket has something to be read. Its descriptor tells of it only once, and to any call on the socket: so
        this is to be asked before each poll."""
        return any(map(_can_be_read, self._sources))

    def wait(self, timeout_s: float) -> None:
        """Returns when a message waits, the waker was used, a connection changed, or the time is over."""
        # by the descriptors: a third of the price of zmq.Poller
        happened = self._poll.poll(0 if self._has_news() else max(0, int(timeout_s * 1000 + 0.999)))
        if (self._waker.fileno(), select.POLLIN) in happened:
            self._waker.clear()

    def _events(self) -> Iterator[Tuple[int, int]]:
        """What happened to connections: (event, its value)."""
        while _can_be_read(self._monitor):      # a third of what a zmq.Again costs
            yield struct.unpack("=Hi", self._monitor.recv_multipart(zmq.NOBLOCK)[0])

    def _send(self, frames: Sequence[Any]) -> None:
        copy = all(len(frame) < COPY_BELOW_BYTES for frame in frames)
        for frame in frames[:-1]:
            self._socket.send(frame, _NOBLOCK_MORE, copy=copy)
        self._socket.send(frames[-1], _NOBLOCK, copy=copy)

    def _drop(self, linger: Optional[int] = None) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger)

    def close(self, linger: Optional[int] = None) -> None:
        """Sends what is under way for ``LINGER_S`` at most, then frees socket and threads."""
        self._drop(linger)
        self._context.term()


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
        set_option(zmq.SNDHWM, 2 * limits.steps + ANSWERS_SPARE)    # ... and so it is to one that does not read
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
        self._guard = Guard(limits, int(self.address.rpartition(":")[2]))

    def next_deadline(self) -> float:
        """When ``look`` wants to be called, at the latest."""
        return self._guard.next_deadline()

    def look(self, now: float) -> None:
        """Answers who knocks, and shuts out who takes too much. To be called when all waiting messages are read."""
        self._answer()
        self._follow()
        self.incidents += [("memory", host) for host in self._guard.check(now)]

    def receive(self) -> Optional[Tuple[bytes, List[Any]]]:
        """(peer, frames as flat memoryviews), or None if no message waits."""
        while True:
            try:
                if self._skipping and not self._skip():
                    return None
                parts = [self._socket.recv(_NOBLOCK, copy=False)]
            except zmq.Again:
                return None
            while parts[-1].more and len(parts) <= FRAMES_MOST + 1:
                parts.append(self._socket.recv(_NOBLOCK, copy=False))
            self._skipping = parts[-1].more
            peer, frames = parts[0].bytes, [part.buffer for part in parts[1:]]
            if self._is_heard(parts[-1], peer, frames):
                return peer, frames

    def _skip(self) -> bool:
        """Throws the rest of an endless message away. False: there is still more of it."""
        for _ in range(SKIP_MOST):
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
        if not self._guard.knows(fd):
            self._follow()                    # it was quicker than the news of it
        return self._guard.delivered(fd, peer, len(frames) + 1, sum(map(len, frames)) + len(peer))

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
        self._guard.admit(peer, capacity)

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
        self._guard.shut(peer)

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
                refused = self._guard.accepted(value)
                self._shaking += not refused
                if refused:
                    self.incidents.append(("connections", refused))
            else:
                host = self._guard.closed(value)
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


class Connection(_Socket):
    """A worker's end. Reconnects by itself for ever; what was not sent when a connection broke is dropped.

    Two threads may use it, each under ``lock``, all but for ``wait``: whoever sends must receive until nothing waits
    before it lets go of the lock, or the other one sleeps over what came meanwhile.
    """

    def __init__(self, connect: str, waker: Waker, max_frame_bytes: int, keys: Optional[WorkerKeys] = None) -> None:
        super().__init__(zmq.DEALER, waker, max_frame_bytes, keys is not None)
        self.lock = threading.RLock()
        self._address, self._keys = connect, keys
        self._failures = 0                    # handshakes in a row
        self._unknown = False                 # the last of them because of this worker's own key
        self._again_s: Optional[float] = None   # when to make a new socket, since the old one gave up
        self._open()

    def _open(self) -> None:
        self._make(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        set_option = self._socket.setsockopt
        set_option(zmq.IMMEDIATE, 1)          # no queue for a trainer that is not there
        set_option(zmq.HEARTBEAT_IVL, int(PEER_SILENT_S * 1000) // 4)
        set_option(zmq.HEARTBEAT_TIMEOUT, int(PEER_SILENT_S * 1000))
        set_option(zmq.CONNECT_TIMEOUT, int(CONNECT_S * 1000))
        set_option(zmq.RECONNECT_IVL, 50)
        set_option(zmq.RECONNECT_IVL_MAX, 250)   # a new trainer has its old workers within half a second
        set_option(zmq.SNDHWM, 0)             # leases bound what is under way
        if is_loopback(self._address):
            set_option(zmq.SNDBUF, SEND_BUFFER_BYTES)    # elsewhere the kernel finds out what the way there takes
        if self._keys is not None:
            set_option(zmq.CURVE_SERVERKEY, self._keys.trainer)
            set_option(zmq.CURVE_PUBLICKEY, self._keys.public)
            set_option(zmq.CURVE_SECRETKEY, self._keys.secret)
        try:
            self._socket.setsockopt(zmq.IPV6, int("[" in self._address))
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self.close(0)
            raise ConfigError("cannot connect to %r (%s): an address looks like tcp://HOST:5555"
                              % (self._address, zmq.strerror(error.errno or 0))) from error

    def _has_news(self) -> bool:
        with self.lock:
            return super()._has_news()

    def refusal(self) -> str:
        """Why the trainer does not let this worker in, as far as can be told; '' if it does, or is not there."""
        for event, _ in self._events():
            if not event & FAILED:
                self._failures, self._unknown, self._again_s = 0, False, None
                continue
            self._failures += 1
            self._unknown = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._again_s = time.monotonic() + RETRY_S
        if self._again_s is not None and time.monotonic() >= self._again_s:
            self._again_s = None
            self._drop(0)
            self._open()
        if self._failures < FAILURES_LEAST:
            return ""
        if self._unknown:
            return "it does not know this worker's key: it knows those in its --keys folder when it started"
        if self._keys is None:
            return "it ends the handshake: it may want keys (--keys DIR, a worker's folder that stoker-keys made)"
        return ("it ends the handshake: it has no keys, or is not the trainer whose trainer.key this worker has; both "
                "need --keys with folders of one stoker-keys run")

    def receive(self) -> Optional[List[Any]]:
        """Frames as flat memoryviews, or None if no message waits."""
        try:
            return [part.buffer for part in self._socket.recv_multipart(_NOBLOCK, copy=False)]
        except zmq.Again:
            return None

    def send(self, frames: Sequence[Any]) -> bool:
        """False: there is no connection at the moment."""
        try:
            self._send(frames)
        except zmq.Again:
            return False
        return True
