"""The LeaseScheduler's tables, and their rows: an open position, a live lease; which worker may try what."""

from collections import OrderedDict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import AbstractSet, Dict, FrozenSet, List, Mapping, Optional, Set, Tuple

from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.coordinator.members import Worker, Workers
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.coordinator.positions import SortedPositions

ISOLATION_DEATHS = 2          # of workers at a position, and shortages, from which on its leases are isolated
ISOLATION_DEATHS_FACTOR = 5   # times the usual limit of deaths under isolated leases: the cause is no single file

@dataclass
class OpenPosition:
    """A position that was granted and has no batch yet."""
    issued: Dict[int, int] = field(default_factory=dict)   # every lease that was granted for it -> attempt
    live: Set[int] = field(default_factory=set)            # those that a worker holds now
    untried: int = 0                                       # of those issued: a worker that cannot do the job had them
    failures: int = 0
    proven_failures: int = 0                               # those of workers that had delivered a batch before
    aborted: bool = False
    unassigned_s: Optional[float] = None                   # since when it has no live lease, as far as ``tick`` saw
    # nearly all positions have none of these: sets of their own would cost more than all else of a grant
    failed: FrozenSet[WorkerKey] = frozenset()             # workers that failed at it: others try first
    tried: FrozenSet[Party] = frozenset()                  # of which one failed or died at it: others try first
    failed_parties: FrozenSet[Party] = frozenset()         # those of the failures ...
    proven_parties: FrozenSet[Party] = frozenset()         # ... of the proven ones ...
    dead_parties: FrozenSet[Party] = frozenset()           # ... and of the deaths and shortages
    unreadable: Tuple[int, ...] = ()                       # a sample for each failure because its file was not readable
    violations: int = 0                                    # members that broke the protocol while they held it
    deaths: int = 0                                        # connections that were lost while they held it
    isolated_deaths: int = 0                               # those under isolated leases
    shortages: int = 0                                     # workers that had no memory for it, before it was isolated

    @property
    def is_suspect(self) -> bool:
        """Its samples are to be tried one by one: one death, or one lack of memory, may be chance."""
        return self.deaths + self.shortages >= ISOLATION_DEATHS

    def fails(self, key: WorkerKey, max_failures: int, workers: Workers) -> bool:
        """A worker failed at it. True: the run is to be aborted. While another worker may try, only failures of
        workers that delivered before count: on a faulty host every step fails. While one of another key may try, only
        failures of different keys count, else one key could end the run; of different hosts, if all have one key."""
        worker = workers[key]
        self.failures += 1
        self.proven_failures += worker.proven
        self.failed |= {key}
        self.tried |= {worker.party}
        self.failed_parties |= {worker.party}
        if worker.proven:
            self.proven_parties |= {worker.party}
        names, may_try = units(self.failed_parties, self.proven_parties, workers)
        if may_try:
            count = max(len(names), self.proven_failures // max_failures)
        else:
            count = self.proven_failures if others_may_try(key, self, workers) else self.failures
        self.aborted = self.aborted or count >= max_failures
        return count >= max_failures

    def starves(self, key: WorkerKey, party: Party) -> None:
        """A worker had no memory for it. Others try first, and then each sample is tried alone."""
        self.shortages += 1
        self.failed |= {key}
        self.tried |= {party}
        self.dead_parties |= {party}

    def cannot_read(self, key: WorkerKey, party: Party, index: int, max_failures: int) -> bool:
        """A worker could not read the file of the sample ``index``. True: so often that the file is bad. Others try
        before the same worker does, so one host alone is to blame only if there is no other."""
        self.failed |= {key}
        self.tried |= {party}
        self.unreadable += (index,)
        if self.unreadable.count(index) < max_failures:
            return False
        self.failed, self.tried = frozenset(), frozenset()       # what failed was not the position
        return True

    def retry_when_late(self, now: float, age_s: float) -> None:
        """It has no live lease. After ``age_s``, those that failed may try again: no other worker has taken it, for it
        hangs, or still imports."""
        if self.unassigned_s is None:
            self.unassigned_s = now
        if now - self.unassigned_s > age_s:
            self.failed, self.tried = frozenset(), frozenset()

    def loses_holder(self, key: WorkerKey, died: bool, isolated: bool, max_deaths: int,
                     workers: Workers) -> bool:
        """A member that held a lease on it is gone; ``died``: not in good order. True: the run is to be aborted."""
        self.deaths += died
        self.isolated_deaths += died and isolated
        if died:
            self.tried |= {workers[key].party}
            self.dead_parties |= {workers[key].party}
        if self.isolated_deaths >= ISOLATION_DEATHS_FACTOR * max_deaths:
            return not units(self.dead_parties, self.dead_parties, workers)[1]
        return self.deaths >= max_deaths and not others_may_try(key, self, workers)

    def is_isolated(self, workers: Workers) -> bool:
        """Its leases are isolated. That costs time: the deaths of one party, which may hang up on purpose, are a reason
        only if no other may try, or none does."""
        if not self.is_suspect:
            return False
        return (len(self.dead_parties) > 1 or self.deaths + self.shortages >= 2 * ISOLATION_DEATHS
                or not any(party not in self.dead_parties for party in workers.at_work))


@dataclass
class LiveLease:
    """A live lease. It stands in ``OpenPosition.live`` of its position and in ``Worker.leases`` of its worker."""
    worker: WorkerKey
    position: int
    granted_s: float
    isolated: bool
    is_written_off: bool = False    # its party lapsed since: see ``record.py``


class LeaseTables:
    """What a LeaseScheduler knows, and the questions about it that change nothing."""

    def __init__(self, start: int, end: int, prefetch: int) -> None:
        self._head = start                 # the next position to be taken; all below it are taken
        self._next_ungranted = start       # the next position never granted; head <= it <= head + prefetch
        self._end, self._prefetch = end, prefetch
        self._limit = min(end, start + prefetch)      # the end of the window: positions below it may be granted
        self._open: Dict[int, OpenPosition] = {}  # positions in [head, next_ungranted) without a batch
        self._unassigned = SortedPositions()     # open ones without a live lease
        self._stragglers = SortedPositions()     # open ones worth another lease
        self._ready: Set[int] = set()  # positions in [head, next_ungranted) with one
        self._leases: Dict[int, LiveLease] = {}  # the live ones, in the order in which they were granted
        self._workers = Workers()
        self._waiting: "OrderedDict[WorkerKey, None]" = OrderedDict()   # have (or had) room for a lease, longest first
        self._may_be_idle = False          # else no waiting worker has room

    @property
    def head(self) -> int:
        """The next position to be taken."""
        return self._head

    @property
    def workers(self) -> Workers:
        """The members."""
        return self._workers

    @property
    def changes(self) -> int:
        """How often a worker came, went, or changed whether and how it counts."""
        return self._workers.changes

    @property
    def leased(self) -> int:
        """The number of positions with a live lease."""
        return max(0, len(self._open) - len(self._unassigned))

    def is_open(self, position: int) -> bool:
        """A batch for ``position`` would be accepted."""
        return position in self._open

    def is_member(self, key: WorkerKey) -> bool:
        """The worker said Hello and is not gone; it may be silent."""
        return key in self._workers

    def is_heard(self, key: WorkerKey) -> bool:
        """It is a member, neither silent nor set aside."""
        return key in self._workers and self._workers[key].counts

    def fitness(self, key: WorkerKey) -> Optional[bool]:
        """Whether it can do the job; None if it has not said so, or is no member."""
        return self._workers[key].fit if key in self._workers else None

    def leases_of(self, key: WorkerKey) -> int:
        """Of how many leases a batch of its may still come."""
        worker = self._workers.get(key)
        return 0 if worker is None else len(worker.leases) + len(worker.unacknowledged)

    def parties(self) -> Set[Party]:
        """Those of all members."""
        return {worker.party for worker in self._workers.values()}

    def describe(self, now: float) -> str:
        """The state of all workers in one clause, for errors and warnings."""
        return description(self._workers, self._leases, now)

    def holders(self, now: float) -> List[Tuple[WorkerKey, float]]:
        """The workers that hold ``head``, the longest first, each with the seconds since its grant."""
        live = sorted(self._open[self._head].live) if self._head in self._open else []
        return [(lease.worker, max(0.0, now - lease.granted_s)) for lease in map(self._leases.__getitem__, live)]

    def _unqueue(self, key: WorkerKey, stays: bool = False) -> None:
        """The worker waits no more, unless it ``stays``."""
        if self._workers[key].waits and not stays:
            self._workers[key].waits = False
            del self._waiting[key]

    def _grantable(self) -> Tuple[int, int]:
        """How many positions could be granted, second batches apart, and how far the first one is from ``head``."""
        first = min(self._next_ungranted, self._unassigned.first(self._end), self._stragglers.first(self._end))
        new = self._limit - self._next_ungranted
        return new + len(self._unassigned) + len(self._stragglers), max(0, first - self._head)

    def suspended_for(self, gap_s: float, now: float) -> None:
        """The caller itself was absent for so long and could hear no worker: the time does not count for leases."""
        do_not_count(gap_s, now, self._workers, self._leases, self._open)

    def _next_new(self) -> int:
        """The next position that was never granted, for a grant."""
        self._next_ungranted += 1
        return self._next_ungranted - 1

    def _has_room_ahead(self, key: WorkerKey, worker: Worker) -> bool:
        """The worker reads ahead and has room for one more lease, and the window has two others for each worker."""
        new = self._limit - self._next_ungranted
        return worker.has_room_ahead and new > 2 * self._workers.ready and self._workers.get(key) is worker

    def _has_idle_worker(self) -> bool:
        """A worker has room, and every position in the window is assigned."""
        if not self._unassigned and self._next_ungranted >= self._limit:
            self._may_be_idle = self._may_be_idle and any(self._workers[key].has_room for key in self._waiting)
            return self._may_be_idle
        return False

    @property
    def has_room(self) -> bool:
        """Some worker may have room for a lease as soon as there is one."""
        return bool(self._waiting)


def description(workers: Mapping[WorkerKey, Worker], leases: Mapping[int, LiveLease], now: float) -> str:
    """The state of all workers in one clause."""
    connected = sum(worker.fit is not False for worker in workers.values())
    if not connected:
        return "no worker is connected%s" % (" that can do this job" if workers else "")
    text = "%d of %d connected workers alive, %d leases open" % (
        sum(worker.counts for worker in workers.values()), connected, len(leases))
    holders = {lease.worker for lease in leases.values()}
    if holders:
        text += ", oldest renewed %.1f s ago" % max(0.0, now - min(workers[key].heard_s for key in holders))
    checking = [now - worker.joined_s for worker in workers.values() if worker.fit is None]
    if checking:
        text += ", %d not yet ready: importing your code, or looking for the folder, for %.1f s" % (
            len(checking), max(checking + [0.0]))
    return text


def do_not_count(gap_s: float, now: float, workers: Mapping[WorkerKey, Worker], leases: Mapping[int, LiveLease],
                 positions: Mapping[int, OpenPosition]) -> None:
    """The last ``gap_s`` seconds are no time for any of them."""
    for worker in workers.values():
        worker.heard_s = min(now, worker.heard_s + gap_s)
    for lease in leases.values():
        lease.granted_s = min(now, lease.granted_s + gap_s)
    for entry in positions.values():
        if entry.unassigned_s is not None:
            entry.unassigned_s = min(now, entry.unassigned_s + gap_s)


def may_try(key: WorkerKey, entry: OpenPosition, workers: Workers) -> bool:
    """The worker may be granted the position. One that failed at it leaves it to workers that did not, while there are
    any, and a party of which one failed or died at it to other parties: its host may be at fault. A position for which
    the run was aborted is not tried again."""
    if entry.aborted or may_still_produce(workers[key], entry):
        return False
    if workers[key].party in entry.tried and any(party not in entry.tried for party in workers.at_work):
        return False
    return key not in entry.failed or not others_may_try(key, entry, workers)


def units(parties: AbstractSet[Party], proven: AbstractSet[Party], workers: Workers) -> Tuple[Set[str], bool]:
    """The keys of the parties ``proven``, and whether a worker with another key than those of ``parties`` may try; the
    same by hosts, if all workers have one key."""
    alive = set(workers.at_work)
    field_of = attrgetter("key" if len({party.key for party in alive | parties}) > 1 else "host")
    return set(map(field_of, proven)), not set(map(field_of, alive)) <= set(map(field_of, parties))


def others_may_try(key: WorkerKey, entry: OpenPosition, workers: Mapping[WorkerKey, Worker]) -> bool:
    """Another worker is alive that has not failed at the position."""
    return any(other != key and other not in entry.failed and worker.is_at_work
               for other, worker in workers.items())


def may_still_produce(worker: Worker, entry: OpenPosition) -> bool:
    """It holds a lease on the position, or has not acknowledged the end of one: its batch would be accepted."""
    return any(lease in worker.leases or lease in worker.unacknowledged for lease in entry.issued)

