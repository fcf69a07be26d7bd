"""Layout: where the arrays of a batch lie in a slot of shared memory. Both sides find it from the job."""

from typing import NamedTuple, Sequence, Tuple

from stoker.pipeline.arrays import ArraySpec, framed

ALIGNMENT = 64          # of each array: TensorFlow 1.9 takes such memory as it is, and copies any other
PAGE_BYTES = 4096       # of each slot


class Layout(NamedTuple):
    """Of one slot. Each array begins at its start, however many rows a batch has."""
    starts: Tuple[int, ...]     # of framed(job.arrays), in bytes, multiples of ALIGNMENT
    sizes: Tuple[int, ...]      # the most bytes of each
    slot_bytes: int             # a multiple of PAGE_BYTES


def layout_of(arrays: Sequence[ArraySpec], batch_size: int, rows: int) -> Layout:
    """Of batches of at most ``batch_size`` samples with at most ``rows`` rows each."""
    starts, sizes, end = [], [], 0
    for spec in framed(tuple(arrays)):
        starts.append(end)
        sizes.append(spec.sample_bytes * batch_size * rows)
        end += -(-sizes[-1] // ALIGNMENT) * ALIGNMENT
    return Layout(tuple(starts), tuple(sizes), max(1, -(-end // PAGE_BYTES)) * PAGE_BYTES)
