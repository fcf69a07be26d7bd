"""The open file of a cache, and the thread that writes to it; needs the package lmdb.

The main thread reads and this thread writes; neither waits for the other. The one that finds the file unusable sets
``CacheFile.fault``, and the main thread then calls ``end``. Only this thread closes the file, so that a write that
hangs in the kernel holds up nothing else.

LMDB's write lock has no try-lock, so writers take the folder's lock first, for which they wait a limited time. A
process that is killed amid a transaction leaves the last committed state and both locks free. Each transaction is
synced except for its meta page: a power loss costs the last transactions and damages nothing.
"""

import fcntl
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from typing import Any, Callable, Deque, Iterator, List, Optional, Sequence, Tuple

import lmdb
import numpy as np

from stoker.workers.cache_entry import KEY_BYTES, content_of, decode, decode_all, encode
from stoker.workers.cache_folder import CacheFolder, reason

WRITE_INTERVAL_S = 0.25

Report = Callable[..., None]    # ``Cache.report``
#: Errors after which the file is removed; ValueError means a wrong checksum.
DAMAGE = (ValueError, lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError,
          lmdb.VersionMismatchError)


class CacheFile(threading.Thread):
    """A file of the cache, which is marked as in use (flock) while it is open. Raises OSError or lmdb.Error.

    ``fault``: why the file cannot be used any more, or None.
    """

    def __init__(self, folder: CacheFolder, path: str, limit_bytes: int, report: Report) -> None:
        super().__init__(name="stoker-cache", daemon=True)
        self.fault: Optional[Exception] = None
        self._folder, self._path, self._limit_bytes, self._report = folder, path, limit_bytes, report
        self._pending: Deque[Tuple[bytes, bytes]] = deque()     # keys and entries
        self._added_bytes = self._taken_bytes = 0       # of the entries that came, and of those that went, in all
        self._reading: Any = None       # a transaction of the main thread, for several entries
        self._read_only = False         # the cache is full or cannot be written
        self._ending = threading.Event()
        self._fd = folder.opened_for_lmdb(os.path.basename(path))
        try:        # map_size is address space, not what limits the file
            self.env = lmdb.open(os.fsencode(path), subdir=False, map_size=4 * limit_bytes + (1 << 30), metasync=False,
                                 mode=0o600, max_readers=1000)
        except BaseException:
            os.close(self._fd)
            raise
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            wanted, size = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"], os.path.getsize(path)
            if wanted > max(size, limit_bytes):
                raise lmdb.CorruptedError("it names pages beyond the limit")
            if wanted > size:
                # reading beyond the end is a SIGBUS; zeros are found by LMDB or a checksum
                os.ftruncate(self._fd, wanted)
            self.summary = "{:,} samples of this kind, {:.2f} of {:.4g} GB used".format(
                self.env.stat()["entries"], folder.used_bytes() / 2**30, limit_bytes / 2**30)
        except BaseException:
            self._close()
            raise
        self.start()

    def copy(self, head: bytes, out: np.ndarray) -> bool:
        """Copies the pixels of the entry with this head into ``out``; False if there is no such entry."""
        try:
            if self._reading is not None:
                entry = self._reading.get(head[:KEY_BYTES])
                return entry is not None and decode(entry, head, out)
            with self.env.begin(buffers=True) as transaction:
                entry = transaction.get(head[:KEY_BYTES])
                return entry is not None and decode(entry, head, out)
        except DAMAGE as error:
            self.fault = error
        except lmdb.Error as error:
            self._report(reason(error))
        return False

    def copy_all(self, keys: Sequence[bytes], heads: Callable[[Sequence[int]], Sequence[Optional[bytes]]],
                 out: np.ndarray) -> List[int]:
        """Copies pixels into ``out``, uint8 [n, ...]: for each place the entry with this key, if it has the right head.
        Returns the places in which they are now. ``heads(places)``: the heads for some of the places. It is called when
        the entries were found, within ``one_look``."""
        if self._reading is None:
            return []
        try:
            get = self._reading.get
            entries = [get(key) for key in keys]
            places = [place for place, entry in enumerate(entries) if entry is not None]
            return decode_all([(place, entries[place], head) for place, head in zip(places, heads(places))
                               if head is not None], out)
        except DAMAGE as error:
            self.fault = error
        except lmdb.Error as error:
            self._report(reason(error))
        return []

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Within it, ``copy`` sees the entries that there are now: to begin a transaction takes as long as the rest of
        a small entry."""
        with suppress(lmdb.Error):              # which ``copy`` reports
            self._reading = self.env.begin(buffers=True)
        try:
            yield
        finally:
            transaction, self._reading = self._reading, None
            if transaction is not None:
                transaction.abort()

    def has(self, head: bytes) -> bool:
        """Whether there is an entry with this head; or of any version, if ``head`` is only a key."""
        try:
            with self.env.begin(buffers=True) as transaction:
                entry = transaction.get(head[:KEY_BYTES])
                return entry is not None and bool(entry[:len(head)] == head)
        except DAMAGE as error:
            self.fault = error
        except lmdb.Error as error:
            self._report(reason(error))
        return False

    def content(self, head: bytes) -> Optional[bytes]:
        """The bytes in the entry with this head; None if there is none."""
        try:
            with self.env.begin(buffers=True) as transaction:
                entry = transaction.get(head[:KEY_BYTES])
                return None if entry is None else content_of(entry, head)
        except DAMAGE as error:
            self.fault = error
        except lmdb.Error as error:
            self._report(reason(error))
        return None

    def add(self, head: bytes, pixels: bytes) -> None:
        """Lets the thread write an entry."""
        if not self._read_only:
            entry = encode(head, pixels)
            self._added_bytes += len(entry)
            self._pending.append((head[:KEY_BYTES], entry))

    @property
    def pending_bytes(self) -> int:
        """Of the entries that are not yet written."""
        return 0 if self._read_only else max(0, self._added_bytes - self._taken_bytes)

    def end(self, timeout_s: float) -> None:
        """Lets the thread write what is pending and close the file; waits at most ``timeout_s`` for that."""
        self._ending.set()
        self.join(timeout_s)

    def run(self) -> None:
        try:
            ending = False
            while not ending:
                ending = self._ending.wait(WRITE_INTERVAL_S)
                if self._pending and not self._read_only and self.fault is None:
                    self._store()
            if isinstance(self.fault, DAMAGE):
                with self._folder.locked():
                    if os.fstat(self._fd).st_nlink:     # no other process has removed it
                        _remove(self._folder, self._path, self.fault, self._report)
        except OSError as error:
            with suppress(OSError):             # standard error may be on the full disk
                self._report(reason(error))
        finally:
            if not self._ending.is_set():       # an unexpected error: the main thread may be reading right now
                self.fault = self.fault or RuntimeError("the thread that writes has ended")
                self._ending.wait()             # ``use`` sees the fault, and calls ``end``
            self._close()

    def _store(self) -> None:
        """Writes the pending entries; later, if the folder's lock is not free."""
        try:
            with self._folder.locked():
                if os.fstat(self._fd).st_nlink:
                    self.env.reader_check()     # readers that were killed would keep pages from being used again
                    self._write()
                else:
                    self.fault = FileNotFoundError("another process has removed the file")
        except BlockingIOError:
            pass
        except DAMAGE as error:
            self.fault = error
        except (OSError, lmdb.Error) as error:
            self._read_only = True
            self._report("cannot write: %s" % reason(error))

    def _write(self) -> None:
        """One transaction with the entries that have room."""
        count, page = len(self._pending), self.env.stat()["psize"]
        sizes = [page * (2 + (len(entry) + page) // page)       # and a page that changes in the tree
                 for _, entry in islice(self._pending, count)]
        room = self._limit_bytes - self._folder.used_bytes() - 16 * page
        while room < sum(sizes) and self._folder.remove_least_recently_used(self._path):
            room = self._limit_bytes - self._folder.used_bytes() - 16 * page
        fitting = sum(taken <= room for taken in accumulate(sizes))
        with self.env.begin(write=True) as transaction:
            for _ in range(fitting):
                key, entry = self._pending.popleft()
                self._taken_bytes += len(entry)
                transaction.put(key, entry)
        if fitting < count:
            self._read_only = True
            self._pending.clear()
            self._report("full: {:,} samples take {:.2f} GB; no more are added (--cache-gb)".format(
                self.env.stat()["entries"], os.path.getsize(self._path) / 2**30))

    def _close(self) -> None:
        self.env.close()
        os.close(self._fd)


def open_file(folder: CacheFolder, name: str, limit_bytes: int, distrusted: bool, report: Report) -> CacheFile:
    """Opens the file ``name``. If it is damaged or ``distrusted``, a new one replaces it. Raises OSError."""
    path = os.path.join(folder.path, name)
    try:
        with folder.locked():
            try:
                if distrusted and os.path.exists(path):
                    raise lmdb.CorruptedError("a worker that used it has crashed")
                file = CacheFile(folder, path, limit_bytes, report)
            except DAMAGE as error:
                _remove(folder, path, error, report)
                file = CacheFile(folder, path, limit_bytes, report)
            os.utime(path)              # for ``remove_least_recently_used``
            return file
    except lmdb.Error as error:
        raise OSError(str(error)) from error


def _remove(folder: CacheFolder, path: str, error: Exception, report: Report) -> None:
    folder.remove(path)
    report("removed %s, which may be damaged: %s" % (os.path.basename(path), reason(error)), any_process=True)
