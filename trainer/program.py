"""Runs a command line such that it ends in good order, or at once, and without a traceback, at any moment, even while
TensorFlow is imported or computes. Therefore it installs the signal handler before anything large is imported.

Ctrl-C ends the process at once until a run is under way. From then on (``Program.on_stop``), the first Ctrl-C or
SIGTERM asks the run to end, and a second Ctrl-C, or the end of ``STOP_WITHIN_S``, ends the process.
"""

import enum
import importlib
import os
import select
import signal
import sys
import time
from typing import Callable, Optional

from stoker.pipeline import core_dumps, requirements
from stoker.pipeline.output import protect, say_now, survive_hangup

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_WITHIN_S = 1.8   # after Ctrl-C in a run that has nothing to save; closing the stream usually takes a tenth of it
STOP_WITHIN_S = 10.0  # after Ctrl-C or SIGTERM in a run that ends in good order: the step at hand, and a checkpoint


Action = enum.Enum("Action", "NONE STOP END")     # do nothing more; ask the run to end; end the process


class Stopping:
    """Decides what signals do. Pure: times of a monotonic clock come in."""

    def __init__(self) -> None:
        self.by: Optional[int] = None               # the first signal that asked the run to end
        self.deadline_s: Optional[float] = None     # then the process ends, whatever it does

    def received(self, signum: int, now: float, saves: bool) -> Action:
        """``saves``: there is a run that ends in good order."""
        if signum not in (signal.SIGINT, signal.SIGTERM) or signum == signal.SIGTERM and not saves:
            return Action.NONE
        if self.deadline_s is None:
            self.deadline_s = now + (STOP_WITHIN_S if saves else EXIT_WITHIN_S)
        if not saves:
            return Action.NONE                      # the main thread ends, by its handler of the signal
        if self.by is not None:
            return Action.END if signum == signal.SIGINT else Action.NONE
        self.by = signum
        return Action.STOP


class Program:
    """The program ``name``: the function ``run(program)`` of ``module``, which returns an exit code and raises
    StokerError."""

    def __init__(self, name: str, module: str, after_ctrl_c: str) -> None:
        """``after_ctrl_c``: what the user should know then."""
        self.name, self._module = name, module
        self._stopping = Stopping()
        self._farewell = "\n%s: stopped by Ctrl-C; %s\n" % (name, after_ctrl_c)
        self._stop: Optional[Callable[[], None]] = None        # of a run that ends in good order
        self._lost: Callable[[], str] = str

    @property
    def stopped_by(self) -> Optional[int]:
        """The first signal that asked the run to end."""
        return self._stopping.by

    @property
    def exit_code(self) -> int:
        """Of a run that was asked to end."""
        return EXIT_TERMINATED if self.stopped_by == signal.SIGTERM else EXIT_INTERRUPTED

    def main(self) -> None:
        """Runs it and exits with its code. Raises ConfigError in a module that is imported to find a function in it."""
        functions = sys.modules.get("stoker.pipeline.functions")     # not loaded yet: nothing has imported this module
        if functions is not None:
            functions.refuse_nested()
        why_not = requirements.complaint(sys.executable, (), requirements.lacking_features())
        if why_not:
            sys.exit("%s: error: %s" % (self.name, why_not))
        core_dumps.forbid()
        protect()
        survive_hangup("\n%s: the terminal is gone (SIGHUP), the run goes on; to end it: kill -TERM %d\n" % (
            self.name, os.getpid()))
        code = self.end()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)   # does not wait for TensorFlow's threads

    def end(self) -> int:
        """Runs it; returns its exit code, after a sentence on an error or Ctrl-C. Raises an error of Stoker itself."""
        signal.signal(signal.SIGINT, self._exit)
        import threading
        read_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd)
        threading.Thread(target=self._watch, args=(read_fd,), name="stoker-signals", daemon=True).start()
        try:
            from stoker.pipeline.errors import StokerError
            try:
                return int(importlib.import_module(self._module).run(self))
            except StokerError as error:
                if _is_interrupt(error):
                    raise
                from stoker.pipeline.environment import as_options
                print("%s: error: %s" % (self.name, as_options(str(error))), file=sys.stderr, flush=True)
                return error.exit_code
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(self._farewell, end="", file=sys.stderr, flush=True)
            return EXIT_INTERRUPTED

    def on_stop(self, stop: Callable[[], None], lost: Callable[[], str]) -> None:
        """From here on, the first Ctrl-C or SIGTERM calls ``stop``, which asks the run to end in good order; it is
        called by another thread, at any moment. ``lost``: what is lost if the process ends at once, in a sentence."""
        self._stop, self._lost = stop, lost
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda number, frame: None)      # ``_watch`` hears of it, even amid ``session.run``

    def raise_on_ctrl_c(self) -> None:
        """From here on, Ctrl-C is a KeyboardInterrupt: it closes the stream."""
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _exit(self, signum: int = 0, frame: object = None) -> None:
        """Ends this process now: the handler of SIGINT until workers are started. A KeyboardInterrupt during the
        import of numpy or TensorFlow may become another error, or get lost."""
        say_now(self._farewell)
        os._exit(EXIT_INTERRUPTED)

    def _watch(self, read_fd: int) -> None:
        """Carries out what ``Stopping`` decides, even if the main thread cannot be interrupted. If this process ends,
        the workers end too, because their pipe from it closes."""
        while True:
            deadline_s = self._stopping.deadline_s
            wait_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not select.select([read_fd], [], [], wait_s)[0]:
                self._end_now("its step and checkpoint took more than %g s" % STOP_WITHIN_S)
            for signum in os.read(read_fd, 64):
                action = self._stopping.received(signum, time.monotonic(), self._stop is not None)
                if action is Action.END:
                    self._end_now("at once, by a second one")
                elif action is Action.STOP and self._stop is not None:
                    self._stop()
                    if signum == signal.SIGINT:
                        say_now("\n%s: Ctrl-C: ends after the step at hand, with a checkpoint; a second Ctrl-C ends it "
                                "at once\n" % self.name)

    def _end_now(self, why: str) -> None:
        if self._stop is None:
            self._exit()
        say_now("\n%s: stopped by %s, %s; %s\n" % (
            self.name, "SIGTERM" if self.stopped_by == signal.SIGTERM else "Ctrl-C", why, self._lost()))
        os._exit(self.exit_code)


def _is_interrupt(error: Optional[BaseException]) -> bool:
    """Whether ``error`` comes of a KeyboardInterrupt. In a C function of TensorFlow, Python makes it a SystemError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
