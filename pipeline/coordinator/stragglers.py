"""When a position counts as a straggler, which is granted to a second worker as well. Pure: durations come in.

That is a backup task, as in MapReduce (Dean and Ghemawat, OSDI 2004, section 3.6): a position whose newest lease is
several times as old as the fleet usually needs. While a worker is idle because the window has nothing else to do,
the limit is lower, since a backup then costs nothing. Each further backup waits twice as long, so that a file on which
every worker hangs takes the workers one by one, ever more slowly.
"""

import statistics
from collections import deque
from typing import Deque

STRAGGLER_FACTOR = 4.0     # times the median of recent durations
MIN_STRAGGLER_S = 0.25     # a shorter delay is a hiccup of the machine, and not worth double work
IDLE_FACTOR = 2.0          # the same two while a worker is idle
MIN_IDLE_S = 0.02
DURATIONS = 64             # remembered: from grant to batch
MIN_DURATIONS = 8          # with fewer, the fleet's pace is unknown, and only what takes very long is a straggler


class StragglerRule:
    """The age of a lease from which on its position is a straggler. All times in seconds."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._durations: Deque[float] = deque(maxlen=DURATIONS)

    def add(self, duration_s: float) -> None:
        """A lease brought its batch after so long."""
        self._durations.append(duration_s)

    def age_s(self, has_idle_worker: bool) -> float:
        """The age for a position with one live lease; each further live lease doubles it."""
        if len(self._durations) >= MIN_DURATIONS:
            least_s, factor = ((MIN_IDLE_S, IDLE_FACTOR) if has_idle_worker else (MIN_STRAGGLER_S, STRAGGLER_FACTOR))
            return max(least_s, factor * statistics.median(self._durations))
        # a small window may never see enough durations
        return max(self._lease_s, STRAGGLER_FACTOR * max(self._durations, default=0.0))
