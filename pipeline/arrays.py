"""What batches are made of: arrays' element types and shapes; and how malloc treats memory of that size."""

import ctypes
from dataclasses import dataclass
from typing import Tuple

#: The element types that travel, by numpy's name, and their bytes.
ITEM_BYTES = {"uint8": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3    # of glibc's mallopt
HEAP_BYTES = 32 << 20    # smaller pieces come from the heap; the most that glibc takes
KEEP_BYTES = 256 << 20   # free at the heap's end before any is given back: some batches, and all they take


@dataclass(frozen=True)
class ArraySpec:
    """One array of a batch: ``shape`` is that of a single sample, the batch adds the first dimension."""

    name: str
    dtype: str               # a key of ITEM_BYTES; little-endian on the wire
    shape: Tuple[int, ...]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in this array."""
        size = ITEM_BYTES[self.dtype]
        for side in self.shape:
            size *= side
        return size


def keep_freed_memory() -> None:
    """Lets malloc use the memory of one picture or message for the next, where it would give large pieces back to the
    kernel and pay a page fault for every 4 KB of the next one: at 224 pixels up to a fifth of a worker's time, and a
    tenth of the trainer's. For the whole process; glibc only."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
