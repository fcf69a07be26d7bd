"""The trainer's end of the wire: one ROUTER socket. It never waits for a peer, and bounds what it holds for each.

With keys (CURVE), both sides check each other's key. libzmq asks the Listener, a ZAP handler (ZeroMQ RFC 27), whether
it knows the key of a worker.
"""

import errno
import os
from collections import OrderedDict
from typing import Any, Callable, List, Optional, Sequence, Tuple

import zmq
from zmq.utils import z85

from stoker.pipeline.arrays import Buffer
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.transport.keys import TrainerKeys
from stoker.pipeline.transport.quota import ByteQuota, Limits
from stoker.pipeline.transport.route import endpoint, host_and_port, is_name, resolve
from stoker.pipeline.transport.sockets import HANDSHAKE_FAILED, NOBLOCK, PEER_TIMEOUT_S, Signal, Socket, Waker
from stoker.pipeline.transport.tcp import TcpConnections

MAX_FRAMES = 17              # of a message that is read: a header, and the arrays
MAX_BUSY_POLLS = 2           # calls of ``poll`` in a row, a twentieth of a second apart, before which messages waited
MAX_DROPPED = 10000          # messages, and frames of messages with more frames, that one call of ``receive`` drops
EXTRA_ANSWERS = 64           # messages to a worker, besides a lease and its end for each step that it may hold
MAX_OWN_PEERS = 10000        # that are remembered, more than there are connections
HANDSHAKE_ENDED = zmq.EVENT_HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED


