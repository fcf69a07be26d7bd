"""The bottleneck of a run and the number of workers it needs, computed from recent batch timings. Pure: times come in.

If the trainer waits for less than WAITING of its time, its data is on time, and the *trainer* is the bottleneck. If it
waits for more, the bottleneck is, in this order,

    wire              the workers are idle, and a batch travels for longer than it takes to produce
    too few workers   more workers are needed than there are, and their hosts have cores for more
    storage, decode, augment, generator: the stage that takes most of the workers' time; every core has its worker

The number of workers needed is the time in which one worker produces a batch, divided by the time of a training step.
The first steps are not counted, and rare long times only in part: a checkpoint, an evaluation, a worker that hung.
"""

import math
from array import array
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from stoker.pipeline.checks import MAX_READ_AHEAD

WAITING = 0.01            # a trainer that waits for less than this share of its time has its data on time
IDLE = 0.2                # workers that are idle for less than this share of their time are busy
WARMUP_BATCHES = 4        # the first batches are not counted
OUTLIER_QUANTILE = 0.95   # a time counts for at most OUTLIER_FACTOR times this quantile of the times
OUTLIER_FACTOR = 3
FULL = 0.75               # a worker that has this share of MAX_READ_AHEAD under way cannot read more at once
MIN_BATCHES = 8           # a verdict needs at least so many batches ...
MIN_S = 1.0               # ... and so much time
WINDOW_S = 10.0           # a verdict is about so many last seconds
MAX_BATCHES = 1024        # so many batches are remembered
CONFIRMATIONS = 2         # so many equal verdicts in a row are needed before one is reported
REPORT_INTERVAL_S = 30.0  # at least so long between two reports

#: For each stage of a worker: what it does, and what helps if it is the bottleneck.
_STAGES = {
    "storage": ("waiting for files", "%s, record files instead of many small ones (stoker-pack), --cache, or faster "
                                     "or nearer storage"),
    "decode": ("decoding and resizing", "more worker hosts, a faster --decode, smaller files or --cache"),
    "augment": ("augmenting", "more worker hosts or a cheaper augmentation"),
    "generator": ("in the generator's own code", "more worker hosts or a faster generator"),
}

#: Of all verdicts.
NAMES = ("trainer", "wire", "too few workers", *_STAGES)


class BatchTimings(NamedTuple):
    """The times of one batch, in seconds."""
    waited_s: float    # the consumer waited for it
    step_s: float      # the consumer used the batch before it
    produce_s: float   # its worker produced it; of that, the next three:
    storage_s: float
    decode_s: float
    augment_s: float
    wire_s: float      # its lease and the batch itself travelled
    read_s: float = 0.0     # what the reads of its files took, added up, also those that were made ahead of time


_FIELDS = len(BatchTimings._fields)


class Window(NamedTuple):
    """The times of the last ``batches`` added up, in seconds."""
    batches: int
    waited_s: float    # the consumer waited
    used_s: float      # the consumer used them
    stages: Tuple[float, ...]   # the workers' time for storage, decode, augment, generator
    wire_s: float
    read_s: float = 0.0     # what reads took, added up: of several threads of each worker

    @property
    def waiting_share(self) -> float:
        """The share of its time that the consumer waited, 0..1."""
        return self.waited_s / max(1e-9, self.waited_s + self.used_s)

    @property
    def step_s(self) -> float:
        """The mean time in which the consumer uses a batch."""
        return self.used_s / max(1, self.batches)

    @property
    def produce_s(self) -> float:
        """The mean time in which a worker produces a batch."""
        return sum(self.stages) / max(1, self.batches)

    @property
    def workers_needed(self) -> int:
        """The number of workers with which the consumer waits for less than WAITING of its time."""
        return max(1, math.ceil((1 - WAITING) * self.produce_s / max(1e-6, self.step_s)))

    @property
    def reads_at_once(self) -> float:
        """The mean number of reads that a worker has under way while it produces a batch."""
        return self.read_s / max(1e-9, sum(self.stages))

    def share_with(self, workers: int) -> float:
        """The share of its time that the consumer would wait with so many workers, 0..1."""
        return max(0.0, 1 - workers * self.step_s / max(1e-9, self.produce_s))


