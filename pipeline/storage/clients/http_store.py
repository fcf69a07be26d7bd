"""A web server as a store, by the standard library: what has an answer for GET with Range needs no other client.

Every thread keeps one connection. Passwords come from ~/.netrc of this host. A redirect is followed below the root.
"""

import socket
import ssl
import threading
import time
from typing import Dict, Iterator, List, Optional, Tuple
from urllib.parse import urljoin

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients import http_answers
from stoker.pipeline.storage.folder_store import too_large, too_short
from stoker.pipeline.storage.clients.http_access import Access
from stoker.pipeline.storage.clients.http_connection import Answer, BadAnswer, Connection, limit_silence
from stoker.pipeline.storage.retries import TryAgain, is_unknown_host
from stoker.pipeline.storage.store import Entry, Refused, StoreError, Version
from stoker.pipeline.storage.urls import is_below, joined, normal, split
from stoker.pipeline.text import printable

CONNECT_S = 5.0
SILENCE_S = 20.0                    # without a byte
MIN_BYTES_PER_S = 50000             # slower than that, an answer is given up
MAX_REDIRECTS = 5
MAX_SKIPPED_BYTES = 8 << 20         # that are read for nothing from a server that ignores Range
_PIECE_BYTES = 1 << 20              # of those, at a time
_DRAINED_BYTES = 64 << 10
_FAILURES = (OSError, BadAnswer)


