"""Servers on this host for the benchmark of sources: nginx, with and without a delay of each read, and SeaweedFS.

They are the same programs as those of tests/stores: ``sh .setup/debian-programs.sh nginx`` unpacks Debian's nginx, and
the environment ``stores`` has SeaweedFS.
"""

import glob
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from typing import Any, Dict, List, Optional

START_S = 60.0
WEED = os.path.join(".venv", "stores", "bin", "weed")
NGINX_CONF = """
load_module {modules}/ngx_http_echo_module.so;
daemon off; worker_processes 1; error_log stderr error; pid {run}/pid; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600;
  open_file_cache max=10000; open_file_cache_valid 600;
  client_body_temp_path {run}/1; proxy_temp_path {run}/2; fastcgi_temp_path {run}/3; uwsgi_temp_path {run}/4;
  scgi_temp_path {run}/5;
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {root};
    location /far/ {{ echo_sleep {delay_s}; echo_exec @files; }}
    location @files {{ rewrite ^/far(/.*)$ $1 break; }}
  }}
}}
"""


class Unavailable(Exception):
    """The server cannot run here. The text says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process that is ended with everything it started, and its folder."""
    port = 0

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="stoker-bench-")
        self._process: Optional["subprocess.Popen[bytes]"] = None

    def start(self, command: List[str], **options: Any) -> None:
        self._said = open(os.path.join(self.folder, "said"), "wb")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said,
                                         cwd=self.folder, **options)
        deadline = time.monotonic() + START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(self._said.name, errors="replace") as said:
                    text = said.read()[-300:].strip()
                self.__exit__()         # nothing else would end it
                raise Unavailable("%s did not start: %s" % (command[0], text))
            time.sleep(0.05)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._said.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Nginx(Server):
    """Serves ``folders`` (name -> path) below ``url``; below ``far_url`` with ``delay_s`` before each answer."""

    def __init__(self, folders: Dict[str, str], delay_s: float) -> None:
        found = subprocess.run(["sh", os.path.join(".setup", "debian-programs.sh"), "nginx"], stdout=subprocess.PIPE,
                               universal_newlines=True)
        programs = found.stdout.strip()
        modules = os.path.join(programs, "usr", "lib", "nginx", "modules")
        if found.returncode or not os.path.exists(os.path.join(modules, "ngx_http_echo_module.so")):
            raise Unavailable("nginx with its module echo cannot be unpacked here: sh .setup/debian-programs.sh nginx")
        super().__init__()
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.far_url = self.url + "/far"
        root, configuration = os.path.join(self.folder, "root"), os.path.join(self.folder, "nginx.conf")
        os.mkdir(root)
        for name, path in folders.items():
            os.symlink(os.path.abspath(path), os.path.join(root, name))
        with open(configuration, "w") as file:
            file.write(NGINX_CONF.format(modules=modules, run=self.folder, port=self.port, root=root, delay_s=delay_s,
                                         user="user root;" if os.geteuid() == 0 else ""))
        self.start([os.path.join(programs, "usr", "sbin", "nginx"), "-p", self.folder, "-c", configuration])


class Seaweed(Server):
    """An S3 server that checks signatures. Its bucket ``bench`` at ``url`` has the files of ``folders``, by name and by
    their paths below it. ``environment``: what its clients need."""

    def __init__(self, folders: Dict[str, str]) -> None:
        weed = os.path.abspath(WEED)
        if not os.path.exists(weed):
            raise Unavailable("there is no %s: sh .setup/environment.sh stores" % weed)
        super().__init__()
        self.port, self.url = free_port(), "s3://bench"
        key, secret = "benchmark", uuid.uuid4().hex
        self.environment = {
            "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:%d" % self.port,
            "AWS_EC2_METADATA_DISABLED": "true"}
        identities = os.path.join(self.folder, "identities.json")
        with open(identities, "w") as file:
            json.dump({"identities": [{"name": "benchmark", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                                       "credentials": [{"accessKey": key, "secretKey": secret}]}]}, file)
        filer, *others = self._ports = [free_port() for _ in range(7)]
        command = [weed, "server", "-dir=" + self.folder, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
                   "-filer.port=%d" % filer, "-s3.port=%d" % self.port, "-s3.port.iceberg=0",
                   "-s3.config=" + identities, "-master.telemetry=false"]
        command += ["-%s=%d" % pair for pair in zip((
            "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc"),
            others)]
        try:
            self.start(command, env=dict(os.environ, TMPDIR=self.folder))
            for name, path in folders.items():
                for parent, _, files in os.walk(path):
                    for file_name in files:
                        whole = os.path.join(parent, file_name)
                        _put(filer, "%s/%s" % (name, os.path.relpath(whole, path)), whole)
        except BaseException:           # nothing would end it any more
            self.__exit__()
            raise

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)
        for port in [self.port] + self._ports:      # it puts sockets there, whatever TMPDIR is, and leaves them
            for name in glob.glob("/tmp/seaweedfs-*-%d.sock" % port):
                os.remove(name)


def _put(filer: int, key: str, path: str) -> None:
    """Stores a file in the bucket, by SeaweedFS's own HTTP. It may take a moment until its parts know each other."""
    deadline, answer = time.monotonic() + START_S, ""
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", filer, timeout=START_S)
        try:
            with open(path, "rb") as content:
                connection.request("PUT", "/buckets/bench/" + key, body=content,
                                   headers={"Content-Type": "application/octet-stream"})
                response = connection.getresponse()
                answer = response.read().decode("utf-8", "replace")
                if response.status == 201:
                    return
        except OSError as error:
            answer = str(error)
        finally:
            connection.close()
        time.sleep(0.1)
    raise Unavailable("SeaweedFS does not take %s: %s" % (key, answer[:200]))
