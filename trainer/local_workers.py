"""Worker processes on the trainer's own host, under a supervisor as those of ``python -m workers``.

The supervisor reads from a pipe whose other end this process holds: however this process ends, the pipe ends, and the
supervisor kills the workers. They run this process's copy of Stoker, perhaps by another interpreter.
"""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence

import stoker
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import PROGRAM_PATH, files_of, refuse_nested
from stoker.pipeline.monitoring.throughput import Fleet, Window
from stoker.pipeline.options import WorkerOptions, is_loopback
from stoker.pipeline.transport.keys import WorkerKeys, to_environment
from stoker.trainer import interpreter
from stoker.trainer.autoscaler import Autoscaler
from stoker.trainer.worker_output import WorkerOutput

log = logging.getLogger("stoker")

STOP_S = 1.2    # how long the workers may take to leave after SIGTERM; then they are killed
KILL_S = 0.5    # how long the supervisor may take to collect the killed workers
#: Variables that tell one interpreter where it lies or how it was built, and keep others from starting.
OF_ONE_PYTHON = {"PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "PYTHON_GIL"}
#: For the program alone. It makes an interpreter show its exit code as an error, and wait for commands.
OF_THE_PROGRAM = {"PYTHONPATH", "PYTHONINSPECT"}
MAX_LOST = 5    # workers in a row that die before they can do the job: so will the next
READ_S = 0.5    # how long to wait for the last lines of workers that have ended


class LocalWorkers:
    """``processes`` workers under one supervisor. Started at once; ``stop`` ends them. Raises ConfigError.

    ``python``: their interpreter, by default this process's. ``autoscaler`` decides how many they are from then on;
    without one, the number stays. ``keys`` travel in the environment: every user of this host can read command lines.
    """

    def __init__(self, options: WorkerOptions, processes: int, python: Optional[str] = None,
                 keys: Optional[WorkerKeys] = None, autoscaler: Optional[Autoscaler] = None) -> None:
        refuse_nested()
        self._autoscaler, self._python, self._stopped = autoscaler, python or sys.executable, False
        self._owner = os.getpid()
        launch = os.path.join(os.path.dirname(os.path.abspath(stoker.__file__)), "workers", "launch.py")
        command = [self._python, launch, "stoker.workers.host", str(processes), options.to_json()]
        environment = _environment(self._python, options.allow_generators)
        interpreter.check(python, launch, environment)
        if keys is not None:
            environment.update(to_environment(keys))
        self._output = WorkerOutput()
        try:
            # a session of its own: the terminal's Ctrl-C is for the trainer, which stops the workers in good order
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._output.fd, env=environment,
                                             start_new_session=True)
        except OSError as error:
            raise ConfigError("cannot start workers: %s (see ulimit -u)" % error.strerror) from error
        finally:
            self._output.close_fd()
        assert self._process.stdin is not None
        self._pipe = self._process.stdin
        #: Its name in ``Fleet``.
        self.supervisor = "%s:%d" % (socket.gethostname(), self._process.pid)
        self._is_alone = all(map(is_loopback, options.addresses))       # no worker can come from another host
        self._processes, self._functions = processes, " and ".join(options.allow_generators)

    def trouble(self, fleet: Fleet) -> Optional[str]:
        """Why no batch can come from these workers any more, in a sentence; None while they run. If none of them can do
        the job, and neither can a worker of ``fleet``, others may still come, but only from hosts that can."""
        returncode = self._process.poll()
        if self._stopped:
            return None
        if returncode is None:
            return self._cannot_do_it(fleet)
        how = "exit code %d" % returncode if returncode >= 0 else signal.Signals(-returncode).name
        return "the local workers (run by %s) ended with %s%s" % (self._python, how, self._said(READ_S))

    def _cannot_do_it(self, fleet: Fleet) -> Optional[str]:
        """Why no batch will come, though they run; None if one may."""
        reasons, lost = fleet.set_aside.get(self.supervisor, ()), fleet.lost.get(self.supervisor, 0)
        if fleet.ready or fleet.workers > fleet.by_supervisor.get(self.supervisor, 0) or not self._is_alone:
            return None
        if len(reasons) >= (self._processes if self._autoscaler is None else self._autoscaler.wanted):
            return "none of the local workers can do this job: " + "; ".join(dict.fromkeys(reasons))
        if lost >= MAX_LOST:
            return "%d local workers in a row died before they could do this job%s%s" % (
                lost, self._functions and " (does importing %s end the process?)" % self._functions, self._said(0.0))
        return None

    def _said(self, wait_s: float) -> str:
        lines = self._output.lines(wait_s)
        return ("; the last lines that they wrote:" if lines else " and wrote nothing") + "".join(
            "\n    " + line for line in lines)

    def adjust(self, window: Window, fleet: Fleet) -> bool:
        """Changes the number of workers if the autoscaler says so, from recent figures. Returns whether it did."""
        if self._autoscaler is None:
            return False
        own = fleet.by_supervisor.get(self.supervisor, 0)
        decision = self._autoscaler.decide(window, own, fleet.workers - own)
        if decision is None:
            return False
        log.info("%s", decision.sentence)
        if decision.workers is None:
            return False
        with suppress(BrokenPipeError):        # ``trouble`` reports it
            os.write(self._pipe.fileno(), b"%d\n" % decision.workers)
        return True

    def stop(self) -> None:
        """Ends them within ``STOP_S + KILL_S``: in good order if they are quick enough, else by SIGKILL. A second call
        does no harm; nor does one in a fork of the process that started them."""
        if os.getpid() != self._owner:
            return
        self._stopped = True
        try:
            self._process.send_signal(signal.SIGTERM)   # some may not have joined yet when the trainer sent Stop
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        finally:                        # also if a second Ctrl-C comes during the wait
            self._pipe.close()          # the supervisor kills its workers and leaves
            try:
                self._process.wait(KILL_S)
            except subprocess.TimeoutExpired:
                self._process.kill()    # and the kernel kills its workers
                self._process.wait()
            self._output.join(READ_S)   # what they wrote last is on the terminal before what comes next


