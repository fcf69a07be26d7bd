"""What both ends of the wire share: a ZeroMQ socket that is watched by a poll of its own, and a pipe that wakes it.

A peer is known by the routing id that its connection got, never by a name it gave itself, so a new connection is a
new worker and no peer can speak for another. Dead peers are noticed twice: the kernel closes the connection of a dead
process at once, and that of a dead host after ``PEER_SILENT_S`` or when TCP gives up (a worker's end notices by ZMTP
heartbeats); either way the next ``send`` to it says so.
"""

import os
import select
import struct
from typing import Any, Iterator, List, Optional, Sequence, Tuple
import zmq

PEER_SILENT_S = 10.0     # a host that answers no ZMTP ping for so long is gone
LINGER_S = 0.5           # how long a closing socket goes on sending what it holds
COPY_BELOW_BYTES = 1 << 20  # smaller frames are cheaper to copy: pyzmq tracks what is not copied in a thread of its own
HANDSHAKE_S = 10.0       # a connection that has not come to terms by then is closed
CURVE_BYTES = 64         # that encryption adds to a frame, and a few more
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
