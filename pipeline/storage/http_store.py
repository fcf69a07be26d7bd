"""A web server as a store, by the standard library: what has an answer for GET with Range needs no other client.

Every thread keeps one connection. Passwords come from ~/.netrc of this host. A redirect is followed on the same server
only: elsewhere is not below the root.
"""

import http.client
import socket
import ssl
import threading
import time
from typing import Dict, Iterator, List, Optional, Tuple
from urllib.parse import urljoin, urlsplit

from stoker.pipeline.storage import http_answers
from stoker.pipeline.storage.folder_store import too_large, too_short
from stoker.pipeline.storage.http_access import Access
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Entry, Refused, StoreError, Version
from stoker.pipeline.storage.urls import joined, split
from stoker.pipeline.text import printable

CONNECT_S = 5.0
SILENCE_S = 20.0                    # without a byte
MIN_BYTES_PER_S = 50000             # slower than that, an answer is given up
MAX_REDIRECTS = 5
MAX_SKIPPED_BYTES = 8 << 20         # that are read for nothing from a server that ignores Range
_PIECE_BYTES = 1 << 20
_DRAINED_BYTES = 1 << 16
_FAILURES = (OSError, http.client.HTTPException)


class HttpClient:
    """The files below the URL ``root``, in normal form: see ``retrying.Client``. ``server``: the URL of the server, if
    that is not the root's. Raises ConfigError if ~/.netrc cannot be read."""

    def __init__(self, root: str, server: str = "", connect_s: float = CONNECT_S, silence_s: float = SILENCE_S) -> None:
        self.root = root
        self._server = split(server or root)
        self._access = Access(self._server, has_password=not server)
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
            status, answer = self._answer("HEAD", path, {})
            part = http_answers.part_of(status, answer.headers, 0, None) if status == 200 else None
        except Refused:
            part = None             # it may refuse HEAD alone
        if part is not None and part.version is not None:
            return Entry(path, part.version)
        status, answer = self._answer("GET", path, {"Range": "bytes=0-0"})
        try:
            if status == 416 and http_answers.size_behind(answer.headers) == 0:
                return Entry(path, http_answers.version_of(0, answer.headers))
            part = http_answers.part_of(status, answer.headers, 0, 1)
        except StoreError as error:
            raise http_answers.with_url(error, name) from error
        finally:
            self._finish(answer, status == 206)
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
        status, answer = self._answer("GET", path, headers)
        is_over = False
        try:
            data, version, is_over = self._content(path, status, answer, offset, length, max_bytes)
            return data, version
        except _FAILURES as error:
            raise _try_again(error) from error
        finally:
            self._finish(answer, is_over)

    def _content(self, path: str, status: int, answer: http.client.HTTPResponse, offset: int, length: Optional[int],
                 max_bytes: int) -> Tuple[bytes, Version, bool]:
        """The bytes that were asked for, their version, and whether the answer was read to its end."""
        name = joined(self.root, path)
        if status == 416:
            size = http_answers.size_behind(answer.headers)
            if size is None and length is not None:     # it does not say it
                self._finish(answer, False)
                size = self.size(path).version.size
            if size is None or length is None or offset + length <= size:
                raise TryAgain("416 for a part that the file has", is_wrong=True)
            raise too_short(name, size, offset, length)
        try:
            part = http_answers.part_of(status, answer.headers, offset, length)
        except Refused as error:
            raise http_answers.with_url(error, name) from error
        is_chunked = (answer.headers.get("Transfer-Encoding") or "").strip().lower() == "chunked"
        if part.length is None and not is_chunked:
            raise Refused("%s: the server does not tell the size of the file (no Content-Length): a file that is cut "
                          "off could not be told from a whole one" % name)
        skipped = offset - part.offset          # 0, unless the server ignored Range
        if skipped > MAX_SKIPPED_BYTES:
            raise Refused("%s: the server ignores Range, and would send %d bytes before those of a record: serve the "
                          "files by one that obeys it, such as nginx" % (name, offset))
        size = part.version.size if part.version is not None else None
        if length is not None and size is not None and offset + length > size:
            raise too_short(name, size, offset, length)
        wanted = part.length if length is None else skipped + length
        if wanted is not None and wanted - skipped > max_bytes:
            raise too_large(name, wanted - skipped, max_bytes)
        data = self._body(answer, max_bytes + skipped + 1 if wanted is None else wanted)
        if wanted is None and len(data) > max_bytes:
            raise too_large(name, len(data), max_bytes)
        if wanted is not None and len(data) != wanted:
            if is_chunked:
                raise too_short(name, len(data), offset, wanted - skipped)
            raise TryAgain("the connection was cut after %d of %d bytes" % (len(data), wanted))
        if part.version is None:
            if wanted is not None:
                raise Refused("%s: the server ignores Range and does not tell the size of the file" % name)
            part = part._replace(version=http_answers.version_of(len(data), answer.headers))
        assert part.version is not None
        return data[skipped:] if skipped else data, part.version, part.length == len(data) or wanted is None

    def _body(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        """At most as many bytes of the answer."""
        pieces, left = [], most
        until = time.monotonic() + self._silence_s + most / MIN_BYTES_PER_S
        while left:
            piece = answer.read1(min(left, _PIECE_BYTES))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
            if time.monotonic() > until:
                raise TryAgain("only %d bytes came in %.0f s" % (most - left, self._silence_s + most / MIN_BYTES_PER_S))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer(self, method: str, path: str, headers: Dict[str, str], target: str = ""
                ) -> Tuple[int, http.client.HTTPResponse]:
        """The head of an answer that has the file (200, 206), or none of what was asked for (416). ``target``: the URL,
        if it is not that of the file."""
        name, target = joined(self.root, path), target or self._target(path)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._asked(method, target, headers)
            status = answer.status
            if status in (200, 206) or status == 416 and "Range" in headers:
                if method == "HEAD":
                    self._finish(answer, True)
                return status, answer
            location = answer.headers.get("Location")
            self._finish(answer, method == "HEAD" or self._is_drained(answer))
            if status not in (301, 302, 303, 307, 308) or not location:
                if method == "HEAD" and status in (405, 501):
                    raise Refused("%s: the server does not answer HEAD" % name)
                raise self._meaning(path, status, printable(answer.reason), answer.headers)
            target = self._redirected(name, urljoin(target, location))
        raise Refused("%s: more than %d redirects" % (name, MAX_REDIRECTS))

    def _target(self, path: str) -> str:
        return joined(self.root, path)

    def _meaning(self, path: str, status: int, reason: str, headers: http_answers.Headers) -> Exception:
        error = http_answers.error_of(status, reason, headers, time.time())
        return http_answers.with_url(error, joined(self.root, path)) if isinstance(error, StoreError) else error

    def _redirected(self, name: str, target: str) -> str:
        try:
            parts = urlsplit(target)
            origin = "%s://%s" % (self._server.scheme, self._server.host)
            default = ":%d" % (443 if self._server.scheme == "https" else 80)
            same = "%s://%s" % (parts.scheme, parts.netloc.lower()) in (origin, origin + default)
        except ValueError:
            same = False
        if not same:
            raise Refused("%s leads to another server, %s, which is not below the root: name that one as the root"
                          % (name, printable(target.split("?")[0][:200])))
        return target.split("#")[0]

    def _asked(self, method: str, url: str, headers: Dict[str, str]) -> http.client.HTTPResponse:
        """The head of the answer. A kept connection that the server closed meanwhile is made again."""
        for is_last in (False, True):
            kept: Optional[http.client.HTTPConnection] = getattr(self._kept, "connection", None)
            is_new = kept is None or kept.sock is None
            connection = self._connected() if kept is None or is_new else kept
            try:
                connection.request(method, self._access.target(url), headers=self._access.headers(headers))
                return connection.getresponse()
            except _FAILURES as error:
                self._drop()
                if is_new or is_last or isinstance(error, socket.timeout):
                    raise _try_again(error) from error
            except BaseException:
                self._drop()
                raise
        raise AssertionError

    def _connected(self) -> http.client.HTTPConnection:
        connection = self._access.connection(self._connect_s)
        try:
            connection.connect()
            connection.sock.settimeout(self._silence_s)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except ssl.SSLError as error:
            connection.close()
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refused("%s: the server's certificate is not valid for this host (%s): SSL_CERT_FILE can name "
                              "your own authority" % (self.root, str(error)[:200])) from error
            raise _try_again(error) from error
        except _FAILURES as error:
            connection.close()
            raise _try_again(error) from error
        self._kept.connection = connection
        return connection

    def _is_drained(self, answer: http.client.HTTPResponse) -> bool:
        """Reads the text of an error, which is short. Whether that was all."""
        length = answer.headers.get("Content-Length") or ""
        try:
            size = int(length) if length.isdigit() and len(length) < 9 else _DRAINED_BYTES + 1
            return size <= _DRAINED_BYTES and len(self._body(answer, size)) == size
        except (TryAgain,) + _FAILURES:
            return False

    def _finish(self, answer: http.client.HTTPResponse, is_over: bool) -> None:
        """Keeps the connection for the next file if the answer was read to its end, and the server keeps it."""
        answer.close()
        if not is_over or answer.will_close:
            self._drop()

    def _drop(self) -> None:
        connection = getattr(self._kept, "connection", None)
        self._kept.connection = None
        if connection is not None:
            connection.close()


def _try_again(error: Exception) -> TryAgain:
    if isinstance(error, socket.timeout):
        return TryAgain("no answer in time")
    if isinstance(error, http.client.IncompleteRead):
        return TryAgain("the connection was cut in the middle of the answer")
    return TryAgain("%s: %s" % (type(error).__name__, printable(str(error))))
