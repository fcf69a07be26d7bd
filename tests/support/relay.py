"""A TCP relay between workers and a trainer on this host: slow, or with a look at the bytes that pass.

It runs in the process that makes it, also in a worker: tests/faults/inject/sitecustomize.py.
"""

import socket
import threading
import time

CHUNK_BYTES = 4096


class Relay:
    """Forwards connections to ``address`` (tcp://HOST:PORT); ``self.address`` is its own.

    ``bytes_per_s``: how fast it forwards in each direction; None: as fast as it can. ``forward(data, sink, outward)``:
    called with each piece instead of ``sink.sendall(data)``; ``outward``: on the way to ``address``. On leaving the
    ``with``, all connections are closed.
    """

    def __init__(self, address, bytes_per_s=None, forward=None):
        host, _, port = address.rpartition("//")[2].rpartition(":")
        self._far, self._rate, self._forward = (host, int(port)), bytes_per_s, forward or self._send
        self._seen = {True: bytearray(), False: bytearray()}     # by direction, as ``outward``
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self.address = "tcp://127.0.0.1:%d" % self._listener.getsockname()[1]
        self._ends = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._far)
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._carry, args=(source, sink, sink is far), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source, sink, outward):
        data = b"more"
        while data:
            try:
                data = source.recv(CHUNK_BYTES)
                self._seen[outward] += data
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
                self._forward(data, sink, outward)
            except OSError:
                data = b""
        for end in (source, sink):
            _shut(end)

    @property
    def seen(self):
        """The bytes that came so far: first all on the way to ``address``, then all on the way back."""
        return bytes(self._seen[True] + self._seen[False])

    @staticmethod
    def _send(data, sink, outward):
        sink.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        _shut(self._listener)
        self._threads[0].join(10)
        self._listener.close()
        for end in self._ends:
            _shut(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()


def _shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
