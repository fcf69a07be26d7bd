"""A small HTTP server for the figures of a run, in one daemon thread, which waits for requests and costs nothing else.

It answers GET and HEAD, one request per connection. What it takes from the network is bounded: the connections, the
bytes of a request, the time for one, and the requests per second. Where all connections are taken, the oldest one ends.
(The standard library's http.server bounds neither the connections nor the time of a whole request, and takes a thread
for each connection, or lets one slow client hold up all others.)

On loopback, the Host header must name this host: else a web page could let its own name lead to 127.0.0.1 and have the
figures from the user's browser (DNS rebinding). With a token, each request must have it.
"""

import errno
import hmac
import logging
import os
import re
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.text import printable
from stoker.trainer.status import Page

log = logging.getLogger("stoker")

MAX_CONNECTIONS = 32
MAX_REQUEST_BYTES = 8192
MAX_BEYOND_BYTES = 1 << 16
REQUEST_S = 5.0          # for a whole request and its answer
MAX_PER_S = 200          # connections; more wait in the kernel's queue
BACKLOG = 64
STOP_S = 0.5
LINGER_INTERVAL_S = 0.02
FAILURE_S = 0.1          # after a failure of the system: without this, the thread would be busy for nothing
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           405: "Method Not Allowed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
           501: "Not Implemented"}
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\x80-\xff\t]*)")


