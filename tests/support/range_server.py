"""A web server of the standard library over a folder, with Range and ETag, as the tests of the doors need one."""

import contextlib
import http.server
import os
import re
import threading
import time


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = ""
    delay_s = 0.0       # before each answer
    away_s = 0.0        # from the first request on: until then, each answer is 503
    first_s = None      # when that came, by time.monotonic()

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        time.sleep(self.delay_s)
        cls = type(self)
        if cls.first_s is None:
            cls.first_s = time.monotonic()
        if time.monotonic() < cls.first_s + self.away_s:
            self.send_error(503)
            return
        path = os.path.join(self.folder, os.path.relpath(self.translate_path(self.path), os.getcwd()))
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            self.send_error(404)
            return
        size = len(data)
        asked = re.match(r"bytes=(\d+)-(\d*)\Z", self.headers.get("Range", ""))
        first = int(asked.group(1)) if asked else 0
        if first >= size and asked:
            self._answer(416, b"", "bytes */%d" % size, path)
        elif asked:
            last = min(size - 1, int(asked.group(2) or size))
            self._answer(206, data[first:last + 1], "bytes %d-%d/%d" % (first, last, size), path)
        else:
            self._answer(200, data, None, path)

    def _answer(self, code, body, content_range, path):
        self.send_response(code)
        self.send_header("ETag", '"%d"' % os.stat(path).st_mtime_ns)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(http.server.HTTPServer):
    daemon_threads = True

    def process_request(self, request, client_address):        # Python 3.6 has no ThreadingHTTPServer
        threading.Thread(target=self._answer, args=(request, client_address), daemon=True).start()

    def _answer(self, request, client_address):
        with contextlib.suppress(OSError):
            self.finish_request(request, client_address)
        self.shutdown_request(request)


@contextlib.contextmanager
def serving(folder, delay_s=0.0, away_s=0.0):
    """The URL at which the files of ``folder`` are. Each answer comes after ``delay_s``; for ``away_s`` from the first
    request on, however late that comes, it is 503."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {
        "folder": str(folder), "delay_s": delay_s, "away_s": away_s}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield "http://127.0.0.1:%d" % server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
