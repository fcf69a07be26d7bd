"""The base of both ends of the wire: a ZeroMQ socket with its own poll over file descriptors, and a pipe that wakes it.

A peer is the routing id that ZeroMQ gave to its connection, so no peer can send in the name of another. The kernel
closes the connection of a dead process at once; that of a dead host ends after ``PEER_TIMEOUT_S``, or when TCP gives up
(the worker's end uses ZMTP heartbeats). From then on ``send`` to that peer returns False.
"""

import errno
import os
import select
import struct
from contextlib import suppress
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import zmq

from stoker.pipeline.arrays import Buffer
from stoker.pipeline.transport.owners import SocketOwners

PEER_TIMEOUT_S = 10.0       # a host that does not answer for so long is taken for dead
LINGER_S = 0.5              # how long a closing socket goes on sending what it holds
HANDSHAKE_TIMEOUT_S = 10.0  # a connection whose handshake takes longer is closed
COPY_BELOW_BYTES = 1 << 20  # smaller frames are cheaper to copy: for the others pyzmq needs a thread that frees them
CURVE_OVERHEAD_BYTES = 64   # more than encryption adds to a frame
NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)    # Python needs 4 us to combine the enums
_EVENTS, _POLLIN = zmq.EVENTS, int(zmq.POLLIN)
HANDSHAKE_FAILED = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_AUTH)


class Waker:
    """A pipe that ends a ``Socket.wait`` in another thread."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        self._poller = select.poll()
        self._poller.register(self._read_fd, select.POLLIN)
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Safe from any thread and from signal handlers; does nothing once closed."""
        with suppress(OSError):     # the pipe is full, so the poll returns anyway; or it is closed
            os.write(self._write_fd, b"w")

    def fileno(self) -> int:
        """The end to poll."""
        return self._read_fd

    def wait(self, timeout_s: float) -> bool:
        """Returns when it was used, or the time is over; whether it was used."""
        was_used = bool(self._poller.poll(int(timeout_s * 1000 + 0.999)))
        if was_used:
            self.clear()
        return was_used

    def clear(self) -> None:
        """Takes back the wakes so far; after thousands of them some are left, and the next ``wait`` returns at once."""
        with suppress(BlockingIOError):
            os.read(self._read_fd, 4096)

    def close(self) -> None:
        """Closes both ends. A second call does no harm."""
        read_fd, write_fd, self._read_fd, self._write_fd = self._read_fd, self._write_fd, -1, -1
        for fd in (read_fd, write_fd):
            if fd >= 0:
                os.close(fd)


def can_be_read(socket: Any) -> bool:     # Any: to pyzmq's types, an option is int or bytes
    """Whether a message waits. It costs a third of a zmq.Again."""
    return bool(socket.getsockopt(_EVENTS) & _POLLIN)


class Signal:
    """Whether messages came for a socket that is only read, each time until nothing is left. Then its descriptor
    signals the next one for as long as it is not read. To ask that costs a fifth of asking the socket."""

    def __init__(self, socket: Any) -> None:       # Any: as above
        self._poller = select.poll()
        self._poller.register(socket.getsockopt(zmq.FD), select.POLLIN)
        self.was_asked = False          # there is no signal before the socket was read for the first time

    def is_set(self) -> bool:
        """There may be something to read."""
        is_set, self.was_asked = not self.was_asked or bool(self._poller.poll(0)), True
        return is_set


