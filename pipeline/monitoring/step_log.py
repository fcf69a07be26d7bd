"""A log file of one trainer. A resumed run keeps the lines of the steps before its first one, and removes the rest."""

import errno
import os
from contextlib import ExitStack
from typing import Iterable

from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.monitoring.locks import try_lock
from stoker.pipeline.storage.safe_files import UnsafeFile, open_own

MAX_LINE_BYTES = 1 << 26      # of a file that is no such log, and may be one line without an end


class StepLog:
    """The constructor opens and reads the file; ``begin`` is the first to change it. ``name``: used in errors."""
    name, header = "", b""

    def __init__(self, path: str) -> None:
        """Raises ConfigError if the file cannot be written, is in use by another trainer, or has another format."""
        self._path = path
        try:
            with ExitStack() as undo:
                fd = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, links=True)
                self._file = undo.enter_context(open(fd, "r+b", 0))
                try_lock(self._file, path)
                with open(fd, "rb", closefd=False) as lines:
                    self._keep = self._bytes_to_keep(iter(lambda: lines.readline(MAX_LINE_BYTES), b""))
                undo.pop_all()
        except OSError as error:
            raise ConfigError(self._problem(error)) from error

    @property
    def path(self) -> str:
        """The file, as it was given."""
        return self._path

    def _bytes_to_keep(self, lines: Iterable[bytes]) -> int:
        """How many bytes of the file's ``lines`` stay. Raises ConfigError if they have another format."""
        raise NotImplementedError

    def begin(self) -> None:
        """Removes the lines that do not stay; writes the header if there is none. Raises ConfigError, RunFailed."""
        try:
            self._file.truncate(self._keep)
        except OSError as error:
            raise ConfigError(self._problem(error)) from error
        if not self._keep:
            self._append(self.header)

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data):]
        except OSError as error:
            raise RunFailed(self._problem(error)) from error

    def _problem(self, error: OSError) -> str:
        if isinstance(error, BlockingIOError):
            return "%s: cannot write %r: another trainer writes it; each of several ranks needs a file of its own" % (
                self.name, self._path)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return "%s: cannot write %r: %s; %s" % (self.name, self._path, error.strerror, (
            "make room there" if is_full else "name another place" if isinstance(error, UnsafeFile)
            else "make it writable, or name another place"))

    def close(self) -> None:
        """A second call does no harm."""
        self._file.close()
