"""A file of lines that one trainer writes while it trains, and goes on with after a resume.

What the lines before the resumed step are is the subclass's business (``_kept``); lines beyond them count as never
written. Every line is with the operating system before its step is trained on.
"""

import fcntl

from stoker.pipeline.errors import ConfigError, RunFailed


class StepLog:
    """Opened and read when it is made, changed from ``begin`` on. ``name``: what errors call it."""

    name = ""

    def __init__(self, path: str) -> None:
        """Raises ConfigError if the file cannot be written, or another trainer writes it, or ``_kept`` does."""
        self._path = path
        try:
            self._file = open(path, "ab", 0)
        except OSError as error:
            raise ConfigError(self._trouble(error)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._keep = self._kept()
        except OSError as error:
            self._file.close()
            raise ConfigError(self._trouble(error)) from error
        except ConfigError:
            self._file.close()
            raise

    def _kept(self) -> int:
        """How many bytes of the file at ``_path`` count."""
        raise NotImplementedError

    def begin(self) -> None:
        """Removes what does not count. Raises ConfigError."""
        try:
            self._file.truncate(self._keep)
        except OSError as error:
            raise ConfigError(self._trouble(error)) from error

    def _append(self, left: bytes) -> None:
        try:
            while left:
                left = left[self._file.write(left):]
        except OSError as error:
            raise RunFailed(self._trouble(error)) from error

    def _trouble(self, error: OSError) -> str:
        return "%s: cannot write %r: %s" % (self.name, self._path, "another trainer writes it"
                                            if isinstance(error, BlockingIOError) else error.strerror)

    def close(self) -> None:
        """Once more does no harm."""
        self._file.close()
