"""Folders that stay open for some seconds, in which files are read by their names: to find each file by its whole path,
and out where it lies once it is open, takes longer than to read a small picture.

A folder that is open is known to lie in the data folder, and no link at the end of a name is followed: so what is read
lies in the data folder, too. Only ordinary files are read here. All else - a link, a pipe, a missing file, any error -
is left to ``folder.read_file``, which knows what to say of it.
"""

import os
import stat
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Dict, Optional, Tuple

if TYPE_CHECKING:
    from stoker.pipeline.storage.folder import SamplePath

MAX_OPEN = 128
OPEN_S = 2.0            # after that, a folder is found by its path again: it may have been replaced by another one
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC      # if it is a pipe by now: no wait


class OpenFolders:
    """Up to MAX_OPEN folders. One thread reads at a time; another one that would read meanwhile is told to do so by the
    whole path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Dict[bytes, Tuple[int, Optional[bytes]]] = {}      # path -> descriptor, and the root it lies in
        self._until_s = 0.0

    def read(self, path: "SamplePath", max_bytes: int) -> Optional[bytes]:
        """The content of the file, if it is an ordinary one of at most ``max_bytes``; None if that is not sure."""
        if not self._lock.acquire(False):       # also in a child that was forked while another thread held it: for good
            return None
        try:
            folder, _, name = path.rpartition(b"/")
            fd = self._folder(folder, path)
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)    # a device may do anything when it is opened
            size = status.st_size
            if not stat.S_ISREG(status.st_mode) or size > max_bytes:
                return None
            file = os.open(name, _FILE, dir_fd=fd)
            try:
                data = os.read(file, size + 1)
            finally:
                os.close(file)
            return data if len(data) == size else None      # its size is changing, or a signal came
        except (OSError, ValueError):
            return None
        finally:
            self._lock.release()

    def status(self, path: "SamplePath") -> Optional[os.stat_result]:
        """The status of the file, if it is an ordinary one; None if that is not sure."""
        if not self._lock.acquire(False):
            return None
        try:
            folder, _, name = path.rpartition(b"/")
            status = os.stat(name, dir_fd=self._folder(folder, path), follow_symlinks=False)
            return status if stat.S_ISREG(status.st_mode) else None
        except (OSError, ValueError):
            return None
        finally:
            self._lock.release()

    def close_all(self) -> None:
        """Closes them, as where there is nothing to read for a while, unless a thread is reading."""
        if self._open and self._lock.acquire(False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _folder(self, folder: bytes, path: "SamplePath") -> int:
        """The descriptor of this folder, that of ``path``. Raises OSError, also if no further one is opened."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._close()
            self._until_s = now_s + OPEN_S
        found = self._open.get(folder)
        if found is not None and found[1] == path.root:
            return found[0]
        if found is not None or folder[:1] != b"/" or len(self._open) >= MAX_OPEN:
            raise OSError
        fd = os.open(folder, _FOLDER)
        try:
            if path.root is not None and not is_within(path.root, fd, folder, b"/"):
                raise OSError
        except BaseException:
            os.close(fd)
            raise
        self._open[folder] = fd, path.root
        return fd

    def _close(self) -> None:
        for fd, _ in self._open.values():
            os.close(fd)
        self._open.clear()


def is_within(root: bytes, fd: int, path: bytes, end: bytes = b"") -> bool:
    """Whether what is open as ``fd``, and was found at ``path``, lies in the folder ``root``. With ``end`` b"/" it is a
    folder, and may be the root itself."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError:                     # no /proc here
        real = os.path.realpath(path)
    real += end
    if real.startswith(_real(root)):
        return True
    _real.cache_clear()                 # the root may be a link itself, which leads to another folder by now
    return real.startswith(_real(root))


@lru_cache(maxsize=16)
def _real(folder: bytes) -> bytes:
    return os.path.join(os.path.realpath(folder), b"")
