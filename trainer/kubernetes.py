"""Scales a Deployment of workers on Kubernetes: the trainer runs in a Pod and tells the API server, by the Pod's
service account, how many workers are wanted.

A thread of its own does that, so that training never waits. It sends a new number at once, and the same one again every
REPEAT_S seconds, in case that it was changed by hand. What the API server refuses is logged once, and tried again.

    at the start                             min_workers
    during the run                           the number that is wanted
    when all steps are done                  0
    Ctrl-C, SIGTERM, an error of the run     min_workers: the trainer may come back, as a Pod that was evicted does
    SIGKILL, the node dies                   it stays as it was, until the trainer is started again
"""

import http.client
import json
import logging
import os
import re
import ssl
import threading
import time
from typing import Callable, Mapping, NamedTuple, Optional, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.safe_files import read_whole
from stoker.pipeline.text import printable

log = logging.getLogger("stoker")

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"     # Kubernetes mounts the service account here
MAX_FILE_BYTES = 1 << 16
POLL_S = 0.25
REPEAT_S = 30.0
REQUEST_S = 3.0              # for connecting, and for each part of the answer
MAX_ANSWER_BYTES = 1 << 16
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
STOP_S = 1.0                 # how long the end of a run waits for the last request
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Deployment(NamedTuple):
    """Which one."""
    namespace: str
    name: str

    def __str__(self) -> str:
        return "%s/%s" % self


class Problem(Exception):
    """The API server did not do it: a sentence."""


def parse(text: object) -> Tuple[Optional[str], str]:
    """'[NAMESPACE/]NAME' -> (NAMESPACE or None, NAME). Raises ConfigError."""
    namespace, slash, name = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    if not _NAME.fullmatch(name) or slash and not _NAME.fullmatch(namespace):
        raise ConfigError("scale_deployment must be the name of a Deployment, as NAME or NAMESPACE/NAME, not %r" % (
            text,))
    return (namespace if slash else None), name


def status_of(deployment: Deployment, code: int, message: str) -> str:
    """A sentence about an answer of the API server that is no success."""
    if code == 403:
        return ("the API server does not let this Pod's service account scale it (403): bind a Role in the namespace "
                "%s to it with the rule {apiGroups: [apps], resources: [deployments/scale], resourceNames: [%s], "
                "verbs: [patch]}, as deploy/kubernetes does" % deployment)
    if code == 401:
        return "the API server does not know this Pod's service account any more (401): is the Pod's token expired?"
    if code == 404:
        return "there is no such Deployment (404): create it, or give --scale-deployment NAMESPACE/NAME"
    return "the API server answered %d %s" % (code, message)


class ApiServer:
    """The API server of the cluster in which this process runs. Its address comes from the environment, and the token
    and the CA from the folder ``account``, read anew for each request, because Kubernetes exchanges them. Raises
    ConfigError if this process runs in no Pod."""

    def __init__(self, environment: Optional[Mapping[str, str]] = None, account: Optional[str] = None) -> None:
        environment = os.environ if environment is None else environment
        account = self._account = account or ACCOUNT
        self._host = environment.get("KUBERNETES_SERVICE_HOST", "").strip("[]")
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not self._host or not port.isdigit():
            raise ConfigError("scale_deployment: this process does not run in a Pod (KUBERNETES_SERVICE_HOST is not "
                              "set): start the trainer as a Job, as deploy/kubernetes does, or use --status")
        self._port = int(port)
        try:
            self.namespace = self._read("namespace")
            self._read("token")
        except OSError as error:
            raise ConfigError("scale_deployment: cannot read %s in %s: %s. The Pod needs a service account, and "
                              "automountServiceAccountToken must not be false" % (
                                  os.path.basename(error.filename or "the token"), account, error.strerror)) from error

    def scale(self, deployment: Deployment, replicas: int) -> None:
        """Sets the number of the Deployment's Pods. Raises Problem."""
        try:
            context = ssl.create_default_context(cafile=os.path.join(self._account, "ca.crt"))
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=REQUEST_S, context=context)
            try:
                connection.request(
                    "PATCH", "/apis/apps/v1/namespaces/%s/deployments/%s/scale" % deployment,
                    json.dumps({"spec": {"replicas": replicas}}),
                    {"Content-Type": "application/merge-patch+json", "Accept": "application/json",
                     "Authorization": "Bearer " + self._read("token")})
                answer = connection.getresponse()
                if answer.status // 100 != 2:
                    raise Problem(status_of(deployment, answer.status, _message(answer.read(MAX_ANSWER_BYTES))))
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:      # ssl.SSLError is an OSError
            raise Problem("cannot ask the API server at %s:%d: %s" % (
                self._host, self._port, getattr(error, "strerror", None) or error or type(error).__name__)) from error

    def _read(self, name: str) -> str:
        """The text of a file, without white space: an error about a header with a line break would show the token.
        Raises OSError."""
        path = os.path.join(self._account, name)
        try:
            return "".join(read_whole(path, MAX_FILE_BYTES, links=True).decode("ascii", "replace").split())
        except OSError as error:
            error.filename = path
            raise


