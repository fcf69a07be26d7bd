"""The cache: each sample is decoded and resized once per host, and from then on copied out of a file.

There is one LMDB file for each size and way of decoding, shared by the processes of a host through the page cache.
LMDB maps it into memory: the folder must be on a disk of this host, not on a network filesystem.

- *Never wrong.* An entry counts only while the sample's file is unchanged (``cache_entry``) and lies within the data
  folder, where the job wants that. A file changed so recently that its ctime may not show the next change is not stored
  (git has this rule for its index). A damaged file is removed, and a new one takes its place.
- *Never in the way.* A thread of its own writes (``cache_file``) as much as it has time for. No error of the cache
  fails a batch: it is logged once, and the samples are decoded.
- *Within its limit.* A full cache removes the least recently used of the files that no process uses; then it adds
  nothing more. An epoch needs every sample once, so no sample is worth more than another.
"""

import contextlib
import os
import time
from typing import TYPE_CHECKING, Callable, Optional, Set

import numpy as np

from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import SamplePath, is_within_root
from stoker.workers.cache_entry import decoder_digest, file_name, head_of
from stoker.workers.cache_folder import CacheFolder, reason
from stoker.workers.stopwatch import timed
if TYPE_CHECKING:
    from stoker.workers.cache_file import CacheFile

REOPEN_INTERVAL_S = 10.0     # between two attempts to open a file
CLOSE_S = 0.8                # how long ``close`` waits for pending entries to be written


class Cache:
    """The cache as the main thread of a worker process uses it: ``use`` for each batch, then ``get`` and ``put``.

    ``folder`` may grow to ``gb`` times 2**30 bytes. ``note(text, is_error)`` gets the lines for the user; only the
    ``first`` process of a host logs what concerns all of them. ``distrusted``: the process before this one crashed,
    perhaps because of a damaged file, so a new file replaces it.
    """

    def __init__(self, folder: str, gb: float, note: Callable[[str, bool], None], first: bool = True,
                 distrusted: bool = False) -> None:
        with contextlib.suppress(OSError):      # which ``use`` reports
            decoder_digest()                    # read early, while the files on the disk are those of this process
        self._folder, self._limit_bytes = CacheFolder(folder), int(gb * 2**30)
        self._note, self._first, self._distrusted = note, first, distrusted
        self._reported: Set[str] = set()
        self._name = ""                         # of the file in use, or to be opened
        self._open_at_s = 0.0                   # not before that
        self._file: Optional[CacheFile] = None
        self._ended: Optional[CacheFile] = None     # the file before; its thread may still have it open
        self.gets = self.hits = 0

    def use(self, job: Job) -> bool:
        """Whether samples of ``job`` can be served and kept now."""
        try:
            name = file_name(job.height_width, job.decode, job.exif_rotate)
            if name != self._name:
                self.close()
                self._name = name
            if self._file is not None and self._file.fault is not None:
                self._end_file(0.0)
            # LMDB must not open a file twice in one process
            may_open = self._ended is None or not self._ended.is_alive()
            if self._file is None and may_open and time.monotonic() >= self._open_at_s:
                self._open()
        except OSError as error:
            self._report(reason(error))
        return self._file is not None

    @timed("storage")
    def get(self, path: SamplePath, out: np.ndarray) -> bool:
        """Copies the sample's pixels into ``out``, uint8 [height, width, 3] and C-contiguous. False if they are not in
        the cache; ``out`` may then hold arbitrary bytes."""
        assert self._file is not None, "get comes after use"
        self.gets += 1
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)        # finds the file without opening it for reading
        except OSError:
            return False                                        # reading it gives the reason
        try:
            found = is_within_root(path, fd) and self._file.copy(head_of(path, os.fstat(fd)), out)
        finally:
            os.close(fd)
        self.hits += found
        return found

    def put(self, path: SamplePath, status: Optional[os.stat_result], pixels: bytes) -> None:
        """Keeps ``pixels``, which were decoded from the file; ``status`` is that of ``storage.folder.read_file``."""
        if self._file is not None and status is not None:
            self._file.add(head_of(path, status), pixels)

    def close(self) -> None:
        """Writes pending entries, if that takes no longer than CLOSE_S, and closes the file."""
        self._end_file(CLOSE_S)
        if self.gets:
            self._note("cache: {:,} samples copied, {:,} decoded".format(self.hits, self.gets - self.hits), False)
        self._open_at_s, self.gets, self.hits = 0.0, 0, 0

    def _open(self) -> None:
        from stoker.workers.cache_file import open_file         # needs lmdb, which not every worker has
        self._open_at_s = time.monotonic() + REOPEN_INTERVAL_S
        self._file = open_file(self._folder, self._name, self._limit_bytes, self._distrusted, self._report)
        self._distrusted = False
        if self._first:
            self._note("cache %s: %s" % (self._folder.path, self._file.summary), False)

    def _end_file(self, timeout_s: float) -> None:
        if self._file is not None:
            self._file.end(timeout_s)
            self._ended, self._file = self._file, None

    def _report(self, text: str, any_process: bool = False) -> None:
        """Logs an error once, in the first process or in ``any_process``."""
        if (self._first or any_process) and text not in self._reported:
            self._reported.add(text)
            self._note("cache %s: %s" % (self._folder.path, text), True)
