"""The open file of a cache, and the thread that writes to it; needs the package lmdb.

The main thread reads and the writer's thread writes; neither waits for the other. The one that finds the file unusable
sets ``CacheFile.fault``, and the main thread then ends the writer. The writer's thread closes the file, as the last
thing that it does: a write that hangs in the kernel holds up only this thread.

LMDB's write lock has no try-lock, so writers take the folder's lock first. A process that is killed amid a transaction
leaves the last committed state and both locks free. A process that is suspended amid a transaction holds the folder's
lock, for which others wait a limited time. Each transaction is synced except for its meta page: a power loss costs the
last transactions and damages nothing.
"""

import fcntl
import os
import shutil
import threading
from typing import Callable, Dict, Optional

import lmdb
import numpy as np

from stoker.workers.cache_entry import KEY_BYTES, decode, encode
from stoker.workers.cache_folder import CacheFolder, reason

EXTRA_MAP_BYTES = 1 << 30       # of address space, beyond four times the limit: it is not what limits the file
BATCH_BYTES = 4 << 20           # entries written in one transaction
MAX_PENDING_BYTES = 32 << 20    # entries not yet written; beyond, new ones are dropped
MAX_DELAY_S = 0.5               # after this time, a smaller batch is written too
OPEN_LOCK_S = 0.5               # how long to try for the folder's lock while a training batch waits

Report = Callable[..., None]    # ``Cache._report``
DAMAGE = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.VersionMismatchError)


