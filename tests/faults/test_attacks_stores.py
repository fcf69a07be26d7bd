"""URLs and places that want more than a worker may read, against a real web server; the sandbox of a worker with data
at a URL."""

import io
import json
import os
import posixpath
import socketserver
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.errors import ConfigError, ProtocolError, UnfitWorker
from stoker.pipeline.storage.folder import MAX_FILE_BYTES, BadFile, read_file, resolve
from stoker.pipeline.storage.store import StoreError
from stoker.workers import landlock
from stoker.workers.readers import Readers
from tests.support.caching import job
from tests.support.processes import ROOT

SECRET = b"secret"
LIMIT_S = 60


def picture(number=0):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 40 * number, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Careless(BaseHTTPRequestHandler):
    """Answers with what the path means after all that servers do to paths: it decodes it several times, takes a
    backslash for '/', leaves out '..' with the part before. It has a secret beside the data, and redirects to it."""
    protocol_version = "HTTP/1.1"
    served, other_port = (), 0

    def do_GET(self):
        path = self.path.partition("?")[0].partition("#")[0]
        for _ in range(8):
            path = unquote(path)
        path = posixpath.normpath("/" + path.replace("\\", "/").replace("\0", "").lstrip("/"))
        self.served.append(path)
        if path == "/data/out":
            return self.answer(302, b"", Location="/secret")
        if path == "/data/away":
            return self.answer(302, b"", Location="http://127.0.0.1:%d/secret" % self.other_port)
        files = {"/data/a.png": picture(), "/data/b.png": picture(1), "/secret": SECRET, "/data2/x": SECRET}
        content = files.get(path)
        if content is None:
            return self.answer(404, b"")
        begin, _, end = self.headers.get("Range", "")[len("bytes="):].partition("-")
        if not begin:
            return self.answer(200, content)
        if int(begin) >= len(content):
            return self.answer(416, b"", **{"Content-Range": "bytes */%d" % len(content)})
        part = content[int(begin):int(end) + 1]
        return self.answer(206, part, **{"Content-Range": "bytes %s-%d/%d" % (
            begin, int(begin) + len(part) - 1, len(content))})

    do_HEAD = do_GET

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in dict({"Content-Length": str(len(content)), "ETag": '"1"'}, **headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True


@contextmanager
def serving():
    """(the port of a server, the paths that it answered)."""
    served = []
    with Server(("127.0.0.1", 0), type("Handler", (Careless,), {"served": served})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server, served
        finally:
            server.shutdown()
            thread.join(LIMIT_S)


@pytest.fixture
def server():
    """(the root of the data, the paths that the server answered, those that another server answered)."""
    with serving() as (other, served_there), serving() as (one, served):
        one.RequestHandlerClass.other_port = other.server_port
        yield "http://127.0.0.1:%d/data" % one.server_port, served, served_there


TRICKS = ["../secret", "/secret", "//secret", "a/../../secret", "%2e%2e/secret", "%2E%2E%2Fsecret", "..%2fsecret",
          "%252e%252e%252fsecret", "%25252e%25252e/secret", "..\\secret", "%5c..%5csecret", "..%5c..%5csecret",
          "%2fsecret", "\\secret", "a/..%00/../secret", "..;/../secret\0", "..\r\nX: y\r\n/secret", "a%0d%0aX: y",
          "../data2/x", "..", ".", "", "?/../../secret", "#/../../secret", "a?x=/../../secret",
          "http://127.0.0.1/secret", "@127.0.0.1/secret", ":80/secret", "out", "away", "../secret//0+6",
          "%2e%2e/secret//0+6", "a//../../secret//0+6", "..//0+6", "out//0+6"]


def test_no_path_leads_out_of_a_url(server, attacks):
    root, served, served_there = server
    assert Readers(job(root)).bytes("a.png") == read_file(resolve(root, "a.png"))[0] == picture()
    assert Readers(job(root)).bytes("a.png//1+3") == b"PNG"
    with pytest.raises(BadFile, match="no such file"):
        Readers(job(root)).bytes("gone")
    for path in TRICKS:
        for read in (lambda path=path: read_file(resolve(root, path))[0],
                     lambda path=path: Readers(job(root)).bytes(path),
                     lambda path=path: Readers(job(root)).bytes(root + "/" + path)):
            with pytest.raises((ProtocolError, ConfigError, BadFile, UnfitWorker, StoreError)):
                content = read()
                assert not content, path
    assert [path for path in served if not path.startswith("/data/")] == [] and served_there == []
    attacks("a lying trainer, or a table", "names files of a web server outside of its root: `..`, absolute, encoded "
            "once and more often, with backslashes, ends of lines, another host; or the server itself redirects there",
            "refused before a request is sent; a redirect is followed below the root only")


def test_places_take_no_more_than_a_file_may(tmp_path, server, attacks):
    """Hostile places: what they would take is counted before memory is touched, and they lead nowhere else."""
    root, served, _ = server
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "data" / "a.png").write_bytes(picture())
    (tmp_path / "data" / "large.tar").write_bytes(b"")
    os.truncate(str(tmp_path / "data" / "large.tar"), 1 << 38)
    os.symlink(str(tmp_path / "secret"), str(tmp_path / "data" / "link.tar"))
    # the peak of tests before does not count; where it cannot be reset, it is only what may be exceeded
    with suppress(OSError), open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    before_kb = peak_kb()
    for place in ("large.tar//0+%d" % (1 << 38), "large.tar//0+%d" % (MAX_FILE_BYTES + 1),
                  "large.tar//0+%d:|u1:%d" % (1 << 37, 1 << 37), "a.png//%d+1" % (1 << 39),
                  "a.png//0+%d" % (1 << 30), "a.png//5+%d:<f8:%d" % (1 << 30, 1 << 27), "link.tar//0+6", "a.png//-1+6",
                  "a.png//0+9999999999999", "a.png//99999999999999999999+1", "a.png//0+8:|O8:1", "a.png//0+8:|V8:1",
                  "a.png//0+8:<f8:2", "a.png//0+0:|u1:0x%d" % (1 << 33), "a.png//1+4:<f4:1x1x1x1x1x1x1x1x1"):
        for data in (str(tmp_path / "data"), root):
            for read in (Readers(job(data)).bytes, Readers(job(data)).numpy, Readers(job(data)).image):
                if place.endswith(":|u1:0x%d" % (1 << 33)) and read != Readers(job(data)).image:
                    continue
                with pytest.raises((BadFile, ConfigError)):
                    read(place)
    assert peak_kb() - before_kb < 512 << 10
    attacks("a lying trainer, or a damaged index", "places of 256 GB, behind the end of the file, with a negative or a "
            "huge offset, numbers of Python objects, shapes that are larger than their bytes, through a link out of "
            "the data", "bad files, or no places at all; what one would take is counted before it is read")


def peak_kb():
    """The most memory that this process had, in KB."""
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))


