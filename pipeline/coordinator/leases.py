"""LeaseScheduler: which worker produces which position. Pure: time comes in, effects go out.

    ungranted ──grant──> open ──batch──> ready ──take──> taken
                         │  ▲
                         └──┘ its last lease ended without a batch: reassigned, before any new position is granted

Only ``take`` moves the window [head, head + prefetch) in which positions may be open or ready: that bounds the memory.
A lease is live until

    its batch arrives       the position is ready, other leases on it are revoked
    its worker is lost      the connection is gone, or the worker said Hello again
    its worker is silent    not heard for ``lease_s``: a frozen or unreachable process
    it is given back        its worker leaves and keeps only the lease in work, or had no room (see ``shared.py``)
    it failed               the generator raised; another worker tries (when the run is aborted: ``tables.py``)
    its worker broke the protocol    and is no member any more; another worker tries
    its worker is unfit     it cannot do the job: it counts nowhere until it says Ready, and its leases as not tried

A batch that arrives after its lease ended is still accepted while its position is open: the plan fixes what a position
holds. A lease that was revoked, or that its worker lost by silence, stays *unacknowledged* until the worker answers,
with the batch or with Returned. Until then it counts against its capacity: a worker that hangs gets nothing on top. So
does a lease for a second batch of a position that has one, which ``verification.py`` compares with the first.
After ``ISOLATION_DEATHS`` workers died at a position, or had no memory for it, its leases are *isolated*: the next
worker tries each sample in a process of its own, to find the file that kills. ``stragglers.py`` says when a position
gets a second lease.

The caller hands in every waiting message before ``tick``, calls ``tick`` no later than ``next_deadline()``, and after
an absence (a suspended process) first ``suspended_for``, so that no lease expires because of it.
"""

from typing import Callable, Iterable, Optional, Tuple

from stoker.pipeline.coordinator.effects import Abort, Accept, Fill, Gone, Grant, LeaveOut, Revoke, Unknown, WorkerKey
from stoker.pipeline.coordinator.effects import SchedulerEffects as Effects
from stoker.pipeline.coordinator.members import Worker
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.coordinator.record import LATE_COST, RETURNED_COST, Records
from stoker.pipeline.coordinator.stragglers import MIN_IDLE_S, StragglerRule, late_positions
from stoker.pipeline.coordinator.tables import LeaseTables, LiveLease, OpenPosition
from stoker.pipeline.coordinator.tables import may_still_produce, may_try, others_may_try
from stoker.pipeline.coordinator.verification import Verification
from stoker.pipeline.protocol.messages import Failed, FromWorker, Hello, Leaving, Produced, Ready, Returned, Room
from stoker.pipeline.protocol.messages import Unfit


