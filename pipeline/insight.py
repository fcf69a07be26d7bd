"""Insight: what a stream tells those who look at its status address. Without such an address, there is none."""

from typing import Any, Callable, Mapping, NamedTuple, Optional

from stoker.pipeline.coordinator.effects import Log
from stoker.pipeline.coordinator.roster import Counts, Roster
from stoker.pipeline.coordinator.thread import Coordinator
from stoker.pipeline.monitoring.bad_samples import BadFiles
from stoker.pipeline.monitoring.closing import Totals
from stoker.pipeline.monitoring.observation import Observation
from stoker.pipeline.monitoring.pace import Judged, Pace
from stoker.pipeline.monitoring.throughput import WINDOW_S
from stoker.pipeline.plan import Plan


class InFlight(NamedTuple):
    """The batches between workers and consumer."""
    size: int          # the most that are leased or ready at once
    ready: int         # they wait for the consumer
    leased: int        # workers make them


class Insight:
    """Any thread may ask. Of a stream of ``plan`` that begins at ``step``; ``ready``: its batches that wait; ``now``:
    its clock. From now on ``observation`` hears of batches, bad files and workers."""

    def __init__(self, plan: Plan, step: int, coordinator: Coordinator, pace: Pace, totals: Totals, bad_files: BadFiles,
                 ready: Mapping[int, Any], now: Callable[[], float]) -> None:
        self.observation, self.now = Observation(plan, step, now()), now
        self._coordinator, self._pace, self._totals, self._ready = coordinator, pace, totals, ready
        observation = self.observation
        pace.observers.append(observation)
        pace.reported = observation.reported
        bad_files.found = lambda path, why, step: observation.bad_file(path, why, step, now())
        coordinator.heard = self._heard

    def _heard(self, line: Log) -> None:
        self.observation.heard(line.kind, line.text, line.reassigned, self.now())

    @property
    def judged(self) -> Optional[Judged]:
        """The bottleneck of the last WINDOW_S; None: too early to tell, or the consumer got no batch since then."""
        waits_since_s = self.waits_since_s
        return None if waits_since_s is not None and self.now() >= waits_since_s + WINDOW_S else self._pace.judged

    @property
    def waits_since_s(self) -> Optional[float]:
        """Since when the consumer waits for a batch; None: it does not."""
        return self._totals.waits_since_s

    @property
    def in_flight(self) -> InFlight:
        """The batches between workers and consumer."""
        return InFlight(self._pace.prefetch, len(self._ready), self._coordinator.counts.leased)

    @property
    def counts(self) -> Counts:
        """Of workers and leases."""
        return self._coordinator.counts

    def roster(self, rest: Callable[[], None] = lambda: None) -> Roster:
        """The workers: see ``roster.py``."""
        return self._coordinator.roster(self.now(), rest)
