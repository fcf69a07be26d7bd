"""How many workers a host runs for its trainer, where nobody said so: as many as keep the trainer from waiting, at most
one for each core. Pure: figures and time come in.

A run begins with one for each core, and those that it does not need are let go. One too many costs some memory until
then; one too few would cost the trainer's time, in the first seconds of all, in which people and benchmarks
judge. And what a step takes, the only thing from which the right number can be told, is seen at once where nothing
waits, while a worker takes a second to start.

More are needed if the trainer waits: what the time in which a worker makes a batch, by that of a step, comes to, or
what its waiting shows, which counts all that a batch costs a worker besides; for as long as more of them help. Fewer,
if even with some room the former is less. What the number had to grow to it never falls below again, so it comes to
rest.
"""

import math
from typing import NamedTuple, Optional

from stoker.pipeline.monitoring.throughput import CONFIRMATIONS, WAITING, Window, percent, waits, workers_are

ROOM = 1.2      # times the workers that are needed are kept: what a step takes varies
STEADY = 20     # looks in a row, as long as figures look back, that all were there: from then on its waiting counts
SLACK = 0.1     # of a worker, that a single batch may seem to want which took its time
HELPED = 0.9    # times the share that the trainer waited before: more workers did help


class Decision(NamedTuple):
    """``workers``: that are wanted from now on, None: as before. ``sentence``: what to tell the user."""

    workers: Optional[int]
    sentence: str


class Autoscaler:
    """The workers of one host. ``cores``: that it has."""

    def __init__(self, cores: int) -> None:
        self._cores = self.wanted = cores
        self._least = 1
        self._steady = 0                       # looks in a row at which all were there
        self._in_a_row, self._next = 0, 0      # how often, and what, was found right instead
        self._said = 0                         # the number that was said to be right
        self._waited = math.inf                # share of its time that the trainer waited before it last grew

    def decide(self, sums: Window, own: int, others: int) -> Optional[Decision]:
        """To be called with figures that tell something (``Meter.is_known``), of the time since the last change.
        ``own``: workers of this host that are there; ``others``: those of other hosts. None: nothing new."""
        if own != self.wanted:                 # some are still to start, or to leave
            self._steady = 0
            return None
        self._steady += 1
        found = self._right(sums, others)
        self._in_a_row = self._in_a_row + 1 if found == self._next else 1
        self._next = found
        if self._in_a_row < CONFIRMATIONS:
            return None
        before = self.wanted
        if found == before:
            return self._settled(sums, before + others)
        if found > before:
            self._least, self._waited = found, sums.waiting_share
        self.wanted, self._in_a_row, self._steady = found, 0, 0
        return Decision(found, "%d worker%s on this host instead of %d: %s; %s" % (
            found, "s" * (found > 1), before, waits(sums),
            workers_are(max(sums.workers_needed, found + others if found > before else 0), "needed")))

    def _right(self, sums: Window, others: int) -> int:
        if sums.waiting_share >= WAITING:
            needed = sums.workers_needed
            # what it grew by last did help, if it did grow
            if self._steady > STEADY and sums.waiting_share < HELPED * self._waited:
                seen = (self.wanted + others) * (1 - WAITING) / max(0.01, 1 - sums.waiting_share)
                needed = max(needed, math.ceil(seen - SLACK))
            return max(self.wanted, min(self._cores, needed - others))
        roomy = math.ceil(ROOM * sums.produce_s / max(1e-6, sums.step_s)) - others
        return max(self._least, min(self.wanted, roomy))

    def _settled(self, sums: Window, workers: int) -> Optional[Decision]:
        if self._said == self.wanted:
            return None
        self._said = self.wanted
        if sums.waiting_share >= WAITING and self.wanted < self._cores:
            return Decision(None, "%s: %s, and more do not help" % (workers_are(workers, "there"), waits(sums)))
        if sums.waiting_share >= WAITING:
            return Decision(None, "%d workers, as many as there are cores: %s; %s" % (
                workers, waits(sums), workers_are(sums.workers_needed, "needed")))
        fewer = "; %d would do %s" % (workers - 1, percent(sums.share_with(workers - 1))) * (workers > 1)
        return Decision(None, "%d worker%s: %s%s" % (workers, "s" * (workers > 1), waits(sums), fewer))
