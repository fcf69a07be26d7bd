"""Real processes for tests: start a program, wait for what it says, find what it left behind.

Every wait has a limit, which is there to fail a broken program and is far beyond what a slow machine needs.
"""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from stoker.trainer.feed import open_stream

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 60.0

#: A program that does what users do: its argument is open_stream's arguments as JSON.
CONSUMER = """
import json, sys
from stoker.trainer.feed import open_stream
with open_stream(**json.loads(sys.argv[1])) as stream:
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
    PYTHONPATH, from which it imports sitecustomize.py and other modules. Workers do not get the trainer's PYTHONPATH."""
    script = os.path.join(str(folder), "python-with-path")
    with open(script, "w") as file:
        file.write('#!/bin/sh\nPYTHONPATH="%s" exec "%s" "$@"\n' % (_with_root(str(path)) if with_stoker else path, python or sys.executable))
    os.chmod(script, 0o755)
    return script


def wait_for(condition, what, limit_s=LIMIT_S):
    """The first true value of ``condition()``."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "waited %g s in vain for %s" % (limit_s, what)
        time.sleep(0.01)


def free_port():
    """A port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---------------------------------------------------------------------------------------------------------- programs

class Program:
    """A child process and the lines that it says on both outputs. On leaving the ``with``, it is killed."""

    def __init__(self, command, python=None, cwd=ROOT, **environment):
        changed = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=_with_root(os.environ.get("PYTHONPATH")))
        changed.update(environment)
        self._process = subprocess.Popen([python or sys.executable] + command, cwd=cwd, env=changed,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         universal_newlines=True)
        self.pid = self._process.pid
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self):
        """All that it has said."""
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
            lines = [line for line in self.lines if re.search(pattern, line)]
            assert len(lines) >= count or self.running(), "ended without %r:\n%s" % (pattern, self.text)
            return len(lines) >= count and lines[:count]
        return wait_for(found, "%d lines with %r" % (count, pattern))

    def wait(self, limit_s=LIMIT_S):
        """Its exit code, when all that held its outputs has ended too."""
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running after %g s:\n%s" % (limit_s, self.text)) from None
        self._reader.join(10)
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

def _proc(pid, name):
    try:
        with open("/proc/%s/%s" % (pid, name), "rb") as file:
            return file.read()
    except OSError:    # it ended in the meantime, or belongs to somebody else
        return b""


def descendants(pid):
    """Children, grandchildren and so on of a process, as pids; without those that ended and wait to be collected."""
    children = {}
    for entry in os.listdir("/proc"):
        state = _proc(entry, "stat").rpartition(b")")[2].split() if entry.isdigit() else []
        if state and state[0] != b"Z":
            children.setdefault(int(state[1]), []).append(int(entry))
    found = list(children.get(pid, []))
    for child in found:         # grows while it is read
        found += children.get(child, [])
    return found


def worker_pids(pid=None):
    """The worker processes below a process (by default this one), without their supervisors."""
    return sorted(child for child in descendants(os.getpid() if pid is None else pid)
                  if b"stoker.workers.process" in _proc(child, "cmdline").split(b"\0"))


def alive(pid):
    """The process runs, or is suspended; a dead one that waits to be collected is not alive."""
    state = _proc(pid, "stat").rpartition(b")")[2].split()
    return bool(state) and state[0] != b"Z"


def suspended(pid):
    """SIGSTOP has reached it."""
    return _proc(pid, "stat").rpartition(b")")[2].split()[:1] == [b"T"]


def with_environment(entry):
    """Pids of all processes but this one that were started with ``entry`` ('NAME=value') in their environment."""
    wanted = entry.encode()
    return sorted(int(pid) for pid in os.listdir("/proc")
                  if pid.isdigit() and int(pid) != os.getpid() and wanted in _proc(pid, "environ").split(b"\0"))


def listening():
    """Inodes of the TCP sockets on which this process listens."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        for line in _proc("self", table).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add("socket:[%s]" % fields[9])
    return inodes & _own_sockets()


def _own_sockets():
    targets = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            targets.add(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    return targets


def command_line(pid):
    """For messages."""
    return _proc(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace")


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
        logger.setLevel(logging.INFO)
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
    def redone(self):
        """Steps that were granted again because their lease ended without a batch. Those that were merely late, as on a
        slow machine any may be, and went to a second worker as well, are none."""
        return self.stream._coordinator._scheduler.redone

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
        """What must be the same however a run went: (step, epoch, indices, crc32) of each step."""
        return [(entry["step"], entry["epoch"], entry["indices"], entry["crc32"]) for entry in self.entries()]

    def joined(self, count):
        """Waits until so many workers have."""
        self.log.wait_for(" joined (", count)


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
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
