"""LeaseScheduler: who produces which step. No clock, thread, log, socket or randomness: inputs in, effects out.

A position of the stream goes through

    fresh ──grant──> open ──batch──> ready ──take──> taken
                     │  ▲
                     └──┘ its last lease ended without a batch: granted again, before anything fresh

and only ``take`` moves the window [head, head + prefetch) inside which anything may be open or ready: memory is
bounded by ``prefetch`` whatever the workers do. A lease is live until

    its batch arrives    received() with the lease's id; the position is ready, other leases on it are revoked
    its worker is lost   the connection is gone, or it said Hello anew
    its worker is silent nothing heard for lease_s: a frozen or unreachable process
    its worker leaves    a worker that drains keeps only the lease it is working on
    it failed            the generator raised; another worker tries, and after ``max_failures`` on one position, by
                         workers that had delivered a batch before or with nobody left to try, the run is aborted
    its worker lied      it sent nonsense and is no member any more; another one tries

and however it ended, a batch that still arrives for it is accepted as long as its position is open: what a position
holds is fixed by the plan, so it does not matter who is late. A position whose newest lease has been held for several
times the fleet's median is *late* and is granted once more, to another worker (a backup task, as in MapReduce, OSDI
2004, section 3.6). Sooner if workers are idle because the window has nothing else: then it costs nothing. Each further
one waits twice as long, so that a file on which everybody hangs takes its time to take everybody.

A worker *owes* a word about each lease that was revoked or that it lost by its silence: the batch if it was at it, else
Returned. Until then the lease counts against its capacity, so what hangs or crawls is given nothing on top.

After ``CAREFUL_DEATHS`` workers died while they held a position, its leases are *careful*: the next worker tries each
sample in a process of its own, to find the file that kills.

Rules for the caller: hand in every waiting message before ``tick``, and call ``tick`` no later than
``next_deadline()``. A caller that was absent for long (a suspended process) is recognised by the gap between two
ticks, and nobody's lease expires because of it.
"""

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Iterable, List, Optional, Set, Tuple

from stoker.pipeline.coordinator.effects import Abort, Accept, Duplicate, Gone, Grant, Revoke, Unknown, WorkerKey
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Leaving, Produced, Returned

STRAGGLER_FACTOR = 4.0     # times the median of the last DURATIONS grants until a step counts as late ...
MIN_STRAGGLER_S = 0.25   # ... and never sooner than this: a hiccup of the machine is not worth double work
IDLE_FACTOR = 2.0     # the same where somebody is idle
MIN_IDLE_S = 0.02
DURATIONS = 64
MIN_DURATIONS = 8   # from fewer, the fleet's pace is not known, and only what takes very long is late
ISOLATION_DEATHS = 2    # one may be chance
ISOLATION_DEATHS_FACTOR = 5     # times as many deaths, and careful leases did not help: it is not for a single file


@dataclass
class _OpenPosition:
    """A position that was granted and has no batch yet."""

    issued: Dict[int, int] = field(default_factory=dict)   # every lease ever granted for it -> attempt
    live: Set[int] = field(default_factory=set)            # those of them that are somebody's now
    failures: int = 0
    proven_failures: int = 0                               # those of workers that had delivered a batch before
    aborted: bool = False
    failed: Set[WorkerKey] = field(default_factory=set)    # who failed: others try first
    nonsense: int = 0                                      # members that sent some while they held it
    deaths: int = 0                                        # connections lost while they held it
    isolated_deaths: int = 0                                # those of careful leases


@dataclass
class _Lease:
    """A live lease. Stands in ``_Open.live`` of its position and in ``_Worker.leases`` of its worker."""

    worker: WorkerKey
    position: int
    granted_s: float
    isolated: bool


@dataclass
class _Worker:
    capacity: int
    heard_s: float
    leases: Set[int] = field(default_factory=set)
    unacknowledged: Set[int] = field(default_factory=set)  # ended by the scheduler; it may still be at them
    silent: bool = False       # lost its leases to the clock; gets no new ones until heard again
    leaving: bool = False      # gets no new ones any more
    waits: bool = False        # stands in the queue for grants, once
    proven: bool = False       # delivered a batch


