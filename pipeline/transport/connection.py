"""The worker's end of the wire: one DEALER socket, which reconnects by itself."""

import threading
import time
from typing import List, Optional, Sequence

import zmq

from stoker.pipeline.arrays import Buffer
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.transport.keys import WorkerKeys
from stoker.pipeline.transport.sockets import HANDSHAKE_FAILED, NOBLOCK, PEER_TIMEOUT_S, Socket, Waker

CONNECT_TIMEOUT_S = 5.0  # then libzmq tries anew: TCP alone repeats its packet after ever longer pauses, of minutes
SEND_BUFFER_BYTES = 256 << 10   # on loopback: a batch passes through memory that is still in the processor's cache
RETRY_INTERVAL_S = 1.0   # after a failed handshake that libzmq itself would not try again
MIN_FAILURES = 3         # failed handshakes in a row before they are reported: a trainer may just be ending


class Connection(Socket):
    """Sends to, and receives from, the trainer; reconnects for ever. A message that was not sent when the connection
    broke is dropped. Raises ConfigError if ``connect`` is not an address.

    Two threads may use it. Each holds ``lock`` for all calls except ``wait``. A thread that sent must call ``receive``
    until it returns None before it releases the lock: see ``Socket._has_input``."""

    def __init__(self, connect: str, waker: Waker, max_frame_bytes: int, keys: Optional[WorkerKeys] = None) -> None:
        super().__init__(zmq.DEALER, waker, max_frame_bytes, keys is not None)
        self.lock = threading.RLock()
        self._address, self._keys = connect, keys
        self._failures = 0                    # handshakes in a row
        self._is_unknown = False              # the last of them failed because the trainer does not know the key
        self._retry_at_s: Optional[float] = None   # when to open a new socket, because libzmq gave the old one up
        self._open()

    def _open(self) -> None:
        self._open_socket(HANDSHAKE_FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        set_option = self._socket.setsockopt
        set_option(zmq.IMMEDIATE, 1)          # no queue while there is no connection
        set_option(zmq.HEARTBEAT_IVL, int(PEER_TIMEOUT_S * 1000) // 4)
        set_option(zmq.HEARTBEAT_TIMEOUT, int(PEER_TIMEOUT_S * 1000))
        set_option(zmq.CONNECT_TIMEOUT, int(CONNECT_TIMEOUT_S * 1000))
        set_option(zmq.RECONNECT_IVL, 50)
        set_option(zmq.RECONNECT_IVL_MAX, 250)   # a restarted trainer has its workers within half a second
        set_option(zmq.SNDHWM, 0)             # the number of leases limits what is under way
        if is_loopback(self._address):
            set_option(zmq.SNDBUF, SEND_BUFFER_BYTES)    # elsewhere the kernel finds the size that the network needs
        if self._keys is not None:
            set_option(zmq.CURVE_SERVERKEY, self._keys.trainer)
            set_option(zmq.CURVE_PUBLICKEY, self._keys.public)
            set_option(zmq.CURVE_SECRETKEY, self._keys.secret)
        try:
            set_option(zmq.IPV6, int("[" in self._address))
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self.close(0)
            raise ConfigError("cannot connect to %r (%s): an address looks like tcp://HOST:5555"
                              % (self._address, zmq.strerror(error.errno or 0))) from error

    def _has_input(self) -> bool:
        with self.lock:
            return super()._has_input()

    def refusal(self) -> str:
        """Why the trainer does not let this worker in, as far as can be told; '' if it does, or does not answer."""
        for event, _ in self._events():
            if not event & HANDSHAKE_FAILED:
                self._failures, self._is_unknown, self._retry_at_s = 0, False, None
                continue
            self._failures += 1
            self._is_unknown = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._retry_at_s = time.monotonic() + RETRY_INTERVAL_S
        if self._retry_at_s is not None and time.monotonic() >= self._retry_at_s:
            self._retry_at_s = None
            self._close_socket(0)
            self._open()
        if self._failures < MIN_FAILURES:
            return ""
        if self._is_unknown:
            return "it does not know this worker's key: it knows those that were in its --keys folder when it started"
        if self._keys is None:
            return "it ends the handshake: it may require keys (--keys DIR, a worker's folder that stoker-keys made)"
        return ("it ends the handshake: it has no keys, or is not the trainer whose trainer.key this worker has; both "
                "need --keys with folders of one stoker-keys run")

    def receive(self) -> Optional[List[memoryview]]:
        """Frames as flat memoryviews, or None if no message waits."""
        try:
            return [part.buffer for part in self._socket.recv_multipart(NOBLOCK, copy=False)]
        except zmq.Again:
            return None

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Sends a message without waiting. False: there is no connection at the moment."""
        return self._send(frames)
