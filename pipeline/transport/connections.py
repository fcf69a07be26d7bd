"""A worker's connections to all of its trainers: one lock, one wait, one thread of libzmq's."""

import select
import threading
from typing import Iterator, List, Optional, Sequence

import zmq

from stoker.pipeline.transport.connection import Connection
from stoker.pipeline.transport.keys import WorkerKeys
from stoker.pipeline.transport.owners import SocketOwners
from stoker.pipeline.transport.sockets import Waker


class Connections:
    """One Connection for each of ``addresses``, in their order; two threads may use them as they use a Connection.
    Raises ConfigError if one is no address. ``owners``: if one is a loopback address and there are no keys."""

    def __init__(self, addresses: Sequence[str], waker: Waker, max_frame_bytes: int, keys: Optional[WorkerKeys] = None,
                 owners: Optional[SocketOwners] = None) -> None:
        self._waker, self._owners = waker, owners
        self._all: List[Connection] = []
        self._context = zmq.Context() if len(addresses) > 1 else None
        if self._context is None:
            self._all.append(Connection(addresses[0], waker, max_frame_bytes, keys, owners))
            self.lock = self._all[0].lock
            return
        self.lock = threading.RLock()
        for address in addresses:
            self._all.append(Connection(address, waker, max_frame_bytes, keys, owners, self.lock, self._context))

    def __getitem__(self, number: int) -> Connection:
        return self._all[number]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all)

    def wait(self, timeout_s: float) -> None:
        """Returns when a message waits on one of them, the waker was used, one changed, or the time is over."""
        if self._context is None:
            self._all[0].wait(timeout_s)
            return
        poller = select.poll()
        poller.register(self._waker.fileno(), select.POLLIN)
        with self.lock:
            has_input = any(connection.has_input() for connection in self._all)
            for connection in self._all:
                for fd in connection.descriptors():
                    poller.register(fd, select.POLLIN)
        ready = poller.poll(0 if has_input else max(0, int(timeout_s * 1000 + 0.999)))
        if (self._waker.fileno(), select.POLLIN) in ready:
            self._waker.clear()

    def close(self) -> None:
        """Sends what is under way for ``LINGER_S`` at most, then frees sockets and threads."""
        if self._context is None:
            self._all[0].close()
            return
        for connection in self._all:
            connection.leave()
        self._context.term()
        if self._owners is not None:
            self._owners.close()
