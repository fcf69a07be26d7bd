"""Runs a command line such that Ctrl-C ends it quickly and without a traceback at any moment, even while TensorFlow is
imported or computes. Therefore it installs the signal handler before anything large is imported.
"""

import importlib
import os
import signal
import sys
import time
from typing import Optional

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_WITHIN_S = 1.8   # after Ctrl-C; closing the stream usually takes a tenth of it


class Program:
    """The program ``name``: the function ``run()`` of ``module``, which returns an exit code and raises StokerError."""

    def __init__(self, name: str, module: str, after_ctrl_c: str) -> None:
        """``after_ctrl_c``: what the user should know then."""
        self._name, self._module = name, module
        self._farewell = "\n%s: stopped by Ctrl-C; %s\n" % (name, after_ctrl_c)

    def main(self) -> None:
        """Runs it and exits with its code. Raises ConfigError in a module that is imported to find a function in it."""
        functions = sys.modules.get("stoker.pipeline.functions")     # not loaded yet: nothing has imported this module
        if functions is not None:
            functions.refuse_nested()
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
        threading.Thread(target=self._watch, args=(read_fd,), name="stoker-ctrl-c", daemon=True).start()
        try:
            from stoker.pipeline.errors import StokerError
            try:
                return int(importlib.import_module(self._module).run())
            except StokerError as error:
                if _is_interrupt(error):
                    raise
                print("%s: error: %s" % (self._name, error), file=sys.stderr, flush=True)
                return error.exit_code
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(self._farewell, end="", file=sys.stderr, flush=True)
            return EXIT_INTERRUPTED

    def _exit(self, signum: int = 0, frame: object = None) -> None:
        """Ends this process now: the handler of SIGINT until workers are started. A KeyboardInterrupt during the
        import of numpy or TensorFlow may become another error, or get lost."""
        os.write(2, self._farewell.encode())
        os._exit(EXIT_INTERRUPTED)

    def _watch(self, read_fd: int) -> None:
        """Ends this process ``EXIT_WITHIN_S`` after a SIGINT, even if the main thread cannot be interrupted. The
        workers end too, because their pipe from this process closes."""
        while signal.SIGINT not in os.read(read_fd, 64):
            pass
        time.sleep(EXIT_WITHIN_S)
        self._exit()


def _is_interrupt(error: Optional[BaseException]) -> bool:
    """Whether ``error`` comes of a KeyboardInterrupt. In a C function of TensorFlow, Python makes it a SystemError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
