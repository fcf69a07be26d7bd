"""An API server of Kubernetes that only scales, over TLS with a CA of its own, as a Pod sees it."""

import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager

import pytest

from stoker.trainer.kubernetes import ApiServer

EXTENSIONS = """
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1, IP:::1
authorityKeyIdentifier = keyid
"""


def make_certificates(folder):
    """ca.crt, and server.pem for 127.0.0.1 and ::1 with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (folder / "extensions").write_text(EXTENSIONS)

    def openssl(*arguments):
        subprocess.run(("openssl",) + arguments, cwd=str(folder), check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)

    for name, signer in (("ca", ()), ("server", ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"))):
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr",
                "-subj", "/CN=" + name)
        openssl("x509", "-req", "-in", name + ".csr", "-days", "2", "-extfile", "extensions", "-extensions", name,
                "-out", name + ".crt", *(signer or ("-signkey", "ca.key")))
    (folder / "server.pem").write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())


class Server(http.server.HTTPServer):
    """``requests``: what was asked, (path, replicas, token, content type). ``answers``: the codes of the next ones,
    then 200. ``release``: while it is clear, no request gets an answer."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.answers, self.release = [], [], threading.Event()
        self.release.set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if hasattr(ssl, "PROTOCOL_TLS_SERVER") else ssl.PROTOCOL_TLS)
        context.load_cert_chain(str(folder / "server.pem"))
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request, client_address):
        """A client that does not trust this server, or has gone."""

    @property
    def numbers(self):
        """The replicas of all requests."""
        return [replicas for _, replicas, _, _ in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.requests.append((self.path, body["spec"]["replicas"], self.headers["Authorization"],
                                     self.headers["Content-Type"]))
        self.server.release.wait(60)
        code = self.server.answers.pop(0) if self.server.answers else 200
        answer = json.dumps({"kind": "Status", "message": "the message"}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format, *args):
        """Nothing."""


@contextmanager
def api_server(folder, account):
    """The running server, with its certificates in ``folder``, and a service account in the folder ``account``."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="api-server", daemon=True)
    thread.start()
    shutil.copy(str(folder / "ca.crt"), str(account))
    (account / "namespace").write_text("ml")
    # as Kubernetes mounts it: a link to a folder that is exchanged
    (account / "..data").mkdir()
    (account / "..data" / "token").write_text("first\n")
    os.symlink("..data/token", str(account / "token"))
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def seen_by_a_pod(server, account):
    """The ApiServer that a trainer uses."""
    host, port = server.server_address
    return ApiServer({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}, str(account))
