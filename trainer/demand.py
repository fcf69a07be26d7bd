"""How many workers a run can use, of whatever hosts: a number for those who start and stop them. Pure: time comes in.

It follows the need up and down, unlike ``autoscaler.py``, which finds one number for one host. The need is the time in
which a worker produces a batch, divided by the time of a step. It is computed from the batches since the pace last
changed, at most those of the last LONG_S seconds or LONG_ROWS batches; a single long step, such as one with a
checkpoint, hardly counts.

    up     when the need was higher at each look of the last UP_S seconds: to the smallest need of these
    down   when it was lower at each look of the last DOWN_S seconds: to the largest need of these, with some reserve

So noise does not make workers come and go. (Kubernetes calls such times stabilization windows.)

It does not matter how many of the wanted workers are there. Their number counts only where the trainer waits: then it
shows what a batch costs beyond the times that workers report, and whether more workers have helped. If they have not,
because storage, network or cores are the limit, no more are wanted for a while.
"""

import math
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from stoker.pipeline.monitoring.throughput import BatchTimings, milliseconds, workers_are

LOOK_INTERVAL_S = 0.25    # at most so often, it is decided again
UP_S, UP_LOOKS = 1.0, 2
DOWN_S, DOWN_LOOKS = 4.0, 4
TOLERANCE = 0.05          # of the need: a trainer that waits for less than this share of its time gets no more workers
RESERVE = 1.1             # so many times the need are kept
ENDS_WITHIN_S = 5.0       # of the run: workers that start now would come too late
PAUSE_S = 10.0            # an evaluation that takes longer has a need of its own

LONG_S, LONG_ROWS, MAX_LONG_S = 10.0, 40, 60.0     # a pace is that of so long, or so many batches, at most so long
RECENT_S = 1.0
MIN_ROW_S = 0.02          # batches that are faster are taken together
WARMUP_BATCHES = 2        # the first ones are not counted
MIN_ROWS = 3              # with fewer, the pace is not known
MAX_ROWS = 512
MIN_CHANGE = 0.15         # of the logarithm of a time: a smaller change needs no new beginning
CERTAIN = 4.0             # standard deviations of the recent mean
CLIP = 1.5                # of the logarithm: a single time counts for at most this much, when changes are looked for
OUTLIER_QUANTILE, OUTLIER_FACTOR = 0.75, 3.0

WAITS = 0.05              # a trainer that waits for at least this share of its time has too few workers
SETTLE_S = 1.0            # after the number of workers has changed, the throughput is not measured for so long
MIN_BATCHES, MIN_S = 16, 1.5    # that a throughput is measured from
COMPARED_S = 120.0        # throughputs are compared if not more than so long has passed between
MORE = 1.4                # ... and with at least so many times the workers
HELPED, USELESS = 0.5, 0.1      # shares of the gain that as many more workers would bring at best
LIMIT_S, MAX_LIMIT_S = 60.0, 960.0     # so long no more workers are wanted; after each further time twice as long
RETRY = 1.5                     # then, so many times as many are tried
UNPROVEN_S = 120.0              # workers that have joined count at most so long as such whose effect is unknown


class _Pace:
    """The mean of a time, such as that of a step, since it last changed."""

    def __init__(self) -> None:
        self._rows: Deque[Tuple[float, float]] = deque(maxlen=MAX_ROWS)

    def add(self, seconds: float, now: float) -> None:
        self._rows.append((now, max(1e-6, seconds)))

    def mean(self, now: float) -> Optional[float]:
        """None: too few are known. Forgets what was before a change."""
        while len(self._rows) > MIN_ROWS and self._rows[0][0] < now - (
                LONG_S if len(self._rows) > LONG_ROWS else MAX_LONG_S):
            self._rows.popleft()
        if len(self._rows) < MIN_ROWS:
            return None
        rows = np.array(self._rows)
        recent = max(MIN_ROWS, int((rows[:, 0] > now - RECENT_S).sum()))
        if len(rows) - recent >= MIN_ROWS and _differ(np.log(rows[:-recent, 1]), np.log(rows[-recent:, 1])):
            for _ in range(len(rows) - recent):
                self._rows.popleft()
            rows = rows[-recent:]
        times = rows[:, 1]
        usual = float(np.sort(times)[int(OUTLIER_QUANTILE * (len(times) - 1))])
        return float(np.minimum(times, OUTLIER_FACTOR * usual).mean())


