"""Ctrl-C and SIGTERM. An exception that a signal raises amid the lock of a queue damages the queue; so while threads
read ahead, a signal is only noted, and the main thread looks at it between two samples and in each wait."""

import signal
from typing import Optional

from stoker.trainer.program import EXIT_TERMINATED


class Stop:
    """``stop()`` ends the program if a signal has asked for it: KeyboardInterrupt, SystemExit."""

    def __init__(self) -> None:
        self.signum: Optional[int] = None
        self.is_held = False              # signals are noted, until ``stop()`` is called
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._received)

    def _received(self, signum: int, frame: object) -> None:
        self.signum = signum
        if not self.is_held:
            self()

    def __call__(self) -> None:
        if self.signum == signal.SIGTERM:
            raise SystemExit(EXIT_TERMINATED)
        if self.signum is not None:
            raise KeyboardInterrupt
