"""CoordinatorSession: all that the trainer's end of the wire decides. Pure: frames and time come in, effects go out.

            stop()                   every member has read Stop, or the time is over
    RUNNING ───────────> STOPPING ──────────────────────────────────────────────────> OVER

It knows the members, checks every message against the job, holds the LeaseScheduler and the limits of peers, and says
what to send to which peer. In each turn ``thread.py`` calls ``wake``, ``receive`` for each message, ``answer_hellos``,
``incident`` for what the socket noticed, and ``tick``; it carries out what they return.
"""

from dataclasses import replace
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

import numpy as np

from stoker.pipeline.arrays import framed
from stoker.pipeline.coordinator.aside import SetAside
from stoker.pipeline.coordinator.bans import KINDS, TIMED_OUT, PeerLimits
from stoker.pipeline.coordinator.effects import Abort, Accept, Deliver, Effects, Fail, Fill, Gone, Grant, Invite
from stoker.pipeline.coordinator.effects import LeaveOut, Revoke, SchedulerEffect, Send, Share, Shut, Unknown, WorkerKey
from stoker.pipeline.coordinator.farewell import Farewell, State
from stoker.pipeline.coordinator.job import job_message
from stoker.pipeline.coordinator.killers import Killers
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.coordinator.notices import Notices, gone_line, problem_of, shown, summary_of
from stoker.pipeline.coordinator.open_positions import OpenPositions
from stoker.pipeline.coordinator.party import party_of
from stoker.pipeline.coordinator.shared import SharedMembers
from stoker.pipeline.coordinator.slots import Slots
from stoker.pipeline.coordinator.standing import Standing
from stoker.pipeline.coordinator.verification import Verification
from stoker.pipeline.contracts import SlotMemory
from stoker.pipeline.errors import ProtocolError, RunFailed, VersionMismatch
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.batch_arrays import check_arrays, with_frames
from stoker.pipeline.protocol.messages import Failed, Hello, Produced, Ready, Refused, Revoked
from stoker.pipeline.protocol.messages import Room, Stop, Unfit, Welcome
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import printable

ABSENCE_S = 2.0            # between two calls: the process was suspended, or busy with something else


