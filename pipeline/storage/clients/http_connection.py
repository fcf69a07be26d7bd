"""Answers of HTTP/1.1 on a socket, read strictly and with few calls.

http.client reads an answer's head with the parser of e-mails, which costs more than the rest of a read of a picture
does, and its ``read1`` waits behind the end of a body on Python 3.6. This knows what files need: GET and HEAD, bodies
with a length, in chunks, or up to the end of the connection; every part is bounded.
"""

import math
import re
import socket
import ssl
import struct
import time
from typing import Dict, List, Optional, Tuple

MAX_HEAD_BYTES = 32 << 10
MAX_FIELDS = 200
MAX_INTERIM = 8                 # answers such as 100 Continue before the right one
_LINE_BYTES = 4 << 10           # of a chunk's size with its extensions, or of a field behind the last one
_RECEIVED_BYTES = 64 << 10      # at first: head and a picture
_PIECE_BYTES = 1 << 20
_STATUS = re.compile(r"HTTP/1\.([01]) ([0-9]{3})(?: ([^\r\n]*))?\Z")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_STRAY = re.compile(r"\r(?!\n)|(?<!\r)\n|\0")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\Z", re.DOTALL)
_LENGTH = re.compile(r"\d{1,15}\Z")
_UNTIL_THE_END, _WITH_LENGTH, _IN_CHUNKS = range(3)


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1. ``str(error)`` is a clause."""


def limit_silence(sock: socket.socket, silence_s: float) -> None:
    """A call of ``sock`` waits so long at most. Where the kernel itself can see to that, a call is one step instead of
    a poll and another one, between which a thread may have to wait for Python's lock."""
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(silence_s)
        return
    sock.settimeout(None)
    limit = struct.pack("ll", int(silence_s), int(silence_s % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, limit)


class Fields:
    """The header fields of an answer, by names in any case."""

    def __init__(self, found: Dict[str, str]) -> None:
        self._found = found

    def get(self, name: str) -> Optional[str]:
        """The first one of this name."""
        return self._found.get(name.lower())


class Connection:
    """Requests and answers over the open socket, one after the other. OSError and BadAnswer leave it unusable."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""         # and not read yet
        self.until = math.inf

    def ask(self, request: bytes, has_body: bool, until: float = math.inf) -> "Answer":
        """Sends the request, and gives the answer when its head is there. ``has_body``: it is no HEAD. ``until``: the
        time of ``time.monotonic()`` at which all of the head must be there. Raises OSError, BadAnswer."""
        self.until = until
        try:
            self.sock.sendall(request)
        except BlockingIOError as error:
            raise socket.timeout("it takes nothing") from error
        for _ in range(MAX_INTERIM):
            status, reason, fields, version = self._head()
            if status >= 200:
                return Answer(self, status, reason, fields, version, has_body)
        raise BadAnswer("only answers that promise another one")

    def close(self) -> None:
        self.sock.close()

    def more(self, most: int) -> bytes:
        """The next bytes that come. A server that sends one byte now and then is never silent: there is a limit for all
        of them together."""
        if time.monotonic() > self.until:
            raise socket.timeout("it comes too slowly")
        try:
            return self.sock.recv(most)
        except BlockingIOError as error:
            raise socket.timeout("it says nothing") from error

    def _head(self) -> Tuple[int, str, Dict[str, str], int]:
        start, data = 0, self.received
        while True:
            end = data.find(b"\r\n\r\n", max(0, start - 3))
            if end >= 0:
                break
            if len(data) > MAX_HEAD_BYTES:
                raise BadAnswer("a head of more than %d bytes" % MAX_HEAD_BYTES)
            more = self.more(_RECEIVED_BYTES)
            if not more:
                raise ConnectionResetError("the server closed the connection without an answer" if not data
                                           else "the connection was cut in the head of an answer")
            start, data = len(data), data + more if data else more
        self.received = data[end + 4:]
        text = data[:end].decode("latin-1")
        lines = text.split("\r\n")
        match = _STATUS.match(lines[0])
        if match is None or len(lines) > MAX_FIELDS:
            raise BadAnswer("no head of HTTP/1.1: %r" % lines[0][:60])
        stray = _STRAY.search(text)
        if stray:
            raise BadAnswer("%r within a line of its head" % stray.group())
        found: Dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not _NAME.match(name):
                raise BadAnswer("a header field that is none: %r" % line[:60])
            name, value = name.lower(), value.strip(" \t")
            if found.setdefault(name, value) != value and name in ("content-length", "transfer-encoding",
                                                                  "content-range"):
                raise BadAnswer("two values of %s" % name)
        return int(match.group(2)), match.group(3) or "", found, int(match.group(1))


class Answer:
    """An answer whose head was read. ``is_over``: its body was, too. ``will_close``: no other one follows."""

    def __init__(self, connection: Connection, status: int, reason: str, fields: Dict[str, str], version: int,
                 has_body: bool) -> None:
        self.status, self.reason, self.headers = status, reason, Fields(fields)
        self._connection, self._left, self._is_first = connection, 0, True
        options = [each.strip() for each in fields.get("connection", "").lower().split(",")]
        self.will_close = "close" in options or version == 0 and "keep-alive" not in options
        coding, length = fields.get("transfer-encoding"), fields.get("content-length")
        self.is_chunked = coding is not None
        self.is_over = not has_body or status in (204, 304)
        if coding is not None:
            if coding.strip().lower() != "chunked" or length is not None or version == 0:
                raise BadAnswer("Transfer-Encoding: %.40s" % coding)
            self._framing = _IN_CHUNKS
        elif length is not None:
            if not _LENGTH.match(length):
                raise BadAnswer("Content-Length: %.40s" % length)
            self._framing, self._left = _WITH_LENGTH, int(length)
            self.is_over = self.is_over or not self._left
        else:
            self._framing = _UNTIL_THE_END
            self.will_close = self.will_close or not self.is_over

    def read(self, most: int, until: float, bytes_per_s: float = math.inf) -> bytes:
        """The next bytes of the body, ``most`` if it has as many. Raises OSError if it is cut before its end, or not
        there at the time ``until`` of ``time.monotonic()``, and a second later for each ``bytes_per_s`` that came;
        BadAnswer."""
        pieces: List[bytes] = []
        left, self._connection.until = most, until
        while left and not self.is_over:
            piece = self._piece(left)
            if piece:
                pieces.append(piece)
                left -= len(piece)
                self._connection.until += len(piece) / bytes_per_s
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, most: int) -> bytes:
        if self._framing == _IN_CHUNKS:
            if not self._left and not self._next_chunk():
                return b""
            most = min(most, self._left)
        elif self._framing == _WITH_LENGTH:
            most = min(most, self._left)
        here, connection = self._connection.received, self._connection
        if here:
            piece = here if len(here) <= most else here[:most]
            connection.received = b"" if len(here) <= most else here[most:]
        else:
            piece = connection.more(min(most, _PIECE_BYTES))
            if not piece:
                if self._framing != _UNTIL_THE_END:
                    raise ConnectionResetError("the connection was cut in the middle of an answer")
                self.is_over = True
        if self._framing != _UNTIL_THE_END:
            self._left -= len(piece)
            self.is_over = self._framing == _WITH_LENGTH and not self._left
        return piece

    def _next_chunk(self) -> bool:
        """Whether there is another one; its bytes are left then."""
        if not self._is_first and self._line() != b"":
            raise BadAnswer("a chunk that is longer than its size")
        self._is_first = False
        line = self._line()
        match = _SIZE.match(line)
        if match is None:
            raise BadAnswer("the size %r of a chunk" % line[:40])
        self._left = int(match.group(1), 16)
        if self._left:
            return True
        for _ in range(MAX_FIELDS):
            if not self._line():
                self.is_over = True
                return False
        raise BadAnswer("more than %d fields behind the last chunk" % MAX_FIELDS)

    def _line(self) -> bytes:
        connection = self._connection
        while True:
            line, end, rest = connection.received.partition(b"\r\n")
            if end:
                connection.received = rest
                return line
            if len(line) > _LINE_BYTES:
                raise BadAnswer("a line of more than %d bytes between chunks" % _LINE_BYTES)
            more = connection.more(_RECEIVED_BYTES)
            if not more:
                raise ConnectionResetError("the connection was cut between two chunks of an answer")
            connection.received += more
