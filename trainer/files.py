"""Replaces files as a whole, such that a crash or a full disk leaves the old one."""

import errno
import os
from contextlib import suppress
from typing import IO, Any, Callable

from stoker.pipeline.storage.safe_files import NOT_REGULAR, UnsafeFile, new_file, replace

#: What file systems say that cannot sync: nothing is wrong with the file.
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


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
