"""The worker's end of the wire: one DEALER socket, which reconnects by itself."""

import os
import threading
import time
from typing import Any, List, Optional, Sequence

import zmq

from stoker.pipeline.arrays import Buffer
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.transport.keys import WorkerKeys
from stoker.pipeline.transport.owners import SocketOwners
from stoker.pipeline.transport.quota import CHECK_INTERVAL_S, FRAME_OVERHEAD_BYTES
from stoker.pipeline.transport.route import Route, resolve, unreachable
from stoker.pipeline.transport.sockets import HANDSHAKE_FAILED, HANDSHAKE_TIMEOUT_S, NOBLOCK, PEER_TIMEOUT_S
from stoker.pipeline.transport.sockets import Socket, Waker
from stoker.pipeline.transport.tcp import TcpConnections

CONNECT_TIMEOUT_S = 5.0  # then libzmq tries anew: TCP alone repeats its packet after ever longer pauses, of minutes
SEND_BUFFER_BYTES = 256 << 10   # on loopback: a batch passes through memory that is still in the processor's cache
RETRY_INTERVAL_S = 1.0   # after a failed handshake that libzmq itself would not try again
HANG_UP_S = 10.0         # until it connects again to a trainer that broke the protocol
MAX_WAITING_FRAMES = 2   # of the largest size, on their way to this process: a worker has two leases ...
HEADROOM_BYTES = 64 << 20   # ... and small messages
MIN_FAILURES = 3         # failed handshakes in a row before they are reported: a trainer may just be ending
EVENTS = (zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED)


def checks_user(connect: str, keys: Optional[WorkerKeys]) -> bool:
    """Whether a connection needs SocketOwners. To make one, a process listens for a moment: before its sandbox."""
    return keys is None and is_loopback(connect)


