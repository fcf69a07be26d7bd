"""The members of a run as the LeaseScheduler sees them, and counts of them, so that a message costs as much with ten
thousand members as with ten."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set

from stoker.pipeline.coordinator.effects import WorkerKey
from stoker.pipeline.coordinator.party import Party

MAX_HELD_AHEAD = 4      # leases of a worker that reads ahead


@dataclass
class Worker:
    """A member as the scheduler sees it."""
    capacity: int
    heard_s: float
    joined_s: float = 0.0
    party: Party = Party()
    number: int = 0                 # it was the how many-th that joined
    fit: Optional[bool] = None      # it can do the job; None: it has not yet said so. False: it counts nowhere
    leases: Set[int] = field(default_factory=set)
    unacknowledged: Set[int] = field(default_factory=set)  # the scheduler ended them; the worker may still produce them
    silent: bool = False       # lost its leases to the clock; gets no new ones until it is heard again
    leaving: bool = False      # gets no new ones any more
    waits: bool = False        # stands in the queue for grants, once
    proven: bool = False       # delivered a batch
    is_shared: bool = False    # serves other trainers, too
    ahead: int = 0             # leases that it may hold on top of ``capacity``, for it reads ahead

    def has_room_of(self, leases: int) -> None:
        """It said Room."""
        if self.is_shared:
            self.capacity = leases
        else:
            self.ahead = max(self.ahead, min(leases, MAX_HELD_AHEAD) - self.capacity)

    @property
    def counts(self) -> bool:
        """It is alive, and does leases, or may do so soon."""
        return not self.silent and self.fit is not False

    @property
    def is_at_work(self) -> bool:
        """It counts, and does not leave."""
        return not self.leaving and self.counts

    @property
    def has_room(self) -> bool:
        """It may be granted another lease."""
        return bool(self.fit) and not self.silent and not self.leaving and (
            len(self.leases) + len(self.unacknowledged) < self.capacity)

    @property
    def has_room_ahead(self) -> bool:
        """It may be granted another lease to read ahead for."""
        return bool(self.ahead and self.fit) and not self.silent and not self.leaving and (
            len(self.leases) + len(self.unacknowledged) < self.capacity + self.ahead)


class Workers(Dict[WorkerKey, Worker]):
    """The members, and what is asked about all of them so often that it is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0                   # how often one came, went, or changed whether and how it counts
        self.alive = self.ready = 0        # workers that count; that may get leases, too
        self.at_work: Dict[Party, int] = {}     # party -> workers that are, if there are any
        self.joined = 0                    # so many so far
        self._by_silence: "OrderedDict[WorkerKey, None]" = OrderedDict()    # at least those that count: longest first

    def join(self, key: WorkerKey, worker: Worker) -> None:
        """A worker has come."""
        self.joined += 1
        worker.number = self.joined
        self[key] = worker
        self._by_silence[key] = None
        self._count(worker, 1)

    def leave(self, key: WorkerKey) -> None:
        """A worker is gone."""
        self._count(self.pop(key), -1)
        self._by_silence.pop(key, None)

    def now_is(self, worker: Worker, fit: Optional[bool] = None, silent: Optional[bool] = None,
               leaving: Optional[bool] = None) -> None:
        """A worker is from now on as these say that are not None."""
        self._count(worker, -1)
        worker.fit = worker.fit if fit is None else fit
        worker.silent = worker.silent if silent is None else silent
        worker.leaving = worker.leaving if leaving is None else leaving
        self._count(worker, 1)

    def hear(self, key: WorkerKey, now: float) -> None:
        """A message of the worker came."""
        worker = self[key]
        worker.heard_s = max(worker.heard_s, now)
        self._by_silence[key] = None
        self._by_silence.move_to_end(key)
        if worker.silent:
            self.now_is(worker, silent=False)

    def silent_for(self, seconds: float, now: float) -> List[WorkerKey]:
        """Those that count, and were not heard for longer, in the order in which they joined."""
        found = []
        for key in self._by_silence:
            if now - self[key].heard_s <= seconds:
                break
            found.append(key)
        for key in found:
            del self._by_silence[key]
        return sorted((key for key in found if self[key].counts), key=lambda key: self[key].number)

    def _count(self, worker: Worker, change: int) -> None:
        self.changes += 1
        if worker.counts:
            self.alive += change
            self.ready += change * bool(worker.fit)
            if not worker.leaving:
                count = self.at_work[worker.party] = self.at_work.get(worker.party, 0) + change
                if not count:
                    del self.at_work[worker.party]
