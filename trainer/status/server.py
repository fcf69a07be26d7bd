"""A small HTTP server for the figures of a run, in one daemon thread, which waits for requests and costs nothing else.

It answers GET and HEAD, one request per connection. What it takes from the network is bounded: the connections, the
bytes of a request, the time for one, and the requests per second. Where all connections are taken, the oldest one ends.
(The standard library's http.server bounds neither the connections nor the time of a whole request, and takes a thread
for each connection, or lets one slow client hold up all others.)

On loopback, the Host header must name this host: else a web page could let its own name lead to 127.0.0.1 and have the
figures from the user's browser (DNS rebinding). With a token, each request must have it, except for static files, which
hold no data: a browser has to get them before it can send a token. Without a token, *private* pages, which hold names
of files and pictures, are only for the user of this process and root, as the kernel says of the connection.

An answer may have megabytes. All clients that get the same one share its bytes, and the different ones that are under
way together have MAX_BODIES_BYTES at most; else the connection that has waited longest ends. A slow client has time as
long as it reads MIN_PROGRESS_BYTES every REQUEST_S, and MAX_ANSWER_S at most.
"""

import errno
import logging
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Callable, Collection, Dict, List, Mapping, Optional

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import is_loopback
from stoker.pipeline.text import printable
from stoker.pipeline.transport.owners import SocketOwners
from stoker.trainer.status.gate import Gate, Refused, head_of
from stoker.trainer.status.status import Page, text_page

log = logging.getLogger("stoker")

MAX_CONNECTIONS = 32
MAX_REQUEST_BYTES = 8192
MAX_BEYOND_BYTES = 1 << 16
REQUEST_S = 5.0          # for a whole request; for its answer, see above
MAX_ANSWER_S = 60.0
MIN_PROGRESS_BYTES = 1 << 14
MAX_BODIES_BYTES = 16 << 20
SEND_BUFFER_BYTES = 1 << 17     # the kernel's, of each connection
MAX_PER_S = 100          # connections; more wait in the kernel's queue
BACKLOG = 64
MAX_TOLD = 100           # lines in the log: a client may be many users
STOP_S = 0.5
LINGER_INTERVAL_S = 0.02
FAILURE_S = 0.1          # after a failure of the system: without this, the thread would be busy for nothing


class _Connection:
    """One client."""

    def __init__(self, sock: socket.socket, client: str, deadline_s: float) -> None:
        self.socket, self.client, self.deadline_s = sock, client, deadline_s
        self.received = b""
        self.answer: List[memoryview] = []        # what is to be sent
        self.body = b""                           # of the answer; other connections may send the same
        self.answered_s = self.progress = 0.0     # when the answer was there; bytes sent since the deadline was set
        self.is_ended = False                     # it is closed
        self.is_done, self.beyond = False, 0      # done: only waits for the client to hang up; bytes that come then