class CoordinatorSession:
    """The trainer's side of the conversation with the workers of the run named ``run``, from position ``start`` on.
    ``host_of``, ``key_of``: the host of a peer, and the name of its key, '' if unknown. ``secret`` chooses the steps to
    verify. ``memory``: that is shared with workers; None: all batches come in frames. All times are seconds of one
    monotonic clock. Other threads may read standing, last_problem, verification."""

    def __init__(self, run: str, start: int, plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions,
                 now: float, host_of: Callable[[WorkerKey], str] = lambda peer: "",
                 key_of: Callable[[WorkerKey], str] = lambda peer: "", secret: bytes = b"",
                 killers: Optional[Killers] = None, memory: Optional[SlotMemory] = None) -> None:
        self.run, self._host_of = run, host_of
        self._farewell: Optional[Farewell] = None        # once the run ends
        self._options, self._job = options, job_message(job, datasets, options)
        self._positions = OpenPositions(plan, datasets, job.on_bad_image == "replace", killers or Killers(
            job, datasets, options.picture_cpu_s))
        prefetch = options.prefetch_of(job)
        self.verification = Verification(options.verify, secret, [spec.name for spec in framed(job.arrays)], now,
                                         prefetch)
        self._scheduler = LeaseScheduler(start, plan.positions, prefetch, options.lease_s,
                                         party_of=lambda peer: party_of(key_of(peer), host_of(peer)),
                                         verification=self.verification,
                                         is_empty=plan.is_empty if plan.ranks > 1 else None)
        self._shared, self._limits = SharedMembers(self._scheduler), PeerLimits()
        self.slots, self._header_bytes = Slots(prefetch, memory), codec.max_header_bytes(job.batch_size)
        self._members: Dict[WorkerKey, Hello] = {}       # welcomed, and not gone
        self._unreachable: Set[WorkerKey] = set()        # lost once all their waiting messages are read
        self._ping_s, self._called_s = 0.0, now
        self._hellos: Dict[WorkerKey, Hello] = {}        # of each peer, the last one in the messages that wait
        self._was_absent = False                         # the caller; until all messages of that time are read
        self._aside, self.last_problem = SetAside(), ""
        self.notices = Notices(prefetch, "--prefetch" + "-mb" * (prefetch < options.prefetch),
                               bool(self._job.data_root), job.formats, datasets)
        self.standing = Standing(self._scheduler, self._members, self._aside, now)

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._farewell is None:
            return State.RUNNING
        return State.OVER if self._farewell.is_over else State.STOPPING

    @property
    def head(self) -> int:
        """The next position that the consumer takes."""
        return self._scheduler.head

    def leases_of(self, peer: WorkerKey) -> int:
        """Of how many leases a batch of the peer's may still come."""
        return self._scheduler.leases_of(peer)

    @property
    def has_room(self) -> bool:
        """Some worker waits for the window to move."""
        return self._scheduler.has_room or self._shared.may_be_asked

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest."""
        if self._farewell is not None or self._unreachable:
            return 0.0 if self._farewell is None else self._farewell.next_deadline()
        return min(self._scheduler.next_deadline(), self._ping_s, self._shared.next_deadline())

    def wake(self, now: float) -> None:
        """The caller begins a turn. A long time since the last call means that it was suspended, or busy: no worker's
        fault, so the time counts neither for leases nor for the flood of Hellos that waits."""
        gap_s, self._called_s = now - self._called_s, now
        if gap_s > min(ABSENCE_S, self._options.lease_s / 2):
            self._limits.suspended_for(gap_s, now)
            self._scheduler.suspended_for(gap_s, now)
            self.verification.suspended_for(gap_s)
            self.standing.suspended_for(gap_s)
            if self._farewell is not None:
                self._farewell.suspended_for(gap_s)
            self._was_absent = True

    def receive(self, peer: WorkerKey, frames: Sequence[Any], now: float) -> Effects:
        """A message arrived. ``frames``: bytes-like objects, header first."""
        if self._limits.is_banned(peer):
            return []
        if self._farewell is not None:
            self._farewell.receive(peer, frames, now)
            return []
        views: Tuple["np.ndarray", ...] = ()
        try:
            message = codec.decode_from_worker(frames, self._header_bytes)
            run = getattr(message, "run", self.run) or self.run      # a worker that cannot read Welcome knows none
            if run != self.run:
                if peer not in self._members:
                    return self._answer_older_run(peer, run, now)
                raise ProtocolError("it names the run %.20r" % run)
            message, again = self.slots.answer(peer, message), None
            if isinstance(message, Produced):
                again = self.verification.content(peer, message.position, message.lease)
                content = again or self._positions.content(message.position, message.lease)
                if content is not None:        # else it comes too late, or names a lease of another position
                    slot = self.slots.memory_of(peer, message)
                    views = check_arrays(message, self._job, content.indices, content.replacements, slot)
        except VersionMismatch as error:
            effects = self.notices.refused(self._host_of(peer), error)
            refused = Refused("this worker is of another release than the trainer: %s" % error, True)
        except ProtocolError as error:
            effects = self.notices.dropped(self._name(peer), error)
            if peer in self._members:     # what it holds cannot be told from such messages: it starts again
                effects += self._carry_out(self._scheduler.protocol_violation(
                    peer, now, "broke the protocol (%s)" % error))
            refused = Refused(str(error), False)
        else:
            if isinstance(message, Hello):
                return self._hello(peer, message, now)
            if isinstance(message, Failed) and peer in self._members:
                return self._failed(peer, message, now)
            if (isinstance(message, (Ready, Unfit)) and self._scheduler.fitness(peer) is not None
                    and self._limits.hello(peer, now)):         # the first after a Hello is counted with it
                return self._ban(peer, "hellos", now)
            if (isinstance(message, Room) and peer in self._members and self._shared.said_room(peer)
                    and self._limits.ban(peer, "rooms")):
                return self._ban(peer, "rooms", now)
            if isinstance(message, Ready) and peer in self._members:
                return self._ready(peer, message, now)
            if isinstance(message, Unfit) and peer in self._members:
                return self._unfit(peer, message, now)
            remarks = message.remarks if isinstance(message, Produced) and peer in self._members else ()
            effects = self.notices.remarked(remarks) if remarks else []
            if again is not None and isinstance(message, Produced):
                effects += self.verification.further(peer, with_frames(message, views))
            effects += self._carry_out(self._scheduler.receive(peer, message, now), message, views)
            return effects + self._shared.answer(peer, message, effects)
        effects.append(Send((peer,), refused))
        return effects + (self._ban(peer, "malformed", now) if self._limits.malformed(peer, now) else [])

    def joined(self, peer: WorkerKey, hello: Hello, now: float) -> Effects:
        """Welcome was sent to the peer."""
        if peer not in self._members:
            self._members[peer] = hello
            if hello.last_exit:
                self.last_problem = "%s ended with %s" % (hello.worker, hello.last_exit)
        effects = self._carry_out(self._scheduler.receive(peer, hello, now))
        self._shared.joined(peer, hello)
        self.verification.joined(peer, hello, self._scheduler.workers[peer].party)
        return effects

    def lost(self, peer: WorkerKey, now: float) -> Effects:
        """The connection of the peer is gone, and all that it sent was read."""
        is_new = peer in self._members and self._scheduler.fitness(peer) is None
        effects = self._aside.add_lost(self._name(peer), self._job.augment or self._job.generator) if is_new else []
        return effects + self._carry_out(self._scheduler.lost(peer, now))

    def unreachable(self, peer: WorkerKey) -> None:
        """Nothing can be sent to the peer. What it sent before counts: it is lost in the next ``tick``."""
        if self._farewell is not None:
            self._farewell.lost(peer)
        elif peer in self._members:
            self._unreachable.add(peer)

    def answer_hellos(self) -> Effects:
        """All waiting messages were handed in: welcomes the peers that said Hello. One that said it several times
        meanwhile, as there was no answer, is welcomed once: each further time it would have to forget its leases."""
        hellos, self._hellos, self._was_absent = self._hellos, {}, False
        if not hellos or self.state is not State.RUNNING:
            return []
        welcome = Welcome(self.run, self._job, self._options.heartbeat_of(len(self._members)))
        return [Invite(peer, hello, welcome) for peer, hello in hellos.items() if not self._limits.is_banned(peer)]

    def incident(self, kind: str, host: str) -> Effects:
        """The socket refused or cut off a connection of ``host``; ``kind`` of bans.KINDS."""
        if kind in TIMED_OUT and self._limits.is_grace(self._called_s):
            return []
        self._limits.counts[kind] += 1
        warning = KINDS[kind][1]
        return self.notices.warn_once(warning % host, stranger=True) if warning else []

    def tick(self, now: float, taken: int, step_s: float = 0.0) -> Effects:
        """All messages were handed in; the consumer has the batches below ``taken``, and uses one in ``step_s``."""
        if self._farewell is not None:
            return self._farewell.tick(now)
        self.wake(now)
        effects: Effects = []
        self._shared.step_s = step_s
        while self._unreachable:
            effects += self.lost(self._unreachable.pop(), now)
        while self._scheduler.head < taken:
            effects += self._carry_out(self._scheduler.take(now))
        effects += self._carry_out(self._scheduler.tick(now))
        effects += self.verification.tick(now, self._scheduler)
        if now >= self._ping_s:
            self._ping_s = now + self._options.heartbeat_s
            self.standing.is_due = True
            effects += self._shared.heartbeat(self.run, self._members)
        effects += self._shared.tick(now)
        self.standing.tick(now)
        return effects

    def stop(self, reason: str, now: float, limit_s: float) -> Effects:
        """The run ends: members are told until each has read it, or ``limit_s`` is over."""
        self._farewell = Farewell(self.run, self._members, now, limit_s, self._header_bytes)
        return [Send(tuple(self._members), Stop(reason))]

    def summary(self) -> Effects:
        """Counts for those who look for them, at the end."""
        return summary_of(self._scheduler, self._limits.summary(), self.slots.in_frames)

    def _hello(self, peer: WorkerKey, hello: Hello, now: float) -> Effects:
        said_again = peer in self._hellos
        self._hellos[peer] = shown(hello)
        if said_again and self._was_absent:      # it had no answer for so long
            return []
        return self._ban(peer, "hellos", now) if self._limits.hello(peer, now) else []

    def _answer_older_run(self, peer: WorkerKey, run: str, now: float) -> Effects:
        """A worker that outlived another trainer, and does not know it yet."""
        self._limits.counts["older"] += 1
        return self._ban(peer, "hellos", now) if self._limits.hello(peer, now) else [
            Send((peer,), Refused("run %.20s is over" % run, False))]

    def _carry_out(self, decided: Sequence[SchedulerEffect], message: Any = None,
                   views: Tuple["np.ndarray", ...] = ()) -> Effects:
        """``decided`` in the words of the wire; ``message`` and ``views``: the batch that an Accept is about."""
        effects: Effects = []
        for effect in decided:
            if isinstance(effect, Grant):
                again = self.verification.lease_of(effect.position)
                slot, released = self.slots.grant(effect.worker, effect.lease, effect.position, self._scheduler.head)
                lease = self._shared.lease(effect.worker, self._positions.lease(effect, slot, again))
                effects += [*released, Send((effect.worker,), lease)]
                if effect.isolated and again is None:
                    effects += self.notices.isolated(self._positions.step_of(effect.position))
            elif isinstance(effect, Accept):
                effects.append(self._deliver(effect, message, views))
            elif isinstance(effect, Revoke):
                effects.append(Send((effect.worker,), Revoked(effect.lease)))
            elif isinstance(effect, Gone):
                effects += self._gone(effect)
            elif isinstance(effect, Unknown):
                effects.append(Send((effect.worker,), Refused(effect.what, False)))
            elif isinstance(effect, Fill):
                effects.append(self._positions.filled(effect.position, self.run, self._job.arrays))
            elif isinstance(effect, LeaveOut):
                self._positions.leave_out(effect)
            elif isinstance(effect, Abort):
                effects.append(Fail(self._positions.failure(effect)))
        return effects

    def _deliver(self, accept: Accept, message: Produced, views: Tuple["np.ndarray", ...]) -> Deliver:
        content, sent = self._positions.content(accept.position, message.lease), message
        planned, message, used, source = self._positions.close(accept.position, message)
        if content is not None and self.verification.is_chosen(accept.position):
            self.verification.first(accept, content, planned, with_frames(sent, views))
        return Deliver(planned, message, views, used, self._members[accept.worker].worker, accept.attempt,
                       max(0.0, accept.took_s - message.timings.held_s), source)

    def _gone(self, gone: Gone) -> Effects:
        """A silent worker may come back, and keeps its membership: the scheduler knows the difference."""
        name, effects = self._name(gone.worker), []      # type: str, Effects
        self.verification.forgot(gone.worker)
        if not self._scheduler.is_member(gone.worker):
            effects += self.slots.left(gone.worker)
            del self._members[gone.worker]
            self._shared.left(gone.worker)
            self.verification.lost(gone.worker)
        if gone.positions:
            self.last_problem = "%s %s" % (name, gone.why)
        return effects + [gone_line(name, gone, self._scheduler.is_member(gone.worker))]

    def _ban(self, peer: WorkerKey, kind: str, now: float) -> Effects:
        """Disconnects a peer that reached a limit: nothing that it sends is read any more."""
        effects = self.notices.warn_once(KINDS[kind][1] % self._name(peer), stranger=True)
        if peer in self._members:
            effects += self._carry_out(self._scheduler.protocol_violation(peer, now, "is cut off"))
        return effects + [Shut(peer)]

    def _failed(self, peer: WorkerKey, failed: Failed, now: float) -> Effects:
        self.verification.forgot(peer, failed.lease)
        failed = replace(failed, error=printable(failed.error), traceback=printable(failed.traceback, True),
                         unreadable=self._positions.among(failed.position, failed.lease, failed.unreadable))
        self.last_problem, lines = problem_of(self._name(peer), failed), self.notices.failed(self._name(peer), failed)
        is_only_host = len(self.standing.fleet.by_supervisor) < 2 and len(self._scheduler.parties()) < 2
        if failed.hopeless and is_only_host and not self._positions.made:
            return lines + [Fail(RunFailed(failed.error))]
        lines += self._carry_out(self._scheduler.receive(peer, failed, now))
        return lines + self._shared.answer(peer, failed, lines)

    def _ready(self, peer: WorkerKey, ready: Ready, now: float) -> Effects:
        reason = self.slots.reason(ready)
        return self.shared(peer, ready, reason, now) if reason else [*self.slots.left(peer), Share(peer, ready)]

    def shared(self, peer: WorkerKey, ready: Ready, reason: str, now: float) -> Effects:
        """The peer, which is ready, got memory that it shares with the trainer, or none for this ``reason``."""
        hello, before = self._members[peer], self._scheduler.fitness(peer)
        effects = self.slots.joined(peer, not reason)
        effects += self._carry_out(self._scheduler.receive(peer, ready, now))
        lines = self._aside.remove(hello.worker)
        if before is None:
            lines = self.notices.joined(hello, self.standing.ready_workers())
        return lines + self.notices.memory(hello.worker, reason) + effects + self._shared.answer(peer, ready, effects)

    def _unfit(self, peer: WorkerKey, unfit: Unfit, now: float) -> Effects:
        self.verification.forgot(peer)
        effects = self._carry_out(self._scheduler.receive(peer, unfit, now))
        effects += self._aside.add(self._name(peer), unfit.reason, unfit.traceback)
        self.standing.is_due = True     # local workers that all cannot do the job end the run at once
        return effects

    def _name(self, peer: WorkerKey) -> str:
        if peer in self._members:
            return self._members[peer].worker
        return " at ".join(filter(None, ("an unknown peer", self._host_of(peer))))
