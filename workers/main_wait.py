"""MainWait: how the main thread of a worker waits for messages of its one trainer, while the socket's thread rests.

A lease that the socket's thread reads costs two thread switches before the main thread has it. So as long as leases
come, the main thread reads them itself. Only one of the two waits at the socket at a time: see ``process.py``.
"""

import select
from typing import List

from stoker.pipeline.transport.connections import Connections
from stoker.pipeline.transport.sockets import Waker


class MainWait:
    """Of one main thread. ``wake`` is for the others."""

    def __init__(self, connections: Connections) -> None:
        self._connections, self._waker = connections, Waker()
        self._descriptors: List[int] = []
        self._poller = select.poll()

    def wait(self, timeout_s: float) -> None:
        """Returns when a message waits, the connection changed, it was woken, or the time is over."""
        connection = self._connections[0]
        with self._connections.lock:
            has_input, descriptors = connection.has_input(), [self._waker.fileno(), *connection.descriptors()]
        if descriptors != self._descriptors:
            self._descriptors, self._poller = descriptors, select.poll()
            for descriptor in descriptors:
                self._poller.register(descriptor, select.POLLIN)
        ready = self._poller.poll(0 if has_input else max(0, int(timeout_s * 1000 + 0.999)))
        if (self._waker.fileno(), select.POLLIN) in ready:
            self._waker.clear()

    def wake(self) -> None:
        """Ends the wait, or the next one."""
        self._waker.wake()

    def close(self) -> None:
        """A second call does no harm."""
        self._waker.close()
