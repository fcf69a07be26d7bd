"""The time from ``open_stream`` to the first batch; and the cost of order, compared with taking the first batch to
arrive.

For the cost of order, one stream with the same workers is read in turns: for a while in order, then in order of
arrival.
"""

import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Set, Tuple

from stoker.pipeline.batch import Batch
from stoker.pipeline.cores import cores
from stoker.pipeline.options import JobOptions, StreamOptions, WorkerOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources import sample_data
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.stream import BatchStream
from stoker.trainer.local_workers import LocalWorkers
from benchmarks.table import Goal, Say, Table, main, spread
from benchmarks.wire import quiet, worker_python

PICTURES = 400
SIDES = (64, 224)
TURN_S = 0.5
MOST_COST = 0.03


class EitherWay(BatchStream):
    """A stream that returns the next batch, or any batch that is ready. Its memory is bounded in both cases: the window
    moves with the first position that was not returned."""

    def __init__(self, *arguments: Any) -> None:
        self._early: Set[int] = set()      # positions that were returned before their turn
        super().__init__(*arguments)

    def _deliver(self, position: int, batch: Batch) -> None:
        with self._condition:
            self._ready[position] = batch
            self._condition.notify()

    @property
    def waiting(self) -> int:
        """Batches that are ready and were not returned yet."""
        return len(self._ready)

    def take(self, in_order: bool) -> Batch:
        with self._condition:
            while True:
                position = self._position if in_order else next(iter(self._ready), self._position)
                if position in self._ready:
                    break
                if self._error is not None:
                    raise self._error
                self._condition.wait(0.2)
            batch = self._ready.pop(position)
            self._early.add(position)
            while self._position in self._early:
                self._early.remove(self._position)
                self._position += 1
        self._coordinator.take_up_to(self._position)
        return batch


def first_batch_s(folder: str, python: str) -> float:
    """From ``open_stream`` to the first batch, scan of the folder and start of two workers included."""
    from stoker.trainer.feed import open_stream
    start = time.monotonic()
    with open_stream(folder, image_size=64, batch_size=32, workers=2, worker_python=python) as stream:
        next(stream)
        return time.monotonic() - start


def rates(folder: str, side: int, turns: int) -> Tuple[float, float]:
    """Batches a second (in order, as they come), each over so many turns."""
    dataset = scan_folder(folder)
    job = JobOptions("image", (side, side), 32)
    stream = EitherWay(Plan(len(dataset), 32, 1000000, 0), Splits(dataset), job, StreamOptions())
    with stream:
        options = WorkerOptions(stream.address, once=True, quiet=True)
        stream.attach(LocalWorkers(options, cores(), worker_python()))
        for _ in range(20):
            stream.take(True)
        counts, took = {True: 0, False: 0}, {True: 0.0, False: 0.0}
        for turn in range(turns):
            for in_order in (True, False) if turn % 2 else (False, True):
                start = time.monotonic()
                counts[in_order] -= stream.waiting       # what is there at the end of a turn is its own work, not the
                while time.monotonic() < start + TURN_S:     # next one's
                    stream.take(in_order)
                    counts[in_order] += 1
                counts[in_order] += stream.waiting
                took[in_order] += time.monotonic() - start
        return counts[True] / took[True], counts[False] / took[False]


def run(quick: bool, say: Say) -> List[Table]:
    quiet()
    with tempfile.TemporaryDirectory() as top:
        folder = os.path.join(top, "pictures")
        say("making %d pictures" % PICTURES)
        sample_data.write(folder, PICTURES)
        return [_first(folder, 1 if quick else 5, say), _order(folder, 3 if quick else 10, 1 if quick else 5, say)]


def _first(folder: str, rounds: int, say: Say) -> Table:
    pythons = {"workers on the newest Python": worker_python(),
               "workers on the trainer's Python 3.6": sys.executable}
    found: Dict[str, List[float]] = {name: [] for name in pythons}
    for number in range(rounds):
        say("first batch, round %d of %d" % (number + 1, rounds))
        for name, python in pythons.items():
            found[name].append(first_batch_s(folder, python))
    return Table("first-batch",
                 "Time to the first batch, from open_stream (%d pictures, 64 x 64, 2 workers)" % PICTURES,
                 ["", "s", "least", "most"],
                 [[name] + list(spread(values)) for name, values in found.items()],
                 plot="bars", value_column="s", spread_columns=("least", "most"))


def _order(folder: str, turns: int, rounds: int, say: Say) -> Table:
    rows, goals = [], []
    for side in SIDES:
        pairs: List[Tuple[float, float]] = []
        for number in range(rounds):
            say("order at %d pixels, round %d of %d" % (side, number + 1, rounds))
            pairs.append(rates(folder, side, turns))
        ordered, any_order = (spread(values).median for values in zip(*pairs))
        costs = [1 - one / other for one, other in pairs]
        rows.append([side, ordered, any_order] + list(spread(costs)))
        goals.append(Goal("share of the batches that order costs at %d pixels" % side, spread(costs).median,
                          MOST_COST, at_most=True))
    return Table("cost-of-order", "Batches a second in order, and as they come (2 workers, sample pictures)",
                 ["pixels", "in order", "as they come", "order costs", "least", "most"], rows,
                 notes=["In each round one stream with the same workers, read in %d turns of %g s of either kind; a "
                        "cost below 0 is chance." % (turns, TURN_S)], goals=goals)


if __name__ == "__main__":
    main(run, __doc__)
