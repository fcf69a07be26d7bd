"""Limits the bytes that each peer, and all together, may have on their way to the trainer. Pure: ``tcp.py`` asks the
kernel.

libzmq hands over whole messages only: the frames of a message that never ends pile up in its memory without limit. So
``ByteQuota`` compares the bytes that the kernel received on a connection with the bytes of the messages that libzmq
handed over from it. It disconnects the peer when the difference is more than a correct worker can cause: a batch for
each lease that it holds. All together may have two batches for each step of the window, however many they are; beyond
that, those without a lease are disconnected first.
"""

from collections import Counter
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from stoker.pipeline.transport.tcp import Address, TcpConnections

CHECK_INTERVAL_S = 0.05             # between two checks of all connections ...
CHECK_INTERVAL_EACH_S = 0.00005     # ... plus this for each connection: 4096 connections are checked 5 times a second
HEADROOM_BYTES = 1 << 20        # of a connection besides batches: the handshake, and small messages
TOTAL_HEADROOM_BYTES = 64 << 20   # of all connections, besides what correct workers have under way together
SMALL_BYTES = 64 << 10          # a handshake and a Hello take less: to end such a connection would free next to nothing
FRAME_OVERHEAD_BYTES = 128      # more than a frame's header, encryption and share of pings take on the wire
MIN_SEGMENT_BYTES = 536         # of TCP's payload in a segment that a long message fills ...
EXTRA_SEGMENTS = 1000           # ... so many may be shorter: each segment may occupy a buffer of 8 KB in libzmq


class Limits(NamedTuple):
    """The sizes that follow from a job."""
    frame_bytes: int    # the largest frame: header or array
    batch_bytes: int    # the largest message: a header and all arrays of a batch
    steps: int          # most steps that are leased or buffered at once


class _Connection:
    def __init__(self, fd: int, address: Address) -> None:
        self.fd, self.address = fd, address
        self.peer: Optional[bytes] = None    # its routing id, from its first message on
        self.key = ""                        # the name of its key, from then on; '' without keys
        self.is_member = False
        self.is_shut = False
        self.delivered_bytes = 0         # estimated from above; each check lowers it to what was received at most
        self.pending_bytes = 0           # received, not delivered, and within the limit at the last check
        self.was_heard = False           # a message arrived at any time
        self.heard_since_check = False
        self.segments = 0                # that were received when a check last found heard_since_check


