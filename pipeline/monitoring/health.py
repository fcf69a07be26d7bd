"""Health checks: a file that a process touches while it does what it is for, and the command that looks at it.

    python -m stoker.pipeline.monitoring.health FILE      exit code 0: touched within the last 10 seconds; 1, and a sentence: not
"""

import os
import sys
import time
from typing import List, Optional

from stoker.pipeline.errors import ConfigError

BEAT_S = 1.0
STALE_S = 10.0


class HealthFile:
    """``path`` is touched by ``beat``. One file may have several writers: it is fresh while any of them is well."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError if the file cannot be written. It is not fresh before the first ``beat``."""
        self._path = path
        self._next_s = 0.0
        try:
            try:
                with open(path, "x"):
                    pass
                os.utime(path, (0, 0))
            except FileExistsError:          # of another worker process, which may be well
                with open(path, "a"):
                    pass
        except OSError as error:
            raise ConfigError("health_file %r cannot be written: %s" % (path, error.strerror)) from error

    def beat(self, now: float) -> None:
        """All is well at ``now``, seconds of a monotonic clock. As often as you like: it costs little."""
        if now < self._next_s:
            return
        self._next_s = now + BEAT_S
        try:
            with open(self._path, "a"):      # once more, if somebody removed it
                pass
            os.utime(self._path)
        except OSError:                      # a full disk is no reason to end a training
            pass


def trouble(path: str, now: float) -> Optional[str]:
    """What is wrong, in a sentence, at ``now``, seconds since 1970; None: all is well."""
    try:
        touched = os.stat(path).st_mtime
    except OSError as error:
        return "%s: %s: the process has not begun" % (path, error.strerror)
    if touched == 0:
        return "%s: not connected yet" % path
    if abs(now - touched) > STALE_S:         # the clock may have been set back
        return "%s: no sign of life for %.0f s" % (path, abs(now - touched))
    return None


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m stoker.pipeline.monitoring.health FILE    (the --health-file of a trainer or of workers)",
              file=sys.stderr)
        return 2
    found = trouble(arguments[0], time.time())
    print(found or "well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
