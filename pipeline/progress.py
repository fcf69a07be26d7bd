"""The progress bar on standard error. Without tqdm, or in log files, progress is a line now and then."""

import functools
import sys
import time
from contextlib import suppress
from typing import Any

LINE_INTERVAL_S = 5.0     # between two lines of progress, if standard error is no terminal


def open_bar(total: int, unit: str, description: str, done: int = 0) -> Any:
    """A bar for ``total`` pieces called ``unit``, such as images, of which ``done`` are done. Of tqdm's bar, only
    ``update`` and the ``with`` block are there if tqdm is not installed."""
    try:
        bar = bar_class()
    except ImportError:
        return _WithoutTqdm(total, unit, description, done)
    return bar(total=total, initial=done, miniters=1, unit=" " + unit, desc=description, dynamic_ncols=True,
               **({} if sys.stderr.isatty() else {"file": _Lines(), "mininterval": LINE_INTERVAL_S}))


@functools.lru_cache(maxsize=1)
def bar_class() -> Any:
    """tqdm's bar, with a clock that only goes forward. Raises ImportError."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]    # tqdm has no types
        monitor_interval = 0      # no thread that compares tqdm's clock with another one
        #: tqdm sets the wall clock, which may be set back: then it would show nothing for as long.
        _time = property(lambda self: time.monotonic, lambda self, clock: None)

        def __del__(self) -> None:
            with suppress(AttributeError):       # Ctrl-C may leave it half made, and Python would show a traceback
                super().__del__()
    return Bar


class _Lines:
    """Writes each state of the progress bar as a line, because log files and ``docker-compose up`` show only those."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _WithoutTqdm:
    def __init__(self, total: int, unit: str, description: str, done: int) -> None:
        self._total, self._unit, self._description = total, unit, description
        self._done, self._next_s = done, time.monotonic()

    def __enter__(self) -> "_WithoutTqdm":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if time.monotonic() >= self._next_s or self._done == self._total:
            self._next_s = time.monotonic() + LINE_INTERVAL_S
            print("%s: %s of %s %s" % (self._description, format(self._done, ","), format(self._total, ","),
                                       self._unit), file=sys.stderr, flush=True)
