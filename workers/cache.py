"""The cache: what this host has decoded and resized once, its workers copy out of one file from then on.

There is an LMDB file for each geometry: size, way of decoding, and the decoder itself. The processes of a host share
it through the page cache; a hit opens no file and makes no picture.

*Never wrong.* An entry is found by its file's path, and carries size, times, inode and device of the very file that was
decoded: what lies at the path must be that file still, unchanged, and within the data folder where it has to be. Who
changes a file changes its ctime, which cannot be set; one changed so lately that the clock may not show another change
is not stored (git's rule for its index). A checksum covers pixels and head, so that a damaged entry is decoded anew. A
damaged file is thrown away: what LMDB notices by itself, what is too short (which would be a SIGBUS), and, if the
worker before this one died of a crash, whatever makes a process that looks through it complain or die.

*Never in the way.* A thread of its own writes, in batches; what it has no time for is not stored. A process killed amid
a transaction leaves the one before (LMDB's robust mutex and copied pages). One that is suspended holds, outside of
LMDB's lock, which cannot be tried, the folder's, which can. Trouble is told once, and the samples are decoded.

*On the disk.* Each transaction is synced, all but its meta page: a power loss costs the last ones, and no more. In
batches and aside this costs no rate, and a file that must be thrown away with every power loss would. The folder stays
within its limit: files of geometries that nobody uses go when there is no room, those not used for longest first. What
has no room even then is not stored: an epoch asks for every sample once, so one is as good as the other.

LMDB maps the file into memory: a disk of this host, no network filesystem.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import struct
import threading
import time
import zlib
from typing import Any, Callable, Dict, Optional

import numpy as np

from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import SamplePath, within
from stoker.workers import images, jpeg
from stoker.workers.cache_folder import Folder, import_error, reason, trial
from stoker.workers.stopwatch import timed

FORMAT = 1                   # raised with every change of what an entry is
EXTRA_MAP_BYTES = 1 << 30    # of address space, beyond four times the limit: it is not what bounds the file
BATCH_BYTES = 4 << 20        # of one transaction
PENDING_BYTES = 32 << 20     # not yet written, from which on no more is taken
WRITE_AFTER_S = 0.5          # what is no whole batch waits no longer
OPEN_S = 0.5                 # how long to try for the folder's lock where a batch waits for it ...
AGAIN_S = 10.0               # ... and between two attempts to open a file that could not be
CLOSE_S = 0.8                # for what is pending to be written at the end
_DAMAGES = 3                 # files that one process throws away

_HEAD = struct.Struct("<16sQQQQQ")   # key; of the file that was decoded size, mtime_ns, ctime_ns, inode, device
_CHECK = struct.Struct("<Q")         # crc32 of head and pixels
_PIXELS = _HEAD.size + _CHECK.size   # where they begin
_KEY_BYTES = 16

class _Damaged(Exception):
    """A file that is to be thrown away."""


class Cache:
    """The cache as one worker process uses it, for its main thread; ``use`` comes before ``get`` and ``put``.

    ``note(text, error)`` gets the lines for the user; what all processes of a host meet, only the ``first`` tells.
    ``crashed``: the process before this one died of a crash, so what it may have read is looked through. Raises
    ConfigError if there is no lmdb.
    """

    def __init__(self, folder: str, gb: float, note: Callable[[str, bool], None], first: bool = True,
                 crashed: bool = False) -> None:
        try:
            import lmdb
        except ImportError as error:
            raise import_error(error) from error
        try:
            _decoder()                          # now that what is on the disk is what this process has loaded
        except OSError:
            pass                                # ``use`` tells
        self._lmdb = lmdb
        self._damage = (_Damaged, lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError,
                        lmdb.VersionMismatchError)
        self._folder, self._limit, self._crashed = Folder(folder), int(gb * 2**30), crashed
        self._note, self._first = note, first
        self._told = {""}                       # the troubles
        self._name = ""                         # of the file in use, or to be
        self._file: Optional[_File] = None
        self._open_at_s = 0.0
        self._using = threading.Lock()          # held where the file must not be closed
        self._fault: Optional[Exception] = None  # why the file cannot be used any more, found by either thread
        self._damages = 0
        self._takes_new = True
        self._most_index = 0
        self._writer: Optional[_Writer] = None
        self.hits = self.misses = 0

    def use(self, job: Job) -> bool:
        """Whether samples of ``job`` can be had and kept."""
        try:
            name = _name(job.height_width, job.decode, job.exif_rotate)
        except OSError as error:                # of our own code's file, or Pillow's
            self._trouble(reason(error))
            return False
        if name != self._name:
            self.close()
            self._name, self._open_at_s, self._takes_new, self._most_index = name, 0.0, True, 0
        if self._fault is not None:
            self._renew()
        if self._file is None and time.monotonic() >= self._open_at_s:
            self._open()
        return self._file is not None and self._fault is None

    @timed("storage")
    def get(self, place: SamplePath, out: np.ndarray) -> bool:
        """Copies the sample into ``out``, uint8 [height, width, 3] and C-contiguous, if it is there; else ``out`` may
        hold anything."""
        self.misses += 1
        try:
            fd = os.open(place, os.O_PATH | os.O_CLOEXEC)       # the file is not opened, only found
        except OSError:
            return False                                        # whoever reads it is going to say what is wrong
        try:
            if place.root and not within(place, fd):
                return False
            head = _head(place, os.fstat(fd))
        finally:
            os.close(fd)
        try:
            with self._file.env.begin(buffers=True) as transaction:  # type: ignore[union-attr]
                entry = transaction.get(head[:_KEY_BYTES])
                if entry is None or len(entry) != _PIXELS + out.nbytes or entry[:_HEAD.size] != head:
                    return False
                check, = _CHECK.unpack_from(entry, _HEAD.size)
                out.reshape(-1)[:] = np.frombuffer(entry, np.uint8, offset=_PIXELS)
        except self._damage as error:
            self._fault = error
            return False
        except self._lmdb.Error as error:
            self._trouble(reason(error))
            return False
        if zlib.crc32(out, zlib.crc32(head)) != check:
            self._trouble("an entry is damaged, and decoded anew")
            return False
        self.hits += 1
        self.misses -= 1
        return True

    def put(self, place: SamplePath, status: Optional[os.stat_result], pixels: bytes, index: int) -> None:
        """Keeps ``pixels``, to which the file of ``status`` (``folder.read``; None: not to be relied on) was decoded.
        ``index``: the sample's in its dataset."""
        self._most_index = max(self._most_index, index)
        if status is None or self._writer is None:
            return
        head = _head(place, status)
        if self._takes_new or self._has(head[:_KEY_BYTES]):
            check = _CHECK.pack(zlib.crc32(pixels, zlib.crc32(head)))
            self._writer.add(head[:_KEY_BYTES], b"".join((head, check, pixels)))

    def close(self) -> None:
        """Writes what is pending, if that is done soon, and leaves the file."""
        if self._writer is not None and self._writer.end(CLOSE_S):
            if self._fault is not None:
                self._renew()
            self._leave()           # else it hangs in the kernel: the file goes with the process
            if self.hits + self.misses:
                self._note("cache: %s samples copied, %s decoded" % (_number(self.hits), _number(self.misses)), False)
        self._file = self._writer = self._fault = None
        self._open_at_s = 0.0
        self.hits = self.misses = 0

    # ------------------------------------------------------------------------------------------------------ the file

    def _open(self) -> None:
        self._open_at_s = time.monotonic() + AGAIN_S
        try:
            with self._folder.locked(OPEN_S):
                path = self._folder.path(self._name)
                try:
                    self._file = self._opened(path)
                except self._damage as error:
                    self._throw_away(path, error)
                    self._file = self._opened(path)
                os.utime(path, None)            # who is used was used last
                used = self._folder.bytes()
        except (OSError, self._lmdb.Error) + self._damage as error:
            self._trouble(reason(error))
            return
        if self._writer is None:
            self._writer = _Writer(self._store)
        if self._first and self._damages == 0:
            self._note("cache %s: %s samples of this kind, %s of %.4g GB" % (
                self._folder.name, _number(self._file.env.stat()["entries"]), _gb(used), self._limit / 2**30), False)

    def _opened(self, path: str) -> "_File":
        if self._crashed and os.path.exists(trial(path)):      # else it was killed from outside
            raise _Damaged("a worker died while it looked through it")
        # mode: nobody else may see the pictures here who may not see them there
        env = self._lmdb.open(os.fsencode(path), subdir=False, map_size=4 * self._limit + EXTRA_MAP_BYTES,
                              metasync=False, mode=0o600, max_readers=1000)
        try:
            wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
            if wanted > max(os.path.getsize(path), self._limit):
                raise _Damaged("it names pages that it never had")
            if wanted > os.path.getsize(path):
                os.truncate(path, wanted)       # zeros, of which LMDB or the checksum complains, where else a SIGBUS is
            env.reader_check()                  # of processes that were killed: they keep pages from being used again
            if self._crashed:
                with open(trial(path), "wb"):
                    _look_through(env)
                os.remove(trial(path))
                self._crashed = False
            return _File(path, env)
        except BaseException:
            env.close()
            raise

    def _throw_away(self, path: str, error: Exception) -> None:
        self._damages += 1
        self._note("cache %s is damaged (%s): thrown away, a new one is begun" % (path, reason(error)), True)
        self._folder.remove(path)

    def _renew(self) -> None:
        """Leaves the file that cannot be used any more, for another of its name."""
        if not self._using.acquire(blocking=False):
            return                              # the writer is at it still
        try:
            fault, path = self._fault, self._folder.path(self._name)
            self._fault = None
            if isinstance(fault, self._damage):
                with self._folder.locked():
                    if self._file is None or self._file.is_current():    # else somebody was quicker
                        self._throw_away(path, fault)
            self._leave()
            self._open_at_s = 0.0
            if self._damages >= _DAMAGES:
                self._trouble("damaged again and again: not used any more")
                self._open_at_s = float("inf")
        except OSError as error:
            self._trouble(reason(error))
        finally:
            self._using.release()

    def _leave(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _has(self, key: bytes) -> bool:
        try:
            with self._file.env.begin(buffers=True) as transaction:  # type: ignore[union-attr]
                return transaction.get(key) is not None
        except (self._lmdb.Error, AttributeError):
            return False

    def _trouble(self, text: str, kind: str = "") -> None:
        """Tells it once; ``kind``: what of the text is not different each time."""
        if self._first and (kind or text) not in self._told:
            self._told.add(kind or text)
            self._note("cache %s: %s" % (self._folder.name, text), True)

    # ---------------------------------------------------------------------------------------------------- the writer

    def _store(self, entries: Dict[bytes, bytes]) -> bool:
        """Writes ``entries``, for the writer's thread. False: not now, for somebody holds the folder's lock."""
        with self._using:
            file = self._file
            if file is None or self._fault is not None:
                return True
            try:
                with self._folder.locked():
                    if not file.is_current():
                        self._fault = FileNotFoundError("somebody threw it away")
                        return True
                    file.env.reader_check()
                    self._write(file, entries)
            except BlockingIOError:
                return False
            except self._damage as error:
                self._fault = error
            except (OSError, self._lmdb.Error) as error:
                free = shutil.disk_usage(self._folder.name).free if os.path.isdir(self._folder.name) else 0
                self._trouble("cannot write: %s, with %s GB free on the disk" % (reason(error), _gb(free)),
                              reason(error))
        return True

    def _write(self, file: "_File", entries: Dict[bytes, bytes]) -> None:
        page = file.env.stat()["psize"]
        # with what changes in the tree for it
        wanted = {key: page * (2 + (len(entry) + page) // page) for key, entry in entries.items()}
        room = self._limit - self._folder.bytes() - 16 * page
        while room < sum(wanted.values()) + self._limit // 16 and self._folder.remove_oldest(file.path):
            room = self._limit - self._folder.bytes() - 16 * page
        with file.env.begin(write=True) as transaction:
            for key, entry in entries.items():
                # the last sixteenth is for files that change: what replaces an entry takes its room only later
                kept = 0 if transaction.get(key) is not None else self._limit // 16
                if wanted[key] <= room - kept:
                    transaction.put(key, entry)
                    room -= wanted[key]
                elif self._takes_new:
                    self._takes_new = False
                    held, size = file.env.stat()["entries"], os.path.getsize(file.path)
                    samples = max(held, self._most_index + 1)
                    self._trouble("full: %s samples take %s GB, and all %s or more of the dataset about %s GB; no more "
                                  "are added (--cache-gb)" % (_number(held), _gb(size), _number(samples),
                                                              _gb(size / max(1, held) * samples)))


class _File:
    """An open file of the cache, marked as in use for as long as it is."""

    def __init__(self, path: str, env: Any) -> None:
        self.path, self.env = path, env
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._inode = os.fstat(self._fd).st_ino
        except BaseException:
            os.close(self._fd)
            raise

    def is_current(self) -> bool:
        """Nobody has thrown it away."""
        try:
            return os.stat(self.path).st_ino == self._inode     # which is not given again while it is open here
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self.env.close()
        os.close(self._fd)


class _Writer(threading.Thread):
    """Hands on what it gets, in batches; what comes while too much is pending is dropped."""

    def __init__(self, store: Callable[[Dict[bytes, bytes]], bool]) -> None:
        super().__init__(name="stoker-cache", daemon=True)
        self._store = store
        self._lock = threading.Lock()
        self._pending: Dict[bytes, bytes] = {}
        self._bytes = 0
        self._any, self._batch, self._ended = threading.Event(), threading.Event(), False
        self.start()

    def add(self, key: bytes, entry: bytes) -> None:
        with self._lock:
            if self._bytes >= PENDING_BYTES or key in self._pending:
                return
            self._pending[key] = entry
            self._bytes += len(entry)
        self._any.set()
        if self._bytes >= BATCH_BYTES:
            self._batch.set()

    def end(self, within_s: float) -> bool:
        """Whether all is written, or dropped, and the thread gone."""
        self._ended = True
        self._batch.set()
        self._any.set()
        self.join(within_s)
        return not self.is_alive()

    def run(self) -> None:
        while not self._ended or self._pending:
            self._any.wait()
            self._batch.wait(WRITE_AFTER_S)
            with self._lock:
                entries, self._pending = self._pending, {}
                self._any.clear()
                self._batch.clear()
            while entries and not self._store(entries) and not self._ended:
                pass
            with self._lock:
                self._bytes -= sum(map(len, entries.values()))


@functools.lru_cache(maxsize=4)
def _name(size: Any, decode: str, exif_rotate: bool) -> str:
    """Of the file of a geometry."""
    digest = hashlib.blake2b(repr((FORMAT, size, decode, exif_rotate)).encode() + _decoder(), digest_size=8).hexdigest()
    return "%dx%d-%s%s-%s.lmdb" % (size[0], size[1], decode, "-rotated" * exif_rotate, digest)


@functools.lru_cache(maxsize=1)
def _decoder() -> bytes:
    """What decoded bytes depend on beside the job: our own code, Pillow's (pillow-simd or not), the libraries in it."""
    import lmdb
    from PIL import Image, features
    digest = hashlib.blake2b()
    for file in (images.__file__, jpeg.__file__, Image.core.__file__):
        with open(file, "rb") as code:
            digest.update(code.read())
    libraries = ("pil", "jpg", "libjpeg_turbo", "webp", "libtiff", "zlib")
    digest.update(repr([features.version(name) for name in libraries] + [lmdb.version()]).encode())
    return digest.digest()


def _head(place: SamplePath, status: os.stat_result) -> bytes:
    key = hashlib.blake2b(place, digest_size=_KEY_BYTES).digest()
    mtime, ctime = (ns & (1 << 64) - 1 for ns in (status.st_mtime_ns, status.st_ctime_ns))   # beyond 1970..2262
    return _HEAD.pack(key, status.st_size, mtime, ctime, status.st_ino, status.st_dev)


def _look_through(env: Any) -> None:
    """Touches every page that a worker may come to."""
    with env.begin(buffers=True) as transaction:
        for _, entry in transaction.cursor():
            bytes(entry[:1]), bytes(entry[-1:])
    transaction = env.begin(write=True)
    transaction.put(b"trial", bytes(BATCH_BYTES))
    transaction.abort()


def _number(count: int) -> str:
    return format(count, ",")


def _gb(count: float) -> str:
    return "%.2f" % (count / 2**30)
