"""Health checks: a process touches a file while it does its work, and a command checks when the file was touched.

    python -m stoker.pipeline.monitoring.health FILE

Exit code 0: the file was touched within the last 10 seconds. Exit code 1: it was not, and a sentence says why.
"""

import os
import sys
import time
from contextlib import suppress
from typing import List, Optional

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.output import protect
from stoker.pipeline.storage.safe_files import UnsafeFile, open_own
from stoker.pipeline.text import printable_path

BEAT_INTERVAL_S = 1.0
STALE_S = 10.0


class HealthFile:
    """Touches ``path`` at each ``beat``. Several processes may share a file: it is fresh while one of them works."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError if the file cannot be written. The file is not fresh before the first ``beat``."""
        self._path, self._next_s = path, 0.0
        try:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    os.utime(fd, (0, 0))
                finally:
                    os.close(fd)
            except FileExistsError:          # another worker process has made it, and may be working
                os.close(self._opened())
        except OSError as error:
            raise ConfigError("health_file %r cannot be written: %s%s" % (
                path, error.strerror, "; name another file" if isinstance(error, UnsafeFile) else "")) from error

    def beat(self, now: float) -> None:
        """The process works at ``now``, seconds of a monotonic clock. Cheap: it may be called very often."""
        if now >= self._next_s:
            self._next_s = now + BEAT_INTERVAL_S
            with suppress(OSError):          # a full disk must not end a training run
                fd = self._opened()          # makes the file again if it was removed
                try:
                    os.utime(fd)
                finally:
                    os.close(fd)

    def _opened(self) -> int:
        return open_own(self._path, os.O_WRONLY | os.O_CREAT, links=True)


def trouble(path: str, now: float) -> Optional[str]:
    """What is wrong at ``now`` (seconds since 1970), in a sentence. None: the process works."""
    name = printable_path(path)
    try:
        touched = os.stat(path).st_mtime
    except OSError as error:
        return "%s: %s: the process has not begun" % (name, error.strerror)
    if touched == 0:
        return "%s: not connected yet" % name
    age_s = abs(now - touched)               # the clock may have been set back
    return "%s: no sign of life for %.0f s" % (name, age_s) if age_s > STALE_S else None


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