class HttpClient:
    """The files below the URL ``root``, in normal form: see ``retrying.Client``. ``server``: the URL of the server, if
    that is not the root's. Raises ConfigError if ~/.netrc cannot be read."""

    def __init__(self, root: str, server: str = "", connect_s: float = CONNECT_S, silence_s: float = SILENCE_S) -> None:
        self.root = root
        self._base = server or root
        self._access = Access(split(self._base), has_password=not server)
        self._connect_s, self._silence_s = connect_s, silence_s
        self._kept = threading.local()

    def pages(self, prefix: str, after: str) -> Iterator[List[Entry]]:
        """A web server has no list: raises Refused."""
        raise Refused("%s: a web server has no list of its files: name them, as in %s/train-{000..099}.tar, or in a "
                      "list" % (self.root, self.root))

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        name = joined(self.root, path)
        try:
            answer = self._answer("HEAD", path)
            part = http_answers.part_of(answer.status, answer.headers, 0, None) if answer.status == 200 else None
        except Refused:
            part = None             # it may refuse HEAD alone
        if part is not None and part.version is not None:
            return Entry(path, part.version)
        answer = self._answer("GET", path, {"Range": "bytes=0-0"})
        try:
            if answer.status == 416 and http_answers.size_behind(answer.headers) == 0:
                return Entry(path, http_answers.version_of(0, answer.headers))
            part = http_answers.part_of(answer.status, answer.headers, 0, 1)
            if answer.status == 206:
                self._drained(answer)
        except StoreError as error:
            raise http_answers.with_url(error, name) from error
        finally:
            self._finish(answer)
        if part.version is None:
            raise Refused("%s: the server does not tell the size of the file (no Content-Length)" % name)
        return Entry(path, part.version)

    def read(self, path: str, offset: int, length: Optional[int], max_bytes: int) -> Tuple[bytes, Version]:
        """See ``Store``."""
        name = joined(self.root, path)
        if length is not None and length > max_bytes:
            raise too_large(name, length, max_bytes)
        if length == 0 or length is None and offset:
            version = self.size(path).version
            length = version.size - offset if length is None else length
            if length < 0 or offset + length > version.size:
                raise too_short(name, version.size, offset, max(0, length))
            if length == 0:
                return b"", version
            if length > max_bytes:
                raise too_large(name, length, max_bytes)
        headers = {} if length is None else {"Range": "bytes=%d-%d" % (offset, offset + length - 1)}
        answer = self._answer("GET", path, headers)
        try:
            if answer.status == 416:
                size = http_answers.size_behind(answer.headers)
                if size is None:        # it does not say it
                    self._finish(answer)
                    size = self.size(path).version.size
                if length is None or offset + length <= size:
                    raise TryAgain("416 for a part that the file has", is_wrong=True)
                raise too_short(name, size, offset, length)
            return self._content(name, answer, offset, length, max_bytes)
        except _FAILURES as error:
            raise _try_again(error) from error
        finally:
            self._finish(answer)

    def _content(self, name: str, answer: Answer, offset: int, length: Optional[int], max_bytes: int
                 ) -> Tuple[bytes, Version]:
        """The bytes that were asked for, and their version."""
        try:
            part = http_answers.part_of(answer.status, answer.headers, offset, length)
        except Refused as error:
            raise http_answers.with_url(error, name) from error
        if part.length is None and not answer.is_chunked:
            raise Refused("%s: the server does not tell the size of the file (no Content-Length): a file that is cut "
                          "off could not be told from a whole one" % name)
        skipped = offset - part.offset          # 0, unless the server ignored Range
        if skipped > MAX_SKIPPED_BYTES:
            raise Refused("%s: the server ignores Range, and would send %d bytes before those of a record: serve the "
                          "files by one that obeys it, such as nginx" % (name, offset))
        size = part.version.size if part.version is not None else None
        if length is not None and size is not None and offset + length > size:
            raise too_short(name, size, offset, length)
        wanted = part.length if length is None else length
        if wanted is not None and wanted > max_bytes:
            raise too_large(name, wanted, max_bytes)
        left = skipped
        while left and not answer.is_over:
            left -= len(self._body(answer, min(left, _PIECE_BYTES)))
        data = self._body(answer, max_bytes + 1 if wanted is None else wanted)
        if wanted is None and len(data) > max_bytes:
            raise too_large(name, len(data), max_bytes)
        if wanted is not None and len(data) != wanted:
            raise too_short(name, skipped - left + len(data), offset, wanted)       # only chunks may end before
        version = part.version
        if version is None:
            if wanted is not None:
                raise Refused("%s: the server ignores Range and does not tell the size of the file" % name)
            version = http_answers.version_of(len(data), answer.headers)
        return data, version

    def _body(self, answer: Answer, most: int) -> bytes:
        """At most as many bytes of the answer."""
        return answer.read(most, time.monotonic() + self._silence_s, MIN_BYTES_PER_S)

    def _answer(self, method: str, path: str, headers: Optional[Dict[str, str]] = None, target: str = "") -> Answer:
        """The head of an answer that has the file (200, 206), or none of what was asked for (416). ``target``: the URL,
        if it is not that of the file."""
        target = target or self._target(path)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._asked(method, target, headers)
            status = answer.status
            if status in (200, 206) or status == 416 and headers:
                if method == "HEAD":
                    self._finish(answer)
                return answer
            location = answer.headers.get("Location")
            self._drained(answer)
            self._finish(answer)
            name = joined(self.root, path)
            if status not in (301, 302, 303, 307, 308) or not location:
                if method == "HEAD" and status in (405, 501):
                    raise Refused("%s: the server does not answer HEAD" % name)
                raise self._meaning(path, status, printable(answer.reason), answer.headers)
            target = self._redirected(name, target, location)
        raise Refused("%s: more than %d redirects" % (joined(self.root, path), MAX_REDIRECTS))

    def _target(self, path: str) -> str:
        """The URL of the request."""
        return joined(self.root, path)

    def _meaning(self, path: str, status: int, reason: str, headers: http_answers.Headers) -> Exception:
        error = http_answers.error_of(status, reason, headers, time.time())
        return http_answers.with_url(error, joined(self.root, path)) if isinstance(error, StoreError) else error

    def _redirected(self, name: str, asked: str, target: str) -> str:
        try:
            target = urljoin(asked, target)
            form = normal(target)
            if is_below(form, self._base):
                return form
        except (ConfigError, ValueError):
            pass
        raise Refused("%s leads to %s, which is not below the root: name that one as the root"
                      % (name, printable(target.split("?")[0][:200])))

    def _asked(self, method: str, url: str, headers: Optional[Dict[str, str]]) -> Answer:
        """The head of the answer. A kept connection that the server closed meanwhile is made again."""
        request = self._access.request(method, url, headers)
        while True:
            kept: Optional[Connection] = getattr(self._kept, "connection", None)
            connection = kept or self._connected()
            try:
                return connection.ask(request, method != "HEAD", time.monotonic() + self._silence_s)
            except BaseException as error:
                self._drop()
                if not isinstance(error, _FAILURES):
                    raise
                if kept is None or isinstance(error, socket.timeout):
                    raise _try_again(error) from error

    def _connected(self) -> Connection:
        try:
            sock = self._access.connected(self._connect_s)
            limit_silence(sock, self._silence_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (*_FAILURES, ssl.CertificateError) as error:
            if isinstance(error, ssl.CertificateError) or (
                    isinstance(error, ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)):
                raise Refused("%s: the server's certificate is not valid for this host (%s): SSL_CERT_FILE can name "
                              "your own authority" % (self.root, str(error)[:200])) from error
            raise _try_again(error) from error
        connection = self._kept.connection = Connection(sock)
        return connection

    def _drained(self, answer: Answer) -> None:
        """Reads the text of an error, which is short, so that the connection can be kept."""
        try:
            self._body(answer, _DRAINED_BYTES)
        except _FAILURES:
            pass

    def _finish(self, answer: Answer) -> None:
        """Keeps the connection for the next file if the answer was read to its end, and the server keeps it."""
        if not answer.is_over or answer.will_close:
            self._drop()

    def _drop(self) -> None:
        connection = getattr(self._kept, "connection", None)
        self._kept.connection = None
        if connection is not None:
            connection.close()


def _try_again(error: Exception) -> TryAgain:
    if isinstance(error, socket.timeout):
        return TryAgain("no answer in time")
    kind = "" if isinstance(error, (BadAnswer, ConnectionResetError)) else type(error).__name__ + ": "
    return TryAgain(kind + printable(str(error)), is_unknown_host=is_unknown_host(error))
