"""The cache: each sample is decoded and resized once per host, and from then on copied out of a file. Of what is read
from stores elsewhere and cannot be kept decoded, as for a user's own function, it keeps the bytes.

There is one LMDB file for each size and way of decoding, and one for bytes, shared by the processes of a host through
the page cache. LMDB maps it into memory: the folder must be on a disk of this host, not on a network filesystem.

- *Never wrong.* An entry counts only while the sample's file is unchanged (``cache_entry``) and lies within the data
  folder, where the job wants that. That a file elsewhere has changed is noticed within minutes (``remote_versions``).
  A file changed so recently that its ctime may not show the next change is not stored (git has this rule for its
  index). A damaged file is removed, and a new one takes its place.
- *Never in the way.* A thread of each file writes (``cache_file``) as much as it has time for. No error of the cache
  fails a batch: it is logged once, and the samples are decoded.
- *Within its limit.* A full cache removes the least recently used of the files that no process uses; then it adds
  nothing more. An epoch needs every sample once, so no sample is worth more than another.
"""

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from stoker.pipeline.storage.folder import SamplePath, folders, is_store, is_within_root, version_of
from stoker.pipeline.storage.open_folders import plain_names
from stoker.pipeline.storage.store import Version
from stoker.workers import fetching, formats, limits
from stoker.workers.cache_entry import bytes_name, decoder_digest, file_name, head_of, head_of_file, key_of
from stoker.workers.cache_folder import CacheFolder, reason
from stoker.workers.remote_versions import tells_changes
from stoker.workers.stopwatch import timed
if TYPE_CHECKING:
    from stoker.workers.cache_file import CacheFile

REOPEN_INTERVAL_S = 10.0        # between two attempts to open a file
CLOSE_S = 0.8                   # how long ``close`` waits for pending entries to be written
MAX_KINDS = 8                   # sizes that a process keeps at a time; each has an open file and a thread
IDLE_S = 60.0                   # a file that was not used for so long is closed
MAX_CONTENT_BYTES = 4 << 20     # of a file whose bytes are kept
BYTES = ("bytes",)              # their kind
MAX_PENDING_BYTES = 32 << 20    # entries not yet written, of all files; beyond, new ones are dropped


