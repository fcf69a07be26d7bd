"""The cache: each sample is decoded and resized once per host, and from then on copied out of a file.

There is one LMDB file for each size and way of decoding, shared by the processes of a host through the page cache.

- *Never wrong.* An entry counts only while the sample's file is unchanged (``cache_entry``) and lies within the data
  folder, where the job wants that. A file changed so recently that its ctime may not show the next change is not stored
  (git has this rule for its index). A damaged file is removed, and its samples are decoded again.
- *Never in the way.* A thread of its own writes (``cache_writer``). Samples that it has no time for are not stored. No
  error of the cache fails a batch: it is logged once, and the samples are decoded.
- *Within its limit* (``cache_folder``). A full cache removes files that no process uses, those not used for the longest
  time first; then it adds nothing more. An epoch needs every sample once, so no sample is worth more than another.

LMDB maps its file into memory: the folder must be on a disk of this host, not on a network filesystem.
"""

import contextlib
import os
import time
from typing import TYPE_CHECKING, Callable, List, Optional, Set

import numpy as np

from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import SamplePath, is_within_root
from stoker.workers.cache_entry import decoder_digest, file_name, head_of
from stoker.workers.cache_folder import CacheFolder, import_error, reason
from stoker.workers.stopwatch import timed
if TYPE_CHECKING:
    from stoker.workers.cache_writer import CacheWriter

REOPEN_INTERVAL_S = 10.0     # between two attempts to open a file
CLOSE_S = 0.8                # how long the end waits for pending entries to be written


class Cache:
    """The cache as the main thread of a worker process uses it: ``use`` for each batch, then ``get`` and ``put``.

    ``folder`` may grow to ``gb`` times 2**30 bytes. ``note(text, is_error)`` gets the lines for the user; only the
    ``first`` process of a host logs what concerns all of them. ``distrusted``: the process before this one crashed,
    perhaps because of a damaged file, so a new file replaces it. Raises ConfigError if the package lmdb is missing.
    """

    def __init__(self, folder: str, gb: float, note: Callable[[str, bool], None], first: bool = True,
                 distrusted: bool = False) -> None:
        try:
            from stoker.workers.cache_writer import open_writer
        except ImportError as error:
            raise import_error(error) from error
        with contextlib.suppress(OSError):      # which ``use`` reports
            decoder_digest()                    # read early, while the files on the disk are those of this process
        self._folder, self._limit_bytes = CacheFolder(folder), int(gb * 2**30)
        self._note, self._first, self._open_writer = note, first, open_writer
        self._reported: Set[str] = set()
        self._name = ""                         # of the file in use, or to be opened
        self._open_at_s = 0.0                   # not before that
        self._distrusted = distrusted
        self._writer: Optional[CacheWriter] = None     # of the open file
        self._ending: List[CacheWriter] = []    # writers that may still have their files open
        self.hits = self.misses = 0

    def use(self, job: Job) -> bool:
        """Whether samples of ``job`` can be served and kept now."""
        try:
            name = file_name(job.height_width, job.decode, job.exif_rotate)
        except OSError as error:
            self._report(reason(error))
            return False
        if name != self._name:
            self.close()
            self._name = name
        if self._writer is not None and self._writer.file.fault is not None:
            if isinstance(self._writer.file.fault, FileNotFoundError):
                self._open_at_s = 0.0           # no damage: no need to wait
            self._end_writer(0.0)
        # LMDB must not open a file twice in one process
        self._ending = [writer for writer in self._ending if writer.is_alive()]
        if self._writer is None and not self._ending and time.monotonic() >= self._open_at_s:
            self._open()
        return self._writer is not None

    @timed("storage")
    def get(self, path: SamplePath, out: np.ndarray) -> bool:
        """Copies the sample's pixels into ``out``, uint8 [height, width, 3] and C-contiguous. False if they are not in
        the cache; ``out`` may then hold arbitrary bytes."""
        assert self._writer is not None, "get comes after use"
        self.misses += 1
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)        # finds the file without opening it for reading
        except OSError:
            return False                                        # reading it gives the reason
        try:
            if not is_within_root(path, fd):
                return False
            head = head_of(path.path, os.fstat(fd))
        finally:
            os.close(fd)
        if not self._writer.file.copy(head, out):
            return False
        self.hits += 1
        self.misses -= 1
        return True

    def put(self, path: SamplePath, status: Optional[os.stat_result], pixels: bytes, index: int) -> None:
        """Keeps ``pixels``, which were decoded from the file. ``status`` is that of ``storage.folder.read_file`` (None:
        the file may have changed), ``index`` the sample's index in the dataset."""
        if self._writer is not None and status is not None:
            self._writer.add(head_of(path.path, status), pixels, index)

    def close(self) -> None:
        """Writes pending entries, if that takes no longer than CLOSE_S, and closes the file."""
        if self._writer is not None:
            self._end_writer(CLOSE_S)
            if self.hits + self.misses:
                self._note("cache: %s samples copied, %s decoded" % (format(self.hits, ","),
                                                                     format(self.misses, ",")), False)
        self._open_at_s, self.hits, self.misses = 0.0, 0, 0

    def _open(self) -> None:
        self._open_at_s = time.monotonic() + REOPEN_INTERVAL_S
        try:
            self._writer = self._open_writer(self._folder, self._name, self._limit_bytes, self._report,
                                             self._distrusted)
            self._distrusted = False
        except OSError as error:
            self._report(reason(error))
            return
        if self._first:
            self._note("cache %s: %s" % (self._folder.path, self._writer.summary), False)

    def _end_writer(self, timeout_s: float) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.end(timeout_s):
            self._ending.append(writer)

    def _report(self, text: str, key: str = "", any_process: bool = False) -> None:
        """Logs an error once for each ``key`` (by default the text), in the first process or in ``any_process``."""
        key = key or text
        if (self._first or any_process) and key and key not in self._reported:
            self._reported.add(key)
            self._note("cache %s: %s" % (self._folder.path, text), True)