def _environment(python: str, functions: Sequence[str] = ()) -> Dict[str, str]:
    """This process's environment without Stoker's options, and without the paths of its Python, because the workers may
    run another. STOKER_PROGRAM_PATH tells ``workers/launch.py`` where the program's own modules are, and
    ``load_function`` which files those of ``functions`` are."""
    dropped = OF_THE_PROGRAM if python == sys.executable else OF_THE_PROGRAM | OF_ONE_PYTHON
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("STOKER_") and name not in dropped}
    return dict(environment, **{PROGRAM_PATH: json.dumps(program_of(functions))})


def program_of(functions: Sequence[str]) -> Dict[str, Any]:
    """Where the program's own modules are: its version of Python, its PYTHONPATH, its further folders, and the files of
    the modules of ``functions``."""
    pythonpath = [os.path.abspath(os.path.join(stoker.started_in, folder))
                  for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
                  if folder and (stoker.started_in or os.path.isabs(folder))]
    files = {top: file for top, file in files_of(functions).items() if not _is_installed(os.path.dirname(file))}
    return {"version": sys.version_info[:2], "pythonpath": pythonpath,
            "folders": _program_folders(pythonpath, bool(functions)), "files": files}


def _program_folders(pythonpath: List[str], has_functions: bool) -> List[str]:
    """Of ``sys.path`` what is neither the interpreter's nor in PYTHONPATH: the program's folder, and what it added. ''
    is the folder in which an interpreter was started that runs no file: it counts if there are functions to find."""
    folders = []
    for i, entry in enumerate(sys.path):
        if not (entry or has_functions) or not (stoker.started_in or os.path.isabs(entry)):
            continue
        folder = os.path.abspath(os.path.join(stoker.started_in, entry))
        if not _is_installed(folder) and (folder not in pythonpath or i == 0):
            folders.append(folder)
    return folders


def _is_installed(folder: str) -> bool:
    """Whether it is the interpreter's own, or holds installed packages."""
    libraries = [os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")]
    return bool(re.match(r"python\d+\.zip$", os.path.basename(folder))
                or {"site-packages", "dist-packages"} & set(folder.split(os.sep))
                or any(os.path.join(folder, "").startswith(library) for library in libraries))
