"""A proxy in front of a real store, S3 or HTTP, that answers wrongly when a test says so. It speaks HTTP/1.1.

It hands requests on as they are, the header Host too: a signature is made for the address of the proxy, which stands in
that header, and SeaweedFS and nginx check it against that.
"""

import contextlib
import http.client
import http.server
import socket
import socketserver
import threading
import time

ERROR = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>"
#: Faults that are answers of their own: status, S3's code, message.
ANSWERS = {"429": (429, "TooManyRequests", "Please reduce your request rate."),
           "500": (500, "InternalError", "We encountered an internal error. Please try again."),
           "503": (503, "SlowDown", "Please reduce your request rate."),
           "expired": (403, "ExpiredToken", "The provided token has expired."),
           "refused": (403, "AccessDenied", "Access Denied"),
           "gone": (404, "NoSuchKey", "The specified key does not exist.")}
#: Faults of an answer that comes: it trickles, ends in the middle, or has a byte less than it should.
OTHERS = ("slow", "cut", "wrong length")
SLOW_S = 0.4
_LIMIT_S = 30.0


class FaultyProxy:
    """``with FaultyProxy("127.0.0.1", port) as proxy``: ``proxy.url`` leads there. ``asked``: the requests so far, each
    (method, path); ``faults``: how many of them met a fault."""

    def __init__(self, host, port):
        self.upstream, self.asked, self.faults = (host, port), [], 0
        self._lock, self._fault, self._left, self._of = threading.Lock(), None, 0, ""
        self._server = None
        # Bound, and never listening: while the server is away, connections are refused, and no other program's
        # connection takes the port, which would keep the server from coming back.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        self._start(self.port)
        self.url = "http://127.0.0.1:%d" % self.port

    def set(self, fault, count=1 << 30, of=""):
        """The next ``count`` answers to GET, of paths that contain ``of``, are so. None: no fault."""
        assert fault is None or fault in ANSWERS or fault in OTHERS, fault
        with self._lock:
            self._fault, self._left, self._of = fault, count, of

    def drawn(self, method, path):
        """The fault of this request, if it meets one."""
        with self._lock:
            self.asked.append((method, path))
            if self._fault is None or method != "GET" or self._left <= 0 or self._of not in path:
                return None
            self._left -= 1
            self.faults += 1
            return self._fault

    @contextlib.contextmanager
    def away(self):
        """The host has no such port, and all connections are closed."""
        self._stop()
        try:
            yield
        finally:
            self._start(self.port)

    def _start(self, port):
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._server.close_all()
        self._thread.join(_LIMIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._stop()
        self._held.close()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, proxy):
        self.proxy, self._open, self._lock = proxy, set(), threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request, client_address):
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_all(self):
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """A client that hung up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _LIMIT_S
    disable_nagle_algorithm = True
    _upstream = None

    def do_GET(self):
        fault = self.server.proxy.drawn(self.command, self.path)
        if fault in ANSWERS:
            return self._answer(*ANSWERS[fault])
        status, reason, headers, body = self._asked()
        if fault == "slow":
            time.sleep(SLOW_S / 2)
        sent = body[:len(body) // 2] if fault == "cut" else body[:-1] if fault == "wrong length" else body
        self.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() == "content-length" and fault == "wrong length":
                value = str(len(sent))
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers) and self.command != "HEAD":
            self.send_header("Content-Length", str(len(sent if fault == "wrong length" else body)))
        self.end_headers()
        if fault == "slow":
            for start in range(0, len(sent), max(1, len(sent) // 8)):
                self.wfile.write(sent[start:start + max(1, len(sent) // 8)])
                self.wfile.flush()
                time.sleep(SLOW_S / 16)
        else:
            self.wfile.write(sent)
        self.close_connection = self.close_connection or fault == "cut"

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _asked(self):
        """The upstream's answer: status, reason, headers, body."""
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else None
        for is_last in (False, True):
            if self._upstream is None:
                self._upstream = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=_LIMIT_S)
            try:
                self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    self._upstream.putheader(name, value)
                self._upstream.endheaders(content)
                answer = self._upstream.getresponse()
                return answer.status, answer.reason, answer.getheaders(), answer.read()
            except (OSError, http.client.HTTPException):
                self._upstream.close()
                self._upstream = None
                if is_last:
                    raise
        raise AssertionError

    def _answer(self, status, code, message):
        body = (ERROR % (code, message)).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self):
        super().finish()
        if self._upstream is not None:
            self._upstream.close()

    def log_message(self, *arguments):
        """Nothing is printed."""
