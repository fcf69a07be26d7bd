"""A slow line: a relay between workers and a trainer on this host that hands on so many bytes a second."""

import socket
import threading
import time

CHUNK_BYTES = 4096


class Relay:
    """``address``: to connect to instead of ``address``. On leaving the ``with``, all connections are closed."""

    def __init__(self, address, bytes_per_s):
        host, _, port = address.rpartition("//")[2].rpartition(":")
        self._far, self._rate = (host, int(port)), bytes_per_s
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
                self._threads.append(threading.Thread(target=self._forward, args=(source, sink), daemon=True))
                self._threads[-1].start()

    def _forward(self, source, sink):
        data = b"more"
        while data:
            try:
                data = source.recv(CHUNK_BYTES)
                time.sleep(len(data) / self._rate)
                sink.sendall(data)
            except OSError:
                data = b""
        for end in (source, sink):
            _shut(end)

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
