"""Batch memory: 64-byte aligned, writable, used again when its last reference is gone.

TensorFlow 1.9 takes a fed array without copying if it is aligned to EIGEN_MAX_ALIGN_BYTES (64) and writable; it then
keeps the array alive, and reads it, for as long as any queue or running op holds the tensor, which may be long after
``session.run``. Only the reference count of a buffer tells when it is free.
"""

import sys
from itertools import chain
from typing import List, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec, UpTo, framed
from stoker.pipeline.options import JobOptions

ALIGNMENT = 64
RECYCLE_FROM_BYTES = 1 << 16  # below, malloc is quicker than looking for a block
WARM_BLOCKS = 8               # looked at first: as long as one of them is free, the processor's cache knows the memory


class BufferPool:
    """Arrays on recycled memory, for one thread: only references may travel. ``keep``: most buffers to know; others are
    not recycled. Free ones are let go of when a new one is made and all have more than ``keep_bytes`` together."""

    def __init__(self, keep: int, keep_bytes: int = 1 << 62) -> None:
        self._keep, self._keep_bytes = keep, keep_bytes
        self._bytes = 0        # of all blocks
        self._blocks: "List[np.ndarray]" = []  # uint8 [nbytes + ALIGNMENT]; each also owned by what uses it
        self._found = 0        # where the last free one was: what was handed out first is mostly free first

    def empty(self, shape: Tuple[int, ...], dtype: "np.dtype", varies: bool = False) -> "np.ndarray":
        """An aligned, writable, C-contiguous array with arbitrary content. ``varies``: others like it will have other
        shapes, so its memory may be too large: up to an eighth if it is new, up to twice if it is used again, or more
        where new memory would be over the bound."""
        dtype = np.dtype(dtype)
        nbytes = dtype.itemsize
        for side in shape:
            nbytes *= side
        grain = 1 << max(0, nbytes.bit_length() - 4) if varies else 1
        kept = -(-nbytes // grain) * grain
        block = (self._block(kept, 2 * kept if varies else kept) if nbytes >= RECYCLE_FROM_BYTES
                 else np.empty(nbytes + ALIGNMENT, np.uint8))
        start = -block.__array_interface__["data"][0] % ALIGNMENT
        # every view's base is the block itself, however it is sliced further, so the block's count tells of them all
        return block[start:start + nbytes].view(dtype).reshape(shape)

    def _block(self, nbytes: int, most_bytes: int) -> "np.ndarray":
        blocks, count = self._blocks, len(self._blocks)
        warm = min(WARM_BLOCKS, count)
        found = min(max(self._found, warm), count)
        larger = None      # the place of the smallest free one that is too large: better than memory over the bound
        for place in chain(range(warm), range(found, count), range(warm, found)):
            # 2: the list's own reference and getrefcount's argument
            if sys.getrefcount(blocks[place]) == 2 and blocks[place].size >= nbytes + ALIGNMENT:
                if blocks[place].size <= most_bytes + ALIGNMENT:
                    self._found = place
                    return blocks[place]
                if larger is None or blocks[place].size < blocks[larger].size:
                    larger = place
        if larger is not None and most_bytes > nbytes and self._bytes + nbytes + ALIGNMENT > self._keep_bytes:
            return blocks[larger]
        block = np.empty(nbytes + ALIGNMENT, np.uint8)
        blocks.append(block)
        self._bytes += block.size
        place = 0
        while place < len(blocks) - 1 and (self._bytes > self._keep_bytes or len(blocks) > self._keep):
            if sys.getrefcount(blocks[place]) == 2:        # free, and of a size that is not in demand
                self._bytes -= blocks.pop(place).size
            else:
                place += 1
        if len(blocks) > self._keep:
            self._bytes -= blocks.pop(0).size  # it is not recycled, and lives as long as it is used
        return block


def without_samples(arrays: Tuple[ArraySpec, ...]) -> "Tuple[np.ndarray, ...]":
    """The arrays of a batch that has no sample, in the order of ``framed(arrays)``."""
    return tuple(np.empty((0,) + tuple(0 if isinstance(side, UpTo) else side for side in spec.shape), spec.dtype)
                 for spec in framed(arrays))


class BatchBuffers:
    """The memory of a job's batches, of which ``batches`` are held at once; more cost new memory."""

    def __init__(self, job: JobOptions, batches: int) -> None:
        specs = framed(job.arrays)
        most_bytes = job.batch_size * job.rows * sum(spec.sample_bytes for spec in specs)
        self._varies = [job.rows > 1 or job.may_skip or bool(spec.upto) for spec in specs]
        self._pool = BufferPool(len(specs) * batches, batches * most_bytes * 9 // 8)     # an eighth: see ``empty``

    def copies(self, views: "Sequence[np.ndarray]") -> "Tuple[np.ndarray, ...]":
        """The arrays of a batch, in the order of ``framed(job.arrays)``, in memory of their own."""
        arrays = tuple(self._pool.empty(view.shape, view.dtype, varies) for view, varies in zip(views, self._varies))
        for array, view in zip(arrays, views):
            np.copyto(array, view)       # the one copy; numpy releases the GIL for it
        return arrays
