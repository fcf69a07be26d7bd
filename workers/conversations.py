"""Conversations: a worker's sessions with its trainers, one each, and who gets its two places for leases. Pure.

With one trainer, this only hands on what its session says: the trainer grants up to two leases. With several:

A place is *held* by a lease; or *offered* to a trainer, which was told that it may grant one more (Room). Each trainer
tells, with its leases and heartbeats, how many it could grant, and when its consumer needs the next one (Need). A place
that becomes free is offered to the trainer that needs it soonest, among those that want one; of those whose time has
come, to the one that was offered a place longest ago. So trainers that all wait get equal shares, and none that wants a
place is passed over for longer than ``PATIENCE_S``.

An offered place goes to another trainer that wants it if its own has nothing to grant, or does not answer within
``OFFER_S``, or longer if it always takes longer: it may hang. There is no wait for its consent, so its lease may be
under way and find no place: it is given back at once. The trainer knows by the Room that came before that this is no
fault. One lease is in work at a time, of whichever trainer, the one that came first.

The conversations end one by one, and the worker when all have ended.
"""

from dataclasses import replace
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from stoker.pipeline.protocol.messages import NO_SLOT, FromTrainer, Hello, Job, Lease, Need, Remark, Skipped, Timings
from stoker.workers.effects import EXIT_DRAINED, EXIT_ENDED, EXIT_REFUSED, Check, Close, Effect, End, Note
from stoker.workers.session import CAPACITY, SessionState, WorkerSession

OFFER_S, MAX_OFFER_S = 0.25, 2.0     # an offered place without an answer is of use elsewhere; or three times as long
                                     # as the trainer takes to answer, such as one that is far away
PATIENCE_S = 2.0     # a trainer that wants a place and got none for so long counts as one that waits
MUTE_S, MAX_MUTE_S = 0.5, 30.0      # a trainer that did not use its place gets none so long; doubled each time
SILENT_BEATS = 1.5   # heartbeats without a word after which a trainer is offered a place only if no other wants it
GONE_S = 30.0        # with ``once``: a run is over if another one is, and its trainer has been out of reach for so long

Said = Tuple[int, Union[Effect, Close]]     # to be carried out for the trainer of this number


class _Trainer:
    """One trainer, as the distribution of places sees it."""

    def __init__(self, session: WorkerSession, name: str) -> None:
        self.session, self.name = session, name
        self.room = 0                # how many leases it may grant, held ones included
        self.held = 0                # leases, as of the last distribution
        self.wanted = 0              # leases that it could grant, as far as it has told
        self.needs_s = 0.0           # when its consumer needs the next of them
        self.passed_s = 0.0          # since when it has wanted a place and got none
        self.turn = 0                # when it got one last, in places
        self.asked_s = 0.0           # when it got room that it has not answered with a lease
        self.answers_s = 0.0         # how long it takes to answer room, at most, of late
        self.mute_s = MUTE_S         # how long it is not believed if it does not answer ...
        self.doubted_s = 0.0        # ... and until when
        self.code: Optional[int] = None     # how the conversation ended

    @property
    def offered(self) -> int:
        """Places without a lease."""
        return max(0, self.room - self.held)

    @property
    def taken(self) -> int:
        """Places that no other trainer can have."""
        return max(self.room, self.held)

    @property
    def ends_s(self) -> float:
        """When its answer to room is overdue."""
        return self.asked_s + min(MAX_OFFER_S, max(OFFER_S, 3 * self.answers_s))

    def tells(self, wanted: int, slack_s: float, now: float) -> None:
        """It has said how much it needs this worker."""
        if now < self.doubted_s:
            return
        if not self.wanted:
            self.passed_s = self.asked_s = now
        self.wanted, self.needs_s = wanted, now + slack_s

    def grants(self, now: float) -> None:
        """It has sent a lease."""
        if self.wanted or now < self.doubted_s:      # else it had nothing to grant until now
            self.answers_s = min(MAX_OFFER_S, max(0.9 * self.answers_s, now - self.asked_s))
        self.asked_s, self.mute_s, self.doubted_s = now, MUTE_S, 0.0

    def keeps_waiting(self, now: float) -> None:
        """It wants a place, and makes no use of it: so it is not believed for a while."""
        self.wanted, self.doubted_s, self.mute_s = 0, now + self.mute_s, min(MAX_MUTE_S, 2 * self.mute_s)

    def gets_place(self, now: float, turn: int) -> None:
        """It is offered one more."""
        if not self.offered:
            self.asked_s = now
        self.room, self.turn, self.passed_s = self.taken + 1, turn, now


