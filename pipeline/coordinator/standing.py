"""Standing: how the run's workers stand, for other threads: how many there are, what they do, and for how long there
has been none. Pure: time comes in.
"""

from collections import Counter
from typing import Callable, Iterable, Mapping

from stoker.pipeline.coordinator.aside import SetAside
from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.roster import Counts, Roster, roster_of
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.protocol.messages import Hello


class Standing:
    """``members``: those of the session. Other threads may read fleet, status_line, without_workers_s, counts, roster.
    """

    def __init__(self, scheduler: LeaseScheduler, members: Mapping[WorkerKey, Hello], aside: SetAside, now: float
                 ) -> None:
        self._scheduler, self._members, self._aside = scheduler, members, aside
        self._changes = -1                      # of the scheduler, that the next two are about
        self._none_since_s: float = now         # since when no worker is ready; inf while one is
        self.may_come = False                  # a member has not yet said whether it can do the job
        self.is_due = False                     # the next ``tick`` looks at each worker
        self.fleet = Fleet(0, 0, {})
        self.status_line = "no worker yet"

    def without_workers_s(self, now: float) -> float:
        """For how long no worker has been alive; 0 while one finds out whether it can do the job."""
        return 0.0 if self.may_come else max(0.0, now - self._none_since_s)

    @property
    def counts(self) -> Counts:
        """What changes all the time."""
        return Counts(self._scheduler.leased, self._scheduler.reassigned, self._scheduler.workers.joined)

    def roster(self, now: float, rest: Callable[[], None]) -> Roster:
        """The members, as people see them: see ``roster.py``."""
        return roster_of(dict(self._members), self._scheduler, self._aside, now, rest)

    def ready_workers(self) -> int:
        """Those that may get leases."""
        return self._scheduler.workers.ready

    def suspended_for(self, gap_s: float) -> None:
        """The caller was absent for so long: the time does not count."""
        self._none_since_s += gap_s

    def tick(self, now: float) -> None:
        """To be called in each turn: it costs time only where something has changed."""
        if self._scheduler.changes != self._changes:
            self._changes = self._scheduler.changes
            ready = self._scheduler.workers.ready
            self.may_come = self._scheduler.workers.alive > ready
            self._none_since_s = float("inf") if ready else min(self._none_since_s, now)
        if self.is_due:
            self.is_due = False
            self._look_around(now)

    def _look_around(self, now: float) -> None:
        scheduler, members = self._scheduler, self._members
        self.status_line = "; ".join(filter(None, [scheduler.describe(now), self._aside.report()] + [
            "%s has worked on the next step for %.1f s" % (members[peer].worker, seconds)
            for peer, seconds in scheduler.holders(now)]))
        heard = [hello for peer, hello in members.items() if scheduler.is_heard(peer)]
        hosts = {hello.worker.rpartition(":")[0]: -(-hello.cores // hello.trainers) for hello in heard}
        worth = sum(1 / hello.trainers for peer, hello in members.items() if scheduler.is_heard(peer)
                    and scheduler.fitness(peer))
        self.fleet = Fleet(workers_of(hello.trainers for hello in heard), sum(hosts.values()), Counter(
            hello.worker.rpartition("/")[0] for hello in heard), self._aside.by_supervisor(
                hello.worker for peer, hello in members.items() if scheduler.fitness(peer) is False),
            dict(self._aside.lost), self.ready_workers(), worth)


def workers_of(trainers: Iterable[int]) -> int:
    """How many workers a fleet is for one trainer; of each member: how many it serves. Those that serve others, too,
    are one at least."""
    counts = Counter(trainers)
    single = counts.pop(1, 0)
    shared = sum(count / each for each, count in counts.items())
    return single + (max(1, int(shared + 0.5)) if counts else 0)
