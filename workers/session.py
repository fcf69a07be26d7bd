"""WorkerSession: a worker's side of the protocol, without socket, clock or thread: inputs in, effects out.

              Welcome                        Stop, Refused(not final), connection lost
    SEEKING ───────────> SERVING ─────────────────────────────────────────────> SEEKING
       │                    │  drain()
       │ drain()            └──────────> DRAINING ── the lease in work is done ──> ENDED
       └───────────────────────────────────────────────────────────────────────> ENDED

SEEKING says Hello again and again; SERVING holds leases, the first of which is in work, and says Alive. With ``once``,
Stop ends the worker; Refused(final) always does. A batch that is finished after its run has ended is dropped.

A worker that was welcomed first finds out whether it can do the job, and says Ready or Unfit: only then it gets leases.
An unfit one tries again after a while, for a folder may be mounted later; it may also become unfit at a lease.

A trainer that is silent while its connection stands is busy (one long C call keeps all its threads waiting) or
suspended: libzmq's own thread, which answers pings, tells a dead one. So the worker keeps what it holds, and speaks
ever more rarely, as everything that it says has to be read by the trainer when it is back.

``Conversations`` has a session for each trainer that a worker serves. If there are several, it says when a session may
begin with a lease, and how many it may hold.
"""

import enum
import math
from collections import deque
from typing import Any, Deque, List, Optional, Tuple, Union

from stoker.pipeline.protocol.messages import (
    NO_SLOT, Alive, Failed, FromTrainer, Hello, Job, Lease, Leaving, Produced, Ready, Refused, Remark, Returned,
    Revoked, Room, Skipped, Stop, Timings, Unfit, Welcome, sendable)
from stoker.workers.effects import (EXIT_DRAINED, EXIT_ENDED, EXIT_REFUSED, Check, Effect, End, HangUp, Note, Say,
                                    Work, described)
from stoker.workers.intervals import (HELLO_INTERVAL_S, MAX_CHECKS, MAX_INTERVAL_S, MAX_RETRY_S, MIN_HEARTBEAT_S,
                                      MIN_RETRY_S, REPORT_INTERVAL_S, SILENT_HEARTBEATS)
from stoker.workers.unsaid import Unsaid

CAPACITY = 2       # leases a worker holds: one in work, one so that the next can start at once
MAX_AHEAD = 4      # leases that it may hold: to read ahead where reads take longer than a lease, or if steps are short
SessionState = enum.Enum("SessionState", "SEEKING SERVING DRAINING ENDED")


