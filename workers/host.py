"""Runs the worker processes of this host: carries out what ``Supervisor`` decides.

The command line (``workers/cli.py``) calls ``run``, and the trainer starts ``main``, each in a process of its own.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Dict, Optional, Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import IN_WORKER, refuse_nested
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.output import survive_hangup
from stoker.pipeline.text import printable
from stoker.workers import cache_folder
from stoker.workers.descendants import Guardian, end_group, has_ended, kill_group, kill_marked
from stoker.workers.effects import EXIT_CONFIG, EXIT_FAILED
from stoker.workers.launch import LAUNCH
from stoker.workers.supervisor import Effect, Signal, Spawn, Supervisor

DRAIN_S = 10.0         # how long a worker may take to finish the step in work before it is killed
PARENT_CHECK_INTERVAL_S = 1.0
PR_SET_PDEATHSIG = 1
STARTED, ENDED = b"started\n", b"ended\n"       # what a worker writes into its pipe


def die_with_parent() -> None:
    """Asks the kernel, if it is Linux, for SIGKILL when the parent dies, which ends a suspended process too."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def note(text: str) -> None:
    """Prints a line for the user."""
    print("stoker-worker: %s" % printable(text), file=sys.stderr, flush=True)


class _Child:
    """A worker process in its slot, with the pipe into which it writes STARTED and ENDED. Raises OSError."""

    def __init__(self, slot: int, last_exit: str, options: WorkerOptions, mark: str) -> None:
        status_read, status_write = os.pipe()
        os.set_blocking(status_read, False)         # a fork of the dead worker may hold the other end
        self.pipe, self.status, self.mark = open(status_read, "rb", 0), b"", mark
        name = "%s:%d/%d" % (socket.gethostname(), os.getpid(), slot)   # one host may have several supervisors
        command = [sys.executable, LAUNCH, "stoker.workers.process", name, last_exit, str(os.getpid()),
                   str(status_write), options.to_json()]
        # The hashes of texts order sets: a function that draws from one must make the same batch in all processes.
        environment = dict(os.environ, PYTHONHASHSEED="0", **{IN_WORKER: mark})
        environment.pop("PYTHONINSPECT", None)      # for the program: a worker would show its exit code as an error
        # In a session of its own, since the terminal's Ctrl-C is for the supervisor alone. It dies with this process
        # from its first moment on: a process that is suspended while it starts could not ask the kernel for that.
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(status_write,),
                                            env=environment, start_new_session=True, preexec_fn=die_with_parent)
        finally:
            os.close(status_write)


def run(options: WorkerOptions, processes: int, lifeline: bool) -> int:
    """Checks what can be checked once for all processes, and supervises them. Returns the exit code."""
    try:
        refuse_nested()
        if options.cache is not None:
            with suppress(BlockingIOError):      # locked at the moment: the workers try again
                cache_folder.check(options.cache, options.cache_gb)
    except ConfigError as error:
        note("error: %s" % error)
        return EXIT_CONFIG
    except OSError as error:
        note("no cache: %s: %s; samples are decoded every time" % (options.cache, cache_folder.reason(error)))
        options = replace(options, cache=None)
    return _supervise(options, processes, lifeline)


def _supervise(options: WorkerOptions, processes: int, lifeline: bool) -> int:
    """Runs ``processes`` workers until they are done, or until SIGTERM or SIGINT. With ``lifeline``, the end of
    standard input kills the workers at once, and a number that comes in there changes how many they are."""
    survive_hangup("stoker-worker: the terminal is gone (SIGHUP), the workers go on; to end them: kill -TERM %d\n"
                   % os.getpid())
    supervisor = Supervisor(processes, options.once, DRAIN_S)
    parent = os.getppid()                # a fork of it may hold the lifeline's other end
    children: Dict[int, _Child] = {}     # by slot
    mark, started = "%s/" % os.urandom(8).hex(), count()
    guardian: Optional[Guardian] = None
    wake_read, wake_write = socket.socketpair()
    wake_write.setblocking(False)        # as ``set_wakeup_fd`` demands
    signal.set_wakeup_fd(wake_write.fileno())
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(signum, lambda signum, frame: None)   # without a handler, there is no wake-up

    def carry_out(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Spawn):
                children[effect.slot] = _Child(effect.slot, effect.last_exit, options, "%s%d/" % (mark, next(started)))
            elif isinstance(effect, Signal):
                if effect.slot in children:
                    children[effect.slot].process.send_signal(effect.signum)
            else:
                note(effect.text)

    try:
        guardian = Guardian(IN_WORKER, mark)
        while supervisor.exit_code is None:
            carry_out(supervisor.tick(time.monotonic()))
            timeout_s = min(PARENT_CHECK_INTERVAL_S, max(0.0, supervisor.next_deadline() - time.monotonic()))
            readable = select.select([wake_read] + [sys.stdin] * lifeline + [child.pipe for child in children.values()],
                                     [], [], timeout_s)[0]
            now = time.monotonic()
            line = os.read(0, 4096) if sys.stdin in readable else None
            if lifeline and (line == b"" or os.getppid() != parent):
                return EXIT_FAILED               # the parent is gone; ``finally`` kills
            if line:
                numbers = [int(word) for word in line.split() if word.isdigit()]
                carry_out(supervisor.resize(max(1, numbers[-1]), now) if numbers else [])
            if wake_read in readable:
                for number in wake_read.recv(4096):
                    if number in (signal.SIGTERM, signal.SIGINT):
                        carry_out(supervisor.stop(now))
            for i, child in list(children.items()):
                ended = has_ended(child.process)
                child.status += child.pipe.read(64) or b""      # after ``has_ended``: such a one has written all
                if child.status.startswith(STARTED):
                    supervisor.started(i, now)
                if ended:
                    returncode = end_group(child.process, IN_WORKER, child.mark)
                    del children[i]
                    child.pipe.close()
                    carry_out(supervisor.exited(i, returncode, child.status.endswith(ENDED), now))
        return supervisor.exit_code
    except (OSError, ValueError) as error:       # ValueError: select's limit of about a thousand
        note("cannot run %d processes: %s (see ulimit -n and ulimit -u)" % (processes, error))
        return EXIT_FAILED
    finally:
        for child in children.values():
            kill_group(child.process)
        for child in children.values():
            child.process.wait()
        kill_marked(IN_WORKER, mark)
        if guardian is not None:
            guardian.end()
        signal.set_wakeup_fd(-1)
        wake_read.close()
        wake_write.close()


def main(argv: Sequence[str]) -> int:
    """The entry for the trainer's own workers: (number of processes, options as JSON). Returns the exit code."""
    processes, options = argv
    return run(WorkerOptions.from_json(options), int(processes), lifeline=True)
