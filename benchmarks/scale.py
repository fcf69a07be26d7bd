"""Scaling: images a second with real workers on 1 to all cores; and 1 to 1,000 sleeping workers, which show the limit
of one trainer's control plane.

The sleepers are real sessions with a socket each, many in one process: they hold one lease, sleep, and deliver a small
batch. So they cost this machine little, and the cost of the trainer's end can be measured.
"""

import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import psutil

from stoker.pipeline.cores import cores
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources import sample_data
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.stream import BatchStream
from stoker.trainer.feed import open_stream
from benchmarks.table import Goal, Say, Table, main, spread
from benchmarks.wire import cpu_s, programs, quiet, worker_python

PICTURES = 400
SLEEPERS = ((1, 0.5), (10, 0.5), (100, 0.5), (1000, 0.5), (100, 0.05), (1000, 0.1))   # workers, seconds a batch
A_PROCESS = 250              # sleepers in one
SAMPLES, SIDE = 4, 8         # of their batches: 768 bytes of pictures
JOIN_S = 60.0                # for all of them
LEAST_SHARE = 0.5            # of the mean, for the worker with fewest batches


class Served(NamedTuple):
    """One round of sleepers."""

    leases_s: float          # batches a second
    cpu_us: float            # of the trainer process, per batch
    memory_mb: float         # resident, of the trainer process
    fewest: float            # batches of one worker
    most: float
    share: float             # the fewest by the mean


def memory_mb() -> float:
    return int(psutil.Process().memory_info().rss) / 1e6


def served(counts: Sequence[int], seconds: float, cpu: float) -> Served:
    """``counts``: batches of each worker in ``seconds``, for which the trainer took ``cpu`` seconds."""
    total = sum(counts)
    return Served(total / seconds, cpu * 1e6 / max(1, total), memory_mb(), min(counts), max(counts),
                  min(counts) * len(counts) / max(1, total))


def sleepers(workers: int, sleep_s: float, seconds: float) -> Served:
    """``workers`` of them for ``seconds``, counted from when all have delivered."""
    samples = generated(1000 * SAMPLES)
    options = StreamOptions(prefetch=2 * workers + 32)
    stream = BatchStream(Plan(len(samples), SAMPLES, 1000000, 0), Splits(samples),
                         JobOptions("image", (SIDE, SIDE), SAMPLES), options)
    with stream, ExitStack() as processes:
        for first in range(0, workers, A_PROCESS):
            processes.enter_context(programs(1, ["sleepers", stream.address, str(min(A_PROCESS, workers - first)),
                                                 str(sleep_s)]))
        counts: Dict[str, int] = Counter()
        limit = time.monotonic() + JOIN_S
        while len(counts) < workers:
            counts[next(stream).worker] += 1
            if time.monotonic() > limit:
                raise RuntimeError("only %d of %d workers delivered within %g s" % (len(counts), workers, JOIN_S))
        settled = time.monotonic() + sleep_s
        while time.monotonic() < settled:
            next(stream)
        before, cpu, start = Counter(counts), cpu_s(os.getpid()), time.monotonic()
        while time.monotonic() < start + seconds:
            counts[next(stream).worker] += 1
        took = time.monotonic() - start
        return served([counts[name] - before[name] for name in before], took, cpu_s(os.getpid()) - cpu)


def images_s(folder: str, workers: int, seconds: float) -> float:
    """Of real workers, at 64 pixels."""
    with open_stream(folder, image_size=64, batch_size=32, epochs=1000000, workers=workers,
                     worker_python=worker_python()) as stream:
        for _ in range(4 * workers):
            next(stream)
        count, start = 0, time.monotonic()
        while time.monotonic() < start + seconds:
            count += len(next(stream))
        return count / (time.monotonic() - start)


def run(quick: bool, say: Say) -> List[Table]:
    quiet()
    return [_workers(quick, say), _sleepers(quick, say)]


def _workers(quick: bool, say: Say) -> Table:
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    available = cores()
    found: Dict[int, List[float]] = {workers: [] for workers in range(1, available + 1)}
    with tempfile.TemporaryDirectory() as folder:
        say("making %d pictures" % PICTURES)
        sample_data.write(os.path.join(folder, "pictures"), PICTURES)
        for number in range(rounds):
            say("workers, round %d of %d" % (number + 1, rounds))
            for workers in found:
                found[workers].append(images_s(os.path.join(folder, "pictures"), workers, seconds))
    one = spread(found[1]).median
    rows = [[workers] + list(spread(rates)) + [spread(rates).median / one] for workers, rates in found.items()]
    return Table("scale-workers", "Images a second by worker processes (sample pictures, 64 x 64; %d cores, which the "
                 "trainer process shares)" % available, ["workers", "images/s", "least", "most", "times one"], rows,
                 plot="lines", value_column="images/s", spread_columns=("least", "most"))


def _sleepers(quick: bool, say: Say) -> Table:
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    found: Dict[Tuple[int, float], List[Served]] = {key: [] for key in SLEEPERS}
    for number in range(rounds):
        for workers, sleep_s in SLEEPERS:
            say("%d sleepers of %g s, round %d of %d" % (workers, sleep_s, number + 1, rounds))
            found[workers, sleep_s].append(sleepers(workers, sleep_s, seconds))
    rows: List[List[Any]] = []
    for (workers, sleep_s), results in found.items():
        median = Served(*[spread(values).median for values in zip(*results)])
        least = min(result.leases_s for result in results)
        rows.append([workers, sleep_s, workers / sleep_s, median.leases_s, least, median.cpu_us, median.memory_mb,
                     min(result.fewest for result in results), max(result.most for result in results),
                     min(result.share for result in results)])
    thousand = min(result.share for result in found[1000, 0.5])
    return Table("scale-sleepers", "Sleeping workers at one trainer", [
        "workers", "sleep s", "leases/s that they could take", "leases/s", "least", "trainer CPU us/batch",
        "trainer MB", "fewest of a worker", "most", "fewest by mean"], rows,
        notes=["Real sessions and sockets, up to %d in one process. Fewest and most: batches of one worker in the "
               "%.1f s of a round, of all rounds." % (A_PROCESS, seconds),
               "100 workers that sleep 0.05 s ask for as much as 1,000 that sleep 0.5 s: what a batch costs more with "
               "these is the price of numbers. The last row asks for more than this machine gives, whose cores the "
               "sleepers share: there the control plane ends."],
        goals=[Goal("1,000 workers: batches of the one with fewest, by the mean", thousand, LEAST_SHARE)],
        plot="lines", value_column="leases/s")


if __name__ == "__main__":
    main(run, __doc__)
