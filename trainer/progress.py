"""The progress bar on standard error; in log files, a line now and then."""

import sys
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm

LINE_INTERVAL_S = 5.0     # between two lines of progress, if standard error is no terminal


class _Lines:
    """Writes each state of the progress bar as a line, because log files and ``docker-compose up`` show only those."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _Bar(tqdm):  # type: ignore[misc, unused-ignore]    # tqdm has no types
    monitor_interval = 0      # no thread that compares tqdm's clock with another one
    #: tqdm sets the wall clock, which may be set back: then it would show nothing for as long.
    _time = property(lambda self: time.monotonic, lambda self, clock: None)

    def __del__(self) -> None:
        with suppress(AttributeError):       # Ctrl-C may leave it half made, and Python would show a traceback
            super().__del__()


def open_bar(total: int, unit: str, description: str, done: int = 0) -> Any:
    """A bar for ``total`` pieces called ``unit``, such as images, of which ``done`` are done."""
    return _Bar(total=total, initial=done, miniters=1, unit=" " + unit, desc=description, dynamic_ncols=True,
                **({} if sys.stderr.isatty() else {"file": _Lines(), "mininterval": LINE_INTERVAL_S}))