#: What a process does that decodes, with the rules of a worker that was started with these options.
TAKEN_OVER = """
import json, os, socket, sys
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.protocol.messages import Lease, Sample
from stoker.workers.generators.registry import open_producer
from stoker.workers.sandbox import Sandbox
from tests.support.caching import job
root, options, attempts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
options = WorkerOptions("tcp://127.0.0.1:1", **options)
sandbox = Sandbox(options)
sandbox.enter()
print(sandbox.summary)

def connect(port):
    socket.create_connection(("127.0.0.1", port), 5).close()

for name, (what, value) in attempts.items():
    try:
        connect(value) if what == "connect" else open(value).close()
        print("ATTACK", json.dumps([name, "done"]))
    except OSError as error:
        print("ATTACK", json.dumps([name, "refused: %s" % type(error).__name__]))
try:
    a_job = job(root, probes=("a.png",))
    sandbox.enter_job(root)
    lease = Lease(1, 0, 0, True, (Sample(0, "a.png", 0), Sample(1, "b.png", 1), Sample(2, "b.png//0+9", 1)))
    output = open_producer(a_job, options).produce(lease)
    print("BATCH", output.arrays[0][:, 0, 0, 0].tolist(), [each.index for each in output.skipped])
except Exception as error:
    print("ERROR", type(error).__name__, error)
"""


def version():
    try:
        return landlock.version()
    except landlock.Unavailable:
        return 0


@pytest.mark.skipif(version() < 4, reason="this kernel has no Landlock, or an old one without rules for TCP")
def test_a_worker_with_data_at_a_url_reaches_the_store_and_nothing_else(server, tmp_path, worker_python, attacks):
    root, _, _ = server
    home = tmp_path / "home"
    data = tmp_path / "data"
    data.mkdir()
    for name in (".ssh/id", ".aws/credentials"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("secret")
    with serving() as (another, _):
        attempts = {"ssh": ("read", str(home / ".ssh" / "id")), "aws": ("read", str(home / ".aws" / "credentials")),
                    "passwd": ("read", "/etc/shadow"), "another server": ("connect", another.server_port)}

        def lines(python, **options):
            environment = dict({key: value for key, value in os.environ.items() if not key.startswith("AWS_")
                                and not key.lower().endswith("_proxy")}, HOME=str(home), PYTHONPATH=ROOT)
            return subprocess.run(
                [python, "-c", textwrap.dedent(TAKEN_OVER), root, json.dumps(options), json.dumps(attempts)],
                env=environment, cwd=str(tmp_path), stdout=subprocess.PIPE, timeout=LIMIT_S, check=True,
                universal_newlines=True).stdout

        for python in filter(None, (sys.executable, worker_python)):
            text = lines(python, data=root)
            assert "connects by TCP to port 1 alone, and to ports 80, 443, " in text
            assert "reads %s, Python, the credentials of its store's client; " % root in text
            found = dict(json.loads(line[len("ATTACK "):]) for line in text.splitlines()
                         if line.startswith("ATTACK "))
            assert found.pop("aws") == "done" and set(found.values()) == {"refused: PermissionError"}
            assert "BATCH [0, 40] [2]" in text
            text = lines(python, data=str(data))
            assert "ERROR UnfitWorker the run reads files in %s, and the sandbox of this worker on " % root in text
            assert "start it with --data %s" % root in text and '["aws", "refused: ' in text
            text = lines(python)                # a trainer of this host may name any folder, but no URL
            assert "ERROR UnfitWorker" in text and "start it with --data %s" % root in text
            text = lines(python, sandbox="off")
            assert "ERROR ConfigError the run reads files in %s, which this worker" % root in text
    attacks("a picture that takes over its worker", "whose data lie at a URL: reads an ssh key, connects to other "
            "ports", "each is refused (Landlock): beside its trainer it connects to the ports of the store, and reads "
            "the credentials of its client")