class Socket:
    """The base of both ends. ``_open_socket`` may be called again after ``_close_socket``. ``checks_user``: only a
    process of the same user may be at the other end, as ``owners`` tells, or one made here. Raises ConfigError where
    the kernel does not tell that. ``context``: of libzmq, which is not closed with this; it has a thread of its own."""

    def __init__(self, kind: int, waker: Waker, max_frame_bytes: int, is_encrypted: bool, checks_user: bool,
                 owners: Optional[SocketOwners] = None, context: Any = None) -> None:
        self._owners = (owners or SocketOwners()) if checks_user else None
        self._owns_context = context is None
        self._context = zmq.Context() if context is None else context
        self._kind, self._waker, self._opened = kind, waker, 0
        self._max_frame_bytes = max_frame_bytes + CURVE_OVERHEAD_BYTES * is_encrypted

    def _open_socket(self, events: int) -> None:
        self._socket = self._context.socket(self._kind)
        set_option = self._socket.setsockopt
        set_option(zmq.LINGER, int(LINGER_S * 1000))
        set_option(zmq.HANDSHAKE_IVL, int(HANDSHAKE_TIMEOUT_S * 1000))
        set_option(zmq.MAXMSGSIZE, self._max_frame_bytes)   # of one frame: libzmq disconnects a peer that sends more
        self._opened += 1
        endpoint = "inproc://events-%d-%d" % (id(self), self._opened)    # libzmq frees that of a closed one later
        self._socket.monitor(endpoint, events)
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)             # with a limit libzmq's own thread would wait here
        self._monitor.connect(endpoint)
        self._has_events = Signal(self._monitor)
        self._may_have_input = True       # it was used since it was last found empty
        self._watched: List[Any] = []
        self._poller = select.poll()                        # costs a third of zmq.Poller
        self._poller.register(self._waker.fileno(), select.POLLIN)
        self._watch(self._socket)
        self._signal, self._is_signalled = (self._socket.getsockopt(zmq.FD), select.POLLIN), False
        self._watch(self._monitor)

    def _watch(self, socket: Any) -> None:
        """From now on ``wait`` returns when ``socket`` can be read; it is closed together with this one."""
        self._watched.append(socket)
        self._poller.register(socket.getsockopt(zmq.FD), select.POLLIN)

    def descriptors(self) -> List[int]:
        """Those to poll for ``wait``, but for the waker's."""
        return [int(socket.getsockopt(zmq.FD)) for socket in self._watched]

    def _has_input(self) -> bool:
        """Whether a message may wait without a signal. The socket's descriptor signals new input only once
        (edge-triggered), and any call on the socket may consume the signal: ask this before each poll."""
        return not self._has_events.was_asked or self._may_have_input and self._can_be_read()

    def _can_be_read(self) -> bool:
        """Whether a message waits."""
        self._may_have_input = can_be_read(self._socket)
        return self._may_have_input

    def wait(self, timeout_s: float) -> None:
        """Returns when a message waits, the waker was used, a connection changed, or the time is over."""
        ready = self._poller.poll(0 if self._has_input() else max(0, int(timeout_s * 1000 + 0.999)))
        self._is_signalled = self._signal in ready
        self._may_have_input = self._may_have_input or self._is_signalled      # the signal may be consumed from now on
        if (self._waker.fileno(), select.POLLIN) in ready:
            self._waker.clear()

    def _events(self) -> Iterable[Tuple[int, int]]:
        """What happened to connections: (event, its value)."""
        return self._read_monitor() if self._has_events.is_set() else ()

    def _read_monitor(self) -> Iterator[Tuple[int, int]]:
        while can_be_read(self._monitor):
            yield struct.unpack("=Hi", self._monitor.recv_multipart(zmq.NOBLOCK)[0])

    def _send(self, frames: Sequence[Buffer]) -> bool:
        """Sends a message without waiting. False: there is no connection, or the peer does not read."""
        self._may_have_input = True
        copy = max(map(len, frames)) < COPY_BELOW_BYTES
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _NOBLOCK_MORE, copy=copy)
            self._socket.send(frames[-1], NOBLOCK, copy=copy)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            return False
        return True

    def _close_socket(self, linger: Optional[int] = None) -> None:
        self._socket.disable_monitor()
        for socket in self._watched:
            socket.close(linger)

    def close(self, linger: Optional[int] = None) -> None:
        """Sends what is under way for ``LINGER_S`` at most, or ``linger`` ms, then frees port, sockets and threads."""
        self._close_socket(linger)
        if self._owns_context:
            self._context.term()
        if self._owners is not None:
            self._owners.close()
