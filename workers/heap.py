"""Gives memory back to the system after a large picture. ``keep_freed_memory`` lets malloc keep what usual batches need
again at once; the rest of a large picture would stay with each worker for good."""

import ctypes
import gc
import mmap
from contextlib import suppress
from typing import Tuple

KEPT_BYTES = 64 << 20       # that a worker may have more than after the last look, beside some batches
BATCHES = 4                 # that are under way at once: in work, in the socket's queue, their intermediate arrays
LONG_S = 0.05               # a lease that takes less has no large picture


class Heap:
    """The memory of this process. To be told of each lease."""

    def __init__(self) -> None:
        self._settled_bytes = 0         # that were in memory at the last look that freed some

    def settle(self, produce_s: float, batch_bytes: int) -> None:
        """A lease that took ``produce_s`` is answered, with a batch of so many bytes. Frees memory if much is kept."""
        if produce_s < LONG_S:
            return
        used = usage()[1]
        if used > self._settled_bytes + KEPT_BYTES + BATCHES * batch_bytes:
            free_memory()
            used = usage()[1]
            self._settled_bytes = used
        self._settled_bytes = min(self._settled_bytes, used)


def free_memory() -> None:
    """Gives what is free in this process back to the system, as far as the C library can."""
    gc.collect()
    with suppress(AttributeError, OSError):         # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def usage() -> Tuple[int, int]:
    """The bytes of this process that RLIMIT_DATA counts, and those in memory that are of no file and not shared; (0, 0)
    where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb", 0) as file:
            pages = file.read().split()
    except OSError:
        return 0, 0
    return int(pages[5]) * mmap.PAGESIZE, (int(pages[1]) - int(pages[2])) * mmap.PAGESIZE