class StatusServer:
    """Serves ``pages``, by path, at ``host`` and ``port`` (0: a free one) from now on. A worker group without workers,
    so that it ends with a stream. Raises ConfigError.

    ``token``: that each request must have, but those for pages in ``static``. ``private``: paths that, without a token,
    only the user of this process and root may see. ``asked`` hears of each client that gets a page. While ``lingers``
    says so, ``stop`` waits. ``woken`` is called in the server's thread after ``wake``."""

    def __init__(self, host: str, port: int, token: Optional[bytes], pages: Mapping[str, Callable[[], Page]],
                 asked: Callable[[str], None] = lambda client: None, lingers: Callable[[], bool] = lambda: False,
                 static: Optional[Mapping[str, Page]] = None, private: Collection[str] = (),
                 woken: Callable[[], None] = lambda: None) -> None:
        self._pages, self._static, self._woken = pages, static or {}, woken
        self._asked, self._lingers, self._owner = asked, lingers, os.getpid()
        self._gate = Gate(token, is_loopback("tcp://%s:1" % host), self._static)
        self._private = private if token is None else ()
        self._owners: Optional[SocketOwners] = None          # once it is needed
        self._listening = _listen(host, port)
        name, port = self._listening.getsockname()[:2]
        if name in ("0.0.0.0", "::"):
            name = socket.gethostname()
        self.url = "http://%s:%d" % ("[%s]" % name if ":" in name else name, port)
        self._connections: Dict[int, _Connection] = {}       # by descriptor, the oldest first
        self._second = (0.0, 0)                              # when it began, and the connections in it
        self._told: List[str] = []                           # what was logged
        self._wake_fd, self._stop_fd = os.pipe()
        os.set_blocking(self._stop_fd, False)
        self._waking = threading.Lock()                      # held while ``_stop_fd`` is used
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="stoker-status", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Makes the server's thread call ``woken``, soon. For the thread that takes batches; takes microseconds."""
        if self._waking.acquire(blocking=False):      # ``stop`` closes the pipe with it; it may have interrupted this
            try:
                if not self._stopping:      # else the number of the pipe may be another file's by now
                    with suppress(OSError):
                        os.write(self._stop_fd, b"w")
            finally:
                self._waking.release()

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
            if self._waking.acquire(timeout=STOP_S):     # else a signal's handler interrupted ``wake``: it stays open
                os.close(self._stop_fd)
                self._waking.release()
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
            if self._owners is not None:
                self._owners.close()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        deadlines = [connection.deadline_s for connection in self._connections.values()]
        wait_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in selector.select(wait_s):
            if key.fileobj is self._listening:
                self._accept(selector)
            elif key.data is None:
                if not self._stopping:
                    os.read(self._wake_fd, 4096)
                    self._woken()
            elif not key.data.is_ended:     # it may have, for a new one, in this very turn
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
        if len(self._connections) >= MAX_CONNECTIONS:      # the oldest ends, if possible one without an answer
            self._end(selector, next((one for one in self._connections.values() if not one.answer),
                                     next(iter(self._connections.values()))))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
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
            page = text_page(431, "the request is longer than %d bytes" % MAX_REQUEST_BYTES)
        else:
            page = self._answer(connection)
        connection.answer = [memoryview(head_of(page))]
        if page.body and not connection.received.startswith(b"HEAD "):
            connection.body = page.body
            connection.answer.append(memoryview(page.body))
            self._make_room(selector)
        connection.received = b""
        connection.answered_s = time.monotonic()
        self._extend(connection)
        self._send(selector, connection)

    def _make_room(self, selector: selectors.BaseSelector) -> None:
        """Ends the oldest connections with an answer, if the answers under way are too large together."""
        while True:
            bodies = {id(one.body): len(one.body) for one in self._connections.values() if one.body}
            if len(bodies) < 2 or sum(bodies.values()) <= MAX_BODIES_BYTES:
                return
            self._end(selector, next(one for one in self._connections.values() if one.body))

    def _extend(self, connection: _Connection) -> None:
        """It has made progress, and gets more time."""
        connection.progress = 0.0
        connection.deadline_s = min(connection.answered_s + MAX_ANSWER_S, time.monotonic() + REQUEST_S)

    def _send(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        with suppress(BlockingIOError):
            while connection.answer:
                sent = connection.socket.sendmsg(connection.answer)
                connection.progress += sent
                while connection.answer and sent >= len(connection.answer[0]):
                    sent -= len(connection.answer.pop(0))
                if sent:
                    connection.answer[0] = connection.answer[0][sent:]
        if connection.progress >= MIN_PROGRESS_BYTES:
            self._extend(connection)
        if connection.answer:
            selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            return
        connection.is_done, connection.body = True, b""
        connection.socket.shutdown(socket.SHUT_WR)
        selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _answer(self, connection: _Connection) -> Page:
        try:
            path, program = self._gate.path(connection.received)
            if path in self._static:
                return self._static[path]
            if path not in self._pages:
                raise Refused(404, "there is no such page; there are " + ", ".join(
                    sorted([*self._static, *self._pages])))
            if path in self._private:
                self._check_user(connection)
            page = self._pages[path]()
            self._asked("%s %s" % (connection.client, program))
            return page
        except Refused as refusal:
            if refusal.code in (401, 403):
                self._tell("status: refused a request from %s: %s" % (connection.client, refusal))
            return text_page(refusal.code, str(refusal))
        except ConnectionError:
            raise                        # the client has gone
        except Exception:
            self._tell("status: a page failed (a bug in Stoker)", is_exception=True)
            return text_page(500, "the page failed: the trainer's log says more")

    def _check_user(self, connection: _Connection) -> None:
        """Raises Refused, if the client is not of the user of this process, nor of root; ConnectionError, if it has
        gone meanwhile."""
        try:
            self._owners = self._owners or SocketOwners()
            user = self._owners.of_peer(connection.socket.fileno())
        except ConfigError:
            user = None
        if user is None and not _is_there(connection.socket):
            raise ConnectionResetError("the client has gone")
        if user not in (os.geteuid(), 0):
            yours = "the system does not tell yours" if user is None else "you are user %d" % user
            raise Refused(403, "this page holds names of files and pictures: without a token, only the trainer's own "
                               "user may see it (%s). Ask as that user, or start the trainer with --status-token-file "
                               "FILE (status_token_file) and give the token with the request" % yours)

    def _tell(self, sentence: str, is_exception: bool = False) -> None:
        """Logs it, once for each kind."""
        kind = sentence.rpartition(": ")[2]
        if kind not in self._told and len(self._told) < MAX_TOLD:
            self._told.append(kind)
            log.warning("%s", printable(sentence), exc_info=is_exception)

    def _end(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        if not connection.is_ended:
            connection.is_ended = True
            del self._connections[connection.socket.fileno()]
            selector.unregister(connection.socket)
            connection.socket.close()


def _is_there(sock: socket.socket) -> bool:
    """Whether the other end may still send."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True


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