class LeaseScheduler:
    """Grants positions ``start`` .. ``end - 1`` to workers, so that each is received exactly once. All times in s."""

    def __init__(self, start: int, end: int, prefetch: int, lease_s: float,
                 max_failures: int = 3, max_deaths: int = 10) -> None:
        self._head = start                 # the next position to be taken; all below it are taken
        self._next_ungranted = start                # the next position never granted; head <= fresh <= head + prefetch
        self._end = end
        self._prefetch, self._lease_s = prefetch, lease_s
        self._max_failures, self._max_deaths = max_failures, max_deaths
        self._open: Dict[int, _OpenPosition] = {}  # positions in [head, fresh) without a batch
        self._ready: Set[int] = set()  # positions in [head, fresh) with one
        self._unassigned: Set[int] = set()  # open ones without a live lease
        self._stragglers: Set[int] = set()  # open ones worth another lease
        self._leases: Dict[int, _Lease] = {}  # the live ones
        self._next_lease = 1               # ids only grow
        self._workers: Dict[WorkerKey, _Worker] = {}
        self._waiting: Deque[WorkerKey] = deque()  # has (or had) room for a lease, longest first
        self._durations: Deque[float] = deque(maxlen=DURATIONS)  # grant to batch, of the last leases
        self._interval_s = min(0.25, max(0.02, lease_s / 40))
        self._ticked_s: Optional[float] = None
        self.duplicates = 0                # batches dropped because another was first
        self.backups = 0                   # further leases for late positions
        self.redone = 0                    # positions granted again because their lease ended without a batch

    # ------------------------------------------------------------------------------------- what the caller may ask

    @property
    def head(self) -> int:
        """The next position to be taken."""
        return self._head

    def is_open(self, position: int) -> bool:
        """A batch for ``position`` would be accepted."""
        return position in self._open

    def is_member(self, key: WorkerKey) -> bool:
        """The worker said Hello and is not gone; it may be silent."""
        return key in self._workers

    def is_heard(self, key: WorkerKey) -> bool:
        """It is a member, and not silent."""
        return key in self._workers and not self._workers[key].silent

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest; 0 before the first tick."""
        if self._ticked_s is None:
            return 0.0
        return self._ticked_s + (MIN_IDLE_S if self._open and self._has_idle_worker() else self._interval_s)

    def describe(self, now: float) -> str:
        """The situation in one clause, for errors and warnings."""
        if not self._workers:
            return "no worker is connected"
        text = "%d of %d connected workers alive, %d leases open" % (self.workers, len(self._workers),
                                                                     len(self._leases))
        holders = {lease.worker for lease in self._leases.values()}
        if holders:
            oldest = min(self._workers[key].heard_s for key in holders)
            text += ", oldest renewed %.1f s ago" % max(0.0, now - oldest)
        return text

    def holders(self, now: float) -> List[Tuple[WorkerKey, float]]:
        """Who is at ``head``, the first first, and for how long; nobody if it is ready or waits for a grant."""
        live = sorted(self._open[self._head].live) if self._head in self._open else []
        return [(self._leases[lease].worker, max(0.0, now - self._leases[lease].granted_s)) for lease in live]

    @property
    def has_workers(self) -> bool:
        """Somebody is not silent."""
        return any(not worker.silent for worker in self._workers.values())

    @property
    def has_room(self) -> bool:
        """Somebody may have room for a lease as soon as there is one."""
        return bool(self._waiting)

    @property
    def workers(self) -> int:
        """Members that are not silent."""
        return sum(not worker.silent for worker in self._workers.values())

    # ------------------------------------------------------------------------------------------------ what happens

    def receive(self, key: WorkerKey, message: Any, now: float) -> List[Any]:
        """A worker said something. Effects are to be carried out in order."""
        effects: List[Any] = []
        if not isinstance(message, (Hello, Produced, Failed, Returned, Leaving, Alive)):
            raise TypeError("%r is no message of a worker" % (message,))
        if isinstance(message, Hello):
            self._join(key, message.capacity, now, effects)
        elif key not in self._workers:
            return [Unknown(key, "%s before Hello" % type(message).__name__)]
        else:
            if isinstance(message, (Produced, Failed, Returned)):
                self._workers[key].unacknowledged.discard(message.lease)
            self._heard(key, now)
            if isinstance(message, Produced):
                self._produced(key, message.lease, message.position, now, effects)
            elif isinstance(message, Failed):
                self._failed(key, message, effects)
            elif isinstance(message, Leaving):
                self._leave(key, message, effects)
        return self._grant_all(now, effects)

    def lost(self, key: WorkerKey, now: float, why: str = "lost the connection") -> List[Any]:
        """The connection to a worker is gone."""
        effects: List[Any] = []
        if key in self._workers:
            self._remove(key, why, effects, died=True)
        return self._grant_all(now, effects)

    def protocol_violation(self, key: WorkerKey, now: float, why: str) -> List[Any]:
        """A worker sent nonsense: it is a member no more, and others do what it held. That says less about the step
        than a generator that raises: it ends the run only if nobody honest is left."""
        effects: List[Any] = []
        if key in self._workers:
            for lease in sorted(self._workers[key].leases):
                position = self._leases[lease].position
                entry = self._open[position]
                entry.nonsense += 1
                entry.failed.add(key)
                if entry.nonsense >= self._max_deaths and not self._others_may_try(key, entry):
                    effects.append(Abort(position, why, ""))
            self._remove(key, why, effects, died=False)
        return self._grant_all(now, effects)

    def take(self, now: float) -> List[Any]:
        """The batch at ``head`` was handed to the consumer: the window moves on."""
        if self._head not in self._ready:
            raise RuntimeError("position %d was taken before its batch came" % self._head)
        self._ready.remove(self._head)
        self._head += 1
        return self._grant_all(now, [])

    def tick(self, now: float) -> List[Any]:
        """Time has passed: silent workers lose their leases, late positions get a second one."""
        effects: List[Any] = []
        if now < self.next_deadline():
            return effects
        if self._ticked_s is not None:
            gap = now - self._ticked_s
            if gap > self._lease_s / 2:    # it was us who were away, nobody could have been heard
                self._suspended_for(gap, now)
        self._ticked_s = now
        for key in [key for key, worker in self._workers.items()
                    if not worker.silent and now - worker.heard_s > self._lease_s]:
            worker = self._workers[key]
            worker.silent = True
            effects.append(Gone(key, "was silent for %.1f s" % (now - worker.heard_s), len(worker.leases)))
            worker.unacknowledged |= worker.leases
            effects += [Revoke(key, lease) for lease in sorted(worker.leases)]
            self._release(worker.leases)
        self._find_stragglers(now)
        return self._grant_all(now, effects)

    # ---------------------------------------------------------------------------------------------------- workers

    def _join(self, key: WorkerKey, capacity: int, now: float, effects: List[Any]) -> None:
        if key in self._workers:   # it asks again, so it forgot what it held
            self._remove(key, "said Hello again", effects, died=False)
        self._workers[key] = _Worker(capacity, now)
        self._queue(key)

    def _heard(self, key: WorkerKey, now: float) -> None:
        worker = self._workers[key]
        worker.heard_s = max(worker.heard_s, now)
        worker.silent = False
        self._queue(key)

    def _queue(self, key: WorkerKey) -> None:
        worker = self._workers[key]
        if not worker.waits and self._has_room(worker):
            worker.waits = True
            self._waiting.append(key)

    @staticmethod
    def _has_room(worker: _Worker) -> bool:
        return not worker.silent and not worker.leaving and len(worker.leases) + len(worker.unacknowledged) < worker.capacity

    def _remove(self, key: WorkerKey, why: str, effects: List[Any], died: bool) -> None:
        worker = self._workers[key]
        effects.append(Gone(key, why, len(worker.leases)))
        for lease in sorted(worker.leases):
            entry = self._open[self._leases[lease].position]
            entry.deaths += died
            entry.isolated_deaths += died and self._leases[lease].isolated
            if entry.isolated_deaths >= ISOLATION_DEATHS_FACTOR * self._max_deaths or (
                    entry.deaths >= self._max_deaths and not self._others_may_try(key, entry)):
                effects.append(Abort(self._leases[lease].position, "%d workers died while they held it; the last %s"
                                     % (entry.deaths, why), ""))
                entry.deaths = entry.isolated_deaths = 0      # said once
        self._release(worker.leases)
        if worker.waits:
            self._waiting.remove(key)
        del self._workers[key]

    def _leave(self, key: WorkerKey, message: Leaving, effects: List[Any]) -> None:
        worker = self._workers[key]
        worker.leaving = True
        self._release(worker.leases - {message.lease})
        self._remove_if_drained(key, message.reason, effects)

    def _remove_if_drained(self, key: WorkerKey, why: str, effects: List[Any]) -> None:
        """A leaving worker that holds nothing has left."""
        if self._workers[key].leaving and not self._workers[key].leases:
            self._remove(key, why, effects, died=False)

    # ----------------------------------------------------------------------------------------------------- leases

    def _grant(self, key: WorkerKey, position: int, now: float, effects: List[Any]) -> None:
        entry = self._open.setdefault(position, _OpenPosition())
        lease, self._next_lease = self._next_lease, self._next_lease + 1
        self._unassigned.discard(position)
        attempt = len(entry.issued) + 1
        entry.issued[lease] = attempt
        entry.live.add(lease)
        isolated = entry.deaths >= ISOLATION_DEATHS
        self._leases[lease] = _Lease(key, position, now, isolated)
        self._workers[key].leases.add(lease)
        effects.append(Grant(key, lease, position, attempt, isolated))

    def _end_lease(self, lease: int) -> None:
        """Takes a live lease out of all three tables."""
        ended = self._leases.pop(lease)
        self._open[ended.position].live.remove(lease)
        self._workers[ended.worker].leases.remove(lease)

    def _release(self, leases: Iterable[int]) -> None:
        """These leases end without a batch; their positions go out again."""
        for lease in sorted(leases):
            position = self._leases[lease].position
            self._end_lease(lease)
            if not self._open[position].live:
                self._stragglers.discard(position)
                self._unassigned.add(position)

    def _produced(self, key: WorkerKey, lease: int, position: int, now: float, effects: List[Any]) -> None:
        live = self._leases.get(lease)
        if (lease >= self._next_lease or position >= self._next_ungranted
                or (live and (live.position, live.worker) != (position, key))):
            effects.append(Unknown(key, "lease %d of position %d was never granted to it" % (lease, position)))
            return
        entry = self._open.get(position)
        if entry is None:                   # every other lease of a received position was ended with it
            self.duplicates += 1
            effects.append(Duplicate(key, position))
        elif lease not in entry.issued:
            effects.append(Unknown(key, "lease %d is of another position than %d" % (lease, position)))
            return
        else:
            if live:
                self._durations.append(now - live.granted_s)
            effects.append(Accept(key, position, entry.issued[lease], now - live.granted_s if live else 0.0))
            self._workers[key].proven = True
            for ended in sorted(entry.live):
                holder = self._leases[ended].worker
                self._end_lease(ended)
                if ended != lease:
                    self._workers[holder].unacknowledged.add(ended)
                    effects.append(Revoke(holder, ended))
                self._queue(holder)
                if holder != key:
                    self._remove_if_drained(holder, "drained", effects)
            del self._open[position]
            self._stragglers.discard(position)
            self._unassigned.discard(position)
            self._ready.add(position)
        self._remove_if_drained(key, "drained", effects)

    def _failed(self, key: WorkerKey, message: Failed, effects: List[Any]) -> None:
        live = self._leases.get(message.lease)
        if live is None or live.worker != key:
            return                         # the lease had ended before; somebody else has the position or had it
        position = live.position
        self._release([message.lease])
        self._queue(key)
        self._count_failure(key, position, message.error + (message.sample and " (at %r)" % message.sample),
                            message.traceback, effects)
        self._remove_if_drained(key, "drained", effects)

    def _count_failure(self, key: WorkerKey, position: int, error: str, traceback: str, effects: List[Any]) -> None:
        entry = self._open[position]
        entry.failures += 1
        entry.proven_failures += self._workers[key].proven
        entry.failed.add(key)
        # a host on which everything fails says little about the step: its workers never delivered a batch
        if entry.proven_failures >= self._max_failures or (
                entry.failures >= self._max_failures and not self._others_may_try(key, entry)):
            entry.aborted = True
            effects.append(Abort(position, error, traceback))

    # ---------------------------------------------------------------------------------------------------- who next

    def _grant_all(self, now: float, effects: List[Any]) -> List[Any]:
        """Grants until nobody has room or nothing is left to grant."""
        passed = 0                         # workers in a row for whom there was nothing
        while passed < len(self._waiting) and self._has_work():
            key = self._waiting.popleft()
            worker = self._workers[key]
            worker.waits = False
            if not self._has_room(worker):
                continue
            position = self._choose(key)
            if position is None:
                passed += 1
            else:
                passed = 0
                self._grant(key, position, now, effects)
            self._queue(key)
        return effects

    def _has_work(self) -> bool:
        return bool(self._unassigned) or bool(self._stragglers) or self._next_ungranted < min(self._end, self._head + self._prefetch)

    def _choose(self, key: WorkerKey) -> Optional[int]:
        """Lost positions first, then late ones that another worker holds, then the next fresh one."""
        for position in sorted(self._unassigned):
            if self._may_try(key, self._open[position]):
                self.redone += 1
                return position
        for position in sorted(self._stragglers):
            if not self._may_still_produce(key, self._open[position]):
                self._stragglers.remove(position)
                self.backups += 1
                return position
        if self._next_ungranted < min(self._end, self._head + self._prefetch):
            self._next_ungranted += 1
            return self._next_ungranted - 1
        return None

    def _may_try(self, key: WorkerKey, entry: _OpenPosition) -> bool:
        """A worker that failed at a position leaves it to those that did not, while there are any: its host may be
        at fault, and the run should not end for that. Nobody tries what the run was aborted for: that takes time."""
        if self._may_still_produce(key, entry) or entry.aborted:
            return False
        return key not in entry.failed or not self._others_may_try(key, entry)

    def _others_may_try(self, key: WorkerKey, entry: _OpenPosition) -> bool:
        """There is somebody else alive who has not failed at the position."""
        return any(other != key and other not in entry.failed and not worker.silent and not worker.leaving
                   for other, worker in self._workers.items())

    def _may_still_produce(self, key: WorkerKey, entry: _OpenPosition) -> bool:
        """It holds the position, or owes a word about it, and if that is a batch it will be accepted."""
        worker = self._workers[key]
        return any(lease in worker.leases or lease in worker.unacknowledged for lease in entry.issued)

    def _find_stragglers(self, now: float) -> None:
        if len(self._durations) >= MIN_DURATIONS:
            least_s, factor = ((MIN_IDLE_S, IDLE_FACTOR) if self._has_idle_worker()
                               else (MIN_STRAGGLER_S, STRAGGLER_FACTOR))
            late_s = max(least_s, factor * statistics.median(self._durations))
        else:                              # too few for a verdict; but a small window may never see more
            late_s = max(self._lease_s, STRAGGLER_FACTOR * max(self._durations, default=0.0))
        for position, entry in self._open.items():
            if entry.live and now - self._leases[max(entry.live)].granted_s > late_s * 2 ** (len(entry.live) - 1):
                self._stragglers.add(position)

    def _has_idle_worker(self) -> bool:
        """A worker has room, and the window nothing that nobody is at."""
        return not self._unassigned and self._next_ungranted >= min(self._end, self._head + self._prefetch) and any(
            self._has_room(self._workers[key]) for key in self._waiting)

    def _suspended_for(self, gap: float, now: float) -> None:
        for worker in self._workers.values():
            worker.heard_s = min(now, worker.heard_s + gap)
        for lease in self._leases.values():
            lease.granted_s = min(now, lease.granted_s + gap)
