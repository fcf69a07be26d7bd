"""The cost of feeding a batch to TensorFlow 1.9: milliseconds of a ``session.run`` that does nothing else, and how
many copies it makes, for each way of feeding and batches of 1 to 64 MB.

A batch has the same pictures in every way: 1 MB of uint8 is 4 MB of float32 and 8 MB of float64. Each batch is a new
array, as in a training loop: fresh memory of numpy, for float64 filled picture by picture as in the tutorial's
generator. For Stoker's way, another thread fills buffers of the stream's own pool ahead. The time to make a batch is
not counted.
"""

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from stoker.pipeline.coordinator.buffers import BufferPool
from benchmarks.table import Goal, Say, Table, main, spread

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ALIGNMENT = 64               # of memory that TensorFlow uses without a copy
AT_224 = 32 * 224 * 224 * 3
TINY = 64                    # bytes whose feeding costs nothing but the call
SIZES = (TINY, 1 << 20, AT_224, 1 << 24, 1 << 26)   # in bytes of uint8
QUICK = (TINY, 1 << 20, AT_224, 1 << 24)
PROBE = 1 << 24              # its float32, 64 MB, is always fresh memory of the kernel's, so that copies can be counted
MOST_TIMES, LEAST_TIMES = 1.25, 60.0
STOKER, FLOAT64 = "uint8, aligned, writable (Stoker)", "float64 into float32"
WAYS = {                     # dtype, bytes off the alignment, read-only
    STOKER: (np.uint8, 0, False),
    "uint8, unaligned": (np.uint8, 8, False),
    "uint8, aligned, read-only": (np.uint8, 0, True),
    "float32, aligned": (np.float32, 0, False),
    "float32, as numpy has it": (np.float32, 16, False),
    FLOAT64: (np.float64, 16, False),
}
AHEAD = 8                    # of the 32 that a stream prefetches by default
_pool = BufferPool(2 * AHEAD)


def array_of(way: str, size: int) -> np.ndarray:
    """A new batch as this way feeds it: 1-D, with ``size`` values."""
    dtype, off, read_only = WAYS[way]
    item = np.dtype(dtype).itemsize
    if way == STOKER:
        array = _pool.empty((size,), np.dtype(dtype))
    else:
        block = np.empty(size * item + 2 * ALIGNMENT, np.uint8)
        start = -block.__array_interface__["data"][0] % ALIGNMENT + off
        array = block[start:start + size * item].view(dtype)
    if way == FLOAT64:           # picture by picture, as the tutorial's generator makes it
        np.concatenate([part / 255.0 for part in np.array_split(np.ones(size, np.uint8), 32)], out=array)
    else:
        array[...] = 1
    array.flags.writeable = not read_only
    return array


def peak_bytes() -> int:
    """The most memory that this process had since ``forget_peak``."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Feed:
    """A session that takes a batch and computes only its size."""

    def __init__(self) -> None:
        import tensorflow as tf
        self._placeholders = {dtype: tf.placeholder(dtype, [None]) for dtype in (np.uint8, np.float32)}
        self._sizes = {dtype: tf.size(value).op for dtype, value in self._placeholders.items()}
        self._session = tf.Session()

    def run(self, array: np.ndarray) -> None:
        dtype = np.uint8 if array.dtype == np.uint8 else np.float32
        self._session.run(self._sizes[dtype], {self._placeholders[dtype]: array})

    def copies(self, way: str) -> int:
        """By the memory that ``run`` takes beyond the batch, in units of what arrives in the graph."""
        dtype = WAYS[way][0]
        array = array_of(way, 4 * PROBE if dtype == np.uint8 else PROBE)
        self.run(array[:1000])
        forget_peak()
        before = peak_bytes()
        self.run(array)
        return int(round((peak_bytes() - before) / (4.0 * PROBE)))


def batches(way: str, size: int) -> Iterator[np.ndarray]:
    """New ones without end, as a training loop gets them: made in it, or by Stoker's coordinator, ahead of it."""
    with ThreadPoolExecutor(1) as coordinator:
        while True:
            if way == STOKER:
                yield from [coordinator.submit(array_of, way, size).result() for _ in range(AHEAD)]
            else:
                yield array_of(way, size)