class Connection(Socket):
    """Sends to, and receives from, the trainer; reconnects for ever. A message that was not sent when the connection
    broke is dropped. Raises ConfigError if ``connect`` is not an address. Without keys, at a loopback address, it has
    only to do with a trainer of this process's user: any process can listen there while no trainer does.

    Two threads may use it. Each holds ``lock`` for all calls except ``wait``. A thread that sent must call ``receive``
    until it returns None before it releases the lock: see ``Socket._has_input``."""

    def __init__(self, connect: str, waker: Waker, max_frame_bytes: int, keys: Optional[WorkerKeys] = None,
                 owners: Optional[SocketOwners] = None, lock: Any = None, context: Any = None) -> None:
        super().__init__(zmq.DEALER, waker, max_frame_bytes, keys is not None, checks_user(connect, keys), owners,
                         context)
        self.lock = threading.RLock() if lock is None else lock
        self._is_open = True
        self._address, self._keys = connect, keys
        self._route = Route(connect)
        self._endpoint: Optional[str] = None  # that the socket connects to
        self._since_s = 0.0                   # when the connection, or the attempt to make one, began
        self._is_connected = False            # by TCP
        self._is_mute = False                 # the last connection by TCP ended without an answer
        self._is_new = False                  # a handshake succeeded that ``has_reconnected`` did not report yet
        self._failures = 0                    # handshakes in a row
        self._is_unknown = False              # the last of them failed because the trainer does not know the key
        self._fd = -1                         # of the last connection by TCP
        self._delivered_bytes = 0             # that were read from it, estimated from above
        self._max_pending_bytes = MAX_WAITING_FRAMES * max_frame_bytes + HEADROOM_BYTES
        self._next_check_s = 0.0              # of that
        self._tcp = TcpConnections(0)
        self._is_foreign = False              # its other end is of another user: it is to be closed
        self._stranger: Optional[int] = None  # the user of the last trainer that was so; None: unknown
        self._retry_at_s: Optional[float] = None   # when to open a new socket, because libzmq gave the old one up
        self._open(time.monotonic())
        self._resolve(time.monotonic())

    def _open(self, now: float, left_because: str = "") -> None:
        """``left_because``: why the last connection was ended here. Then there is no new one for now."""
        self._open_socket(EVENTS)
        self._since_s, self._is_connected, self._is_foreign = now, False, False
        self._left_because = left_because
        if not left_because:
            self._endpoint = self._route.endpoint
        set_option = self._socket.setsockopt
        set_option(zmq.IMMEDIATE, 1)          # no queue while there is no connection
        set_option(zmq.HEARTBEAT_IVL, int(PEER_TIMEOUT_S * 1000) // 4)
        set_option(zmq.HEARTBEAT_TIMEOUT, int(PEER_TIMEOUT_S * 1000))
        set_option(zmq.CONNECT_TIMEOUT, int(CONNECT_TIMEOUT_S * 1000))
        set_option(zmq.RECONNECT_IVL, 50)
        set_option(zmq.RECONNECT_IVL_MAX, 250)   # a restarted trainer has its workers within half a second
        set_option(zmq.SNDHWM, 0)             # the number of leases limits what is under way
        set_option(zmq.RCVHWM, 0)             # a full queue could end this process: see listener.py
        if self._keys is not None:
            set_option(zmq.CURVE_SERVERKEY, self._keys.trainer)
            set_option(zmq.CURVE_PUBLICKEY, self._keys.public)
            set_option(zmq.CURVE_SECRETKEY, self._keys.secret)
        if left_because or self._endpoint is None:            # until its name is resolved
            return
        if is_loopback(self._endpoint):
            set_option(zmq.SNDBUF, SEND_BUFFER_BYTES)    # elsewhere the kernel finds the size that the network needs
        try:
            set_option(zmq.IPV6, int("[" in self._endpoint))
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self.close(0)
            raise ConfigError("cannot connect to %r (%s): an address looks like tcp://HOST:5555"
                              % (self._address, zmq.strerror(error.errno or 0))) from error

    def _has_input(self) -> bool:
        with self.lock:
            return self._is_open and super()._has_input()

    has_input = _has_input

    def descriptors(self) -> List[int]:
        """See Socket."""
        return super().descriptors() if self._is_open else []

    def leave(self) -> None:
        """Ends the connection for good, but for what it shares with others; what is under way is sent. ``Connections``
        may go on to wait for all."""
        if self._is_open:
            self._is_open = False
            self._close_socket()

    def poll(self, now: float) -> str:
        """Takes note of what happened to the connection, and tries another way to the trainer where one failed. Returns
        '', or why it ended the connection."""
        self._read_events(now)
        overrun = self._has_overrun(now)
        if overrun:
            self.hang_up(now)
        self._resolve(now)
        is_due = self._retry_at_s is not None and now >= self._retry_at_s
        if is_due and self._left_because:
            self._route.failed(0.0, self._left_because)
        if is_due or not self._is_connected and self._endpoint != self._route.endpoint:
            self._retry_at_s = None
            self._close_socket(0)
            self._open(now)
        return "it sent more than a trainer can have to send" if overrun else ""

    def _read_events(self, now: float) -> None:
        for event, value in self._events():
            self._note(event, value, now)
        if self._is_foreign:                  # with all that came from there
            self._leave(now, "it is of another user", RETRY_INTERVAL_S)

    def hang_up(self, now: float) -> None:
        """The trainer broke the protocol: ends the connection, with all that came over it. Makes one after a while."""
        self._leave(now, "it broke the protocol", HANG_UP_S)

    def _leave(self, now: float, why: str, for_s: float) -> None:
        self._close_socket(0)
        self._open(now, why)
        self._retry_at_s = now + for_s

    def _has_overrun(self, now: float) -> bool:
        """Whether more bytes of unread messages came over this connection than a trainer can have to send. libzmq
        hands over whole messages only, and has no limit for the frames of one."""
        if not self._is_connected or now < self._next_check_s:
            return False
        self._next_check_s = now + CHECK_INTERVAL_S
        received = self._tcp.received(self._fd)
        if received is None:
            return False
        self._delivered_bytes = min(self._delivered_bytes, received[0])
        return received[0] - self._delivered_bytes > self._max_pending_bytes

    def _is_of_own_user(self) -> bool:
        """Whether no connection was one with a process of another user since the last call. All that came from such a
        process is dropped. The events of a connection come before its messages."""
        if self._owners is None:
            return True
        socket = self._socket
        self._read_events(time.monotonic())
        return self._socket is socket

    def _check_user(self) -> None:
        """After the handshake, because until the trainer takes the connection its socket belongs to no process."""
        self._stranger = None
        uid = os.geteuid() if self._owners is None else self._owners.of_peer(self._fd)
        self._is_foreign = uid != os.geteuid()
        if self._is_foreign:
            self._stranger = uid
            self._failures += 1
        else:
            self._failures = 0

    def _note(self, event: int, value: int, now: float) -> None:
        if event == zmq.EVENT_CONNECTED:
            self._since_s, self._is_connected, self._is_mute, self._fd = now, True, False, value
            self._delivered_bytes = 0
            self._route.connected()
        elif event == zmq.EVENT_CONNECT_RETRIED:     # ``value`` ms from now
            if not self._is_connected and self._endpoint is not None:
                self._route.failed(now - self._since_s, unreachable(self._endpoint))
                self._is_mute = False
            self._since_s, self._is_connected = now + value / 1000, False
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._is_unknown, self._retry_at_s = False, None
            self._check_user()
            self._is_new = not self._is_foreign
        elif now - self._since_s >= HANDSHAKE_TIMEOUT_S / 2:
            self._is_mute = True
        else:
            self._route.failed(0.0, "it ends the handshake")
            self._failures += 1
            self._is_unknown = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._retry_at_s = now + RETRY_INTERVAL_S

    def _resolve(self, now: float) -> None:
        name = self._route.wants_resolution(now)
        if name is not None:
            threading.Thread(target=self._resolve_in_thread, args=(name,), name="stoker-resolver", daemon=True).start()

    def _resolve_in_thread(self, name: str) -> None:
        found, problem = resolve(name)
        with self.lock:
            self._route.resolved(found, problem)
        self._waker.wake()

    def has_reconnected(self) -> bool:
        """Whether there is a connection on which nothing was sent when the last call returned False."""
        is_new, self._is_new = self._is_new, False
        return is_new

    def trouble(self) -> str:
        """Why there is no conversation with the trainer, as far as can be told, in a clause."""
        if (self._is_connected or self._is_mute) and self._endpoint is not None:
            return "%s takes connections, but does not answer: it is busy or suspended, or no trainer" % (
                self._endpoint[len("tcp://"):])
        return self._route.trouble()

    def refusal(self) -> str:
        """Why the trainer does not let this worker in, as far as can be told; '' if it does, or does not answer."""
        if self._failures < MIN_FAILURES:
            return ""
        if self._is_unknown:
            return "it does not know this worker's key: it knows those that were in its --keys folder when it started"
        if self._stranger is not None:
            return ("it is a process of user %d, and this worker of user %d: at a loopback address both must be of one "
                    "user, or have keys (--keys DIR, a worker's folder that stoker-keys made)"
                    % (self._stranger, os.geteuid()))
        if self._keys is None:
            return ("it ends the handshake: it may require keys (--keys DIR, a worker's folder that stoker-keys made)"
                    + (", or be a process of another user than this worker (%d)" % os.geteuid()) * (
                        self._owners is not None))
        return ("it ends the handshake: it has no keys, or is not the trainer whose trainer.key this worker has; both "
                "need --keys with folders of one stoker-keys run")

    def receive(self) -> Optional[List[memoryview]]:
        """Frames as flat memoryviews, or None if no message waits."""
        if not self._can_be_read():
            return None
        frames = [part.buffer for part in self._socket.recv_multipart(NOBLOCK, copy=False)]
        self._delivered_bytes += sum(map(len, frames)) + (len(frames) + 1) * FRAME_OVERHEAD_BYTES
        return frames if self._is_of_own_user() else None

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Sends a message without waiting. False: there is no connection at the moment."""
        return self._is_of_own_user() and self._send(frames)
