"""Health checks: a process touches a file while it does its work, and a command checks when the file was touched.

    python -m stoker.pipeline.monitoring.health FILE

Exit code 0: the file was touched within the last 10 seconds. Exit code 1: it was not, and a sentence says why.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import List, Optional

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.output import protect

BEAT_INTERVAL_S = 1.0
STALE_S = 10.0


class HealthFile:
    """Touches ``path`` at each ``beat``. Several processes may share a file: it is fresh while one of them works."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError if the file cannot be written. The file is not fresh before the first ``beat``."""
        self._path, self._next_s = Path(path), 0.0
        try:
            try:
                self._path.touch(exist_ok=False)
                os.utime(path, (0, 0))
            except FileExistsError:          # another worker process has made it, and may be working
                self._path.open("a").close()
        except OSError as error:
            raise ConfigError("health_file %r cannot be written: %s" % (path, error.strerror)) from error

    def beat(self, now: float) -> None:
        """The process works at ``now``, seconds of a monotonic clock. Cheap: it may be called very often."""
        if now >= self._next_s:
            self._next_s = now + BEAT_INTERVAL_S
            with suppress(OSError):          # a full disk must not end a training run
                self._path.touch()           # makes the file again if it was removed


def trouble(path: str, now: float) -> Optional[str]:
    """What is wrong at ``now`` (seconds since 1970), in a sentence. None: the process works."""
    try:
        touched = os.stat(path).st_mtime
    except OSError as error:
        return "%s: %s: the process has not begun" % (path, error.strerror)
    if touched == 0:
        return "%s: not connected yet" % path
    age_s = abs(now - touched)               # the clock may have been set back
    return "%s: no sign of life for %.0f s" % (path, age_s) if age_s > STALE_S else None


def main(arguments: List[str]) -> int:
    """Runs the command line; returns the exit code."""
    protect()
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m stoker.pipeline.monitoring.health FILE (of a --health-file)", file=sys.stderr)
        return 2
    found = trouble(arguments[0], time.time())
    print(found or "well")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
