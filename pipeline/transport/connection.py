"""A worker's end of the wire: one DEALER, which reconnects by itself.
"""

import threading
import time
from typing import Any, List, Optional, Sequence

import zmq

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.transport.keys import WorkerKeys
from stoker.pipeline.transport.sockets import FAILED, PEER_SILENT_S, Waker, _NOBLOCK, _Socket

CONNECT_S = 5.0          # then a new attempt: TCP would repeat its packet after ever longer pauses, of minutes at last
SEND_BUFFER_BYTES = 256 << 10   # to this host: a batch goes through memory that the processor's cache still has
RETRY_S = 1.0            # from a failed handshake to the next try, where libzmq itself would not try again
MIN_FAILURES = 3       # handshakes in a row that failed before a worker says so: a trainer may just be going


class Connection(_Socket):
    """A worker's end. Reconnects by itself for ever; what was not sent when a connection broke is dropped.

    Two threads may use it, each under ``lock``, all but for ``wait``: whoever sends must receive until nothing waits
    before it lets go of the lock, or the other one sleeps over what came meanwhile.
    """

    def __init__(self, connect: str, waker: Waker, max_frame_bytes: int, keys: Optional[WorkerKeys] = None) -> None:
        super().__init__(zmq.DEALER, waker, max_frame_bytes, keys is not None)
        self.lock = threading.RLock()
        self._address, self._keys = connect, keys
        self._failures = 0                    # handshakes in a row
        self._unknown = False                 # the last of them because of this worker's own key
        self._again_s: Optional[float] = None   # when to make a new socket, since the old one gave up
        self._open()

    def _open(self) -> None:
        self._make(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        set_option = self._socket.setsockopt
        set_option(zmq.IMMEDIATE, 1)          # no queue for a trainer that is not there
        set_option(zmq.HEARTBEAT_IVL, int(PEER_SILENT_S * 1000) // 4)
        set_option(zmq.HEARTBEAT_TIMEOUT, int(PEER_SILENT_S * 1000))
        set_option(zmq.CONNECT_TIMEOUT, int(CONNECT_S * 1000))
        set_option(zmq.RECONNECT_IVL, 50)
        set_option(zmq.RECONNECT_IVL_MAX, 250)   # a new trainer has its old workers within half a second
        set_option(zmq.SNDHWM, 0)             # leases bound what is under way
        if is_loopback(self._address):
            set_option(zmq.SNDBUF, SEND_BUFFER_BYTES)    # elsewhere the kernel finds out what the way there takes
        if self._keys is not None:
            set_option(zmq.CURVE_SERVERKEY, self._keys.trainer)
            set_option(zmq.CURVE_PUBLICKEY, self._keys.public)
            set_option(zmq.CURVE_SECRETKEY, self._keys.secret)
        try:
            self._socket.setsockopt(zmq.IPV6, int("[" in self._address))
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self.close(0)
            raise ConfigError("cannot connect to %r (%s): an address looks like tcp://HOST:5555"
                              % (self._address, zmq.strerror(error.errno or 0))) from error

    def _has_news(self) -> bool:
        with self.lock:
            return super()._has_news()

    def refusal(self) -> str:
        """Why the trainer does not let this worker in, as far as can be told; '' if it does, or is not there."""
        for event, _ in self._events():
            if not event & FAILED:
                self._failures, self._unknown, self._again_s = 0, False, None
                continue
            self._failures += 1
            self._unknown = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._again_s = time.monotonic() + RETRY_S
        if self._again_s is not None and time.monotonic() >= self._again_s:
            self._again_s = None
            self._drop(0)
            self._open()
        if self._failures < MIN_FAILURES:
            return ""
        if self._unknown:
            return "it does not know this worker's key: it knows those in its --keys folder when it started"
        if self._keys is None:
            return "it ends the handshake: it may want keys (--keys DIR, a worker's folder that stoker-keys made)"
        return ("it ends the handshake: it has no keys, or is not the trainer whose trainer.key this worker has; both "
                "need --keys with folders of one stoker-keys run")

    def receive(self) -> Optional[List[Any]]:
        """Frames as flat memoryviews, or None if no message waits."""
        try:
            return [part.buffer for part in self._socket.recv_multipart(_NOBLOCK, copy=False)]
        except zmq.Again:
            return None

    def send(self, frames: Sequence[Any]) -> bool:
        """False: there is no connection at the moment."""
        try:
            self._send(frames)
        except zmq.Again:
            return False
        return True
