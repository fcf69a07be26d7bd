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
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from stoker.pipeline.storage.place import MARK

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
            fd = self._folder(folder, path.root)
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
            status = os.stat(name, dir_fd=self._folder(folder, path.root), follow_symlinks=False)
            return status if stat.S_ISREG(status.st_mode) else None
        except (OSError, ValueError):
            return None
        finally:
            self._lock.release()

    def statuses(self, paths: Sequence[bytes], root: Optional[bytes]) -> List[Optional[os.stat_result]]:
        """``status`` of several files in ``root`` (None: links may lead anywhere), in less time."""
        found: List[Optional[os.stat_result]] = []
        if not self._lock.acquire(False):
            return [None] * len(paths)
        try:
            self._renew()
            for path in paths:
                folder, _, name = path.rpartition(b"/")
                try:
                    status = os.stat(name, dir_fd=self._opened(folder, root), follow_symlinks=False)
                    found.append(status if stat.S_ISREG(status.st_mode) else None)
                except (OSError, ValueError):
                    found.append(None)
            return found
        finally:
            self._lock.release()

    def close_all(self) -> None:
        """Closes them, as where there is nothing to read for a while, unless a thread is reading."""
        if self._open and self._lock.acquire(False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _folder(self, folder: bytes, root: Optional[bytes]) -> int:
        """The descriptor of this folder, which lies in ``root``, if that is not None. Raises OSError, also if no
        further one is opened."""
        self._renew()
        return self._opened(folder, root)

    def _renew(self) -> None:
        """Closes them if they were open long enough."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._close()
            self._until_s = now_s + OPEN_S

    def _opened(self, folder: bytes, root: Optional[bytes]) -> int:
        found = self._open.get(folder)
        if found is not None and found[1] == root:
            return found[0]
        if found is not None or folder[:1] != b"/" or len(self._open) >= MAX_OPEN:
            raise OSError
        fd = os.open(folder, _FOLDER)
        try:
            if root is not None and not is_within(root, fd, folder, b"/"):
                raise OSError
        except BaseException:
            os.close(fd)
            raise
        self._open[folder] = fd, root
        return fd

    def _close(self) -> None:
        for fd, _ in self._open.values():
            os.close(fd)
        self._open.clear()


def plain_names(paths: Sequence[str]) -> Optional[List[bytes]]:
    """The names of these files below a data folder, as ``folder.resolver`` makes them; None unless all are sure to be
    whole files below it: it looks at all of them at once."""
    whole = "\0" + "\0".join(paths)
    if MARK in whole or ".." in whole or "\0/" in whole or whole.count("\0") != len(paths):
        return None
    try:
        return whole.encode("utf-8", "surrogateescape").split(b"\0")[1:]
    except UnicodeEncodeError:
        return None


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
