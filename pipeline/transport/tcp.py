"""What the kernel tells about libzmq's TCP connections, and how to reset one: the part of the quota that is not pure.

Connections are named by libzmq's own file descriptors, which only libzmq closes. After that the number may belong to
another file, so every call checks what it is.
"""

import resource
import socket
import struct
from array import array
from contextlib import contextmanager, suppress
from typing import Any, Iterator, Optional, Tuple

MAX_CONNECTIONS = 4096      # at once; fewer where the process may have few files open
RESET_ON_CLOSE = struct.pack("ii", 1, 0)    # SO_LINGER: a peer in the middle of a long send would wait otherwise
TCP_INFO = struct.Struct("=128xQ16xI")      # in Linux's struct tcp_info, from 4.6 on: received bytes, data segments
ESTABLISHED = b"\1"         # the first byte of tcp_info
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27         # Linux; the socket module of Python 3.6 does not have them
DROP_ALL = struct.pack("=HBBI", 6, 0, 0, 0)         # a packet filter of one instruction: keep 0 bytes of each packet
Address = Tuple[Any, ...]   # as socket.getpeername gives it: (host, port) of IPv4, four fields of IPv6


class TcpConnections:
    """The connections that were accepted on ``port``."""

    def __init__(self, port: int) -> None:
        self._port = port
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.max_connections = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)

    def address(self, fd: int) -> Optional[Address]:
        """The peer's address; None if ``fd`` is not, or no longer, a connection to our port."""
        try:
            with borrowed(fd) as connection:
                return tuple(connection.getpeername()) if connection.getsockname()[1] == self._port else None
        except (OSError, IndexError, TypeError):     # closed, or another kind of file by now
            return None

    def received(self, fd: int) -> Optional[Tuple[int, int]]:
        """(bytes, segments with data) that the kernel received so far; None if it does not tell."""
        try:                                         # without borrowed, which costs more than the system call
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
            try:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
            finally:
                connection.detach()
        except (OSError, AttributeError):            # closed by now; or not Linux
            return None
        return TCP_INFO.unpack(info) if len(info) == TCP_INFO.size else None     # shorter: a kernel before 4.6

    def is_open(self, fd: int) -> bool:
        """Whether the peer of a connection can still send."""
        with suppress(OSError, AttributeError), borrowed(fd) as connection:
            return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == ESTABLISHED
        return False

    def welcome(self, fd: int, is_open: bool) -> None:
        """Whether the listening socket ``fd`` gets packets. While it gets none, there are no new connections: a peer
        that connects tries again, the first time after a second. No effect where the kernel has no packet filters."""
        instructions = array("B", DROP_ALL)
        program = struct.pack("HL", len(instructions) // 8, instructions.buffer_info()[0])
        with suppress(OSError), borrowed(fd) as listening:
            if listening.getsockname()[1] == self._port and listening.getsockopt(socket.SOL_SOCKET,
                                                                                 socket.SO_ACCEPTCONN):
                if is_open:
                    listening.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
                else:
                    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def reset(self, fd: int, address: Address) -> None:
        """Ends the connection with ``address``, unless ``fd`` is another one by now."""
        if self.address(fd) == address:
            with suppress(OSError), borrowed(fd) as connection:     # an error: the peer closed it first
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """libzmq's descriptor as a socket object, which does not close it. Raises OSError if it is not a socket."""
    connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=fd)    # has room for either address
    try:
        yield connection
    finally:
        connection.detach()
