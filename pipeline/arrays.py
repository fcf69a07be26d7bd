"""The arrays of a batch: element types and shapes; and how malloc treats memory of that size."""

import ctypes
from dataclasses import dataclass
from typing import Tuple, Union

#: A frame of a message: the header, or the bytes of one array.
Buffer = Union[bytes, bytearray, memoryview]
#: The element types that arrays may have, by numpy's name, and their size in bytes.
ITEM_BYTES = {"uint8": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3    # parameters of glibc's mallopt
HEAP_BYTES = 32 << 20    # smaller pieces come from the heap; glibc's maximum
KEEP_BYTES = 256 << 20   # free bytes that stay at the heap's end: enough for some batches and their intermediate arrays


@dataclass(frozen=True)
class ArraySpec:
    """One array of a batch: ``shape`` is that of a single sample, the batch adds the first dimension. Example:
    ``stoker.ArraySpec("labels", "int32", (1,))``."""
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
    """Lets malloc keep the memory of an image or message for the next one, in the whole process; glibc only. By default
    it returns large pieces to the kernel, and page faults take up to a fifth of a worker's time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