def _differ(before: "np.ndarray", recent: "np.ndarray") -> bool:
    """Whether these logarithms of times are of another pace: both their mean and their median, so that neither one long
    step nor steps of two kinds in turn look like a change."""
    middle = np.median(before)
    before, clipped = (np.clip(part - middle, -CLIP, CLIP) for part in (before, recent))
    least = max(MIN_CHANGE, CERTAIN * float(before.std()) / math.sqrt(len(recent)))
    by_mean, by_median = float(clipped.mean() - before.mean()), float(np.median(recent) - middle)
    return min(abs(by_mean), abs(by_median)) > least and by_mean * by_median > 0


class _Throughput:
    """What each number of workers achieved while the trainer waited for them, and how many are of use."""

    def __init__(self) -> None:
        self._rows: Deque[Tuple[float, "_Row"]] = deque(maxlen=MAX_ROWS)
        self._workers, self._since_s = math.inf, -math.inf
        self._unproven_s = -math.inf            # until then, it is not known what the last workers achieve
        self._produce_s = math.inf              # before these joined
        self._known: Dict[float, Tuple[float, float]] = {}      # workers -> batches a second; when
        self._limit_s = LIMIT_S                                 # how long the next limit will stand
        self._until_s = -math.inf
        self._limit = math.inf
        self.measured = 0.0         # the number of workers of which this is known:
        self.unmeasured_s = 0.0     # that a batch costs a worker beyond the time that the worker reports

    def add(self, row: "_Row", now: float) -> None:
        self._rows.append((now, row))

    def look(self, workers: float, produce_s: float, now: float) -> None:
        """To be called at each look, with those that are ready."""
        if workers != self._workers:
            if workers > self._workers:
                self._unproven_s = now + UNPROVEN_S
                if now > self._known.get(self._workers, (0.0, -math.inf))[1] + COMPARED_S and self._is_waiting():
                    # there was no time to measure it: at best
                    self._known[self._workers] = self._workers / (self._produce_s + self.unmeasured_s), now
            self._workers, self._since_s = workers, now + max(SETTLE_S, 2 * produce_s)
        if now >= self._unproven_s:
            self._produce_s = produce_s
        # workers that have begun together deliver together
        halves = self._halves(max(self._since_s, now - MAX_LONG_S), max(MIN_S, 3 * produce_s))
        if not workers or not halves:
            return
        rate = sum(row.batches for row in halves) / sum(row.seconds for row in halves)
        unmeasured_s, self.measured = max(0.0, workers / rate - produce_s), workers
        self._unproven_s, self._produce_s = -math.inf, produce_s
        if any(half.waited_s < WAITS * half.seconds for half in halves):
            self.unmeasured_s = min(self.unmeasured_s, unmeasured_s)     # or these would not be enough
            return
        self.unmeasured_s = unmeasured_s
        self._known[workers] = rate, now
        self._compare(workers, rate, now)

    def _is_waiting(self) -> bool:
        """Whether the trainer waited lately, without a change of the workers since."""
        rows = list(self._rows)[-MIN_ROWS:]
        return len(rows) == MIN_ROWS and rows[0][0] > self._since_s and all(
            row.waited_s >= WAITS * row.seconds for _, row in rows)

    def _halves(self, begun_s: float, least_s: float) -> List["_Row"]:
        """The sums of two equal parts of the batches of the last ``least_s`` seconds or more, none before ``begun_s``;
        []: they are too few. Where the trainer waits in both, all of them show what the workers can."""
        rows: List[_Row] = []
        batches, seconds = 0, 0.0
        for when_s, row in reversed(self._rows):
            if when_s <= begun_s:
                return []
            rows.append(row)
            batches, seconds = batches + row.batches, seconds + row.seconds
            if len(rows) > 1 and batches >= MIN_BATCHES and seconds >= least_s:
                middle = len(rows) // 2
                return [_Row(*map(sum, zip(*part))) for part in (rows[:middle], rows[middle:])]
        return []

    def limit(self, now: float) -> float:
        """More workers than this are of no use, as far as is known."""
        return self._limit if now < self._until_s else math.ceil(RETRY * min(1e9, self._limit))

    def produce_s(self, produce_s: float) -> float:
        """The time per batch that counts for more workers. That it grew when workers joined is no reason: they may slow
        each other down, which ``limit`` will tell."""
        return min(produce_s, self._produce_s)

    def _compare(self, workers: float, rate: float, now: float) -> None:
        fewer = [(count, known) for count, (known, when_s) in self._known.items()
                 if count * MORE <= workers and when_s >= now - COMPARED_S]
        if not fewer:
            return
        count, known = max(fewer)
        gain = (rate / known - 1) / (workers / count - 1)
        if gain >= HELPED:
            if workers > self._limit:
                self._limit, self._limit_s = math.inf, LIMIT_S
        elif now >= self._until_s or workers < self._limit:
            self._limit = count if gain < USELESS else workers
            self._until_s, self._limit_s = now + self._limit_s, min(MAX_LIMIT_S, 2 * self._limit_s)


