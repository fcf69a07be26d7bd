"""When a position counts as a straggler, which is granted to a second worker as well. Pure: durations come in.

That is a backup task, as in MapReduce (Dean and Ghemawat, OSDI 2004, section 3.6): a position whose newest lease is
several times as old as the fleet usually needs. While a worker is idle because the window has nothing else to do,
the limit is lower, since a backup then costs nothing. Each further backup waits twice as long, so that a file on which
every worker hangs takes the workers one by one, ever more slowly.
"""

import statistics
from collections import deque
from typing import Collection, Deque, Iterator, Mapping, Optional

from stoker.pipeline.coordinator.tables import LiveLease, OpenPosition

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
        self._median_s: Optional[float] = None       # of them; None: to be computed

    def add(self, duration_s: float) -> None:
        """A lease brought its batch after so long."""
        self._durations.append(duration_s)
        self._median_s = None

    def age_s(self, has_idle_worker: bool) -> float:
        """The age for a position with one live lease; each further live lease doubles it."""
        if len(self._durations) >= MIN_DURATIONS:
            least_s, factor = ((MIN_IDLE_S, IDLE_FACTOR) if has_idle_worker else (MIN_STRAGGLER_S, STRAGGLER_FACTOR))
            if self._median_s is None:
                self._median_s = statistics.median(self._durations)
            return max(least_s, factor * self._median_s)
        # a small window may never see enough durations
        return max(self._lease_s, STRAGGLER_FACTOR * max(self._durations, default=0.0))


def late_positions(now: float, age_s: float, leases: Mapping[int, LiveLease], positions: Mapping[int, OpenPosition],
                   written_off: Collection[int]) -> Iterator[int]:
    """The open ones that are stragglers. ``leases``: the live ones, in the order of their grants, so that the young
    ones need no look. ``written_off``: those of them that count as not held. ``age_s``: see ``StragglerRule``."""
    suspects = {leases[lease].position for lease in written_off}
    for held in leases.values():
        if now - held.granted_s <= age_s:
            break
        suspects.add(held.position)
    for position in suspects:
        counted = [lease for lease in positions[position].live if not leases[lease].is_written_off]
        if not counted or now - leases[max(counted)].granted_s > age_s * 2 ** (len(counted) - 1):
            yield position