class CacheFile:
    """An open file of the cache, marked as in use (flock). ``fault``: why it cannot be used any more, or None."""

    def __init__(self, path: str, limit_bytes: int, report: Report) -> None:
        self.path, self._report = path, report
        self.fault: Optional[Exception] = None
        self._stale_key = b""
        # mode: users who cannot see the pictures in the data folder must not see them here
        self.env = lmdb.open(os.fsencode(path), subdir=False, map_size=4 * limit_bytes + EXTRA_MAP_BYTES,
                             metasync=False, mode=0o600, max_readers=1000)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            wanted, size = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"], os.path.getsize(path)
            if wanted > max(size, limit_bytes):
                raise lmdb.CorruptedError("it names pages beyond the limit")
            if wanted > size:
                os.truncate(path, wanted)   # reading beyond the end is a SIGBUS; zeros are found by LMDB or a checksum
            self.env.reader_check()         # readers that were killed would keep pages from being used again
        except BaseException:
            self.close()
            raise

    def copy(self, head: bytes, out: np.ndarray) -> bool:
        """Copies the pixels of the entry with this head into ``out``; False if there is no such entry."""
        try:
            with self.env.begin(buffers=True) as transaction:
                entry = transaction.get(head[:KEY_BYTES])
                self._stale_key = b"" if entry is None else head[:KEY_BYTES]
                return entry is not None and decode(entry, head, out)
        except DAMAGE as error:
            self.fault = error
        except (lmdb.Error, ValueError) as error:
            self._report(reason(error))
        return False

    def replaces(self, head: bytes) -> bool:
        """Whether the last ``copy`` was for this key, and found another entry there."""
        return head[:KEY_BYTES] == self._stale_key

    def is_current(self) -> bool:
        """False if another process has removed the file."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self.env.close()
        os.close(self._fd)


class CacheWriter(threading.Thread):
    """Writes entries to ``file`` in batches, and closes it at the end. Entries that have no room are dropped."""

    def __init__(self, folder: CacheFolder, file: CacheFile, limit_bytes: int, used_bytes: int, report: Report) -> None:
        super().__init__(name="stoker-cache", daemon=True)
        self.file, self._folder, self._limit_bytes, self._report = file, folder, limit_bytes, report
        self.summary = "%s samples of this kind, %s of %.4g GB used" % (
            format(file.env.stat()["entries"], ","), _gb(used_bytes), limit_bytes / 2**30)
        self._changed = threading.Condition()
        self._pending: Dict[bytes, bytes] = {}
        self._pending_bytes = 0             # includes the entries that are being written
        self._ending = self._full = False
        self._max_index = 0
        self.start()

    def add(self, head: bytes, pixels: bytes, index: int) -> None:
        self._max_index = max(self._max_index, index)
        if self._full and not self.file.replaces(head):
            return
        entry = encode(head, pixels)
        with self._changed:
            if self._pending_bytes < MAX_PENDING_BYTES and head[:KEY_BYTES] not in self._pending:
                self._pending[head[:KEY_BYTES]] = entry
                self._pending_bytes += len(entry)
                self._changed.notify()

    def end(self, timeout_s: float) -> bool:
        """Lets the thread write what is pending and close the file, which the caller must not use any more. True if
        that was done in time; else the thread goes on alone."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._pending or self._ending)
                    self._changed.wait_for(lambda: self._pending_bytes >= BATCH_BYTES or self._ending, MAX_DELAY_S)
                    entries, self._pending = self._pending, {}
                if not entries:
                    break
                while not self._store(entries) and not self._ending:
                    pass
                with self._changed:
                    self._pending_bytes -= sum(map(len, entries.values()))
            if isinstance(self.file.fault, DAMAGE):
                with self._folder.locked():
                    if self.file.is_current():
                        _remove(self._folder, self.file.path, self.file.fault, self._report)
        except OSError as error:
            self._report(reason(error))
        finally:
            self.file.close()

    def _store(self, entries: Dict[bytes, bytes]) -> bool:
        """Writes ``entries``, or drops them if that is impossible. False: try again, the folder's lock is not free."""
        try:
            if self.file.fault is None:
                with self._folder.locked():
                    if self.file.is_current():
                        self.file.env.reader_check()
                        self._write(entries)
                    else:
                        self.file.fault = FileNotFoundError("another process has removed the file")
        except BlockingIOError:
            return False
        except DAMAGE as error:
            self.file.fault = error
        except (OSError, lmdb.Error) as error:
            free = shutil.disk_usage(self._folder.path).free if os.path.isdir(self._folder.path) else 0
            self._report("cannot write: %s, with %s GB free on the disk" % (reason(error), _gb(free)), reason(error))
        return True

    def _write(self, entries: Dict[bytes, bytes]) -> None:
        """One transaction. The last sixteenth of the limit is for replacing entries of changed files: the new entry
        takes its room at once, the old one gives its room back later."""
        env, reserve = self.file.env, self._limit_bytes // 16
        page = env.stat()["psize"]
        # whole pages, and one that changes in the tree
        needed = {key: page * (2 + (len(entry) + page) // page) for key, entry in entries.items()}
        room = self._limit_bytes - self._folder.used_bytes() - 16 * page
        while room < sum(needed.values()) + reserve and self._folder.remove_least_recently_used(self.file.path):
            room = self._limit_bytes - self._folder.used_bytes() - 16 * page
        dropped = False
        with env.begin(write=True) as transaction:
            for key, entry in entries.items():
                if needed[key] <= room - (reserve if transaction.get(key) is None else 0):
                    transaction.put(key, entry)
                    room -= needed[key]
                else:
                    dropped = True
        if dropped and not self._full:
            self._full = True
            stored, size = env.stat()["entries"], os.path.getsize(self.file.path)
            samples = max(stored, self._max_index + 1)
            self._report("full: %s samples take %s GB; all %s or more of the dataset would take about %s GB; no more "
                         "are added (--cache-gb)" % (format(stored, ","), _gb(size), format(samples, ","),
                                                 _gb(size / max(1, stored) * samples)))


def open_writer(folder: CacheFolder, name: str, limit_bytes: int, report: Report, distrusted: bool) -> CacheWriter:
    """Opens the file ``name`` and starts its writer. If the file is damaged or ``distrusted``, a new one replaces it.
    Raises OSError."""
    path = os.path.join(folder.path, name)
    try:
        with folder.locked(OPEN_LOCK_S):
            try:
                if distrusted and os.path.exists(path):
                    raise lmdb.CorruptedError("a worker that used it has crashed")
                file = CacheFile(path, limit_bytes, report)
            except DAMAGE as error:
                _remove(folder, path, error, report)
                file = CacheFile(path, limit_bytes, report)
            os.utime(path, None)            # for ``remove_least_recently_used``
            used_bytes = folder.used_bytes()
    except lmdb.Error as error:
        raise OSError(str(error)) from error
    return CacheWriter(folder, file, limit_bytes, used_bytes, report)


def _remove(folder: CacheFolder, path: str, error: Exception, report: Report) -> None:
    folder.remove(path)
    report("removed %s, which may be damaged: %s" % (os.path.basename(path), reason(error)), "damaged", True)


def _gb(count: float) -> str:
    return "%.2f" % (count / 2**30)
