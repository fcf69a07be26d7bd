"""A web server of a test that says what it is told to: one raw answer after the other, on a port of its own."""

import socket
import threading
from contextlib import suppress

CUT = object()          # closes the connection instead of an answer


def answer(status="200 OK", body=b"", **fields):
    """The bytes of an answer. Content-Length is right, unless ``fields`` has another one or None."""
    fields.setdefault("Content_Length", len(body))
    lines = ["HTTP/1.1 " + status] + ["%s: %s" % (name.replace("_", "-"), value) for name, value in fields.items()
                                      if value is not None]
    return "\r\n".join(lines + ["", ""]).encode("latin-1") + body


def part(content, offset, end, status="206 Partial Content", **fields):
    """The answer that has content[offset:end]."""
    fields.setdefault("Content_Range", "bytes %d-%d/%d" % (offset, end - 1, len(content)))
    return answer(status, content[offset:end], **fields)


class ScriptedServer:
    """Gives ``answers`` in turn, over any number of connections, one at a time. An answer is bytes; a tuple (bytes,
    CUT) closes the connection behind them. ``requests`` has what came: (first line, {name: value})."""

    def __init__(self, *answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self.url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            while True:
                first = lines.readline().decode("latin-1").strip()
                if not first:
                    return
                fields = {}
                for line in iter(lambda: lines.readline().decode("latin-1").strip(), ""):
                    name, _, value = line.partition(": ")
                    fields[name.lower()] = value
                self.requests.append((first, fields))
                given = self.answers.pop(0)
                data, end = given if isinstance(given, tuple) else (given, None)
                if data is not CUT:
                    connection.sendall(data)
                if data is CUT or end is CUT:
                    connection.shutdown(socket.SHUT_RDWR)
                    return

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