def milliseconds(feed: Feed, way: str, size: int, seconds: float) -> float:
    """The median of as many runs, each with a new batch, as there is time for, of at least three."""
    took: List[float] = []
    feed.run(array_of(way, size))
    deadline = time.monotonic() + seconds
    for array in batches(way, size):         # the one before is still there, as in a loop over a generator
        start = time.perf_counter()
        feed.run(array)
        took.append(time.perf_counter() - start)
        if len(took) >= 3 and time.monotonic() > deadline:
            break
    return spread(took).median * 1000


def one_round(sizes: Tuple[int, ...], seconds: float) -> Dict[Tuple[int, str], float]:
    """Milliseconds by (bytes of uint8, way)."""
    feed = Feed()
    return {(size, way): milliseconds(feed, way, size, seconds) for size in sizes for way in WAYS}


def run(quick: bool, say: Say) -> List[Table]:
    rounds, seconds = (2, 0.02) if quick else (7, 0.1)
    sizes = QUICK if quick else SIZES
    say("counting copies")
    feed = Feed()
    copies = {way: feed.copies(way) for way in WAYS}
    taken: Dict[Tuple[int, str], List[float]] = {(size, way): [] for size in sizes for way in WAYS}
    # whether a copy meets memory that is there is mostly settled for as long as a process lives
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for number in range(rounds):
            say("round %d of %d" % (number + 1, rounds))
            for key, took in processes.apply(one_round, (sizes, seconds)).items():
                taken[key].append(took)
    return tables(sizes, taken, copies)


def tables(sizes: Any, taken: Dict[Tuple[int, str], List[float]], copies: Dict[str, int]) -> List[Table]:
    """Of the milliseconds of each round, by (bytes of uint8, way)."""
    median = {key: spread(rounds).median for key, rounds in taken.items()}
    worst = max(median[size, STOKER] for size in sizes)
    ways = [[way, copies[way]] + list(spread(taken[AT_224, way])) + [median[AT_224, way] / median[AT_224, STOKER]]
            for way in WAYS]
    return [
        Table("feed-224", "Feeding 32 pictures of 224 x 224, a session.run",
              ["", "copies", "ms", "least", "most", "times Stoker's"], ways,
              notes=["Each run is fed a new array, whose making does not count: Stoker's out of the stream's pool of "
                     "buffers, filled by another thread ahead of it, all others in fresh memory of numpy's, float64 "
                     "made of one array a picture as by the tutorial's generator. Copies: by the peak of memory during "
                     "one session.run of a 64 MB batch.",
                     "Each of the %d rounds is a process of its own, for what a copy costs is settled by chance when "
                     "one starts: TensorFlow's allocator gives the memory of the copy back to the kernel after each "
                     "run (MADV_DONTNEED), so that every 4 KB of the next one costs a page fault; in some processes "
                     "it does not, and a run costs a few times less. Least and most show both, the median whichever "
                     "there were more of." % len(taken[AT_224, STOKER])],
              goals=[Goal("times less than float64 at 224 pixels", median[AT_224, FLOAT64] / median[AT_224, STOKER],
                          LEAST_TIMES)],
              plot="bars", value_column="ms", spread_columns=("least", "most")),
        Table("feed-sizes", "Feeding, by size: ms a session.run (medians)",
              ["MB of uint8"] + list(WAYS),
              [[size / 1e6] + [median[size, way] for way in WAYS] for size in sizes],
              goals=[Goal("Stoker's way at any size up to %.0f MB, times a session.run that is fed %d bytes" % (
                  max(sizes) / 1e6, TINY), worst / median[TINY, STOKER], MOST_TIMES, at_most=True)],
              plot="lines"),
    ]


if __name__ == "__main__":
    main(run, __doc__)