class Cache:
    """The cache as the main thread of a worker process uses it: ``kind`` for each batch or picture, then ``get`` and
    ``put`` of the CachedKind.

    ``folder`` may grow to ``gb`` times 2**30 bytes. ``note(text, is_error)`` gets the lines for the user; only the
    ``first`` process of a host logs what concerns all of them. ``distrusted``: the process before this one crashed,
    perhaps because of a damaged file, so a new file replaces each one that it may have used.
    """

    def __init__(self, folder: str, gb: float, note: Callable[[str, bool], None], first: bool = True,
                 distrusted: bool = False) -> None:
        with contextlib.suppress(OSError):      # which ``kind`` reports
            decoder_digest()                    # read early, while the files on the disk are those of this process
        self.folder, self.limit_bytes = CacheFolder(folder), int(gb * 2**30)
        self._note, self._first, self._distrusted = note, first, distrusted
        self._reported: Set[str] = set()
        self._kinds: Dict[Tuple[Any, ...], CachedKind] = {}
        self._trusted: Set[str] = set()         # names of the files that this process has opened
        self._end_idle_at_s = 0.0
        self._current: Optional[CachedKind] = None
        self._bytes: Optional[CachedBytes] = None

    def kind(self, size: Tuple[int, int], decode: str, exif_rotate: bool) -> "Optional[CachedKind]":
        """The entries of pictures of ``size`` (height, width), decoded in this way with PIL's present limits; None if
        none can be served and kept now. It is valid until the next call."""
        now_s = time.monotonic()
        wanted = size, decode, exif_rotate, limits.in_force() + formats.in_force()
        found = self._kinds.get(wanted)
        if found is not None:
            found.used_s = now_s
        if now_s >= self._end_idle_at_s:
            self._end_idle(now_s)
        if found is None:
            found = self._add(wanted, now_s)
        self._current = found if found is not None and found.is_open(now_s) else None
        return self._current

    def has_decoded(self, path: SamplePath) -> bool:
        """Whether there is an entry for ``path``, of any version, where ``kind`` looked last. Any thread may ask."""
        kind = self._current
        return kind is not None and kind.has(path)

    def open_bytes(self) -> "Optional[CachedBytes]":
        """The entries that hold the bytes of far files; None if none can be served and kept now."""
        now_s = time.monotonic()
        if self._bytes is None or not self._bytes.is_alive() and self._bytes.used_s < now_s - IDLE_S:
            self._bytes = self._kinds[BYTES] = CachedBytes(self, bytes_name(), BYTES[0], now_s)
        self._bytes.used_s = now_s
        return self._bytes if self._bytes.is_open(now_s) else None

    @property
    def gets(self) -> int:
        """Samples that were looked for since the last ``close``."""
        return sum(kind.gets for kind in self._kinds.values())

    @property
    def hits(self) -> int:
        """Samples that were found."""
        return sum(kind.hits for kind in self._kinds.values())

    def close(self) -> None:
        """Writes pending entries, if that takes no longer than CLOSE_S, and closes the files."""
        deadline_s = time.monotonic() + CLOSE_S
        for kind in self._kinds.values():       # all threads write at the same time
            kind.end(0.0)
        for kind in self._kinds.values():
            kind.close(max(0.0, deadline_s - time.monotonic()))
        self._drop_ended(deadline_s)

    def _add(self, wanted: Tuple[Any, ...], now_s: float) -> "Optional[CachedKind]":
        if len(self._kinds) >= MAX_KINDS:
            self.report("pictures of more than %d sizes at a time: the others are not kept" % MAX_KINDS)
            return None
        try:
            name = file_name(*wanted)
        except OSError as error:
            self.report(reason(error))
            return None
        found = self._kinds[wanted] = CachedKind(self, name, "%dx%d" % wanted[0], now_s)
        return found

    def _end_idle(self, now_s: float) -> None:
        """Closes files that are not in use any more: while they are open, no process can remove them to make room."""
        self._end_idle_at_s = now_s + REOPEN_INTERVAL_S
        for kind in self._kinds.values():
            if kind.used_s < now_s - IDLE_S:
                kind.close(0.0)
        self._drop_ended(now_s - IDLE_S)

    def _drop_ended(self, unused_since_s: float) -> None:
        self._kinds = {key: kind for key, kind in self._kinds.items()
                       if kind.used_s >= unused_since_s or kind.is_alive()}

    def open_file(self, name: str) -> "CacheFile":
        """Opens the file called ``name``, for a CachedKind. Raises OSError."""
        from stoker.workers.cache_file import open_file         # needs lmdb, which not every worker has
        distrusted = self._distrusted and name not in self._trusted
        file = open_file(self.folder, name, self.limit_bytes, distrusted, self.report)
        self._trusted.add(name)
        if self._first:
            self._note("cache %s: %s" % (self.folder.path, file.summary), False)
        return file

    def has_room(self) -> bool:
        """Whether a further entry may wait to be written."""
        return sum(kind.pending_bytes for kind in self._kinds.values()) < MAX_PENDING_BYTES

    def note_counts(self, text: str) -> None:
        self._note("cache " + text, False)

    def report(self, text: str, any_process: bool = False) -> None:
        """Logs an error once, in the first process or in ``any_process``."""
        if (self._first or any_process) and text not in self._reported:
            self._reported.add(text)
            self._note("cache %s: %s" % (self.folder.path, text), True)