class Fleet(NamedTuple):
    """The workers as of the last heartbeat."""
    workers: int                     # that are alive; one that serves several trainers counts as a part of one
    cores: int                       # of their hosts, or this trainer's part of them
    by_supervisor: Dict[str, int]    # 'host:pid' -> number of its workers
    set_aside: Mapping[str, Sequence[str]] = {}    # 'host:pid' -> why each of its other workers cannot do the job
    lost: Mapping[str, int] = {}     # 'host:pid' -> its workers that were lost in a row before they could do it
    ready: int = 0                   # workers that can, each as a whole
    worth: float = 0.0               # of them for this trainer: one that serves n trainers is worth 1/n


class Verdict(NamedTuple):
    """``name``: storage, decode, augment, generator, wire, trainer, or too few workers."""
    name: str
    sentence: str      # begins with the name; says the figures, and what helps


class ThroughputMeter:
    """Remembers the timings of recent batches. ``prefetch``: how many batches may be ready when a run begins, or when
    the number of workers has just changed."""

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._values = array("d")    # the fields of one BatchTimings after the other: numpy reads them at once
        self.clear()

    def add(self, timings: BatchTimings) -> None:
        """To be called for every batch that the consumer takes."""
        if self._count >= 0:
            self._values.extend(timings)
            if len(self._values) >= 2 * MAX_BATCHES * _FIELDS:
                del self._values[:MAX_BATCHES * _FIELDS]
            self._seconds += timings.waited_s + timings.step_s
        self._count += 1

    def clear(self) -> None:
        """Forgets all batches, because the number of workers has changed."""
        self._count, self._seconds = -WARMUP_BATCHES, 0.0
        del self._values[:]

    def window(self, last_s: float = math.inf) -> Window:
        """The last ``last_s`` seconds, but at least MIN_BATCHES batches if there are so many."""
        values = np.array(self._values[:])      # of a copy: another thread may add to them meanwhile
        rows = values[:len(values) // _FIELDS * _FIELDS].reshape(-1, _FIELDS)[-MAX_BATCHES:]
        within = int((np.cumsum(rows[::-1, 0] + rows[::-1, 1]) <= last_s).sum())
        rows = rows[-max(MIN_BATCHES, within):]
        if not len(rows):
            return Window(0, 0.0, 0.0, (0.0,) * len(_STAGES), 0.0)
        waited_s, step_s, produce_s, wire_s = (rows[:, column] for column in (0, 1, 2, 6))
        longest_s = _longest(produce_s)
        counted_s = np.minimum(produce_s, longest_s)
        # the stages may add up to more than the whole: several threads, or a worker that reports wrong times
        whole_s = np.maximum(1e-9, np.maximum(produce_s, rows[:, 3:6].sum(axis=1)))
        stages = (counted_s / whole_s).dot(rows[:, 3:6]).tolist()
        generator_s = max(0.0, float(counted_s.sum()) - sum(stages))
        return Window(len(rows), float(np.minimum(waited_s, longest_s + _longest(wire_s)).sum()),
                      float(np.minimum(step_s, _longest(step_s)).sum()), (*stages, generator_s), float(wire_s.sum()),
                      float(np.minimum(rows[:, 7], MAX_READ_AHEAD * produce_s).sum()))

    def is_known(self, window: Window) -> bool:
        """Whether ``window`` of this meter allows a verdict. A consumer that does not wait must first have used all the
        batches that were ready at the beginning."""
        enough = self._count >= MIN_BATCHES and self._seconds >= MIN_S
        return enough and (window.waiting_share >= WAITING or self._count >= self._prefetch + MIN_BATCHES)


def _longest(column: "np.ndarray") -> float:
    return float(OUTLIER_FACTOR * np.sort(column)[int(OUTLIER_QUANTILE * (len(column) - 1))])


def verdict(window: Window, workers: int, cores: int) -> Verdict:
    """The bottleneck, with ``workers`` alive on hosts of ``cores`` cores together."""
    share, needed = window.waiting_share, window.workers_needed
    pace = "a step takes %s ms, a worker produces a batch in %s ms: %s, %d %s there" % (
        milliseconds(window.step_s), milliseconds(window.produce_s), workers_are(needed, "needed"),
        workers, "is" if workers == 1 else "are")
    if share < WAITING:
        return Verdict("trainer", "trainer: the data is on time, %s; %s" % (waits(window), pace))
    working_s = sum(window.stages)
    busy = min(1.0, working_s / max(1e-9, workers * (window.waited_s + window.used_s)))
    if busy < 1 - IDLE and window.wire_s > working_s:
        sentence = ("wire: %s; a batch and its lease travel for %s ms, a worker produces one in %s ms and is idle for "
                    "%s of the time. What helps: a faster network, smaller pictures or, on the trainer's own host, "
                    "more CPU time for the trainer")
        return Verdict("wire", sentence % (waits(window), milliseconds(window.wire_s / max(1, window.batches)),
                                           milliseconds(window.produce_s), percent(1 - busy)))
    if workers < min(needed, cores):
        return Verdict("too few workers", "too few workers: %s; %s, on %d cores" % (waits(window), pace, cores))
    name, spent_s = max(zip(_STAGES, window.stages), key=lambda stage: stage[1])
    doing, remedy = _STAGES[name]
    if name == "storage":
        doing, remedy = _of_storage(window, doing, remedy)
    return Verdict(name, "%s: %s; workers spend %s of their time %s; %s on %d core%s, %s. What helps: %s" % (
        name, waits(window), percent(spent_s / max(1e-9, working_s)), doing, workers_are(workers, "running"),
        cores, "s" * (cores > 1), workers_are(needed, "needed"), remedy))


def _of_storage(window: Window, doing: str, remedy: str) -> Tuple[str, str]:
    """What workers do while they wait for files, and what helps."""
    at_once = window.reads_at_once
    if at_once >= FULL * MAX_READ_AHEAD:
        more = "more workers than cores, which read more files at once"
    else:
        more = "a higher --read-ahead than the number that was given" if at_once >= 2 else "--read-ahead auto, not 0"
    if window.read_s:
        doing += " (the reads of a batch take %s ms together, %.1f at once)" % (
            milliseconds(window.read_s / max(1, window.batches)), max(1.0, at_once))
    return doing, remedy % more


class Watch:
    """Selects the verdicts to report: each new one, once it is confirmed, and not too often."""

    def __init__(self) -> None:
        self._name, self._in_a_row = "", 0
        self._reported, self._reported_s = "", -math.inf

    def is_news(self, name: str, now: float) -> bool:
        """Whether to report this verdict at ``now``. To be called with every verdict."""
        self._in_a_row = self._in_a_row + 1 if name == self._name else 1
        self._name = name
        is_due = self._in_a_row >= CONFIRMATIONS and now >= self._reported_s + REPORT_INTERVAL_S
        if not is_due or name == self._reported:
            return False
        self._reported, self._reported_s = name, now
        return True


def waits(window: Window) -> str:
    """'the trainer waits 0.4% of the time'."""
    return "the trainer waits %s of the time" % percent(window.waiting_share)


def workers_are(count: int, what: str) -> str:
    """'1 worker is needed', '3 workers are needed'."""
    return "%d worker%s %s %s" % (count, "s" * (count != 1), "is" if count == 1 else "are", what)


def percent(share: float) -> str:
    """'0.4%', '61%'."""
    return ("%.1f%%" if share < 0.1 else "%.0f%%") % (100 * share)


def milliseconds(seconds: float) -> str:
    """'0.43', '57.3', '4020': the number alone."""
    return ("%.3g" if seconds < 1 else "%.0f") % (1000 * seconds)