class LeaseScheduler(LeaseTables):
    """Grants positions ``start`` .. ``end - 1`` to workers, so that each is received exactly once. All times in s."""

    def __init__(self, start: int, end: int, prefetch: int, lease_s: float,
                 max_failures: int = 3, max_deaths: int = 10,
                 party_of: Callable[[WorkerKey], Party] = lambda key: Party(),
                 verification: Optional[Verification] = None,
                 is_empty: Optional[Callable[[int], bool]] = None) -> None:
        super().__init__(start, end, prefetch)
        self._is_empty, self._lease_s = is_empty, lease_s     # a position without a sample needs no worker
        self._max_failures, self._max_deaths, self._party_of = max_failures, max_deaths, party_of
        self._next_lease = 1               # ids only grow
        self._verification = verification or Verification(0.0, b"", (), 0.0)
        self._rule = StragglerRule(lease_s)
        self._records = Records(self._workers, self._leases)
        self._interval_s = min(0.25, max(0.02, lease_s / 40))
        self._ticked_s: Optional[float] = None
        self.duplicates = 0                # batches that were dropped because another was first
        self.backups = 0                   # further leases for stragglers
        self.reassigned = 0                # positions that were granted again after a lost lease

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest; 0 before the first tick."""
        if self._ticked_s is None:
            return 0.0
        return self._ticked_s + (MIN_IDLE_S if self._open and self._has_idle_worker() else self._interval_s)

    def receive(self, key: WorkerKey, message: FromWorker, now: float) -> Effects:
        """A worker sent a message."""
        effects: Effects = []
        if isinstance(message, Hello):
            if key in self._workers:     # it forgot what it held
                self._remove(key, "said Hello again", effects, died=False)
            worker = Worker(message.capacity, now, now, self._party_of(key), is_shared=message.trainers > 1)
            self._workers.join(key, worker)
            self._records.joins(worker.party, key)
            self._queue(key, now)
        elif key not in self._workers:
            return [Unknown(key, "the trainer does not know this worker: %s before Hello" % type(message).__name__)]
        else:
            worker = self._workers[key]
            self._workers.hear(key, now)
            if isinstance(message, Returned) and message.lease in worker.leases:
                self._returned(worker, message.lease)
            elif isinstance(message, (Produced, Failed, Returned)):
                worker.unacknowledged.discard(message.lease)
                if isinstance(message, Returned):      # perhaps one for a second batch
                    self._verification.forgot(key, message.lease)
            elif isinstance(message, Room):
                worker.has_room_of(message.leases)
                self._unqueue(key, worker.has_room)
            elif isinstance(message, Ready):
                self._workers.now_is(worker, fit=True)
            self._queue(key, now)
            if isinstance(message, Unfit):
                self._set_aside(key, effects)
            elif isinstance(message, Produced):
                self._produced(key, message.lease, message.position, now, effects)
            elif isinstance(message, Failed):
                self._failed(key, message, now, effects)
            elif isinstance(message, Leaving):
                self._workers.now_is(worker, leaving=True)
                self._release(worker.leases - {message.lease}, RETURNED_COST)
                self._remove_if_drained(key, message.reason, effects)
        self._grant_all(now, effects)
        while worker.ahead and self._has_room_ahead(key, worker) and self._records.may_have_more(worker.party, now):
            self._grant(key, self._next_new(), now, effects)
            self._fill(effects)
        return effects

    def lost(self, key: WorkerKey, now: float, why: str = "lost the connection") -> Effects:
        """The connection to a worker is gone."""
        effects: Effects = []
        if key in self._workers:
            self._remove(key, why, effects, died=True)
        return self._grant_all(now, effects)

    def protocol_violation(self, key: WorkerKey, now: float, why: str) -> Effects:
        """A worker broke the protocol: it is no member any more, and others produce what it held. That says little
        about the step: the run ends only if no honest worker is left."""
        effects: Effects = []
        if key in self._workers:
            for lease in sorted(self._workers[key].leases):
                position = self._leases[lease].position
                entry = self._open[position]
                entry.violations += 1
                entry.failed |= {key}
                if entry.violations >= self._max_deaths and not others_may_try(key, entry, self._workers):
                    effects.append(Abort(position, why, ""))
            self._remove(key, why, effects, died=False, broke_protocol=True)
        return self._grant_all(now, effects)

    def outstanding(self) -> Tuple[int, int]:
        """How many positions could be granted now, if workers had room, and how far the first one is from ``head``."""
        count, distance = self._grantable()
        return max(count, int(self._verification.is_busy)), distance

    def take(self, now: float) -> Effects:
        """The batch at ``head`` was handed to the consumer: the window moves on."""
        if self._head not in self._ready:
            raise RuntimeError("position %d was taken before its batch came" % self._head)
        self._ready.remove(self._head)
        self._head += 1
        self._limit = min(self._end, self._head + self._prefetch)
        return self._grant_all(now, []) if self._waiting or self._is_empty else []

    def tick(self, now: float) -> Effects:
        """Time has passed: silent workers lose their leases, stragglers get a second one."""
        effects: Effects = []
        if now < self.next_deadline():
            return effects
        self._ticked_s = now
        for key in self._workers.silent_for(self._lease_s, now):
            worker = self._workers[key]
            self._workers.now_is(worker, silent=True)
            effects.append(Gone(key, "was silent for %.1f s" % (now - worker.heard_s), len(worker.leases)))
            worker.unacknowledged |= worker.leases
            effects += [Revoke(key, lease) for lease in sorted(worker.leases)]
            self._release(worker.leases)
        may_have_more = self._records.review(now, self._rule.age_s(False))
        age_s = self._rule.age_s(self._has_idle_worker())
        for position in late_positions(now, age_s, self._leases, self._open, self._records.written_off):
            self._stragglers.add(position)
        for position in self._unassigned:
            self._open[position].retry_when_late(now, age_s)
        for key in may_have_more:
            self._queue(key, now)
        return self._grant_all(now, effects)

    def _queue(self, key: WorkerKey, now: float) -> None:
        worker = self._workers[key]
        if worker.has_room:
            self._may_be_idle = True
            if not worker.waits and self._records.may_have_more(worker.party, now):
                worker.waits = True
                self._waiting[key] = None

    def _remove(self, key: WorkerKey, why: str, effects: Effects, died: bool, broke_protocol: bool = False) -> None:
        worker = self._workers[key]
        effects.append(Gone(key, why, len(worker.leases), died or broke_protocol))
        for lease in sorted(worker.leases):
            held = self._leases[lease]
            entry = self._open[held.position]
            if entry.loses_holder(key, died, held.isolated, self._max_deaths, self._workers):
                effects.append(Abort(held.position, "%d workers died while they held it; the last %s"
                                     % (entry.deaths, why), ""))
                entry.deaths = entry.isolated_deaths = 0      # one Abort is enough
        self._release(worker.leases)
        self._unqueue(key)
        self._records.leaves(worker.party, key)
        self._workers.leave(key)

    def _set_aside(self, key: WorkerKey, effects: Effects) -> None:
        worker = self._workers[key]
        self._workers.now_is(worker, fit=False)
        worker.unacknowledged = set()
        for lease in worker.leases:         # they end as if they had not been granted
            self._open[self._leases[lease].position].untried += 1
        self._release(worker.leases, RETURNED_COST)
        self._remove_if_drained(key, "drained", effects)

    def _remove_if_drained(self, key: WorkerKey, why: str, effects: Effects) -> None:
        """A leaving worker that holds nothing has left."""
        if self._workers[key].leaving and not self._workers[key].leases:
            self._remove(key, why, effects, died=False)

    def _grant(self, key: WorkerKey, position: int, now: float, effects: Effects) -> None:
        lease, self._next_lease = self._next_lease, self._next_lease + 1
        if position < self._head or position in self._ready:     # it has a batch: this one is for a comparison
            self._workers[key].unacknowledged.add(lease)
            effects.append(self._verification.grant(key, position, lease, now))
            return
        entry = self._open.get(position) or self._open.setdefault(position, OpenPosition())
        self._unassigned.discard(position)
        attempt = entry.issued[lease] = len(entry.issued) + 1 - entry.untried
        entry.live.add(lease)
        entry.unassigned_s = None
        isolated = entry.is_isolated(self._workers)
        self._leases[lease] = LiveLease(key, position, now, isolated)
        self._records.granted(self._workers[key].party, lease, now)
        self._workers[key].leases.add(lease)
        effects.append(Grant(key, lease, position, attempt, isolated))

    def _end_lease(self, lease: int, cost: int = 0) -> None:
        ended = self._leases.pop(lease)
        self._records.ends(self._workers[ended.worker].party, lease, cost)
        self._open[ended.position].live.remove(lease)
        self._workers[ended.worker].leases.remove(lease)

    def _release(self, leases: Iterable[int], cost: int = LATE_COST) -> None:
        """These leases end without a batch, which counts so much; their positions are reassigned."""
        for lease in sorted(leases):
            position = self._leases[lease].position
            self._end_lease(lease, cost)
            if not self._open[position].live:
                self._stragglers.discard(position)
                self._unassigned.add(position)

    def _returned(self, worker: Worker, lease: int) -> None:
        """A worker gives back a live lease. That is no fault if it has said Room while the lease was under way."""
        self._open[self._leases[lease].position].untried += 1
        is_due = worker.is_shared and len(worker.leases) + len(worker.unacknowledged) > worker.capacity
        self._release([lease], 0 if is_due else RETURNED_COST)

    def _produced(self, key: WorkerKey, lease: int, position: int, now: float, effects: Effects) -> None:
        live = self._leases.get(lease)
        if (lease >= self._next_lease or position >= self._next_ungranted
                or (live and (live.position, live.worker) != (position, key))):
            effects.append(Unknown(key, "lease %d of position %d was never granted to it" % (lease, position)))
            return
        entry = self._open.get(position)
        if entry is None:                   # every other lease of a received position was ended with it
            self.duplicates += 1
        elif lease not in entry.issued:
            effects.append(Unknown(key, "lease %d is of another position than %d" % (lease, position)))
            return
        else:
            if live:
                self._rule.add(now - live.granted_s)
            effects.append(Accept(key, position, entry.issued[lease], now - live.granted_s if live else 0.0,
                                  entry.is_suspect))
            self._workers[key].proven = True
            self._records.delivered(self._workers[key].party, lease)
            for ended in sorted(entry.live):
                holder = self._leases[ended].worker
                is_late = ended != lease and now - self._leases[ended].granted_s > self._rule.age_s(False)
                self._end_lease(ended, LATE_COST * is_late)
                if ended != lease:
                    self._workers[holder].unacknowledged.add(ended)
                    effects.append(Revoke(holder, ended))
                self._queue(holder, now)
                if holder != key:
                    self._remove_if_drained(holder, "drained", effects)
            del self._open[position]
            self._stragglers.discard(position)
            self._unassigned.discard(position)
            self._ready.add(position)
        self._remove_if_drained(key, "drained", effects)

    def _failed(self, key: WorkerKey, message: Failed, now: float, effects: Effects) -> None:
        live = self._leases.get(message.lease)
        if live is None or live.worker != key:
            return                         # the lease had ended before; another worker has the position or had it
        position = live.position
        self._release([message.lease])
        self._queue(key, now)
        entry = self._open[position]
        if message.unreadable:
            bad = message.unreadable[0]
            if entry.cannot_read(key, self._workers[key].party, bad.index, self._max_failures):
                effects.append(LeaveOut(position, bad))
        elif message.starved and not live.isolated:
            entry.starves(key, self._workers[key].party)
        elif entry.fails(key, self._max_failures, self._workers):
            effects.append(Abort(position, message.error + (message.sample and " (at %r)" % message.sample),
                                 message.traceback))
        self._remove_if_drained(key, "drained", effects)

    def _grant_all(self, now: float, effects: Effects) -> Effects:
        """Grants until no worker has room or nothing is left to grant."""
        passed = 0                         # workers in a row for whom there was nothing
        self._fill(effects)
        while passed < len(self._waiting) and (
                self._next_ungranted < self._limit or self._unassigned or self._stragglers
                or self._verification.waits_for(self._waiting, self)):
            key = self._waiting.popitem(last=False)[0]
            worker = self._workers[key]
            worker.waits = False
            if not worker.has_room or not self._records.may_have_more(worker.party, now):
                continue
            position = self._choose(key)
            if position is None:
                passed += 1
            else:
                passed = 0
                self._grant(key, position, now, effects)
                self._fill(effects)
            self._queue(key, now)
        return effects

    def _fill(self, effects: Effects) -> None:
        while self._is_empty and self._next_ungranted < self._limit and self._is_empty(self._next_ungranted):
            self._ready.add(self._next_ungranted)
            effects.append(Fill(self._next_ungranted))
            self._next_ungranted += 1

    def _choose(self, key: WorkerKey) -> Optional[int]:
        """Unassigned positions first, then stragglers that another worker holds, then those that are produced again to
        verify them, then the next new one: but before all others the one that the consumer waits for. A party that
        lapsed gets what is needed last."""
        is_limited = self._records.is_limited(self._workers[key].party)
        for position in self._unassigned:
            if (not is_limited or self._open[position].failures) and may_try(key, self._open[position], self._workers):
                self.reassigned += 1
                return position
        for position in () if is_limited else self._stragglers:
            if not may_still_produce(self._workers[key], self._open[position]):
                self._stragglers.discard(position)
                self.backups += 1
                return position
        if self._next_ungranted > self._head or self._next_ungranted >= self._limit:
            again = self._verification.choose(key, self)
            if again is not None:
                return again
        return self._next_new() if self._next_ungranted < self._limit else None
