"""What holds a run up, and how many workers it needs: arithmetic over what consumer and workers took for the batches of
late. Pure: times come in.

A consumer that waits for less than WAITING of its time has its data on time: the *trainer* itself sets the pace. Else,
in this order,

    wire              workers are idle, and a batch is under way for longer than it takes to make
    too few workers   more workers are needed than there are, and their hosts have cores for more
    storage, decode, augment, generator: on what the workers spend most of their time; every core has its worker

The number of workers that are needed is the time in which one makes a batch, by the time in which the consumer uses one
up. Both leave out what says nothing about the pace: the first steps, in which TensorFlow builds what it builds once; a
step that is many times as long as others, because a checkpoint or an evaluation lies in between; likewise a batch, at
one of whose files a worker hung; and a wait that is many times as long as a batch takes, because a worker was lost.
"""

import math
from collections import deque
from typing import Any, Deque, Dict, NamedTuple, Tuple

import numpy as np

WAITING = 0.01        # share of its time that a consumer may wait for data before it counts
IDLE = 0.2            # of the workers' time; with less of it, more workers would bring more
WARMUP_BATCHES = 4              # first batches that tell nothing
OUTLIER_QUANTILE = 0.95          # of the steps take no longer than what is usual ...
OUTLIER_FACTOR = 3              # ... and beyond so many times that, it is not the pace
MIN_BATCHES = 8             # batches, and ...
MIN_S = 1.0         # ... time, from which a verdict is possible
WINDOW_S = 10.0       # that a verdict looks back
MAX_BATCHES = 1024           # batches that are remembered
CONFIRMATIONS = 2             # verdicts in a row until one is said
REPEAT_S = 30.0       # until another one is

#: What the workers do, the words for it, and what helps.
_STAGES = {
    "storage": ("reading files", "quicker or nearer storage, more workers than cores, which then wait for it side by "
                                 "side, or --cache help"),
    "decode": ("decoding and resizing", "more worker hosts, a quicker --decode, smaller files or --cache help"),
    "augment": ("augmenting", "more worker hosts, or less to augment help"),
    "generator": ("in the generator's own code", "more worker hosts, or a quicker generator help"),
}


class BatchTimings(NamedTuple):
    """What one batch took, in seconds."""

    waited_s: float    # the consumer, waiting for it
    step_s: float      # the consumer, using up the one before
    produce_s: float   # its worker, of which the three
    storage_s: float
    decode_s: float
    augment_s: float
    wire_s: float      # lease and batch, under way


class Window(NamedTuple):
    """What ``batches`` took, in seconds."""

    batches: int
    waited_s: float
    used_s: float      # the consumer, using them up
    storage_s: float
    decode_s: float
    augment_s: float
    generator_s: float
    wire_s: float

    @property
    def waiting_share(self) -> float:
        """Of the consumer's time, 0..1."""
        return self.waited_s / max(1e-9, self.waited_s + self.used_s)

    @property
    def step_s(self) -> float:
        """In which the consumer uses up a batch."""
        return self.used_s / max(1, self.batches)

    @property
    def produce_s(self) -> float:
        """In which a worker makes a batch."""
        return sum(self.stages) / max(1, self.batches)

    @property
    def stages(self) -> Tuple[float, float, float, float]:
        """In the order of their names: storage, decode, augment, generator."""
        return self.storage_s, self.decode_s, self.augment_s, self.generator_s

    @property
    def workers_needed(self) -> int:
        """So that the consumer waits for less than WAITING of its time."""
        return max(1, math.ceil((1 - WAITING) * self.produce_s / max(1e-6, self.step_s)))

    def share_with(self, workers: int) -> float:
        """Of its time, that the consumer would wait with so many workers, 0..1."""
        return max(0.0, 1 - workers * self.step_s / max(1e-9, self.produce_s))


class Fleet(NamedTuple):
    """Who is there, as of the last heartbeat."""

    workers: int              # alive
    cores: int                # of their hosts
    by_supervisor: Dict[str, int]    # 'host:pid' -> its workers


class Verdict(NamedTuple):
    """``name``: storage, decode, augment, generator, wire, trainer, or too few workers."""

    name: str
    sentence: str      # begins with it; has the figures, and what helps


