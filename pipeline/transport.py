"""The sockets: one ROUTER at the trainer, one DEALER a worker. The only module that imports zmq.

A peer is known by the routing id that its connection got, never by a name it gave itself, so a new connection is a
new worker and nobody can speak for another. Dead peers are noticed twice: the kernel closes the connection of a dead
process at once, and ZMTP heartbeats close that of a dead host after ``PEER_SILENT_S``; either way the next ``send``
to it says so.
"""

import errno
import os
from typing import Any, List, Optional, Sequence, Tuple

import zmq

from pipeline.errors import ConfigError

PEER_SILENT_S = 10.0     # a host that answers no ZMTP ping for so long is gone
CONNECT_S = 5.0          # then a new attempt: TCP would repeat its packet after ever longer pauses, of minutes at last
LINGER_S = 0.5           # how long a closing socket goes on sending what it holds
COPY_BELOW_BYTES = 1 << 16  # smaller frames are cheaper to copy than to track


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
        """Takes back all wakes so far."""
        try:
            while os.read(self._read_fd, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Frees both ends; once."""
        read_fd, write_fd, self._read_fd, self._write_fd = self._read_fd, self._write_fd, -1, -1
        for fd in (read_fd, write_fd):
            if fd >= 0:
                os.close(fd)


class _Socket:
    def __init__(self, kind: int, waker: Waker, max_message_bytes: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        set_option = self._socket.setsockopt
        set_option(zmq.LINGER, int(LINGER_S * 1000))
        set_option(zmq.HEARTBEAT_IVL, int(PEER_SILENT_S * 1000) // 4)
        set_option(zmq.HEARTBEAT_TIMEOUT, int(PEER_SILENT_S * 1000))
        set_option(zmq.MAXMSGSIZE, max_message_bytes)   # of one frame; the peer is disconnected beyond it
        self._waker = waker
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(waker.fileno(), zmq.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Returns when a message waits, the waker was used, or the time is over."""
        self._poller.poll(max(0, int(timeout_s * 1000 + 0.999)))
        self._waker.clear()

    def _receive(self) -> Optional[List[Any]]:
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _send(self, frames: Sequence[Any]) -> None:
        self._socket.send_multipart(frames, zmq.NOBLOCK,
                                    copy=all(len(frame) < COPY_BELOW_BYTES for frame in frames))

    def close(self) -> None:
        """Sends what is under way for ``LINGER_S`` at most, then frees socket and threads."""
        self._socket.close()
        self._context.term()


class Listener(_Socket):
    """The trainer's end. Raises ConfigError where ``bind`` cannot be bound."""

    def __init__(self, bind: str, waker: Waker, max_message_bytes: int) -> None:
        super().__init__(zmq.ROUTER, waker, max_message_bytes)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)   # sending to a peer that is gone is an error
        self._socket.setsockopt(zmq.SNDHWM, 0)             # leases bound what is under way to a worker
        self._socket.setsockopt(zmq.RCVHWM, 64)            # messages of one peer that wait here; then its TCP does
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._socket.close(0)
            self._context.term()
            code = error.errno or 0
            what = {errno.EADDRINUSE: "the port is in use: is another trainer running? Stop it, or choose another "
                                      "port (port * takes a free one)",
                    errno.ENODEV: "this machine has no such address"}.get(code, zmq.strerror(code))
            raise ConfigError("cannot bind %s: %s" % (bind, what)) from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)

    def receive(self) -> Optional[Tuple[bytes, List[Any]]]:
        """(peer, frames as flat memoryviews), or None if no message waits."""
        parts = self._receive()
        return None if parts is None else (parts[0].bytes, [part.buffer for part in parts[1:]])

    def send(self, peer: bytes, frames: Sequence[Any]) -> bool:
        """False: the peer is gone."""
        try:
            self._send([peer] + list(frames))
        except zmq.ZMQError as error:
            if error.errno in (errno.EHOSTUNREACH, errno.EAGAIN):
                return False
            raise
        return True


class Connection(_Socket):
    """A worker's end. Reconnects by itself for ever; what was not sent when a connection broke is dropped."""

    def __init__(self, connect: str, waker: Waker, max_message_bytes: int) -> None:
        super().__init__(zmq.DEALER, waker, max_message_bytes)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)          # no queue for a trainer that is not there
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, int(CONNECT_S * 1000))
        self._socket.setsockopt(zmq.SNDHWM, 0)             # leases bound what is under way
        try:
            self._socket.connect(connect)
        except zmq.ZMQError as error:
            self._socket.close(0)
            self._context.term()
            raise ConfigError("cannot connect to %r (%s): an address looks like tcp://HOST:5555"
                              % (connect, zmq.strerror(error.errno or 0))) from error

    def receive(self) -> Optional[List[Any]]:
        """Frames as flat memoryviews, or None if no message waits."""
        parts = self._receive()
        return None if parts is None else [part.buffer for part in parts]

    def send(self, frames: Sequence[Any]) -> bool:
        """False: there is no connection at the moment."""
        try:
            self._send(frames)
        except zmq.Again:
            return False
        return True