class CachedKind:
    """The entries of one size and way of decoding. Its file is opened when it is needed, and again after a fault."""

    COUNTS = "{}: {:,} samples copied, {:,} decoded"

    def __init__(self, cache: Cache, name: str, size: str, now_s: float) -> None:
        self._cache, self._name, self._size, self.used_s = cache, name, size, now_s
        self._file: "Optional[CacheFile]" = None
        self._ended: "Optional[CacheFile]" = None   # the file before; its thread may still have it open
        self._open_at_s = 0.0                       # not before that
        self._reading = threading.Lock()            # other threads may look into it: not while it is closed
        self.gets = self.hits = 0

    @timed("storage")
    def get(self, path: SamplePath, out: np.ndarray) -> bool:
        """Copies the sample's pixels into ``out``, uint8 [height, width, 3] and C-contiguous. False if they are not in
        the cache; ``out`` may then hold arbitrary bytes."""
        assert self._file is not None, "get comes after Cache.kind"
        self.gets += 1
        if path.store:
            if not self._file.has(key_of(path)):
                return False
            version = fetching.version_of(path)
            found = version is not None and self._file.copy(head_of(path, version), out)
            self.hits += found
            return found
        status = folders.status(path)
        if status is not None:
            found = self._file.copy(head_of(path, version_of(status)), out)
            self.hits += found
            return found
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)        # finds the file without opening it for reading
        except OSError:
            return False                                        # reading it gives the reason
        try:
            found = is_within_root(path, fd) and self._file.copy(head_of(path, version_of(os.fstat(fd))), out)
        finally:
            os.close(fd)
        self.hits += found
        return found

    @timed("storage")
    def get_all(self, root: str, follow_links: bool, paths: Sequence[str], out: np.ndarray) -> List[int]:
        """``get`` of all samples of a batch, whose ``paths`` are those in the folder ``root``, into ``out``, uint8
        [n, height, width, 3] and C-contiguous; within ``one_look``. Returns the places that have their pixels now. What
        is no ordinary file of this host is left to ``get``; so is any error."""
        assert self._file is not None, "get_all comes after Cache.kind"
        names = None if is_store(root) else plain_names(paths)
        if names is None:
            return []
        folder = root.encode("utf-8", "surrogateescape")
        begin, within = os.path.join(folder, b""), None if follow_links else folder
        files = [begin + name for name in names]
        keys = [key_of(file) for file in files]

        def heads(places: Sequence[int]) -> List[Optional[bytes]]:
            statuses = folders.statuses([files[place] for place in places], within)
            return [None if status is None else head_of_file(keys[place], status)
                    for place, status in zip(places, statuses)]

        copied = self._file.copy_all(keys, heads, out)
        self.gets += len(copied)
        self.hits += len(copied)
        return copied

    def one_look(self) -> "ContextManager[None]":
        """Within it, ``get`` sees the entries that there are now, and takes less time."""
        assert self._file is not None, "one_look comes after Cache.kind"
        return self._file.one_look()

    def put(self, path: SamplePath, version: Optional[Version], pixels: bytes) -> None:
        """Keeps ``pixels``, which were decoded from the file; ``version`` is that of ``fetching.read``."""
        if self._file is not None and version is not None and self._cache.has_room() and (
                not path.store or tells_changes(version)):
            self._file.add(head_of(path, version), pixels)

    def has(self, path: SamplePath) -> bool:
        """Whether there is an entry for ``path``, of any version of the file. Any thread may ask."""
        with self._reading:
            return self._file is not None and self._file.has(key_of(path))

    @property
    def pending_bytes(self) -> int:
        return 0 if self._file is None else self._file.pending_bytes

    def is_open(self, now_s: float) -> bool:
        """Whether the file can be used; opens it if that is possible now."""
        if self._file is not None:
            if self._file.fault is None:
                return True
            self.end(0.0)
        # LMDB must not open a file twice in one process
        if now_s >= self._open_at_s and not self.is_alive():
            self._open_at_s = now_s + REOPEN_INTERVAL_S
            try:
                self._file = self._cache.open_file(self._name)
            except OSError as error:
                self._cache.report(reason(error))
        return self._file is not None

    def end(self, timeout_s: float) -> None:
        """Lets the file's thread write what is pending and close the file; waits at most ``timeout_s`` for that."""
        with self._reading:
            if self._file is not None:
                self._ended, self._file = self._file, None
        if self._ended is not None:
            self._ended.end(timeout_s)

    def close(self, timeout_s: float) -> None:
        """``end`` in good order: the file may be opened again at once."""
        self.end(timeout_s)
        if self.gets:
            self._cache.note_counts(self.COUNTS.format(self._size, self.hits, self.gets - self.hits))
        self._open_at_s, self.gets, self.hits = 0.0, 0, 0

    def is_alive(self) -> bool:
        """Whether a thread of it may have the file open."""
        return self._file is not None or self._ended is not None and self._ended.is_alive()


class CachedBytes(CachedKind):
    """The bytes of files in far stores, for what is not kept decoded. Any thread may look for them."""

    COUNTS = "{}: {:,} files copied, {:,} read"

    def content(self, path: SamplePath, version: Version) -> Optional[bytes]:
        """The bytes at ``path`` if the file had this version; None if they are not in the cache."""
        with self._reading:
            found = None if self._file is None else self._file.content(head_of(path, version))
            self.gets += 1
            self.hits += found is not None
            return found

    def keep(self, path: SamplePath, version: Optional[Version], content: bytes) -> None:
        """Keeps the bytes that were read at ``path``, unless they are many, or there already."""
        if len(content) <= MAX_CONTENT_BYTES and version is not None and self._file is not None and (
                not self._file.has(head_of(path, version))):
            self.put(path, version, content)