class ThroughputMeter:
    """The batches of late. ``prefetch``: the most that may lie ready when a run, or a number of workers, begins."""

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._rows: Deque[BatchTimings] = deque(maxlen=MAX_BATCHES)
        self._count, self._seconds = -WARMUP_BATCHES, 0.0

    def add(self, taken: BatchTimings) -> None:
        """The consumer has one more."""
        if self._count >= 0:
            self._rows.append(taken)
            self._seconds += taken.waited_s + taken.step_s
        self._count += 1

    def clear(self) -> None:
        """Something changed: what was before tells nothing."""
        self._count, self._seconds = -WARMUP_BATCHES, 0.0
        self._rows.clear()

    def sums(self, last_s: float = math.inf) -> Window:
        """Of the last so many seconds, and of LEAST batches at least."""
        rows = np.array(self._rows).reshape(-1, len(BatchTimings._fields))
        within = int((np.cumsum(rows[::-1, 0] + rows[::-1, 1]) <= last_s).sum())
        rows = rows[-max(MIN_BATCHES, within):]
        if not len(rows):
            return Window(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        waited_s, step_s, produce_s, wire_s = (rows[:, column] for column in (0, 1, 2, 6))
        longest_s = _longest(produce_s)
        part = np.minimum(1, longest_s / np.maximum(1e-9, produce_s))
        # the stages may be more than the whole: of threads, or of a worker that lies
        part_of_stages = part * np.minimum(1, produce_s / np.maximum(1e-9, rows[:, 3:6].sum(axis=1)))
        storage_s, decode_s, augment_s = (float((part_of_stages * rows[:, column]).sum()) for column in (3, 4, 5))
        rest_s = float((part * produce_s).sum()) - storage_s - decode_s - augment_s
        return Window(len(rows), float(np.minimum(waited_s, longest_s + _longest(wire_s)).sum()),
                    float(np.minimum(step_s, _longest(step_s)).sum()), storage_s, decode_s, augment_s,
                    max(0.0, rest_s), float(wire_s.sum()))

    def is_known(self, sums: Window) -> bool:
        """``sums`` of this meter tell something: who does not wait may still live on what lay ready before."""
        enough = self._count >= MIN_BATCHES and self._seconds >= MIN_S
        return enough and (sums.waiting_share >= WAITING or self._count >= self._prefetch + MIN_BATCHES)


def _longest(column: Any) -> float:
    return float(OUTLIER_FACTOR * np.sort(column)[int(OUTLIER_QUANTILE * (len(column) - 1))])


def verdict(sums: Window, workers: int, cores: int) -> Verdict:
    """``workers``: those alive; ``cores``: that their hosts have."""
    share, needed = sums.waiting_share, sums.workers_needed
    pace = "a step takes %s ms, a worker makes a batch in %s ms: %s, %d %s there" % (
        _ms(sums.step_s), _ms(sums.produce_s), workers_are(needed, "needed"), workers, "is" if workers == 1 else "are")
    if share < WAITING:
        return Verdict("trainer", "trainer: the data is on time, %s; %s" % (waits(sums), pace))
    seconds = workers * (sums.waited_s + sums.used_s)
    busy = min(1.0, sum(sums.stages) / max(1e-9, seconds))
    if busy < 1 - IDLE and sums.wire_s > sum(sums.stages):
        return Verdict("wire", "wire: %s; a batch and its lease are under way for %s ms, a worker makes one in %s ms "
                               "and is idle for %s of the time: a quicker network, smaller pictures or, on the "
                               "trainer's own host, CPU time for the trainer help" % (
                                   waits(sums), _ms(sums.wire_s / max(1, sums.batches)), _ms(sums.produce_s),
                                   percent(1 - busy)))
    if workers < min(needed, cores):
        return Verdict("too few workers", "too few workers: %s; %s, of %d cores" % (waits(sums), pace, cores))
    name, spent_s = max(zip(_STAGES, sums.stages), key=lambda stage: stage[1])
    doing, help_ = _STAGES[name]
    return Verdict(name, "%s: %s; workers spend %s of theirs %s, and %d of them are on %d core%s (%s): %s" % (
        name, waits(sums), percent(spent_s / max(1e-9, sum(sums.stages))), doing, workers, cores, "s" * (cores > 1),
        workers_are(needed, "needed"), help_))


class Watch:
    """Which verdicts are said: each once it is sure, and another one when it is sure and some time has passed."""

    def __init__(self) -> None:
        self._name, self._in_a_row = "", 0
        self._said, self._said_s = "", 0.0

    def is_news(self, name: str, now: float) -> bool:
        """To be called with every verdict."""
        self._in_a_row = self._in_a_row + 1 if name == self._name else 1
        self._name = name
        if self._in_a_row < CONFIRMATIONS or name == self._said or (self._said and now < self._said_s + REPEAT_S):
            return False
        self._said, self._said_s = name, now
        return True


def waits(sums: Window) -> str:
    """'the trainer waits 0.4% of the time'."""
    return "the trainer waits %s of the time" % percent(sums.waiting_share)


def workers_are(count: int, what: str) -> str:
    """'1 worker is needed', '3 workers are needed'."""
    return "%d worker%s %s %s" % (count, "s" * (count != 1), "is" if count == 1 else "are", what)


def percent(share: float) -> str:
    """'0.4%', '61%'."""
    return ("%.1f%%" if share < 0.1 else "%.0f%%") % (100 * share)


def _ms(seconds: float) -> str:
    return "%.3g" % (1000 * seconds)
