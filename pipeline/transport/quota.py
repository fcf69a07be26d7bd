"""Watches what every connection has under way, because libzmq does not.

ZeroMQ hands over whole messages and counts none before: one that never ends is piled up without any limit. The guard
compares the bytes that the kernel received on a connection (TCP_INFO, Linux 4.6 or newer) with those of the messages
that were delivered from it, and shuts the connection down when an honest worker could not have as much to send.

It knows connections by libzmq's own file descriptors, and only reads them, so that they close when libzmq closes them.
"""

import resource
import socket
import struct
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

CHECK_S = 0.05               # between two looks at all connections ...
CHECK_EACH_S = 0.00005       # ... and so much more for each: 4096 of them are looked at 5 times a second
MAX_CONNECTIONS = 4096      # at once; fewer where the process may have few files
HEADROOM_BYTES = 1 << 20     # on top of messages: handshake, and what says little
EXTRA_TOTAL_BYTES = 64 << 20   # on top of what all honest workers together have under way
FRAME_OVERHEAD_BYTES = 128   # more than a frame's header, encryption and its share of pings take on the wire
MIN_SEGMENT_BYTES = 536    # of TCP's payload where a message fills it ...
EXTRA_SEGMENTS = 1000        # ... but for so many: each may hold a buffer of 8 KB in libzmq


class Limits(NamedTuple):
    """What a job makes of the door."""

    frame_bytes: int    # the largest frame: header or array
    batch_bytes: int    # the largest message: a header and all arrays of a batch
    steps: int          # that are leased or buffered at once


class _Connection:
    def __init__(self, fd: int, address: Tuple[Any, ...], allowed: int) -> None:
        self.fd, self.address, self.allowed = fd, address, allowed
        self.peer: Optional[bytes] = None
        self.member = False
        self.delivered = 0       # never more than was received: nobody saves up for later
        self.spoke = False       # a message arrived since the last look
        self.silent = True       # none ever did
        self.segments = 0        # that had come when it last spoke
        self.waiting = 0
        self.shut = False


class ByteQuota:
    """The connections of one listening socket on ``port``, by libzmq's descriptors. Times in seconds."""

    def __init__(self, limits: Limits, port: int) -> None:
        self._limits, self._port = limits, port
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)
        self._connections: Dict[int, _Connection] = {}
        self._of_peer: Dict[bytes, _Connection] = {}
        self._next_s = 0.0

    def next_deadline(self) -> float:
        """When ``check`` wants to be called, at the latest."""
        return self._next_s if self._connections else float("inf")

    def accepted(self, fd: int) -> str:
        """libzmq accepted a connection. Returns its host if it is one too many, and is shut down."""
        self.closed(fd)
        address = _address(fd, self._port)
        if address is None:          # gone again, and the descriptor is perhaps another's
            return ""
        connection = _Connection(fd, address, self._limits.batch_bytes + HEADROOM_BYTES)
        self._connections[fd] = connection
        if len(self._connections) <= self._most:
            return ""
        self._shut(connection)
        return str(address[0])

    def closed(self, fd: int) -> str:
        """libzmq closed it. Returns its host if it never said a word, though it could."""
        connection = self._connections.pop(fd, None)
        if connection is None:       # it was closed before the news that it was accepted was read
            return "a host that was gone at once"
        if connection.peer is not None and self._of_peer.get(connection.peer) is connection:
            del self._of_peer[connection.peer]
        return str(connection.address[0]) if connection.silent and not connection.shut else ""

    def delivered(self, fd: int, peer: bytes, frames: int, size: int) -> bool:
        """A message of ``frames`` frames, ``size`` bytes in all, arrived. False: not to be read."""
        connection = self._connections.get(fd)
        if connection is None:       # last words
            return True
        if connection.peer != peer:      # the descriptor may have been another's, whose end is news yet to come
            if connection.peer is not None and self._of_peer.get(connection.peer) is connection:
                del self._of_peer[connection.peer]
            connection.peer = peer
            self._of_peer[peer] = connection
        connection.delivered += size + (frames + 1) * FRAME_OVERHEAD_BYTES
        connection.spoke, connection.silent = True, False
        return not connection.shut

    def knows(self, fd: int) -> bool:
        """The connection was accepted, and not closed since."""
        return fd in self._connections

    def admit(self, peer: bytes, capacity: int) -> None:
        """The peer is a worker that may hold ``capacity`` leases, and have a batch of each under way."""
        connection = self._of_peer.get(peer)
        if connection is not None:
            connection.member = True
            connection.allowed = ((min(capacity, self._limits.steps) + 2) * self._limits.batch_bytes + HEADROOM_BYTES)

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
        connection = self._of_peer.get(peer)
        if connection is not None:
            self._shut(connection)

    def check(self, now: float) -> List[str]:
        """Shuts down whoever has more under way than it may; returns their hosts."""
        if now < self._next_s:
            return []
        self._next_s = now + max(CHECK_S, len(self._connections) * CHECK_EACH_S)
        total, offenders = 0, []
        for connection in self._connections.values():
            received = None if connection.shut else _received(connection.fd)
            if received is None:
                connection.waiting = 0
                continue
            size, segments = received
            connection.delivered = min(connection.delivered, size)
            connection.waiting = size - connection.delivered
            if connection.spoke:
                connection.spoke, connection.segments = False, segments
            total += connection.waiting
            if (connection.waiting > connection.allowed or segments - connection.segments
                    > connection.allowed // MIN_SEGMENT_BYTES + EXTRA_SEGMENTS):
                offenders.append(connection)
                total -= connection.waiting
        limits = self._limits
        members = sum(connection.member for connection in self._connections.values())
        most = (2 * limits.steps + members) * limits.batch_bytes + EXTRA_TOTAL_BYTES   # at most two leases on a step
        if total > most:                     # strangers first, then whoever has most
            for connection in sorted(self._connections.values(), key=lambda one: (one.member, -one.waiting)):
                if total > most and connection.waiting and connection not in offenders:
                    total -= connection.waiting
                    offenders.append(connection)
        for connection in offenders:
            self._shut(connection)
        return [str(connection.address[0]) for connection in offenders]

    def _shut(self, connection: _Connection) -> None:
        connection.shut = True
        if _address(connection.fd, self._port) == connection.address:
            try:
                with _borrowed(connection.fd) as borrowed:   # reset, or a peer amid a long send waits for room
                    borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    borrowed.shutdown(socket.SHUT_RDWR)
            except OSError:                  # its other end was faster
                pass


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """libzmq's descriptor as a socket, which stays libzmq's. Raises OSError if it is none (any more)."""
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _address(fd: int, port: int) -> Optional[Tuple[Any, ...]]:
    """Of the other end; None if this is no connection to our ``port`` (any more)."""
    try:
        with _borrowed(fd) as borrowed:
            return tuple(borrowed.getpeername()) if borrowed.getsockname()[1] == port else None
    except (OSError, IndexError, TypeError):     # closed, or another kind of file by now
        return None


def _received(fd: int) -> Optional[Tuple[int, int]]:
    """(bytes, segments with data) that the kernel received on a connection, or None if it does not tell."""
    try:                                         # not _borrowed: that costs more than the question
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        try:
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        finally:
            borrowed.detach()
    except (OSError, AttributeError):            # closed by now; or not Linux
        return None
    if len(info) < 156:                          # a kernel before 4.6
        return None
    return struct.unpack_from("=Q", info, 128)[0], struct.unpack_from("=I", info, 152)[0]
