"""Record files that stay open from one sample to the next: to open and check one takes longer than to read a picture
from it, and on a network share it takes a round trip.

A file is used again only while its path leads to the same file with the same status: one that was replaced or cut is
opened anew, with all checks. Reads name their offset, so several threads may use a file; the last one closes it.
"""

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Callable, Optional, Tuple

if TYPE_CHECKING:
    from stoker.pipeline.storage.folder import SamplePath

MAX_OPEN = 16
_LOCK_S = 1.0           # a child that was forked while another thread held the lock opens its files for itself


class KeptFile:
    """An open file. ``status``: of the moment when it was taken into use."""
    __slots__ = ("fd", "status", "uses", "is_kept")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd, self.status, self.uses, self.is_kept = fd, status, 1, False


class KeptFiles:
    """Up to MAX_OPEN files. ``opened`` opens one by the rules of the data folder: its descriptor and status."""

    def __init__(self, opened: "Callable[[SamplePath], Tuple[int, os.stat_result]]") -> None:
        self._opened, self._lock = opened, threading.Lock()
        self._kept: "OrderedDict[Tuple[bytes, Optional[bytes]], KeptFile]" = OrderedDict()

    def take(self, path: "SamplePath") -> KeptFile:
        """The file at ``path``, for ``give_back``. Raises what ``opened`` raises, and OSError."""
        key = bytes(path), path.root
        if self._kept:
            status = os.stat(path)
            if self._lock.acquire(timeout=_LOCK_S):
                try:
                    found = self._kept.get(key)
                    if found is not None:
                        if _same(found.status, status):
                            found.uses += 1
                            self._kept.move_to_end(key)
                            return found
                        self._drop(key)
                finally:
                    self._lock.release()
        made = KeptFile(*self._opened(path))
        if self._lock.acquire(timeout=_LOCK_S):
            try:
                if key not in self._kept:       # else another thread has just opened it
                    while len(self._kept) >= MAX_OPEN:
                        self._drop(next(iter(self._kept)))
                    self._kept[key], made.is_kept = made, True
            finally:
                self._lock.release()
        return made

    def give_back(self, file: KeptFile) -> None:
        """The caller does not use the file any more."""
        if not self._lock.acquire(timeout=_LOCK_S):
            return                  # in a forked child: it ends soon
        try:
            file.uses -= 1
            if not file.uses and not file.is_kept:
                os.close(file.fd)
        finally:
            self._lock.release()

    def close_all(self) -> None:
        """Closes what is not in use, as where there is nothing to read for a while: a disk with open files cannot be
        taken away."""
        if self._kept and self._lock.acquire(timeout=_LOCK_S):
            try:
                for key in list(self._kept):
                    self._drop(key)
            finally:
                self._lock.release()

    def _drop(self, key: Tuple[bytes, Optional[bytes]]) -> None:
        file = self._kept.pop(key)
        file.is_kept = False
        if not file.uses:
            os.close(file.fd)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino == other.st_ino and one.st_size == other.st_size and one.st_mtime_ns == other.st_mtime_ns
            and one.st_ctime_ns == other.st_ctime_ns and one.st_dev == other.st_dev)
