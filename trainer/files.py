"""Replaces files as a whole, such that a crash or a full disk leaves the old one; and files that a user names."""

import errno
import io
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Dict, Iterator

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.output import CLOSED
from stoker.pipeline.storage.safe_files import NOT_REGULAR, UnsafeFile, followed, is_of_others, new_file, replace
from stoker.pipeline.text import printable

#: What file systems say that cannot sync: nothing is wrong with the file.
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
PIPE_S = 10.0             # how long to wait for the reader of a named pipe


def replace_file(path: str, write: Callable[[IO[bytes]], Any], synced: bool = True, is_shared: bool = False) -> None:
    """Makes a file at ``path`` of what ``write`` writes to the file that it gets. Raises OSError; the file that was
    there stays then. A link there is replaced, not followed. ``synced`` False: a power loss may damage it.
    ``is_shared``: other processes may replace it at the same time, each by a whole file."""
    fd, new = new_file(path, is_shared=is_shared)
    try:
        with open(fd, "wb") as file:
            write(file)
            file.flush()
            if synced:
                sync(file.fileno())
            replace(new, fd, path)
    except UnsafeFile:          # ``new`` is another process's by now, which goes on with it
        raise
    except BaseException:       # Ctrl-C, too
        with suppress(OSError):
            os.remove(new)
        raise
    if synced:
        sync_path(os.path.dirname(path) or ".")


def remedy(text: str, elsewhere: str) -> str:
    """What to do about an error whose text this is. ``elsewhere``: how to use another place."""
    if any(word in text for word in ("No space left", "quota exceeded", "File too large")):
        return "make room there"
    if NOT_REGULAR in text:
        return "remove it, or " + elsewhere
    if any(word in text for word in ("Read-only file system", "Permission denied", "Operation not permitted")):
        return "make it writable, or " + elsewhere
    return elsewhere


def sync(fd: int) -> None:
    """Waits until an open file is on the disk. Raises OSError."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def sync_path(path: str) -> None:
    """``sync`` of a file or folder by its path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def reason(error: BaseException) -> str:
    """The error's text, without the number and the path of an OSError."""
    return getattr(error, "strerror", None) or str(error)


def check_writable(path: str) -> None:
    """Raises OSError if ``replace_file`` could make no file at ``path``: so it is known before the work."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    fd, name = new_file(path)
    os.close(fd)
    os.remove(name)


class _Terminal:
    """What a terminal would obey is escaped on the way to ``file``."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self.flush = file, file.flush

    def write(self, text: str) -> int:
        return self._file.write(printable(text, lines=True))


@contextmanager
def output_file(path: str) -> Iterator[IO[str]]:
    """A text file that becomes ``path`` at the end, if there is no exception; "-" is standard output. Until then it has
    no name, so nothing is left behind if this process is killed. A terminal gets names in a form that it does not obey.
    Raises ConfigError if it cannot be written."""
    how: Dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    if path == "-":
        if 1 in CLOSED:
            raise ConfigError("standard output is closed: name a file to write to")
        with _closing(open(1, "w", closefd=False, **how)) as file:
            yield _Terminal(file) if os.isatty(1) else file     # type: ignore[misc]  # all that callers use
        return
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with _closing(open(_opened_special(path), "w", **how)) as file:
                yield file
            return
        path = followed(path)
        temporary = io.TextIOWrapper(tempfile.TemporaryFile(dir=os.path.dirname(path)), write_through=True, **how)
    except OSError as error:
        raise ConfigError("cannot write %r: %s" % (path, error.strerror)) from error
    with _closing(temporary) as file:
        yield file
        file.seek(0)
        try:
            replace_file(path, lambda new: shutil.copyfileobj(temporary.buffer, new))
        except OSError as error:
            raise ConfigError("cannot write %r: %s" % (path, reason(error))) from error


def _opened_special(path: str) -> int:
    """A descriptor of a pipe or device that the user names. Raises OSError; a folder is none."""
    folder = os.path.dirname(os.path.realpath(path))       # of /dev/stdout: /dev/pts, or /proc/NUMBER/fd
    if os.stat(folder).st_mode & stat.S_IWOTH and is_of_others(os.stat(path)):
        raise UnsafeFile("it is of another user, in a folder in which every user can make files")
    give_up_s = time.monotonic() + PIPE_S
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.set_blocking(fd, True)
            return fd
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= give_up_s:       # of a pipe
                raise OSError(errno.ENXIO, "it is a pipe or socket that no program reads") from error
            time.sleep(0.05)


@contextmanager
def _closing(file: IO[str]) -> Iterator[IO[str]]:
    """Closes the file. What could not be written is no second error: writing and flushing raised the first."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()