class ByteQuota:
    """The quota of every connection of one listening socket. ``leases_of``: the leases of a peer, and those that ended
    without an answer of its own: so many batches may come from it. Times are in seconds."""

    def __init__(self, limits: Limits, tcp: TcpConnections, leases_of: Callable[[bytes], int]) -> None:
        self._limits, self._tcp, self._leases_of = limits, tcp, leases_of
        self._connections: Dict[int, _Connection] = {}      # by file descriptor
        self._of_peer: Dict[bytes, _Connection] = {}
        self._next_check_s = 0.0

    def next_deadline(self) -> float:
        """The latest time for the next call of ``check``."""
        return self._next_check_s if self._connections else float("inf")

    def accepted(self, fd: int) -> str:
        """libzmq accepted a connection. Returns '', or the host of one that is disconnected, as there are too many."""
        self.closed(fd)
        address = self._tcp.address(fd)
        if address is None:          # it ended already, and the descriptor may belong to another file
            return ""
        connection = self._connections[fd] = _Connection(fd, address)
        if (len(self._connections) <= self._tcp.max_connections
                or sum(not each.is_shut for each in self._connections.values()) <= self._tcp.max_connections):
            return ""
        excess = self._one_of_the_host_with_most(connection)
        self._shut(excess)
        return str(excess.address[0])

    def closed(self, fd: int) -> str:
        """libzmq closed a connection. Returns the peer's host if no message came from it before it closed by itself."""
        connection = self._connections.pop(fd, None)
        if connection is None:       # it ended before ``accepted`` could ask for its address
            return "a host that was gone at once"
        self._forget_peer(connection)
        return "" if connection.was_heard or connection.is_shut else str(connection.address[0])

    def delivered(self, fd: int, peer: bytes, frames: int, size_bytes: int, key: str = "") -> bool:
        """A message of ``frames`` frames, ``size_bytes`` in all, arrived. False: it must not be read. ``key``: of the
        peer, at its first message."""
        connection = self._connections.get(fd)
        if connection is None:       # the last message of a connection that closed
            return True
        if connection.peer != peer:  # its first message; or the event that says that fd is a new connection is to come
            self._forget_peer(connection)
            connection.peer, connection.key = peer, key
            self._of_peer[peer] = connection
        connection.delivered_bytes += size_bytes + (frames + 1) * FRAME_OVERHEAD_BYTES
        connection.heard_since_check = connection.was_heard = True
        return not connection.is_shut

    def is_open(self, fd: int, peer: Optional[bytes] = None) -> bool:
        """Whether the connection was accepted and has not ended, as far as is known from the calls so far. ``peer``:
        and is known to be this one's."""
        connection = self._connections.get(fd)
        return connection is not None and not connection.is_shut and peer in (None, connection.peer)

    def refuse(self, fd: int) -> str:
        """Disconnects a connection that was just accepted; returns the peer's host, '' if it has ended."""
        connection = self._connections.get(fd)
        if connection is None:
            return ""
        self._shut(connection)
        return str(connection.address[0])

    def is_known(self, fd: int, peer: bytes) -> bool:
        """A message of the peer came over this connection before, or the connection is not known."""
        connection = self._connections.get(fd)
        return connection is None or connection.peer == peer

    def admit(self, peer: bytes) -> None:
        """The peer is a worker."""
        connection = self._of_peer.get(peer)
        if connection is not None:
            connection.is_member = True

    def host_of(self, peer: bytes) -> str:
        """The host of the connection over which the peer's last message came; '' if that has ended."""
        connection = self._of_peer.get(peer)
        return "" if connection is None else str(connection.address[0])

    def key_of(self, peer: bytes) -> str:
        """The name of the peer's key; '' without keys, or if its connection has ended."""
        connection = self._of_peer.get(peer)
        return "" if connection is None else connection.key

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
        connection = self._of_peer.get(peer)
        if connection is not None:
            self._shut(connection)

    def check(self, now: float) -> List[str]:
        """Disconnects the peers that have more bytes pending than they may; returns their hosts."""
        if now < self._next_check_s:
            return []
        self._next_check_s = now + max(CHECK_INTERVAL_S, len(self._connections) * CHECK_INTERVAL_EACH_S)
        offenders = []
        for connection in self._connections.values():
            connection.pending_bytes = 0
            received = None if connection.is_shut else self._tcp.received(connection.fd)
            if received is None:
                continue
            received_bytes, segments = received
            connection.delivered_bytes = min(connection.delivered_bytes, received_bytes)
            pending_bytes = received_bytes - connection.delivered_bytes
            if connection.heard_since_check:
                connection.heard_since_check, connection.segments = False, segments
            allowed_bytes = self._allowed_bytes(connection)
            max_segments = allowed_bytes // MIN_SEGMENT_BYTES + EXTRA_SEGMENTS
            if pending_bytes > allowed_bytes or segments - connection.segments > max_segments:
                offenders.append(connection)
            else:
                connection.pending_bytes = pending_bytes
        offenders += self._over_the_total()
        for connection in offenders:
            self._shut(connection)
        return [str(connection.address[0]) for connection in offenders]

    def _allowed_bytes(self, connection: _Connection) -> int:
        """That it may have pending. A worker of a trainer before this one may send a batch, too."""
        leases = 0 if connection.peer is None else self._leases_of(connection.peer)
        return max(1, leases) * self._limits.batch_bytes + HEADROOM_BYTES

    def _over_the_total(self) -> List[_Connection]:
        """The connections that must end for the total limit: strangers, then members without a lease, those with most
        bytes first, and last, if all that is not enough, those that have next to nothing, and those with leases.
        Correct workers stay below the limit: a step has two leases at most, as a rule."""
        excess_bytes = (sum(connection.pending_bytes for connection in self._connections.values())
                        - 2 * self._limits.steps * self._limits.batch_bytes - TOTAL_HEADROOM_BYTES)
        if excess_bytes <= 0:
            return []
        pending = [connection for connection in self._connections.values() if connection.pending_bytes]
        found = []
        for connection in sorted(pending, key=self._last_to_end):
            if excess_bytes > 0:
                excess_bytes -= connection.pending_bytes
                found.append(connection)
        return found

    def _last_to_end(self, connection: _Connection) -> Tuple[bool, bool, int, int]:
        rank, pending_bytes = self._rank(connection), connection.pending_bytes
        return rank > 1, pending_bytes <= SMALL_BYTES, rank, -pending_bytes

    def _rank(self, connection: _Connection) -> int:
        """The higher, the more right to be served."""
        has_lease = connection.peer is not None and self._leases_of(connection.peer) > 0
        return connection.is_member + has_lease

    def _one_of_the_host_with_most(self, newcomer: _Connection) -> _Connection:
        """There is one connection too many: one of the host that has most of them, so that a single host cannot keep
        all others out; the newest of its strangers, else of its members."""
        hosts = Counter(connection.address[0] for connection in self._connections.values() if not connection.is_shut)
        host, most = hosts.most_common(1)[0]
        if hosts[newcomer.address[0]] == most:
            return newcomer
        its = [connection for connection in self._connections.values()
               if connection.address[0] == host and not connection.is_shut]
        return min(reversed(its), key=self._rank)

    def _forget_peer(self, connection: _Connection) -> None:
        if connection.peer is not None and self._of_peer.get(connection.peer) is connection:
            del self._of_peer[connection.peer]

    def _shut(self, connection: _Connection) -> None:
        connection.is_shut = True
        self._tcp.reset(connection.fd, connection.address)