class Conversations:
    """``hello``: for a single trainer. ``names``: how the user calls each trainer. With ``once``, a conversation ends
    when its run is over. All times in seconds of one monotonic clock."""

    def __init__(self, hello: Hello, names: Sequence[str], once: bool, now: float) -> None:
        self._are_several, self._once = len(names) > 1, once
        if self._are_several:
            hello = replace(hello, capacity=0, trainers=len(names))
        self._trainers = [_Trainer(WorkerSession(hello, once, now), name) for name in names]
        self._turns = 0

    def next_deadline(self) -> float:
        """The latest time for the next ``tick``."""
        if not self._are_several:
            return self._trainers[0].session.next_deadline()
        ends = [one.ends_s for one in self._trainers if one.wanted and one.offered]
        return min(ends + [one.session.next_deadline() for one in self._trainers if one.code is None], default=0.0)

    def hold(self, leases: int) -> List[Said]:
        """A worker of one trainer would hold so many leases, to read ahead for them."""
        return [] if self._are_several else self._said(0, self._trainers[0].session.hold(leases), 0.0)

    @property
    def leases(self) -> List[Tuple[float, Job, Lease]]:
        """Those of the runs that are served, in the order of the work: see WorkerSession."""
        if not self._are_several:
            return self._trainers[0].session.leases
        return sorted((one for each in self._trainers for one in each.session.leases), key=lambda one: one[0])

    @property
    def held(self) -> int:
        """All leases, with the one in work."""
        return sum([one.session.held for one in self._trainers])

    @property
    def is_seeking(self) -> bool:
        """No trainer is there."""
        return all(one.session.state is SessionState.SEEKING or one.code is not None for one in self._trainers)

    def is_served(self, now: float) -> bool:
        """Some trainer gives signs of life, and this worker can do its job, or finds out."""
        return any(one.session.is_served(now) for one in self._trainers)

    def serves_others(self, number: int) -> bool:
        """Another trainer than this one is connected, and this worker can do its job."""
        return any(one.session.is_ready for other, one in enumerate(self._trainers) if other != number)

    def receive(self, number: int, message: FromTrainer, now: float) -> List[Said]:
        """A message of this trainer has come."""
        one = self._trainers[number]
        if not self._are_several:
            return self._said(number, one.session.receive(message, now), now)
        is_ready = one.session.is_ready
        if isinstance(message, Lease) and is_ready:
            one.grants(now)
        if isinstance(message, (Lease, Need)) and is_ready:
            one.tells(message.wanted, message.slack_s, now)
        if isinstance(message, Lease) and is_ready and self.held >= CAPACITY:
            return self._said(number, one.session.turn_down(message, now), now)
        return self._said(number, one.session.receive(message, now), now)

    def tick(self, now: float, trouble: Callable[[int], str] = lambda number: "") -> List[Said]:
        """Time has passed. ``trouble(number)``: a clause, why there is no conversation with this trainer."""
        said: List[Said] = []
        for number, one in enumerate(self._trainers):
            if one.code is None and now >= one.session.next_deadline():
                said += self._said(number, one.session.tick(now, trouble(number)), now)
        if self._are_several:
            if self._once and any(one.code == EXIT_ENDED for one in self._trainers):
                said += self._end_unreachable(now)
            said += self._distribute(now)
        return said

    def connected(self, number: int) -> None:
        """There is a new connection to this trainer, on which nothing was said."""
        self._trainers[number].session.connected()

    def disconnected(self, number: int, now: float, why: str = "the connection broke") -> List[Said]:
        """The connection to this trainer is lost: nothing can be sent."""
        return self._said(number, self._trainers[number].session.disconnected(now, why), now)

    def checked(self, number: int, run: str, reason: str, traceback: str, now: float) -> List[Said]:
        """The answer to a Check of this trainer's job: see WorkerSession."""
        return self._said(number, self._trainers[number].session.checked(run, reason, traceback, now), now)

    def refused(self, number: int, error: str, now: float) -> List[Said]:
        """A message of this trainer could not be read."""
        return self._said(number, self._trainers[number].session.refused(error, now), now)

    def leave(self, number: int, why: str, now: float) -> List[Said]:
        """There can be no conversation with this trainer."""
        return self._said(number, self._trainers[number].session.end(EXIT_REFUSED, why), now)

    def unfit(self, reason: str, traceback: str, now: float) -> List[Said]:
        """The lease in work has shown that this worker cannot do the job."""
        number = self._at_work()
        return self._said(number, self._trainers[number].session.unfit(reason, traceback, now), now)

    def produced(self, lease: Lease, count: int, skipped: Tuple[Skipped, ...], arrays: Tuple[Any, ...],
                 produce_s: float, timings: Timings, now: float, rows: Tuple[int, ...] = (), missing: int = 0,
                 aligned: bool = True, remarks: Tuple[Remark, ...] = (), slot: int = NO_SLOT) -> List[Said]:
        """The lease in work is done: see WorkerSession."""
        number = self._at_work()
        return self._said(number, self._trainers[number].session.produced(
            lease, count, skipped, arrays, produce_s, timings, now, rows, missing, aligned, remarks, slot), now)

    def failed(self, lease: Lease, error: str, traceback: str, sample: str, now: float,
               unreadable: Tuple[Skipped, ...] = (), hopeless: bool = False, starved: bool = False) -> List[Said]:
        """The lease in work cannot be done: see WorkerSession."""
        number = self._at_work()
        return self._said(number, self._trainers[number].session.failed(
            lease, error, traceback, sample, now, unreadable, hopeless, starved), now)

    def drain(self, now: float, reason: str) -> List[Said]:
        """The worker is to finish the lease in work, take no more, and leave."""
        return [said for number, one in enumerate(self._trainers) if one.code is None
                for said in self._said(number, one.session.drain(now, reason), now)]

    def abandon(self, now: float, reason: str) -> List[Said]:
        """This process leaves, and the lease in work is not done: for another process with other rights."""
        at_work_last = sorted(enumerate(self._trainers), key=lambda each: each[1].session.has_work)    # else one begins
        return [said for number, one in at_work_last if one.code is None
                for said in self._said(number, one.session.abandon(now, reason), now)]

    def _at_work(self) -> int:
        if not self._are_several:
            return 0
        return next((number for number, one in enumerate(self._trainers) if one.session.has_work), 0)

    def _end_unreachable(self, now: float) -> List[Said]:
        said: List[Said] = []
        rest = [number for number, one in enumerate(self._trainers) if one.code is None]
        if all(self._trainers[number].session.sought_for_s(now) >= GONE_S for number in rest):
            for number in rest:
                said += self._said(number, self._trainers[number].session.end(
                    EXIT_ENDED, "no trainer, and another run is over"), now)
        return said

    def _said(self, number: int, effects: Sequence[Effect], now: float) -> List[Said]:
        """``effects`` of the session, and what follows from them for the others. What a trainer may grant from now on
        is said before all else: it may grant when it reads that."""
        if not self._are_several:
            return [(0, effect) for effect in effects]
        one, said = self._trainers[number], []      # type: Tuple[_Trainer, List[Said]]
        for effect in effects:
            if isinstance(effect, Note):
                effect = Note("%s: %s" % (one.name, effect.text))
            elif isinstance(effect, Check):
                effect = effect._replace(trainer=number)
            if isinstance(effect, End):
                one.code = effect.code
                codes = {each.code for each in self._trainers}
                last = next(code for code in (None, EXIT_DRAINED, EXIT_ENDED, EXIT_REFUSED) if code in codes)
                said.append((number, Close(effect.code) if last is None else End(last)))
            else:
                said.append((number, effect))
        return self._distribute(now) + said + self._begin()

    def _begin(self) -> List[Said]:
        """Nothing is in work: the lease that has waited longest."""
        if any(one.session.has_work for one in self._trainers):
            return []
        number = min(range(len(self._trainers)), key=lambda number: self._trainers[number].session.waits_since_s)
        return [(number, effect) for effect in self._trainers[number].session.begin()]

    # ------------------------------------------------------------------------------------ which trainer gets a place

    def _distribute(self, now: float) -> List[Said]:
        """Offers each place to the trainer that needs it most; what is to be said to them."""
        free = CAPACITY
        for one in self._trainers:
            done, one.held = one.held - one.session.held, one.session.held
            if not one.session.is_ready:
                one.room = one.wanted = 0
            elif done > 0:                       # its place is free, and the trainer does not know yet
                one.room = max(one.held, one.room - done)
            if one.wanted and one.offered and now >= one.ends_s:
                one.keeps_waiting(now)
            free -= one.taken
        ready = [one for one in self._trainers if one.session.is_ready]
        while free < 0 and any(one.offered for one in ready):       # a lease came for a place that had moved on
            max((one for one in ready if one.offered), key=lambda one: self._need(one, now)).room -= 1
            free += 1
        wanting = [one for one in ready if one.wanted > one.offered]
        while wanting and (free > 0 or any(one.offered > one.wanted for one in ready)):
            if free <= 0:
                idle = max((one for one in ready if one.offered > one.wanted), key=lambda one: self._need(one, now))
                idle.room -= 1
                free += 1
            self._offer(min(wanting, key=lambda one: self._need(one, now)), now)
            free -= 1
            wanting = [one for one in ready if one.wanted > one.offered]
        for _ in range(free if ready else 0):    # no trainer has anything for it at the moment: where it is told first
            self._offer(min(ready, key=lambda one: (self._is_silent(one, now), one.offered, -one.turn)), now)
        changed = [(number, one) for number, one in enumerate(self._trainers) if one.session.is_ready]
        changed.sort(key=lambda each: each[1].room > each[1].session.told_room)      # where it becomes less, first
        return [(number, effect) for number, one in changed for effect in one.session.room(one.room)]

    def _need(self, one: _Trainer, now: float) -> Tuple[bool, bool, int, float, int]:
        """The least of all needs a place most."""
        needs_s = min(one.needs_s, one.passed_s + PATIENCE_S)
        return one.wanted <= 0, self._is_silent(one, now), one.offered, max(now, needs_s), one.turn

    @staticmethod
    def _is_silent(one: _Trainer, now: float) -> bool:
        return now - one.session.heard_s > SILENT_BEATS * one.session.heartbeat_s

    def _offer(self, one: _Trainer, now: float) -> None:
        self._turns += 1
        one.gets_place(now, self._turns)
