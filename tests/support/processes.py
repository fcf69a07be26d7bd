"""Real processes for tests: start a program, wait for its output, find processes that it left behind.

Every wait has a limit, so that a broken program fails the test. It is far longer than a slow machine needs.
"""

import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import psutil

from stoker.trainer.feed import open_stream

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 60.0

#: A program as users write it. Its argument is the arguments of open_stream as JSON.
CONSUMER = """
import json, sys
import stoker
with stoker.open_stream(**json.loads(sys.argv[1])) as stream:
    print("address", stream.address, flush=True)
    for batch in stream:
        print("step", batch.step, flush=True)
print("end", flush=True)
"""


def interpreter(variable):
    """The interpreter that an environment variable of ``make test`` names, absolute, or None."""
    # not its real path: an environment's interpreter is a link, and only by that name it is the environment's
    return os.path.abspath(os.environ[variable]) if os.environ.get(variable) else None


def python_with_path(folder, path, python=None, with_stoker=True):
    """A script in ``folder``, for ``worker_python``: runs ``python`` (None: this interpreter) with ``path`` on its
    PYTHONPATH, for a sitecustomize.py or other modules. Workers do not get the trainer's PYTHONPATH."""
    script = os.path.join(str(folder), "python-with-path")
    pythonpath = _with_root(str(path)) if with_stoker else str(path)
    with open(script, "w") as file:
        file.write('#!/bin/sh\nPYTHONPATH="%s" exec "%s" "$@"\n' % (pythonpath, python or sys.executable))
    os.chmod(script, 0o755)
    return script


def wait_for(condition, what, limit_s=LIMIT_S, every_s=0.01):
    """The first true value of ``condition()``."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "waited %g s in vain for %s" % (limit_s, what)
        time.sleep(every_s)


def free_port():
    """A free port of this host, which no outgoing connection is given before it is used: not even one of a worker that
    tries to connect to it, and would so be connected to itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    for _ in range(1000):
        with socket.socket() as probe:
            try:
                probe.bind(("", random.SystemRandom().randrange(10000, first) if first > 11000 else 0))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise AssertionError("no free port")


def consecutive_ports(count):
    """The first of so many free ports."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        with ExitStack() as bound:
            try:
                for port in range(first, first + count):
                    bound.enter_context(socket.socket()).bind(("", port))
                return first
            except OSError:
                continue
    raise AssertionError("no free ports")


# ---------------------------------------------------------------------------------------------------------- programs

class Program:
    """A child process and the lines of both its outputs. On leaving the ``with``, it is killed."""

    def __init__(self, command, python=None, cwd=ROOT, before=None, **environment):
        changed = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=_with_root(os.environ.get("PYTHONPATH")))
        changed.update(environment)
        self._process = subprocess.Popen([python or sys.executable] + command, cwd=cwd, env=changed,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         universal_newlines=True, preexec_fn=before)
        self.pid = self._process.pid
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self):
        """All its output so far."""
        return "\n".join(self.lines)

    def running(self):
        """It has not ended."""
        return self._process.poll() is None

    def send_signal(self, signum):
        """To this process alone."""
        self._process.send_signal(signum)

    def wait_for_line(self, pattern, count=1):
        """The first ``count`` lines in which the regular expression is found."""
        def found():
            ended = not self.running()
            if ended:
                self._reader.join(5)        # what it wrote last may not have been read yet
            lines = [line for line in self.lines if re.search(pattern, line)]
            assert len(lines) >= count or not ended, "ended without %r:\n%s" % (pattern, self.text)
            return len(lines) >= count and lines[:count]
        return wait_for(found, "%d lines with %r" % (count, pattern))

    def wait(self, limit_s=LIMIT_S):
        """Its exit code, when all processes that hold its outputs have ended too."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running after %g s:\n%s" % (limit_s, self.text)) from None
        self._reader.join(LIMIT_S)
        assert not self._reader.is_alive(), "a descendant outlives it and holds its output"
        return code

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        if not self._reader.is_alive():     # else an orphan holds the other end, which ``nothing_left`` reports
            self._process.stdout.close()


def _with_root(path):
    return os.pathsep.join([ROOT] + ([path] if path else []))


def workers_program(address, *options, **kwargs):
    """``python -m workers`` for this address."""
    return Program(["-m", "workers", "--connect", address] + list(options), **kwargs)


def consumer_program(**arguments):
    """A program of its own that iterates ``open_stream(**arguments)``."""
    return Program(["-c", CONSUMER, json.dumps(arguments)])


# ------------------------------------------------------------------------------------------- what runs, what is left