class WorkerSession:
    """One worker's conversation with one trainer after the other. All times in seconds of one monotonic clock."""

    def __init__(self, hello: Hello, once: bool, now: float) -> None:
        self._hello, self._once = hello, once
        self.state = SessionState.SEEKING
        self._run = ""                      # '' while SEEKING and ENDED
        self._job: Optional[Job] = None
        self._takes_turns = hello.trainers > 1      # with the sessions of other trainers
        self.told_room = 0                  # how many leases this trainer was told that it may let the worker hold
        self._most = CAPACITY               # leases that it would hold, if it serves this trainer alone
        self._waiting: Deque[Tuple[Lease, float]] = deque()     # not yet in work, with the time at which each came
        self._work: Optional[Tuple[str, Lease, float]] = None   # in work, perhaps of a run that has ended
        self._unsaid = Unsaid()             # of this run
        self._checks = 0                    # that were not answered yet
        self._ready_for = ""                # the last run for which it said Ready
        self._unfit_for = ""                # why it cannot do the job; '' if it can, or does not know yet
        self._ready_s = now                 # when it last said Ready
        self._retry_at_s, self._retry_s = math.inf, MIN_RETRY_S     # the next Check, and how long after the one before
        self.heartbeat_s = HELLO_INTERVAL_S
        self._hello_interval_s = 0.0        # from the last Hello to the next
        self._spoke_s = now                 # when the last sign of life was sent to the trainer
        self.heard_s = now
        self._noted_silence_s = 0.0         # SERVING: how long the trainer was silent when that was last reported
        self._sought_s = now                # SEEKING: since when
        self._reported_s = now

    def next_deadline(self) -> float:
        """The latest time for the next ``tick``."""
        if self.state is SessionState.SEEKING:
            return self._spoke_s + self._hello_interval_s
        silence_s = self._spoke_s - self.heard_s
        return min(self._retry_at_s, self._unsaid.deadline_s,
                   self._spoke_s + max(self.heartbeat_s, min(MAX_INTERVAL_S, silence_s / SILENT_HEARTBEATS)))

    def is_served(self, now: float) -> bool:
        """It is connected to a trainer that gives signs of life, and can do its job, or finds out."""
        return (self.state in (SessionState.SERVING, SessionState.DRAINING) and not self._unfit_for
                and now - self.heard_s <= SILENT_HEARTBEATS * self.heartbeat_s)

    @property
    def is_ready(self) -> bool:
        """It has said that it can do the job, and may get leases."""
        return self.state is SessionState.SERVING and self._run == self._ready_for

    @property
    def held(self) -> int:
        """Its leases, with one in work, also of a run that has ended."""
        return len(self._waiting) + self.has_work

    @property
    def has_work(self) -> bool:
        """A lease is in work."""
        return self._work is not None

    def sought_for_s(self, now: float) -> float:
        """For how long it has looked for a trainer; 0 while it has one."""
        return now - self._sought_s if self.state is SessionState.SEEKING else 0.0

    @property
    def leases(self) -> List[Tuple[float, Job, Lease]]:
        """What it holds of the run that it serves: when each came (-inf: it is in work), in the order of the work."""
        held = [(-math.inf, self._work[1])] if self._work and self._work[0] == self._run else []
        held += [(came_s, lease) for lease, came_s in self._waiting]
        return [(came_s, self._job, lease) for came_s, lease in held if self._job is not None]

    @property
    def waits_since_s(self) -> float:
        """When the first lease came that is not in work; inf if there is none."""
        return self._waiting[0][1] if self._waiting else math.inf

    def room(self, leases: int) -> List[Effect]:
        """From now on it may hold so many leases."""
        if leases == self.told_room or not self.is_ready:
            return []
        self.told_room = leases
        return [Say(Room(self._run, leases))]

    def hold(self, leases: int) -> List[Effect]:
        """It would hold so many leases, to read ahead for them; not fewer than before."""
        self._most = max(self._most, min(leases, MAX_AHEAD))
        return self.room(self._most) if self._most > CAPACITY and not self._takes_turns else []

    def turn_down(self, lease: Lease, now: float) -> List[Effect]:
        """There is no room for this lease: the trainer may have granted it before it heard that. It costs an answer."""
        self.heard_s = now
        return [Say(Returned(self._run, lease.lease))]

    def receive(self, message: FromTrainer, now: float) -> List[Effect]:
        """A message of the trainer has come."""
        silence_s, self.heard_s = now - self.heard_s, now
        if self._noted_silence_s:
            self._noted_silence_s = 0.0
            return [Note("the trainer is back after %.0f s" % silence_s), *self.receive(message, now)]
        if self.state is SessionState.ENDED:
            return []
        if isinstance(message, Refused):
            if message.final:
                return [Note("the trainer refuses this worker: " + message.reason), self._end(EXIT_REFUSED)]
            if self.state is not SessionState.SERVING:
                return []
            return self._seek(now, "lost run %s: %s" % (self._run, message.reason))
        if isinstance(message, Welcome):
            return self._welcome(message, now) if self.state is not SessionState.DRAINING else []
        if isinstance(message, Stop):
            text = "run %s is over: %s" % (self._run or "?", message.reason)
            if self._once or self.state is SessionState.DRAINING:
                return [Note(text), self._end(EXIT_ENDED if self._once else EXIT_DRAINED)]
            return self._seek(now, text) if self.state is SessionState.SERVING else [Note(text)]
        if self.state is not SessionState.SERVING:   # it belongs to a run that this worker has left
            return []
        if isinstance(message, Lease) and self._run == self._ready_for:     # else the trainer has not yet heard Unfit
            return self._lease(message, now)
        if isinstance(message, Revoked):
            kept = deque((lease, came_s) for lease, came_s in self._waiting if lease.lease != message.lease)
            if len(kept) < len(self._waiting):      # else it is in work: its batch is the answer
                self._waiting = kept
                return [Say(Returned(self._run, message.lease))]
        return []

    def tick(self, now: float, trouble: str = "") -> List[Effect]:
        """Time has passed. ``trouble``: a clause, why there is no conversation with a trainer."""
        if now < self.next_deadline() or self.state is SessionState.ENDED:
            return []
        if self.state is SessionState.SERVING and now >= self._retry_at_s and self._job is not None:
            self._retry_at_s = math.inf
            return self._check(self._job, now)
        self._spoke_s = now
        if self.state is not SessionState.SEEKING:
            return [*(self._unsaid.say(now) or [Say(Alive(self._run))]), *self._report_silence(now)]
        self._hello_interval_s = min(MAX_INTERVAL_S, 2 * self._hello_interval_s or HELLO_INTERVAL_S)
        if now - self._reported_s < REPORT_INTERVAL_S:
            return [Say(self._hello)]
        self._reported_s = now
        return [Say(self._hello), Note("no trainer for %.0f s, still trying%s" % (
            now - self._sought_s, trouble and ": " + trouble))]

    def connected(self) -> None:
        """There is a new connection, on which nothing was said."""
        self._hello_interval_s = min(self._hello_interval_s, HELLO_INTERVAL_S)

    def disconnected(self, now: float, why: str = "the connection broke") -> List[Effect]:
        """The connection is lost: nothing can be sent."""
        if self.state is SessionState.SERVING:
            return self._seek(now, "lost the trainer of run %s: %s" % (self._run, why))
        self.connected()        # SEEKING: the last Hello went nowhere, so it is no reason to wait
        return [self._end(EXIT_DRAINED)] if self.state is SessionState.DRAINING else []

    def checked(self, run: str, reason: str, traceback: str, now: float) -> List[Effect]:
        """The answer to Check. ``reason``: why this worker cannot do the job of ``run``; '' if it can. ``traceback``:
        of what the user's module raised."""
        self._checks -= 1
        if self.state is not SessionState.SERVING or run != self._run:
            return []
        if reason:
            return self._set_aside(reason, traceback, now)
        self._spoke_s = self._ready_s = now
        self._ready_for, self._unfit_for, self._retry_at_s = run, "", math.inf
        return [Say(Ready(run)), *self.hold(0)]

    def unfit(self, reason: str, traceback: str, now: float) -> List[Effect]:
        """The lease in work has shown that this worker cannot do the job: its folder is gone."""
        run, self._work = self._work[0] if self._work else "", None
        if not run or run != self._run:
            return self._next_turn()
        effects = self._set_aside(reason, traceback, now)
        return [*effects, self._end(EXIT_DRAINED)] if self.state is SessionState.DRAINING else effects

    def refused(self, error: str, now: float) -> List[Effect]:
        """A message of the trainer could not be read. Both are of the same release, so no retry can help."""
        if self.state not in (SessionState.SEEKING, SessionState.SERVING):
            return []
        if self.state is SessionState.SEEKING:     # the trainer may be another one than before
            self._unfit_for = ""
        effects = self._set_aside("it cannot read a message of the trainer, though both are of the same release: %s; "
                                  "this is a row or a path that cannot travel, or a bug in Stoker" % error, "", now)
        self._retry_at_s = math.inf
        return effects

    def produced(self, lease: Lease, count: int, skipped: Tuple[Skipped, ...], arrays: Tuple[Any, ...],
                 produce_s: float, timings: Timings, now: float, rows: Tuple[int, ...] = (), missing: int = 0,
                 aligned: bool = True, remarks: Tuple[Remark, ...] = (), slot: int = NO_SLOT) -> List[Effect]:
        """The lease in work is done. ``arrays``: of ``count`` rows each. ``timings``: without ``held_s``. For ``rows``,
        ``missing``, ``aligned``, ``remarks`` and ``slot`` see Produced."""
        run, _, came_s = self._work or ("", lease, now)
        if now - self._ready_s >= MAX_RETRY_S:      # its folder does not come and go
            self._retry_s = MIN_RETRY_S
        answer = Produced(run, lease.lease, lease.position, count, skipped, produce_s, arrays,
                          timings._replace(held_s=now - came_s), rows, missing, aligned, remarks, slot)
        may_wait = run == self._run and self.state is SessionState.SERVING and not self._takes_turns
        if may_wait and self._unsaid.takes(answer, came_s, len(self._waiting), now):
            self._work = None
            return self._next_turn()
        wants_more = self._unsaid.would_hold_more and self._most < MAX_AHEAD
        return (self.hold(MAX_AHEAD) if wants_more else []) + self._finished(answer, now)

    def failed(self, lease: Lease, error: str, traceback: str, sample: str, now: float,
               unreadable: Tuple[Skipped, ...] = (), hopeless: bool = False, starved: bool = False) -> List[Effect]:
        """The lease in work cannot be done. ``sample``: the path that the generator was at, '' if none."""
        run = self._work[0] if self._work else ""
        return self._finished(Failed(run, lease.lease, lease.position, sendable(error), sendable(traceback), sample,
                                     unreadable, hopeless, starved), now)

    def end(self, code: int, why: str) -> List[Effect]:
        """There is nothing more to say to this trainer."""
        return [Note(why), self._end(code)]

    def drain(self, now: float, reason: str) -> List[Effect]:
        """The worker is to finish the lease in work, take no more, and leave."""
        if self.state is SessionState.SEEKING:
            return [self._end(EXIT_DRAINED)]
        if self.state is not SessionState.SERVING:
            return []
        self._waiting.clear()
        self.state, self._retry_at_s = SessionState.DRAINING, math.inf
        in_work = self._work[1].lease if self._work and self._work[0] == self._run else -1
        effects = [*self._unsaid.say(now), Say(Leaving(self._run, in_work, reason))]
        return effects if in_work >= 0 else [*effects, Note("drained"), self._end(EXIT_DRAINED)]

    def abandon(self, now: float, reason: str) -> List[Effect]:
        """This process leaves, and the lease in work is not done: for another process with other rights."""
        self._work = None
        return self.drain(now, reason) if self.state is not SessionState.DRAINING else [self._end(EXIT_DRAINED)]

    def _welcome(self, message: Welcome, now: float) -> List[Effect]:
        effects: List[Effect] = [] if message.run == self._run else [
            Note("connected to run %s" % message.run), Note("job: " + described(message.job))]
        self.state, self._run, self._job = SessionState.SERVING, message.run, message.job
        self.heartbeat_s = max(MIN_HEARTBEAT_S, message.heartbeat_s)
        self._unfit_for, self._retry_at_s = "", math.inf
        self._forget()
        self._spoke_s = now
        is_known = message.run == self._ready_for      # it was lost for a moment, and may be in the middle of a batch
        return [*effects, *([Say(Ready(message.run)), *self.hold(0)] if is_known else self._check(message.job, now))]

    def _check(self, job: Job, now: float) -> List[Effect]:
        if self._checks >= MAX_CHECKS:
            return self._hang_up(now, "it sent one job after the other")
        self._checks += 1
        return [Check(job, self._run)]

    def _lease(self, lease: Lease, now: float) -> List[Effect]:
        """What no Stoker trainer sends would take this worker's memory."""
        if len(self._waiting) >= max(self._hello.capacity, self._most):      # one in work may be of a run before
            return self._hang_up(now, "it sent more leases than this worker can hold")
        if self._job is None or max(len(lease.samples), len(lease.replacements)) > self._job.batch_size:
            return self._hang_up(now, "it sent a lease of more samples than a batch of its job has")
        self._waiting.append((lease, now))
        return self._next_turn()

    def _hang_up(self, now: float, why: str) -> List[Effect]:
        return [HangUp(), *self._seek(now, "left run %s: %s" % (self._run, why))]

    def _set_aside(self, reason: str, traceback: str, now: float) -> List[Effect]:
        effects = self._unsaid.say(now) + (self.room(0) if self._takes_turns else [])
        self._waiting.clear()
        self._ready_for, self._retry_at_s = "", now + self._retry_s
        self._retry_s = min(MAX_RETRY_S, 2 * self._retry_s)
        if reason == self._unfit_for:       # as before
            return []
        self._unfit_for, self._spoke_s = reason, now
        return [*effects, Note("cannot do this job: " + reason),
                Say(Unfit(self._run, sendable(reason), sendable(traceback)))]

    def _finished(self, answer: Union[Produced, Failed], now: float) -> List[Effect]:
        self._work = None
        effects: List[Effect] = []
        if answer.run and answer.run == self._run:
            effects, self._spoke_s = [*self._unsaid.say(now), Say(answer)], now
        if self.state is SessionState.DRAINING:
            return [*effects, Note("drained"), self._end(EXIT_DRAINED)]
        return effects + self._next_turn()

    def _next_turn(self) -> List[Effect]:
        return [] if self._takes_turns else self.begin()

    def begin(self) -> List[Effect]:
        """It is its turn to work on the next lease, if it has one."""
        if self._work is not None or not self._waiting or self._job is None:
            return []
        lease, came_s = self._waiting.popleft()
        self._work = (self._run, lease, came_s)
        return [Work(self._job, lease)]

    def _seek(self, now: float, why: str) -> List[Effect]:
        self.state, self._run, self._job, self._noted_silence_s = SessionState.SEEKING, "", None, 0.0
        self._forget()
        self._sought_s = self._reported_s = now
        self._spoke_s, self._hello_interval_s = now, 0.0       # Hello at once
        return [Note(why)]

    def _forget(self) -> None:
        """The trainer grants anew what is not in work, and lets this worker hold what its Hello says."""
        self._waiting.clear()
        self._unsaid.forget()
        self.told_room = 0

    def _report_silence(self, now: float) -> List[Effect]:
        """A line when the trainer becomes silent, and another one each time that it has been so for twice as long."""
        silence_s = now - self.heard_s
        if silence_s <= max(SILENT_HEARTBEATS * self.heartbeat_s, 2 * self._noted_silence_s):
            return []
        self._noted_silence_s = silence_s
        return [Note("the trainer has said nothing for %.0f s, but its connection stands: waiting" % silence_s)]

    def _end(self, code: int) -> End:
        self.state, self._run, self._noted_silence_s = SessionState.ENDED, "", 0.0
        self._forget()
        return End(code)
