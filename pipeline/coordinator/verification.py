"""Verification: a share of the positions is produced twice, by different hosts, and the batches are compared. Pure.

    first batch ──> waiting ──grant──> granted ──second batch──> equal: verified
                       ▲                  │            └───────> not equal: a third worker is asked which one is right
                       └──────────────────┘ its worker is lost, fails at it, or takes longer than PATIENCE_S

A hash of the position and of a secret number of this run says which positions these are: so no worker knows whether
what it sends will be compared. The first batch is used at once, and nothing waits for the second, which is compared and
dropped. Of the first one only digests are kept. A lease for a second batch is granted when no position that the
consumer waits for needs a worker; it counts as *unacknowledged* until it is answered (see ``leases.py``).

Who made a batch is known by its host and its key, which a worker cannot choose, and then by its name, which it can. So
the second batch is of another host, if there is one; if all workers are on one host, of another of their processes.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

from stoker.pipeline.coordinator.copies import HOST, NAME, ROWS, Copy, Maker, causes, digests_of, verdict
from stoker.pipeline.coordinator.effects import Accept, Effects, Fail, Grant, Log, WorkerKey
from stoker.pipeline.coordinator.open_positions import Content
from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.coordinator.tables import LeaseTables
from stoker.pipeline.errors import BatchesDiffer
from stoker.pipeline.plan import PlannedBatch
from stoker.pipeline.protocol.messages import Hello, Produced

PATIENCE_S = 60.0          # for a further batch, before another worker is asked as well
MAX_TRIES = 3              # workers that are asked for one ...
MAX_AGE_S = 600.0          # ... which is waited for so long
DECIDING_S = 20.0          # for the third batch: the run goes on meanwhile
MAX_CHECKS = 256           # positions whose comparison waits; more than that are not compared
MAX_OF_PARTY = 128         # of them, that wait for workers of one party; never more than half of all that may be asked
MAX_UNRELIABLE = 1024      # parties that are remembered
INTERVAL_S = 0.02          # between two looks at all of them
AT_ONCE = 8                # positions that a worker is tried for


@dataclass
class _Check:
    """A position with at least one batch, which is to be compared with a further one."""
    planned: PlannedBatch
    content: Content                       # of the lease of the first batch; further leases have the same
    since_s: float                         # of the first batch, or of the one that differs
    copies: List[Copy]
    leases: Dict[int, WorkerKey] = field(default_factory=dict)      # granted for further batches, and not answered
    granted_s: Optional[float] = None      # when the last of them was granted; None: another one is to be
    tries: int = 0
    tried: Set[Party] = field(default_factory=set)
    eligible: FrozenSet[WorkerKey] = frozenset()       # who may make the next one, as of ``changes`` of the scheduler
    parties: Set[Party] = field(default_factory=set)   # theirs
    changes: int = -1

    @property
    def waits(self) -> bool:
        """A worker is to be found for it."""
        return self.granted_s is None and self.tries < MAX_TRIES


class Verification:
    """``share`` of the positions is chosen by ``secret``. ``names``: of the frames of a batch. ``at_once``: the most
    second batches that are under way; the socket has room for so many besides those of the window. Other threads may
    read ``is_busy`` and call ``report``. All times in seconds."""

    def __init__(self, share: float, secret: bytes, names: Sequence[str], now: float, at_once: int = MAX_CHECKS
                 ) -> None:
        self._at_once, self._of_party = at_once, max(1, min(MAX_OF_PARTY, at_once // 2))
        self._limit, self._secret, self._now, self._next_look_s = int(share * 2 ** 64), secret, now, now
        self._names = (ROWS,) + tuple("the array " + name for name in names)
        self._makers: Dict[WorkerKey, Maker] = {}      # of the members
        self._checks: "OrderedDict[int, _Check]" = OrderedDict()     # by position, the oldest first
        self._unreliable: Set[Party] = set()           # did not answer the last lease for a second batch: asked last
        self.verified = 0                  # positions with two equal batches ...
        self.by_same_host = 0              # ... both of one host, or of hosts that are not known
        self.left = 0                      # chosen, and not compared
        self.is_busy = False               # a comparison is to be expected soon
        # asked for each idle worker at each message; of now, until a check or (``_changes``) a worker changes:
        self._waits: Optional[bool] = None
        self._has_nothing: Set[WorkerKey] = set()      # workers for which there is nothing
        self._changes = -1

    def _changed(self) -> None:
        self._waits = None
        self._has_nothing.clear()

    def is_chosen(self, position: int) -> bool:
        """Whether the position is to be verified."""
        return bool(self._limit) and int.from_bytes(
            blake2b(b"%d" % position, digest_size=8, key=self._secret).digest(), "big") < self._limit

    # ---------------------------------------------------------------------------------------------------- the members

    def joined(self, peer: WorkerKey, hello: Hello, party: Party) -> None:
        """A worker is a member from now on, and holds nothing."""
        self.forgot(peer)
        if self._limit:
            self._makers[peer] = Maker(hello.worker, party, hello.versions)

    def forgot(self, peer: WorkerKey, lease: Optional[int] = None) -> None:
        """A worker will not answer this lease, or any."""
        self._changed()
        for check in self._checks.values():
            own = [number for number, holder in check.leases.items() if holder == peer and lease in (None, number)]
            for number in own:
                del check.leases[number]
            if own:
                self._note_unreliable([self._makers[peer].party])
                if not check.leases:
                    check.granted_s = None

    def lost(self, peer: WorkerKey) -> None:
        """A worker is no member any more."""
        self.forgot(peer)
        self._makers.pop(peer, None)

    # ------------------------------------------------------------------------------------------ for the LeaseScheduler

    def waits_for(self, keys: Iterable[WorkerKey], tables: LeaseTables) -> bool:
        """A position waits for a worker that produces it again, perhaps for one of these."""
        if self._changes != tables.changes:
            self._changes = tables.changes
            self._has_nothing.clear()
        if self._waits is None:
            self._waits = any(check.waits for check in self._checks.values()) and sum(
                check.granted_s is not None for check in self._checks.values()) < self._at_once
        return self._waits and not self._has_nothing.issuperset(keys)

    def choose(self, key: WorkerKey, tables: LeaseTables) -> Optional[int]:
        """The position that this worker is to produce again; None if there is none for it."""
        if key not in self._makers or not self.waits_for([key], tables):
            return None
        position = self._chosen(key, tables)
        if position is None:
            self._has_nothing.add(key)
        return position

    def _chosen(self, key: WorkerKey, tables: LeaseTables) -> Optional[int]:
        party = self._makers[key].party
        waiting = (item for item in self._checks.items() if item[1].waits)
        for position, check in islice(waiting, AT_ONCE):
            if key in self._eligible(check, tables) and not self._others_first(party, check):
                held = sum(holder in self._makers and self._makers[holder].party == party
                           for other in self._checks.values() for holder in other.leases.values())
                return position if held < self._of_party else None
        return None

    def _others_first(self, party: Party, check: _Check) -> bool:
        """A party that was asked for it, or did not answer the last time, leaves it to others, if there are any."""
        return any(party in avoided and not check.parties <= avoided
                   for avoided in (check.tried | self._unreliable, check.tried))

    def _note_unreliable(self, parties: Iterable[Party]) -> None:
        if len(self._unreliable) >= MAX_UNRELIABLE:
            self._unreliable.clear()
        self._unreliable.update(parties)

    def grant(self, key: WorkerKey, position: int, lease: int, now: float) -> Grant:
        """The worker gets this lease for a further batch of the position, which ``choose`` returned."""
        self._changed()
        check = self._checks[position]
        check.leases[lease] = key
        check.granted_s = now
        check.tries += 1
        check.tried.add(self._makers[key].party)
        return Grant(key, lease, position, 1)

    def _eligible(self, check: _Check, tables: LeaseTables) -> FrozenSet[WorkerKey]:
        """The workers that differ most from those that made the batches so far: as long as there is another host, no
        process of the same host may vouch for the first batch, nor may one of two hosts that differ be the judge."""
        if check.changes != tables.changes:
            check.changes = tables.changes
            makers, found = [copy.maker for copy in check.copies], []      # type: List[Maker], List[WorkerKey]
            best = HOST if len(makers) > 1 and makers[0].distance(makers[1]) >= HOST else NAME
            for key, worker in tables.workers.items():
                if worker.fit and worker.counts and not worker.leaving and key in self._makers:
                    distance = min(map(self._makers[key].distance, makers))
                    if distance > best:
                        best, found = distance, []
                    if distance == best:
                        found.append(key)
            check.eligible, check.parties = frozenset(found), {self._makers[key].party for key in found}
        return check.eligible

    def _is_hopeful(self, check: _Check, tables: LeaseTables) -> bool:
        """Some worker may make the next one. Of the many with one batch, the table of those is not made for that."""
        if len(check.copies) > 1:
            return bool(self._eligible(check, tables))
        maker = check.copies[0].maker
        return any(worker.fit and worker.counts and not worker.leaving and key in self._makers
                   and maker.distance(self._makers[key]) for key, worker in tables.workers.items())

    # -------------------------------------------------------------------------------------------------- for the session

    def first(self, accept: Accept, content: Content, planned: PlannedBatch, message: Produced) -> None:
        """The first batch of a chosen position came: it is going to be compared, unless workers died at the position.
        Which samples are bad depends on the host then: on how much memory it has, and how fast it is."""
        maker = self._makers.get(accept.worker)
        if maker is None or accept.isolated or len(self._checks) >= MAX_CHECKS:
            self.left += 1
            return
        self._changed()
        self._checks[accept.position] = _Check(planned, content, self._now, [Copy(maker, digests_of(message))])
        self.is_busy = True

    def lease_of(self, position: int) -> Optional[Tuple[PlannedBatch, Content]]:
        """What a lease for a further batch of the position is about; None if its first batch has not come."""
        check = self._checks.get(position)
        return None if check is None else (check.planned, check.content)

    def content(self, peer: WorkerKey, position: int, lease: int) -> Optional[Content]:
        """What the lease is about, if it is one for a further batch that this worker holds."""
        check = self._checks.get(position)
        return check.content if check is not None and check.leases.get(lease) == peer else None

    def further(self, peer: WorkerKey, message: Produced) -> Effects:
        """A worker sent a further batch, checked against the job: is it the same as the first?"""
        self._changed()
        position = message.position
        check = self._checks[position]
        del check.leases[message.lease]
        maker = self._makers[peer]
        self._unreliable.discard(maker.party)
        if any(not maker.distance(copy.maker) for copy in check.copies):
            return []                     # a second answer of the same worker
        first = check.copies[0]
        check.copies.append(Copy(maker, digests_of(message)))
        if len(check.copies) == 2 and check.copies[1].digests == first.digests:
            self.verified += 1
            self.by_same_host += maker.distance(first.maker) < HOST
            del self._checks[position]
            return []
        if len(check.copies) > 2:
            return self._fail(position)
        check.granted_s, check.since_s, check.changes = None, self._now, -1
        check.tries = 0
        check.tried.clear()
        self._checks.move_to_end(position, last=False)
        return [Log("%s; a third worker is asked which one is right" % self._difference(check), True)]

    def tick(self, now: float, tables: LeaseTables) -> Effects:
        """Time has passed."""
        self._now = now
        effects: Effects = []
        if now < self._next_look_s:
            return effects
        self._next_look_s, is_busy = now + INTERVAL_S, False
        for position, check in list(self._checks.items()):
            if check.granted_s is not None and now - check.granted_s > PATIENCE_S:
                self._changed()
                check.granted_s = None
                self._note_unreliable(self._makers[holder].party for holder in check.leases.values()
                                      if holder in self._makers)
            hopeful = check.granted_s is not None or check.waits and self._is_hopeful(check, tables)
            if len(check.copies) > 1 and (not hopeful or now - check.since_s > DECIDING_S):
                effects += self._fail(position)
            elif now - check.since_s > MAX_AGE_S:
                self._changed()
                del self._checks[position]
                self.left += 1
            is_busy = is_busy or hopeful
        self.is_busy = is_busy
        return effects

    def suspended_for(self, gap_s: float) -> None:
        """The caller was absent for so long: the time does not count."""
        self._now += gap_s
        for check in self._checks.values():
            check.since_s += gap_s
            check.granted_s = None if check.granted_s is None else check.granted_s + gap_s

    def report(self) -> str:
        """The result so far, in a sentence; '' without verification."""
        if not self._limit:
            return ""
        left = self.left + len(self._checks)
        if not self.verified:
            return "verification: no batch was compared: " + (
                "%d chosen, and no other worker could make a second one" % left if left else "none was chosen")
        return "verification: %d batch%s made twice, and all are equal%s%s" % (
            self.verified, " was" if self.verified == 1 else "es were",
            "; %d of them by two processes of one host" % self.by_same_host if self.by_same_host else "",
            "; %d more chosen, and not compared" % left if left else "")

    def _fail(self, position: int) -> Effects:
        self._changed()
        check = self._checks.pop(position)
        advice = ("Other batches of the worker at fault may be wrong too, and an audit names the worker of each step: "
                  "go on without it, from a checkpoint whose global_step is at most %d" % check.planned.step)
        return [Fail(BatchesDiffer("%s%s. %s. %s" % (self._difference(check), verdict(check.copies),
                                                     causes(check.copies), advice)))]

    def _difference(self, check: _Check) -> str:
        one, other = check.copies[:2]
        what = [name for name, *digests in zip(self._names, one.digests, other.digests) if len(set(digests)) > 1]
        planned = check.planned
        return ("step %d of epoch %d%s was made twice to verify it, and the batches differ in %s: %s made the one that "
                "is used, %s the other" % (
                    planned.step, planned.epoch + 1, "" if planned.training else ", in the evaluation,",
                    " and ".join(what), one.maker, other.maker))