def _status(pid):
    """psutil's name of the state that the process is in; None if it is gone."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return None


def descendants(pid):
    """Children, grandchildren and so on of a process, as pids; without those that ended and wait to be collected."""
    try:
        found = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [child for child in found if alive(child)]


def worker_pids(pid=None):
    """The worker processes below a process (by default this one), without their supervisors."""
    return sorted(child for child in descendants(os.getpid() if pid is None else pid)
                  if "stoker.workers.process" in _arguments(child))


def supervisor_pids(pid=None):
    """The supervisors of local workers below a process (by default this one), without their guardians."""
    return sorted(child for child in descendants(os.getpid() if pid is None else pid)
                  if "stoker.workers.host" in _arguments(child))


def alive(pid):
    """The process runs, or is suspended; a dead one that waits to be collected is not alive."""
    return _status(pid) not in (None, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def suspended(pid):
    """SIGSTOP has reached it."""
    return _status(pid) == psutil.STATUS_STOPPED


def with_environment(entry):
    """Pids of all processes but this one that were started with ``entry`` ('NAME=value') in their environment."""
    name, _, value = entry.partition("=")
    return sorted(pid for pid in psutil.pids() if pid != os.getpid() and _environment(pid).get(name) == value)


def _environment(pid):
    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):     # it has ended, or belongs to another user
        return {}


def listening():
    """Addresses on which this process listens for TCP. (A server that a test takes away for a while comes back with
    another file descriptor.)"""
    return {connection.laddr for connection in psutil.Process().net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN}


def _arguments(pid):
    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []


def command_line(pid):
    """For messages."""
    return " ".join(_arguments(pid))


# ------------------------------------------------------------------------------------------------------------ streams

class Log(logging.Handler):
    """The lines that Stoker's trainer side logs while this is in its ``with``."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def having(self, text):
        """The lines that contain ``text``."""
        return [line for line in self.lines if text in line]

    def wait_for(self, text, count=1):
        """Until ``count`` lines contain ``text``."""
        return wait_for(lambda: len(self.having(text)) >= count and self.having(text),
                        "%d log lines with %r" % (count, text))

    def __enter__(self):
        logger = logging.getLogger("stoker")
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        return self

    def __exit__(self, *exc_info):
        logger = logging.getLogger("stoker")
        logger.removeHandler(self)
        logger.setLevel(self._level)


class Run:
    """A stream with its log, its audit, and ``printed``, a function: what its processes wrote to standard error.
    ``batches`` and ``entries`` are those taken so far, arrays included."""

    def __init__(self, stream, log, audit, printed):
        self.stream, self.log, self._audit, self.printed = stream, log, audit, printed
        self.batches = []

    @property
    def reassigned(self):
        """Steps that were reassigned because their lease ended without a batch. Late steps, of which a second worker
        got a lease as well, do not count: on a slow machine any step may be late."""
        return self.stream._coordinator._session._scheduler.reassigned

    def take(self, count):
        """The next ``count`` batches."""
        for _ in range(count):
            self.batches.append(next(self.stream))

    def take_all(self):
        """Goes on to the end."""
        self.batches += self.stream

    def entries(self):
        """The lines of the audit."""
        with open(self._audit) as lines:
            return [json.loads(line) for line in lines]

    def content(self):
        """What must be the same in every run: (step, epoch, indices, crc32) of each step."""
        return [(entry["step"], entry["epoch"], entry["indices"], entry["crc32"]) for entry in self.entries()]

    def joined(self, count):
        """Waits until so many workers have."""
        self.log.wait_for(" joined (", count)

    def workers(self):
        """The members, as the scheduler knows them: for messages."""
        return list(self.stream._coordinator._session._scheduler.workers.values())

    def rejected(self, what):
        """Waits until a connection was rejected and counted as ``what``. Those that fail just after a pause of this
        process are not counted: it may be to blame."""
        wait_for(lambda: what in self.stream._coordinator._session._limits.summary(), "the count of " + what)

    def ready(self, count):
        """Waits until so many workers can have leases: none of them is silent."""
        wait_for(lambda: self.stream._coordinator.fleet.ready == count, "%d ready workers" % count)


@contextmanager
def opened(data, audit, **options):
    """A Run over ``data`` that writes its audit to the path ``audit``, closed at the end."""
    with Log() as log, _printed(str(audit) + ".stderr") as printed, open_stream(data, audit=str(audit),
                                                                                **options) as stream:
        yield Run(stream, log, str(audit), printed)


@contextmanager
def _printed(path):
    """A function: all that this process and those it started wrote to standard error so far. pytest's own capturing
    loses what is written just while it is read."""
    file, before = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), os.dup(2)
    os.dup2(file, 2)
    os.close(file)

    def text():
        with open(path, errors="replace") as said:
            return said.read()
    try:
        yield text
    finally:
        os.dup2(before, 2)
        os.close(before)
        sys.stderr.write(text())         # pytest shows it where a test failed


def diary(folder, what):
    """(position, pid) of each line that starts so in what the generators of tests/support/user_generators.py wrote."""
    if not (folder / "diary").exists():
        return []
    lines = [line.split() for line in (folder / "diary").read_text().splitlines()]
    return [(int(position), int(pid)) for word, position, pid in lines if word == what]


def kill(pid):
    """SIGKILL, unless it is gone: it may have ended since it was found."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_one(choice):
    """SIGKILL for one of the workers of this process, which the ``Random`` chooses; none if all have just ended."""
    pids = worker_pids()
    if pids:
        kill(choice.choice(pids))
