"""Autoscaling: how many workers the trainer's host runs, if the user does not say it. Pure: figures and time come in.

The number is the smallest with which the trainer does not wait, at most one worker per core. Several trainers on one
host share its cores: each has its share as the limit.

A run begins with one worker per core, and stops those that it does not need: too many cost some memory for a few
seconds, while too few would make the trainer wait, and a new worker takes a second to start.

If the trainer waits, the number grows. It is the time per batch divided by the time per step; or, if more workers have
helped before, the number that the waiting time itself suggests, which includes all costs of a batch that are not
measured. If the trainer does not wait, the number shrinks to the workers needed plus some reserve, but never below a
number to which it had to grow. So it settles.
"""

import math
from typing import NamedTuple, Optional

from stoker.pipeline.monitoring.throughput import CONFIRMATIONS, WAITING, Window, percent, waits, workers_are

RESERVE = 1.2        # so many times the workers needed are kept, because the time of a step varies
STEADY = 20          # after so many calls with an unchanged number of workers, the waiting time is used as well
TOLERANCE = 0.1      # of a worker: one slow batch must not add a worker
HELPED = 0.9         # more workers have helped if the waiting share fell below this part of the former share


class Decision(NamedTuple):
    """``workers``: the number wanted from now on; None: no change. ``sentence``: for the user."""
    workers: Optional[int]
    sentence: str


class Autoscaler:
    """Decides the number of workers of one host: at most ``cores``, which are those of the host, or the share of one of
    its ``trainers``. ``wanted``: the current number."""

    def __init__(self, cores: int, trainers: int = 1) -> None:
        self._cores = self.wanted = cores
        self._limit = "as many as there are cores" if trainers == 1 else "this trainer's share of the cores"
        self._min = 1                          # the number never falls below
        self._steady = 0                       # calls in a row in which all wanted workers were there
        self._in_a_row, self._next = 0, 0      # how often in a row this other number was found
        self._reported = 0                     # the number that was last reported as settled
        self._waited = math.inf                # the waiting share before the number last grew

    def decide(self, window: Window, own: int, others: int) -> Optional[Decision]:
        """To be called with windows that allow a verdict (``ThroughputMeter.is_known``) and begin after the last
        change. ``own``: workers alive on this host; ``others``: on other hosts. Returns None if there is no news."""
        if own != self.wanted:                 # some are still starting or stopping
            self._steady = 0
            return None
        self._steady += 1
        found = self._right_number(window, others)
        self._in_a_row = self._in_a_row + 1 if found == self._next else 1
        self._next = found
        if self._in_a_row < CONFIRMATIONS:
            return None
        before = self.wanted
        if found == before:
            return self._settled(window, before + others)
        if found > before:
            self._min, self._waited = found, window.waiting_share
        self.wanted, self._in_a_row, self._steady = found, 0, 0
        return Decision(found, "%d worker%s on this host instead of %d: %s; %s" % (
            found, "s" * (found > 1), before, waits(window),
            workers_are(max(window.workers_needed, found + others if found > before else 0), "needed")))

    def _right_number(self, window: Window, others: int) -> int:
        if window.waiting_share >= WAITING:
            needed = window.workers_needed
            if self._steady > STEADY and window.waiting_share < HELPED * self._waited:
                by_waiting = (self.wanted + others) * (1 - WAITING) / max(0.01, 1 - window.waiting_share)
                needed = max(needed, math.ceil(by_waiting - TOLERANCE))
            return max(self.wanted, min(self._cores, needed - others))
        enough = math.ceil(RESERVE * window.produce_s / max(1e-6, window.step_s)) - others
        return max(self._min, min(self.wanted, enough))

    def _settled(self, window: Window, workers: int) -> Optional[Decision]:
        if self._reported == self.wanted:
            return None
        self._reported = self.wanted
        if window.waiting_share >= WAITING and self.wanted < self._cores:
            return Decision(None, "%s: %s, and more workers do not help" % (
                workers_are(workers, "running"), waits(window)))
        if window.waiting_share >= WAITING:
            return Decision(None, "%d worker%s, %s: %s; %s" % (
                workers, "s" * (workers > 1), self._limit, waits(window), workers_are(window.workers_needed, "needed")))
        if workers == 1:
            return Decision(None, "1 worker: %s" % waits(window))
        return Decision(None, "%d workers: %s; with %d it would wait %s" % (
            workers, waits(window), workers - 1, percent(window.share_with(workers - 1))))