class Refused(Exception):
    """The request gets the HTTP status ``code`` and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Gate:
    """Decides whether a request gets an answer. Pure. ``token``: that each must have, or None; ``is_local``: the server
    listens on loopback."""

    def __init__(self, token: Optional[bytes], is_local: bool) -> None:
        self._token, self._is_local = token, is_local

    def path(self, request: bytes) -> Tuple[str, str]:
        """The path of the whole head of a request, without the query, and the name of the client's program. Raises
        Refused."""
        first, *lines = request.split(b"\r\n\r\n")[0].split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise Refused(400, "this is no request of HTTP/1.1")
        headers: Dict[bytes, List[bytes]] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise Refused(400, "a header of the request is malformed")
            headers.setdefault(header.group(1).lower(), []).append(header.group(2).strip())
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            raise Refused(400, "the request must have one Host header")
        if self._is_local and not _is_this_host(hosts[0]):
            raise Refused(403, "the Host header must name this host, such as localhost or 127.0.0.1")
        if self._token is not None and not self._has_token(headers.get(b"authorization", [])):
            raise Refused(401, "the request needs the header  Authorization: Bearer TOKEN  with the token of the "
                               "trainer's --status-token-file")
        method, target = match.groups()
        if method not in (b"GET", b"HEAD"):
            raise Refused(405, "only GET and HEAD are possible")
        return target.partition(b"?")[0].decode("ascii"), b" ".join(headers.get(b"user-agent", [])).decode("latin-1")

    def _has_token(self, values: List[bytes]) -> bool:
        scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token or b"\0")


def _is_this_host(value: bytes) -> bool:
    host = re.sub(r":\d{1,5}$", "", value.decode("latin-1"))
    return host.lower() == "localhost" or is_loopback("tcp://%s:1" % host)


def response(page: Page, with_body: bool) -> bytes:
    """The bytes of an answer."""
    more = {401: "WWW-Authenticate: Bearer\r\n", 405: "Allow: GET, HEAD\r\n"}.get(page.code, "")
    head = ("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s\r\n") % (
                page.code, REASONS[page.code], page.content_type, len(page.body), more)
    return head.encode("ascii") + (page.body if with_body else b"")


class _Connection:
    """One client."""

    def __init__(self, sock: socket.socket, client: str, deadline_s: float) -> None:
        self.socket, self.client, self.deadline_s = sock, client, deadline_s
        self.received, self.answer = b"", b""
        self.is_ended = False                     # it is closed
        self.is_done, self.beyond = False, 0      # done: only waits for the client to hang up; bytes that come then


class StatusServer:
    """Serves ``pages``, by path, at ``host`` and ``port`` (0: a free one) from now on. A worker group without workers,
    so that it ends with a stream. Raises ConfigError.

    ``token``: that each request must have. ``asked`` hears of each client that gets a page. While ``lingers`` says so,
    ``stop`` waits."""

    def __init__(self, host: str, port: int, token: Optional[bytes], pages: Mapping[str, Callable[[], Page]],
                 asked: Callable[[str], None] = lambda client: None, lingers: Callable[[], bool] = lambda: False
                 ) -> None:
        self._pages, self._asked, self._lingers, self._owner = pages, asked, lingers, os.getpid()
        self._gate = Gate(token, is_loopback("tcp://%s:1" % host))
        self._listening = _listen(host, port)
        name, port = self._listening.getsockname()[:2]
        if name in ("0.0.0.0", "::"):
            name = socket.gethostname()
        self.url = "http://%s:%d" % ("[%s]" % name if ":" in name else name, port)
        self._connections: Dict[int, _Connection] = {}       # by descriptor, the oldest first
        self._second = (0.0, 0)                              # when it began, and the connections in it
        self._told: List[str] = []                           # what was logged
        self._wake_fd, self._stop_fd = os.pipe()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="stoker-status", daemon=True)
        self._thread.start()

    def trouble(self, fleet: object) -> None:
        """See ``WorkerGroup``."""

    def adjust(self, window: object, fleet: object) -> bool:
        """See ``WorkerGroup``."""
        return False

    def stop(self) -> None:
        """Ends it. A second call does no harm; nor does one in a fork."""
        if self._stopping or os.getpid() != self._owner:
            return
        try:
            while self._lingers() and self._thread.is_alive():
                time.sleep(LINGER_INTERVAL_S)
        finally:                            # also if a Ctrl-C comes during the wait
            self._stopping = True
            with suppress(OSError):             # the thread may have seen it already
                os.write(self._stop_fd, b"x")   # to close it would not do, where a fork of this process has it, too
            os.close(self._stop_fd)
            self._thread.join(STOP_S)
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)      # also if a fork of this process still has it
            self._listening.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._wake_fd, selectors.EVENT_READ)
            while not self._stopping:
                try:
                    self._turn(selector)
                except Exception:
                    self._tell("status: the server failed (a bug in Stoker); it goes on", is_exception=True)
                    time.sleep(FAILURE_S)
            for connection in list(self._connections.values()):
                self._end(selector, connection)
            os.close(self._wake_fd)

    def _turn(self, selector: selectors.BaseSelector) -> None:
        deadlines = [connection.deadline_s for connection in self._connections.values()]
        wait_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in selector.select(wait_s):
            if key.fileobj is self._listening:
                self._accept(selector)
            elif key.data is not None and not key.data.is_ended:     # it may have, for a new one, in this very turn
                try:
                    self._serve(selector, key.data)
                except OSError:          # the client has gone
                    self._end(selector, key.data)
        now = time.monotonic()
        for connection in [one for one in self._connections.values() if one.deadline_s <= now]:
            self._end(selector, connection)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        begun_s, count = self._second
        now = time.monotonic()
        if now >= begun_s + 1:
            begun_s, count = now, 0
        elif count >= MAX_PER_S:
            time.sleep(begun_s + 1 - now)
            begun_s, count = begun_s + 1, 0
        self._second = begun_s, count + 1
        try:
            sock, address = self._listening.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):      # such as: no descriptors are left
                time.sleep(FAILURE_S)
            return
        sock.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._end(selector, next(iter(self._connections.values())))
        connection = _Connection(sock, str(address[0]), now + REQUEST_S)
        self._connections[sock.fileno()] = connection
        selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        if connection.answer:
            self._send(selector, connection)
            return
        received = connection.socket.recv(MAX_REQUEST_BYTES)
        if not received:
            self._end(selector, connection)
            return
        if connection.is_done:           # some of what it sends beyond its request is read, so that it has the answer
            connection.beyond += len(received)
            if connection.beyond > MAX_BEYOND_BYTES:
                self._end(selector, connection)
            return
        connection.received += received
        if b"\r\n\r\n" not in connection.received[:MAX_REQUEST_BYTES]:
            if len(connection.received) <= MAX_REQUEST_BYTES:
                return
            page = _sentence(431, "the request is longer than %d bytes" % MAX_REQUEST_BYTES)
            connection.answer = response(page, True)
        else:
            connection.answer = self._answer(connection)
        connection.received = b""
        self._send(selector, connection)

    def _send(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        with suppress(BlockingIOError):
            connection.answer = connection.answer[connection.socket.send(connection.answer):]
        if connection.answer:
            selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            return
        connection.is_done = True
        connection.socket.shutdown(socket.SHUT_WR)
        selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _answer(self, connection: _Connection) -> bytes:
        with_body = not connection.received.startswith(b"HEAD ")
        try:
            path, program = self._gate.path(connection.received)
            if path not in self._pages:
                raise Refused(404, "there is no such page; there are " + ", ".join(sorted(self._pages)))
            page = self._pages[path]()
            self._asked("%s %s" % (connection.client, program))
            return response(page, with_body)
        except Refused as refusal:
            if refusal.code in (401, 403):
                self._tell("status: refused a request from %s: %s" % (connection.client, refusal))
            return response(_sentence(refusal.code, str(refusal)), with_body)
        except Exception:
            self._tell("status: a page failed (a bug in Stoker)", is_exception=True)
            return response(_sentence(500, "the page failed: the trainer's log says more"), with_body)

    def _tell(self, sentence: str, is_exception: bool = False) -> None:
        """Logs it, once for each kind."""
        kind = sentence.rpartition(": ")[2]
        if kind not in self._told:
            self._told.append(kind)
            log.warning("%s", printable(sentence), exc_info=is_exception)

    def _end(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        if not connection.is_ended:
            connection.is_ended = True
            del self._connections[connection.socket.fileno()]
            selector.unregister(connection.socket)
            connection.socket.close()


def _sentence(code: int, sentence: str) -> Page:
    return Page(code, "text/plain; charset=utf-8", sentence.encode("ascii", "replace") + b"\n")


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises ConfigError."""
    sock = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
        return sock
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        raise ConfigError("status %s:%d: cannot listen there: %s. Choose another port (0: a free one) or an address of "
                          "this host" % (host, port, getattr(error, "strerror", None) or error)) from error