def _message(body: bytes) -> str:
    """Of a Status object of Kubernetes; '' if it is none."""
    try:
        message = json.loads(body.decode("utf-8", "replace"))["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return printable(str(message)[:300])


class Tries:
    """Decides when to send which number. Pure: time comes in."""

    def __init__(self) -> None:
        self.done: Optional[int] = None       # the last number that the API server took
        self._again_s = 0.0                   # when the same number is sent again
        self._retry_s = 0.0                   # not before, after a failure
        self._wait_s = FIRST_RETRY_S
        self._told = ""

    def is_due(self, wanted: int, now: float) -> bool:
        """Whether to send ``wanted`` now."""
        return now >= self._retry_s and (wanted != self.done or now >= self._again_s)

    def succeeded(self, wanted: int, now: float) -> bool:
        """Returns whether that is news."""
        is_news = wanted != self.done or self._told != ""
        self.done, self._again_s, self._wait_s, self._told = wanted, now + REPEAT_S, FIRST_RETRY_S, ""
        return is_news

    def failed(self, why: str, now: float) -> bool:
        """Returns whether that is news."""
        is_news, self._told, self.done = why != self._told, why, None     # it may have been done, without an answer
        self._retry_s, self._wait_s = now + self._wait_s, min(LAST_RETRY_S, 2 * self._wait_s)
        return is_news

    def hurry(self) -> None:
        """The run ends: the next number is sent at once."""
        self._retry_s = 0.0


class DeploymentScaler:
    """Keeps the Deployment ``text``, '[NAMESPACE/]NAME', at the number that is wanted, from now on. A worker group, so
    that it ends with a stream. Raises ConfigError.

    ``wanted``: the number and why; it is 0 when the run is over. ``least``: for a run that ends before."""

    def __init__(self, text: str, wanted: Callable[[], Tuple[int, str]], is_over: Callable[[], bool], least: int,
                 server: Optional[ApiServer] = None) -> None:
        namespace, name = parse(text)
        self._server = server or ApiServer()
        self._deployment = Deployment(namespace or self._server.namespace, name)
        self._wanted, self._is_over, self._least, self._owner = wanted, is_over, least, os.getpid()
        self._tries = Tries()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stoker-scaler", daemon=True)
        self._thread.start()

    def trouble(self, fleet: object) -> None:
        """See ``WorkerGroup``."""

    def adjust(self, window: object, fleet: object) -> bool:
        """See ``WorkerGroup``."""
        return False

    def stop(self) -> None:
        """Sends the last number; ends within ``STOP_S``. A second call does no harm; nor does one in a fork."""
        if self._stopping.is_set() or os.getpid() != self._owner:
            return
        self._stopping.set()
        self._thread.join(STOP_S)
        last, _ = self._target()
        if self._tries.done != last:
            log.warning("the Deployment %s could not be scaled to %d within %g s: %s", self._deployment, last, STOP_S,
                        "scale it yourself: kubectl -n %s scale deployment %s --replicas=%d" % (
                            *self._deployment, last))

    def _run(self) -> None:
        try:
            while not self._stopping.wait(POLL_S):
                self._turn()
            self._tries.hurry()
            end_s = time.monotonic() + STOP_S
            while self._tries.done != self._target()[0] and time.monotonic() < end_s:
                self._turn()
                time.sleep(0.05)
        except Exception:
            log.exception("the Deployment %s is not scaled any more (a bug in Stoker); the run goes on",
                          self._deployment)

    def _target(self) -> Tuple[int, str]:
        if self._stopping.is_set() and not self._is_over():
            return self._least, "the trainer ends before the end of the run"
        return self._wanted()

    def _turn(self) -> None:
        wanted, why = self._target()
        if not self._tries.is_due(wanted, time.monotonic()):
            return
        try:
            self._server.scale(self._deployment, wanted)
        except Problem as problem:
            if self._tries.failed(str(problem), time.monotonic()):
                log.warning("the Deployment %s cannot be scaled to %d: %s", self._deployment, wanted,
                            printable(str(problem)))
        else:
            if self._tries.succeeded(wanted, time.monotonic()):
                log.info("scaled the Deployment %s to %d: %s", self._deployment, wanted, why)
