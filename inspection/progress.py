"""The progress bar of programs that run also where tqdm is not installed."""

import sys
import time
from typing import Any

LINE_INTERVAL_S = 5.0     # between two lines of progress


def open_bar(total: int, unit: str, description: str) -> Any:
    """A bar of progress on standard error; where tqdm is not installed, a line now and then."""
    try:
        from stoker.trainer import progress
    except ImportError:
        return _Lines(total, unit, description)
    return progress.open_bar(total, unit, description)


class _Lines:
    """What the programs use of tqdm's bar."""

    def __init__(self, total: int, unit: str, description: str) -> None:
        self._total, self._unit, self._description = total, unit, description
        self._done, self._next_s = 0, time.monotonic()

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def update(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if time.monotonic() >= self._next_s or self._done == self._total:
            self._next_s = time.monotonic() + LINE_INTERVAL_S
            print("%s: %s of %s %s" % (self._description, format(self._done, ","), format(self._total, ","),
                                       self._unit), file=sys.stderr, flush=True)
