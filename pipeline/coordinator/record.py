"""Records: what each party has done with its leases, and so how many it may have. Pure: time comes in.

The party of a worker is all workers with the same key on the same host. It is the unit by which failures, deaths and
late leases count. A connection is no such unit: a party opens as many as it likes, and under new names. Nor is a key:
many hosts may share it, and one of them may be broken.

A party has as many leases as its workers have room for, until more of them came to nothing than its batches make up
for. If another party is better, it then *lapses*: it has one place, and may try again after a while, which is doubled
each time. Each batch of its gives it one more place, as TCP's slow start does after a loss, until there are enough for
all. Until then it gets no back-ups, and what it held before counts as not held: others do it at once. New hosts of a
key of which a host has lapsed begin with one place, too. Where no party is better, none is limited.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional, Set

from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.coordinator.members import Worker
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.coordinator.tables import LiveLease

MAX_SCORE = 64             # batches that are remembered
FIRST_SCORE = 16           # what the first party of a key begins with ...
NEXT_SCORE = 4             # ... and each further one
LATE_COST = 4              # batches that make up for a lease that came late or to nothing ...
RETURNED_COST = 2          # ... and for one that a worker gave back
ENOUGH_PLACES = 64         # from here on a party that had lapsed has no limit any more
REVIEW_INTERVAL_S = 0.1
MAX_WAIT_S = 30.0          # between two leases of a party that has one place
MAX_LAPSES = 16            # that are counted
MAX_PARTIES = 5000         # remembered, more than there are connections; those without a worker are forgotten first


@dataclass
class _Record:
    """Of one party."""
    workers: Set[WorkerKey] = field(default_factory=set)     # its members
    is_proven: bool = False                 # a batch of its was the first
    score: int = FIRST_SCORE                # its batches, less what the leases cost that came to nothing
    places: Optional[int] = None            # the most leases at once; None: no limit
    lapses: int = 0
    next_s: float = 0.0                     # with one place: no lease before
    held: Set[int] = field(default_factory=set)     # its live leases, since it last lapsed

    @property
    def is_trusted(self) -> bool:
        """It never lapsed, or a batch of its was the first since then."""
        return self.places != 1 or not self.lapses


class Records:
    """The records of all parties. ``workers`` and ``leases`` are the tables of the scheduler."""

    def __init__(self, workers: Mapping[WorkerKey, Worker], leases: Mapping[int, LiveLease]) -> None:
        self._workers, self._leases = workers, leases
        self._records: "OrderedDict[Party, _Record]" = OrderedDict()     # the last one that came is at the end
        self._parties: Dict[str, int] = Counter()       # of each key
        self._lapsed: Dict[str, int] = Counter()        # those of them that have lapses
        self._trials: Dict[str, Party] = {}     # key -> the party that has a lease in its only place
        self._limited: Set[Party] = set()       # those with a limit of places
        self._indebted: Set[Party] = set()      # those whose score may be below 0
        self._good: Optional[Party] = None      # was trusted, and did its leases, at the last review
        self.written_off: Set[int] = set()      # the live leases that are
        self._is_limiting = False               # some party is trusted, and does its leases
        self._next_review_s = 0.0
        self._late_s = 0.0                      # as of the last review

    def joins(self, party: Party, key: WorkerKey) -> None:
        """It has one more worker."""
        record = self._records.get(party)
        if record is None:
            record = self._records[party] = _Record(score=NEXT_SCORE if self._parties[party.key] else FIRST_SCORE)
            if self._lapsed[party.key]:
                record.places, record.score = 1, 0
                self._limited.add(party)
            self._parties[party.key] += 1
        record.workers.add(key)
        self._records.move_to_end(party)
        if len(self._records) > MAX_PARTIES:
            self._forget_one()

    def _forget_one(self) -> None:
        forgotten = next((party for party, record in self._records.items() if not record.workers), None)
        if forgotten is not None:
            self._parties[forgotten.key] -= 1
            self._lapsed[forgotten.key] -= self._records.pop(forgotten).lapses > 0
            self._limited.discard(forgotten)
            self._indebted.discard(forgotten)

    def leaves(self, party: Party, key: WorkerKey) -> None:
        """It has one worker less."""
        self._records[party].workers.remove(key)

    def granted(self, party: Party, lease: int, now: float) -> None:
        """It has one more lease."""
        record = self._records[party]
        record.held.add(lease)
        if record.places == 1:
            record.next_s = now + _wait_s(record, self._late_s)
            self._trials[party.key] = party

    def ends(self, party: Party, lease: int, cost: int = 0) -> None:
        """It has the lease no more, which came to nothing at this ``cost``."""
        record = self._records[party]
        self.written_off.discard(lease)
        if lease in record.held:
            record.held.remove(lease)
            record.score -= cost
            if record.score < 0:
                self._indebted.add(party)
            self._ends_trial(party)

    def delivered(self, party: Party, lease: int) -> None:
        """A batch of its was the first. It counts if its lease is not from before the party lapsed."""
        record = self._records[party]
        record.is_proven = True
        if lease in record.held:
            record.score = min(MAX_SCORE, record.score + 1)
            record.places = None if record.places is None else record.places + 1

    def is_limited(self, party: Party) -> bool:
        """It gets no back-ups, and nothing that is needed soon."""
        return self._is_limiting and not self._records[party].is_trusted

    def may_have_more(self, party: Party, now: float) -> bool:
        """It may have one more lease."""
        record = self._records[party]
        if record.places is None or not self._is_limiting:
            return True
        return len(record.held) < record.places and (
            record.places > 1 or (now >= record.next_s and party.key not in self._trials))

    def review(self, now: float, late_s: float) -> List[WorkerKey]:
        """A lease that is older than ``late_s`` is late. Finds the parties that lapse, if there is a better one, and
        those that have made up for it. Returns the workers that may now have more, as far as they had to wait."""
        if now < self._next_review_s:
            return []
        self._next_review_s, self._late_s = now + REVIEW_INTERVAL_S, late_s
        may_have_more = self._workers_of(self._limited)
        for party in list(self._limited):
            record = self._records[party]
            if record.places is None or record.places >= ENOUGH_PLACES:
                self._lapsed[party.key] -= record.lapses == 1
                record.places, record.lapses = None, record.lapses // 2
                self._limited.remove(party)
        late = self._late(now)
        self._good = next((party for party in self._candidates() if self._is_good(party, now, late)), None)
        keys = set()
        for party in set(late) | self._indebted:
            record = self._records[party]
            if record.score >= LATE_COST * late.get(party, 0):
                continue
            if self._good is not None:           # another one: this one is not good
                keys.add(party.key)
                self._lapses(party, now, late_s)
            else:
                record.score = max(0, record.score)
        self._indebted.clear()
        for party, record in self._records.items() if keys else ():
            if party.key in keys and not record.is_proven and record.places is None:
                record.places, record.score = 1, 0
                self._limited.add(party)
        self._is_limiting = self._good is not None
        return may_have_more

    def _workers_of(self, parties: Set[Party]) -> List[WorkerKey]:
        """In the order in which they came."""
        found = [key for party in parties for key in self._records[party].workers]
        return sorted(found, key=lambda key: self._workers[key].number)

    def _late(self, now: float) -> Dict[Party, int]:
        """How often the leases of each party were late so far; those of which none was are left out."""
        late: Dict[Party, int] = Counter()
        for held in self._leases.values():               # the oldest first
            times = int((now - held.granted_s) / self._late_s)
            if not times:
                break
            if not held.is_written_off:
                late[self._workers[held.worker].party] += times
        return late

    def _candidates(self) -> Iterator[Party]:
        """All parties: the one that was good at the last review first."""
        if self._good is not None and self._good in self._records:
            yield self._good
        yield from reversed(self._records)

    def _is_good(self, party: Party, now: float, late: Mapping[Party, int]) -> bool:
        """It is trusted, has made up for what was late, and does its leases, or has room for one."""
        record = self._records[party]
        return record.is_trusted and record.score >= LATE_COST * late.get(party, 0) and any(
            worker.fit and worker.is_at_work and (worker.has_room or any(
                now - self._leases[lease].granted_s <= self._late_s for lease in worker.leases))
            for worker in map(self._workers.__getitem__, record.workers))

    def _ends_trial(self, party: Party) -> None:
        if self._trials.get(party.key) == party and not self._records[party].held:
            del self._trials[party.key]

    def _lapses(self, party: Party, now: float, late_s: float) -> None:
        record = self._records[party]
        self._lapsed[party.key] += not record.lapses
        record.score, record.places, record.lapses = 0, 1, min(MAX_LAPSES, record.lapses + 1)
        record.next_s = now + _wait_s(record, late_s)
        self._limited.add(party)
        self.written_off |= record.held
        for lease in record.held:
            self._leases[lease].is_written_off = True
        record.held.clear()
        self._ends_trial(party)


def _wait_s(record: _Record, late_s: float) -> float:
    return min(MAX_WAIT_S, late_s * (1 << record.lapses))
