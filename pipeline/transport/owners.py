"""SocketOwners: which user of this host is at the other end of a connection on loopback. The kernel knows.

Any process of the host can connect to a loopback port. So both ends of a connection without keys ask the kernel for
the user of the other one's socket, as SO_PEERCRED tells it for Unix sockets. There is no secret that could leak, and
nothing that has to be started first. A tunnel (``ssh -L``) speaks as the user that runs it.

A socket whose process has closed it, or has ended, belongs to no process any more. The kernel shows it with the user 0
and the inode 0 for a while. So only a socket with an inode has a user.
"""

import os
import socket
import struct
from contextlib import suppress
from typing import Callable, List, Optional, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.transport.tcp import Address, borrowed

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1
NO_COOKIE = b"\xff" * 8
MAPPED = bytes(10) + b"\xff\xff"      # begins an IPv4 address in IPv6's form
LISTENING = 10                      # of the states of Linux's TCP
HEADER, REQUEST = struct.Struct("=IHHII"), struct.Struct("=BBBBI")      # nlmsghdr; inet_diag_req_v2 without its id
ID = struct.Struct(">HH16s16s12x")  # inet_diag_sockid: ports, addresses; interface and cookie are not used
ANSWER_BYTES = HEADER.size + 4 + ID.size + 20                       # nlmsghdr and inet_diag_msg
TABLES = {int(socket.AF_INET): "/proc/net/tcp", int(socket.AF_INET6): "/proc/net/tcp6"}
TIMEOUT_S = 1.0                     # the kernel answers at once
Ends = Tuple[int, Tuple[bytes, int], Tuple[bytes, int]]    # family; (packed address, port) of the socket, of its peer

CANNOT_TELL = ("this system does not tell which user a connection on loopback belongs to (netlink's sock_diag, "
               "/proc/net/tcp), so any user of this host could take part: make keys (stoker-keys DIR) and use them on "
               "both sides (--keys)")


class SocketOwners:
    """Asks the kernel. Raises ConfigError if it does not tell. Not thread-safe."""

    def __init__(self) -> None:
        self._netlink: Optional[socket.socket] = None
        with suppress(OSError):
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
            self._netlink.settimeout(TIMEOUT_S)
        ask: Optional[Callable[[Ends], Optional[int]]] = None
        for one in (self._by_netlink, by_table):        # the second reads a line for every connection of the host
            if _tells_the_truth(one):
                ask = one
                break
        if ask is None:
            self.close()
            raise ConfigError(CANNOT_TELL)
        self._ask = ask

    def of_peer(self, fd: int) -> Optional[int]:
        """The user at the other end of the TCP connection ``fd``; None if its socket is not on this host, was closed by
        its process, or belongs to no process yet."""
        try:
            with borrowed(fd) as connection:
                return self._ask(_ends(connection.getpeername(), connection.getsockname()))
        except (OSError, ValueError, IndexError, TypeError):     # ``fd`` was closed, or is another file by now
            return None

    def _by_netlink(self, ends: Ends) -> Optional[int]:
        """Some microseconds, however many connections there are. Raises OSError, ValueError."""
        if self._netlink is None:
            raise OSError("no netlink")
        family, (address, port), (peer, peer_port) = ends
        wanted = ID.pack(port, peer_port, address, peer)
        body = REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xffffffff) + wanted[:-8] + NO_COOKIE
        self._netlink.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + body)
        answer, sender = self._netlink.recvfrom(1 << 16)
        if sender[0] or len(answer) < ANSWER_BYTES or HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
            return None                              # not of the kernel; or an error: there is no such socket
        names = [ID.pack(port, peer_port, *addresses)[:-12] for _, *addresses in _forms(family, address, peer)]
        is_it = answer[HEADER.size + 4:][:ID.size - 12] in names          # else it answers a question that timed out
        uid, inode = struct.unpack_from("=II", answer, ANSWER_BYTES - 8)
        return uid if is_it and inode and answer[HEADER.size + 1] != LISTENING else None

    def close(self) -> None:
        """A second call does no harm."""
        if self._netlink is not None:
            self._netlink.close()


def by_table(ends: Ends) -> Optional[int]:
    """As the kernel's table of connections says. Raises OSError."""
    family, (address, port), (peer, peer_port) = ends
    for form, one, other in _forms(family, address, peer):
        wanted = ["%s:%04X" % (_words(one), port), "%s:%04X" % (_words(other), peer_port)]
        with suppress(FileNotFoundError), open(TABLES[form]) as table:     # not there: a kernel without IPv6
            for line in table:
                fields = line.split()
                if fields[1:3] == wanted:
                    return int(fields[7]) if int(fields[9]) else None
    return None


def _forms(family: int, one: bytes, other: bytes) -> List[Tuple[int, bytes, bytes]]:
    """The two addresses in each form that a socket may have them in: one that serves IPv4 and IPv6 has IPv6's."""
    forms = [(family, one, other)]
    return forms + [(int(socket.AF_INET6), MAPPED + one, MAPPED + other)] * (family == socket.AF_INET)


def _words(address: bytes) -> str:
    """An address as the kernel's tables show it: 32-bit words in the order of this machine."""
    return "".join("%08X" % word for word in struct.unpack("=%dI" % (len(address) // 4), address))


def _ends(address: Address, peer: Address) -> Ends:
    """Of two addresses as ``getsockname`` and ``getpeername`` give them. An IPv4 address in IPv6's form is IPv4."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    one, other = (socket.inet_pton(family, end[0].partition("%")[0]) for end in (address, peer))
    if one.startswith(MAPPED) and other.startswith(MAPPED):
        family, one, other = socket.AF_INET, one[len(MAPPED):], other[len(MAPPED):]
    return int(family), (one, address[1]), (other, peer[1])


def _tells_the_truth(ask: Callable[[Ends], Optional[int]]) -> bool:
    """Whether it knows the user of a connection of this process's own."""
    try:
        with socket.socket() as listening, socket.socket() as client:
            listening.bind(("127.0.0.1", 0))
            listening.listen(1)
            client.connect(listening.getsockname())
            return ask(_ends(client.getsockname(), client.getpeername())) == os.geteuid()
    except (OSError, ValueError, IndexError):
        return False