class Listener(Socket):
    """Receives from, and sends to, all workers. Raises ConfigError. ``keys``: the workers to let in. Without keys, at a
    loopback address: those of this process's user, unless ``any_user``; elsewhere all.
    ``leases_of``: of a peer, for the quota. ``incidents``: (kind, host) of connections that were refused or cut off
    since the caller last emptied the list; the kinds are those of ``KINDS`` in ``coordinator/bans.py``."""

    def __init__(self, bind: str, waker: Waker, limits: Limits, keys: Optional[TrainerKeys] = None,
                 leases_of: Callable[[bytes], int] = lambda peer: 0, any_user: bool = False) -> None:
        super().__init__(zmq.ROUTER, waker, limits.frame_bytes, keys is not None,
                         keys is None and is_loopback(bind) and not any_user)
        self.incidents: List[Tuple[str, str]] = []
        self._keys = keys
        self._is_skipping = False        # the next frames belong to a message that is too long to be read
        self._has_just_failed = False    # the next connection that closes is the one whose handshake failed
        self._handshakes = 0             # connections that have not finished theirs
        self._fd = -1                    # on which libzmq listens, once it said so
        self._was_empty = False          # no message waited, at some time since the last ``poll``
        self._busy_polls = 0             # in a row since when that was not so
        self._own_peers: "OrderedDict[bytes, None]" = OrderedDict()      # of this process's user: their last messages
        # count, too, when their connections have ended; the first ones of others that hang up at once do not
        self._open_socket(zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
                          | HANDSHAKE_ENDED)
        set_option = self._socket.setsockopt
        set_option(zmq.ROUTER_MANDATORY, 1)   # to send to a peer that is gone is an error ...
        set_option(zmq.SNDHWM, 2 * limits.steps + EXTRA_ANSWERS)    # ... and to send to one that does not read
        # No limit to the messages of one peer that wait here: the quota limits their bytes. With a limit, libzmq 4.3.4
        # stops reading at a full queue, answers no ping, and aborts the process if that peer then hangs up and a ping
        # is among the last bytes that it sent. The quota cannot work while the interpreter is busy in one C call.
        set_option(zmq.RCVHWM, 0)
        # Instead of ZMTP heartbeats, with which any peer could make libzmq 4.3.4 abort the process (its issue 4767 is
        # similar). Some builds of 4.3.4 lack TCP_MAXRT, the limit for unacknowledged data: there TCP gives up later.
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, int(PEER_TIMEOUT_S) // 2),
                              (zmq.TCP_KEEPALIVE_INTVL, 1), (zmq.TCP_KEEPALIVE_CNT, int(PEER_TIMEOUT_S) // 2),
                              (zmq.TCP_MAXRT, int(PEER_TIMEOUT_S * 1000))):
            set_option(option, value)
        if keys is not None:
            self._zap = self._context.socket(zmq.REP)
            self._zap.setsockopt(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")
            self._has_key_requests = Signal(self._zap)
            self._watch(self._zap)
            set_option(zmq.CURVE_SERVER, 1)
            set_option(zmq.CURVE_SECRETKEY, keys.secret)
            set_option(zmq.ZAP_DOMAIN, b"stoker")
            set_option(zmq.ZAP_ENFORCE_DOMAIN, 1)    # without an answer no peer is let in
        reason = self._bind(bind)
        if reason:
            self.close(0)
            raise ConfigError("cannot bind %s: %s" % (bind, reason))
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._tcp = TcpConnections(int(self.address.rpartition(":")[2]))
        self._quota = ByteQuota(limits, self._tcp, leases_of)

    def _bind(self, bind: str) -> str:
        """Binds; returns '' or why that is not possible. libzmq resolves no names here, but knows interfaces."""
        host, port = host_and_port(bind)
        code = self._try_to_bind(bind) if host != "localhost" else errno.ENODEV
        unknown = "this machine has no such address"
        if code == errno.ENODEV and is_name(host):
            found, problem = (["127.0.0.1", "::1"], "") if host == "localhost" else resolve(host)
            if problem:
                return "the name %r does not resolve (%s), and this machine has no interface of this name" % (host,
                                                                                                              problem)
            unknown = "the name %r is %s, which is no address of this machine" % (host, " and ".join(found))
            for one in found:
                code = self._try_to_bind(endpoint(one, port))
                if code not in (errno.ENODEV, errno.EADDRNOTAVAIL):
                    break
        return {0: "", errno.EADDRINUSE: "the port is in use: is another trainer running? Stop it, or choose another "
                                         "port (port * takes a free one)",
                errno.ENODEV: unknown, errno.EADDRNOTAVAIL: unknown}.get(code, zmq.strerror(code))

    def _try_to_bind(self, address: str) -> int:
        """Returns 0 or the errno."""
        try:
            self._socket.setsockopt(zmq.IPV6, int("[" in address))
            self._socket.bind(address)
        except zmq.ZMQError as error:
            return int(error.errno or 0)
        return 0

    def next_deadline(self) -> float:
        """The latest time for the next call of ``poll``."""
        return self._quota.next_deadline()

    def poll(self, now: float) -> None:
        """Answers new connections and disconnects the peers that are over their quota: messages that still wait count
        as pending. Those of connections that ended count for no peer. So while messages come faster than they are
        read, there are no new connections."""
        self._answer_key_requests()
        self._read_events()
        self.incidents += [("memory", host) for host in self._quota.check(now)]
        was_closed = self._busy_polls >= MAX_BUSY_POLLS
        self._busy_polls, self._was_empty = 0 if self._was_empty else self._busy_polls + 1, False
        if was_closed != (self._busy_polls >= MAX_BUSY_POLLS):
            self._tcp.welcome(self._fd, was_closed)

    def receive(self) -> Optional[Tuple[bytes, List[memoryview]]]:
        """(peer, frames as flat memoryviews), or None if no message waits, or too much was dropped in this call."""
        for _ in range(MAX_DROPPED):
            is_signalled, self._is_signalled = self._is_signalled, False
            if not is_signalled and not self._can_be_read():
                self._was_empty = True
                return None
            if self._is_skipping:
                self._is_skipping = self._socket.recv(NOBLOCK, copy=False).more
                continue
            parts: List[Any] = []            # untyped attributes
            try:
                peer = self._socket.recv(NOBLOCK)        # the ROUTER's own part, behind which one comes at least
            except zmq.Again:                # there was a signal for something else, which is rare
                continue
            while not parts or parts[-1].more and len(parts) <= MAX_FRAMES:
                parts.append(self._socket.recv(NOBLOCK, copy=False))
            self._is_skipping = parts[-1].more
            frames = [part.buffer for part in parts]
            if self._is_accepted(parts[-1], peer, frames):
                return peer, frames
        return None

    def _is_accepted(self, last: Any, peer: bytes, frames: List[memoryview]) -> bool:   # Any: untyped options
        """Counts a message as delivered; returns whether it may be read. ``last``: its last part, which knows its
        connection; the first part is the ROUTER's own."""
        try:
            fd = last.get(zmq.SRCFD)
        except zmq.ZMQError:                  # a peer of ZMTP 2 or older, which has no quota
            return False
        if not self._quota.is_open(fd, peer):
            self._read_events()               # the message may come before the event that its connection was accepted
        if self._owners is not None and peer not in self._own_peers:
            if not self._quota.is_open(fd):   # it is refused; or it ended before it could be asked whose it is
                return False
            self._own_peers[peer] = None
            if len(self._own_peers) > MAX_OWN_PEERS:
                self._own_peers.popitem(last=False)
        key = "" if self._keys is None or self._quota.is_known(fd, peer) else _user_id(last)
        return self._quota.delivered(fd, peer, len(frames) + 1, sum(map(len, frames)) + len(peer), key)

    def send(self, peer: bytes, frames: Sequence[Buffer]) -> bool:
        """Sends a message without waiting. False: the peer is gone, or does not read."""
        return self._send([peer, *frames])

    def admit(self, peer: bytes) -> None:
        """The peer is a worker."""
        self._quota.admit(peer)

    def host_of(self, peer: bytes) -> str:
        """The peer's host; '' if it has gone."""
        return self._quota.host_of(peer)

    def key_of(self, peer: bytes) -> str:
        """The name of the peer's key; '' without keys, or if it has gone."""
        return self._quota.key_of(peer)

    def shut(self, peer: bytes) -> None:
        """Disconnects the peer."""
        self._quota.shut(peer)

    def _read_events(self) -> None:
        """Tells the quota which connections opened and closed; notes those that ended before their handshake."""
        for event, value in self._events():
            if event & HANDSHAKE_ENDED:          # libzmq does not say of which one; it closes one that failed next
                self._handshakes = max(0, self._handshakes - 1)
                self._has_just_failed = bool(event & HANDSHAKE_FAILED & ~zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            elif event == zmq.EVENT_LISTENING:
                self._fd = value
            elif event == zmq.EVENT_ACCEPTED:
                refused_host = self._quota.accepted(value)
                if refused_host:
                    self.incidents.append(("connections", refused_host))
                elif self._owners is None or self._has_own_user(value):
                    self._handshakes += 1
            else:
                host = self._quota.closed(value)
                if host and self._has_just_failed:
                    self.incidents.append(("handshake", host))
                elif host and self._handshakes:      # it never spoke ZMTP, so there is no handshake that could fail
                    self._handshakes -= 1
                    self.incidents.append(("silent", host))
                self._has_just_failed = False

    def _has_own_user(self, fd: int) -> bool:
        """Whether a process of this one's user is at the other end of a new connection; else it is disconnected."""
        uid = self._owners.of_peer(fd) if self._owners is not None else None
        if uid == os.geteuid():
            return True
        was_open = self._tcp.is_open(fd)         # else its process ended at once, so that it has no user
        host = self._quota.refuse(fd)
        if was_open and host:
            self.incidents.append(("user", "user %s at %s" % ("unknown" if uid is None else uid, host)))
        return False

    def _answer_key_requests(self) -> None:
        """Tells libzmq which keys are known, in the format of RFC 27."""
        if self._keys is None or not self._has_key_requests.is_set():
            return
        while True:
            try:
                _, request, _, host, _, mechanism, *credentials = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            name = self._keys.workers.get(z85.encode(credentials[0])) if mechanism == b"CURVE" else None
            if name is None:
                self.incidents.append(("key", host.decode("ascii", "replace")))
            status, text = (b"400", b"unknown key") if name is None else (b"200", b"OK")
            user_id = (name or "").encode("utf-8", "backslashreplace")
            self._zap.send_multipart([b"1.0", request, status, text, user_id, b""])


def _user_id(part: Any) -> str:      # Any: untyped options
    """The name of the key of the connection over which a part came, as ``_answer_key_requests`` gave it to libzmq."""
    try:
        return str(part.get("User-Id"))
    except zmq.ZMQError:
        return ""