class _Row(NamedTuple):
    """Some batches, with the sums of their times in seconds."""
    batches: int
    waited_s: float
    step_s: float
    produce_s: float

    @property
    def seconds(self) -> float:
        return self.waited_s + self.step_s


class _Look(NamedTuple):
    """The need at one moment."""
    when_s: float
    up: int           # at least so many
    down: int         # at most so many, reserve included


class Demand:
    """``window``: the most steps that are leased or buffered at once. ``training``: the run trains; else its batches
    are all for evaluation or prediction."""

    def __init__(self, window: int, training: bool) -> None:
        self._window, self._training = window, training
        self.workers: Optional[int] = None    # that are wanted in all; None: nothing is known yet
        self.why = "no figures yet"           # a sentence about ``workers``
        self._step, self._produce, self._throughput = _Pace(), _Pace(), _Throughput()
        self._count = 0
        self._row = _Row(0, 0.0, 0.0, 0.0)
        self._before_counts = False           # the batch before this one is one that counts
        self._pause_since_s: Optional[float] = None
        self._looks: List[_Look] = []
        self._looked_s = -math.inf

    def taken(self, training: bool, timings: BatchTimings, ready: float, remaining: int, now: float) -> None:
        """To be called for every batch that the consumer takes. ``training``: of the batch. ``ready``: workers that can
        do the job, the local ones included; one that serves several trainers counts in part. ``remaining``: batches
        that are still to come."""
        counts = training == self._training
        if counts:
            self._pause_since_s = None
        else:
            self._pause_since_s = now if self._pause_since_s is None else self._pause_since_s
            counts = now >= self._pause_since_s + PAUSE_S
        before, self._before_counts = self._before_counts, counts
        if not counts:
            return
        self._count += 1
        if self._count <= WARMUP_BATCHES or not before:      # the step is that of the batch before
            return
        row = self._row = _Row(self._row.batches + 1, *(sum(times) for times in zip(
            self._row[1:], (timings.waited_s, timings.step_s, timings.produce_s))))
        if row.waited_s + row.step_s < MIN_ROW_S:
            return
        self._row = _Row(0, 0.0, 0.0, 0.0)
        self._step.add(row.step_s / row.batches, now)
        self._produce.add(row.produce_s / row.batches, now)
        self._throughput.add(row, now)
        if now >= self._looked_s + LOOK_INTERVAL_S:
            self._looked_s = now
            self._look(ready, remaining, now)

    def _look(self, ready: float, remaining: int, now: float) -> None:
        step_s, produce_s = self._step.mean(now), self._produce.mean(now)
        if step_s is None or produce_s is None:
            return
        self._throughput.look(ready, produce_s, now)
        limit = self._throughput.limit(now)
        need, proven = produce_s / step_s, self._throughput.produce_s(produce_s) / step_s
        if ready * (1 + WAITS) >= need:
            more = min(self._throughput.unmeasured_s / step_s, max(0.0, 2 * self._throughput.measured - need))
            need, proven = need + more, proven + more
        most = max(1, int(min(limit, self._window)))
        up, down = (min(most, max(1, math.ceil(round(count, 6)))) for count in (
            (1 - TOLERANCE) * proven, RESERVE * need))
        self._looks.append(_Look(now, up, down))
        ends_s = remaining * max(step_s, produce_s / max(1.0, ready))
        self._decide(remaining if ends_s >= ENDS_WITHIN_S else 0, now)
        if self.workers is None:
            return
        self.why = "a step takes %s ms, a worker produces a batch in %s ms: %s" % (
            milliseconds(step_s), milliseconds(produce_s), workers_are(self.workers, "needed"))
        if need > limit:
            self.why += "; more than %d do not help" % most

    def _decide(self, remaining: int, now: float) -> None:
        looks = self._looks
        while len(looks) > DOWN_LOOKS and looks[1].when_s <= now - DOWN_S:
            del looks[0]
        higher = [look.up for i, look in enumerate(looks) if look.when_s > now - UP_S or i >= len(looks) - UP_LOOKS]
        if len(looks) >= UP_LOOKS and (self.workers is None or min(min(higher), remaining) > self.workers):
            self.workers = max(1, min(min(higher), remaining) if self.workers is not None else min(higher))
        elif self.workers is not None and len(looks) >= DOWN_LOOKS and looks[0].when_s <= now - DOWN_S:
            self.workers = min(self.workers, max(look.down for look in looks))
