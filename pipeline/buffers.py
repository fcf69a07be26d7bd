"""Batch memory: 64-byte aligned, writable, used again when its last reference is gone.

TensorFlow 1.9 takes a fed array without copying if it is aligned to EIGEN_MAX_ALIGN_BYTES (64) and writable; it then
keeps the array alive, and reads it, for as long as any queue or running op holds the tensor, which may be long after
``session.run``. So nobody can say when to free a buffer but its reference count.
"""

import sys
from typing import List, Tuple

import numpy as np

ALIGNMENT = 64
RECYCLE_FROM_BYTES = 1 << 16  # below, malloc is quicker than looking for a block


class BufferPool:
    """Arrays on recycled memory. For one thread: only references may travel."""

    def __init__(self, keep: int) -> None:
        """``keep``: the most free buffers to hold on to."""
        self._keep = keep
        self._blocks: "List[np.ndarray]" = []  # uint8 [nbytes + ALIGNMENT]; each also owned by what uses it

    def empty(self, shape: Tuple[int, ...], dtype: "np.dtype") -> "np.ndarray":
        """An aligned, writable, C-contiguous array with arbitrary content."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        block = self._block(nbytes) if nbytes >= RECYCLE_FROM_BYTES else np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        # every view's base is the block itself, however it is sliced further, so the block's count tells of them all
        return block[start:start + nbytes].view(dtype).reshape(shape)

    def _block(self, nbytes: int) -> "np.ndarray":
        for place in range(len(self._blocks)):
            # 2: the list's own reference and getrefcount's argument
            if sys.getrefcount(self._blocks[place]) == 2 and self._blocks[place].size == nbytes + ALIGNMENT:
                return self._blocks[place]
        block = np.empty(nbytes + ALIGNMENT, np.uint8)
        self._blocks.append(block)
        if len(self._blocks) > self._keep:
            del self._blocks[0]  # whoever uses it goes on doing so; it is merely not recycled
        return block
