"""``python -m trainer`` as its user runs it: a process, its output, and what it leaves behind.

Its processes are known by their TMPDIR, which is the test's own: see ``nothing_left`` of the integration tests.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

from tests.support import memory
from tests.support.processes import LIMIT_S, ROOT, wait_for, with_environment


class Trainer:
    """One run of the command line in ``folder``. On leaving the ``with``, what still runs of it is killed.

    It leads a process group of its own, as under a terminal. ``stdout`` and ``stderr``, apart, are what it has
    said so far.
    """
    module = "trainer"

    def __init__(self, folder, *options, output=None, errors=None, before=None, **environment):
        """``output``, ``errors``: the descriptors that are its standard output and standard error; ``stdout`` and
        ``stderr`` are then empty. ``before``: called in the process before the program begins."""
        os.makedirs(str(folder), exist_ok=True)
        self._output = [tempfile.TemporaryFile() for _ in range(2)]
        changed = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        changed.update(environment, PYTHONPATH=ROOT)
        self._mark = "TMPDIR=%s" % changed["TMPDIR"]
        self._process = subprocess.Popen([sys.executable, "-m", self.module] + [str(option) for option in options],
                                         cwd=str(folder), env=changed, stdin=subprocess.DEVNULL,
                                         stdout=self._output[0] if output is None else output,
                                         stderr=self._output[1] if errors is None else errors,
                                         start_new_session=True, preexec_fn=before)
        self.pid = self._process.pid

    @property
    def stdout(self):
        return self._said(0)

    @property
    def stderr(self):
        return self._said(1)

    def _said(self, number):
        fd = self._output[number].fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")

    def send_signal(self, signum):
        """To this process alone."""
        self._process.send_signal(signum)

    def send_group(self, signum):
        """To its process group, as a terminal does."""
        os.killpg(self.pid, signum)

    def wait_until(self, condition, what):
        """Until ``condition()`` is true, which must be before the process ends."""
        def reached():
            running = self._process.poll() is None
            value = condition()
            assert value or running, "ended before %s\n%s" % (what, self._story())
            return value
        self._wait(reached, what)

    def wait_gone(self):
        """The exit code, when it and all processes below it have ended. A whole training may lie before that."""
        self._wait(lambda: self._process.poll() is not None and not with_environment(self._mark),
                   "the end of its processes", 4 * LIMIT_S)
        return self._process.returncode

    def _wait(self, condition, what, limit_s=LIMIT_S):
        try:
            wait_for(condition, what, limit_s)
        except AssertionError as error:
            raise AssertionError("%s\n%s" % (error, self._story())) from None

    def _story(self):
        return "exit code %s\n--- stdout\n%s\n--- stderr\n%s" % (self._process.poll(), self.stdout, self.stderr)

    def has_mapped(self, library):
        """Whether a file with ``library`` in its name is mapped into its memory."""
        # not by psutil, which also reads how much of each file is in memory: too slow to meet the moment of an import
        return library in _content("/proc/%d/maps" % self.pid).decode("utf-8", "replace")

    def threads(self):
        """How many it has; a process that is gone has none."""
        return memory.threads(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for pid in with_environment(self._mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self._process.wait(LIMIT_S)
        for output in self._output:
            output.close()


class Predictor(Trainer):
    """One run of ``stoker-predict``."""
    module = "trainer.predict"


class Finished:
    """What a run came to: ``code``, ``stdout``, ``stderr``."""

    def __init__(self, trainer):
        self.code = trainer.wait_gone()
        self.stdout, self.stderr = trainer.stdout, trainer.stderr

    def __repr__(self):      # pytest shows it where an assertion fails
        return "exit code %d\n--- stdout\n%s\n--- stderr\n%s" % (self.code, self.stdout, self.stderr)


def arguments(options):
    """Options by name, with their values, as the command line has them."""
    given = []
    for name, value in sorted(options.items()):
        given += ["--" + name.replace("_", "-"), value]
    return given


def finished(folder, *options, **environment):
    """Runs the command line to its end."""
    with Trainer(folder, *options, **environment) as trainer:
        return Finished(trainer)


def predicted(folder, *options, **environment):
    """Runs ``stoker-predict`` to its end."""
    with Predictor(folder, *options, **environment) as trainer:
        return Finished(trainer)


def _content(path):
    try:
        with open(str(path), "rb") as file:
            return file.read()
    except OSError:
        return b""


def audit(path):
    """The complete lines of an audit; [] while there is none."""
    return [json.loads(line.decode()) for line in _content(path).split(b"\n")[:-1]]


def consumed(lines):
    """What of an audit is the same however the run went."""
    return [(line["step"], line["epoch"], line["indices"], line["crc32"]) for line in lines]
