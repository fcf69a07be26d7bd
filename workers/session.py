"""WorkerSession: a worker's side of the protocol, without socket, clock or thread: inputs in, effects out.

              Welcome                        Stop, Refused(not final), connection lost, trainer silent
    SEEKING ───────────> SERVING ───────────────────────────────────────────────> SEEKING
       │                    │  drain()
       │ drain()            └──────────> DRAINING ── the lease in work is done ──> ENDED
       └───────────────────────────────────────────────────────────────────────> ENDED

With ``once``, Stop ends the worker; Refused(final) always does. Finished, drained and refused are different exit codes.
A batch that is finished after its run has ended is dropped.
"""

import enum
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple, Union

from stoker.pipeline.protocol.messages import (Alive, Failed, FromTrainer, FromWorker, Hello, Job, Lease, Leaving,
                                               Produced, Refused, Returned, Revoked, Skipped, Stop, Timings, Welcome,
                                               sendable)

EXIT_ENDED = 0     # the run is over
EXIT_FAILED = 1    # what Python itself uses for an uncaught exception
EXIT_CONFIG = 2    # the options are wrong
EXIT_REFUSED = 3   # the trainer will never serve this worker
EXIT_DRAINED = 4   # asked to leave; finished its step first

HELLO_INTERVAL_S = 0.25
REPORT_INTERVAL_S = 10.0    # between two lines that say that there is no trainer
LOST_HEARTBEATS = 12   # a trainer silent for so many heartbeats is lost; its own thread sends them, not its main loop


class SessionState(enum.Enum):
    """The state of a worker's conversation with its trainer."""

    SEEKING = enum.auto()       # has no trainer; says Hello every HELLO_INTERVAL_S
    SERVING = enum.auto()       # has leases, the first of which is in work; says Alive every heartbeat
    DRAINING = enum.auto()      # finishes the lease in work, and takes no more
    ENDED = enum.auto()


class Say(NamedTuple):
    """Send this message."""

    message: FromWorker


class Work(NamedTuple):
    """Start to produce this lease; a call of ``produced`` or ``failed`` will answer it."""

    job: Job
    lease: Lease


class Note(NamedTuple):
    """Tell the user, in one line."""

    text: str


class End(NamedTuple):
    """Leave with this exit code."""

    code: int


Effect = Union[Say, Work, Note, End]


class WorkerSession:
    """One worker's conversation with one trainer after the other. All times in seconds of one monotonic clock."""

    def __init__(self, hello: Hello, once: bool, now: float) -> None:
        self._hello, self._once = hello, once
        self.state = SessionState.SEEKING
        self._run = ""                      # '' while SEEKING and ENDED
        self._job: Optional[Job] = None
        self._waiting: Deque[Lease] = deque()            # leases of this run that are not yet in work
        self._work: Optional[Tuple[str, Lease]] = None   # (run, lease) in work, perhaps of a run that has ended
        self._arrived_s: Dict[Tuple[str, int], float] = {}   # by run and id of a lease: when it came
        self._heartbeat_s = HELLO_INTERVAL_S
        self._spoke_s = now - HELLO_INTERVAL_S   # when the last sign of life was sent to the trainer
        self._heard_s = now
        self._sought_s = now                # SEEKING: since when
        self._reported_s = now

    def next_deadline(self) -> float:
        """The latest time for the next ``tick``."""
        return self._spoke_s + (HELLO_INTERVAL_S if self.state is SessionState.SEEKING else self._heartbeat_s)

    def receive(self, message: FromTrainer, now: float) -> List[Effect]:
        """A message of the trainer has come."""
        self._heard_s = now
        if self.state is SessionState.ENDED:
            return []
        if isinstance(message, Refused):
            if message.final:
                return self._noted("the trainer refuses this worker: " + message.reason, self._end(EXIT_REFUSED))
            if self.state is not SessionState.SERVING:
                return []
            return self._noted("lost run %s: %s" % (self._run, message.reason), self._seek(now))
        if isinstance(message, Welcome):
            return self._welcome(message, now) if self.state is not SessionState.DRAINING else []
        if isinstance(message, Stop):
            text = "run %s is over: %s" % (self._run or "?", message.reason)
            if self._once or self.state is SessionState.DRAINING:
                return self._noted(text, self._end(EXIT_ENDED if self._once else EXIT_DRAINED))
            return self._noted(text, self._seek(now) if self.state is SessionState.SERVING else [])
        if self.state is not SessionState.SERVING:   # it belongs to a run that this worker has left
            return []
        if isinstance(message, Lease):
            self._waiting.append(message)
            self._arrived_s[self._run, message.lease] = now
            return self._next_work()
        if isinstance(message, Revoked) and any(lease.lease == message.lease for lease in self._waiting):
            self._waiting = deque(lease for lease in self._waiting if lease.lease != message.lease)
            self._arrived_s.pop((self._run, message.lease), None)
            return [Say(Returned(self._run, message.lease))]
        return []                           # Revoked, but in work: its batch is the answer. Or Alive

    def tick(self, now: float) -> List[Effect]:
        """Time has passed."""
        if self.state is SessionState.SERVING and now - self._heard_s > LOST_HEARTBEATS * self._heartbeat_s:
            return self.disconnected(now, "it was silent for %.1f s" % (now - self._heard_s))
        if now < self.next_deadline() or self.state is SessionState.ENDED:
            return []
        self._spoke_s = now
        if self.state is not SessionState.SEEKING:
            return [Say(Alive(self._run))]
        effects: List[Effect] = [Say(self._hello)]
        if now - self._reported_s >= REPORT_INTERVAL_S:
            self._reported_s = now
            effects.append(Note("no trainer for %.0f s, still trying" % (now - self._sought_s)))
        return effects

    def disconnected(self, now: float, why: str = "the connection broke") -> List[Effect]:
        """The connection is lost: nothing can be sent, or nothing has come for too long."""
        if self.state is SessionState.SERVING:
            return self._noted("lost the trainer of run %s: %s" % (self._run, why), self._seek(now))
        return self._end(EXIT_DRAINED) if self.state is SessionState.DRAINING else []

    def produced(self, lease: Lease, count: int, skipped: Tuple[Skipped, ...], arrays: Tuple[Any, ...],
                 produce_s: float, timings: Timings, now: float) -> List[Effect]:
        """The lease in work is done. ``arrays``: of ``count`` rows each. ``timings``: without ``held_s``."""
        timings = timings._replace(held_s=now - self._arrived(lease, now))
        return self._finished(now, lambda run: Produced(run, lease.lease, lease.position, count, skipped, produce_s,
                                                        arrays, timings))

    def failed(self, lease: Lease, error: str, traceback: str, sample: str, now: float) -> List[Effect]:
        """The lease in work cannot be done. ``sample``: the path that the generator was at, '' if none."""
        self._arrived(lease, now)
        return self._finished(now, lambda run: Failed(run, lease.lease, lease.position, sendable(error),
                                                      sendable(traceback), sample))

    def drain(self, now: float, reason: str) -> List[Effect]:
        """The worker is to finish the lease in work, take no more, and leave."""
        if self.state is SessionState.SEEKING:
            return self._end(EXIT_DRAINED)
        if self.state is not SessionState.SERVING:
            return []
        self._waiting.clear()
        self.state = SessionState.DRAINING
        in_work = self._work[1].lease if self._work and self._work[0] == self._run else -1
        effects: List[Effect] = [Say(Leaving(self._run, in_work, reason))]
        return effects if in_work >= 0 else effects + self._noted("drained", self._end(EXIT_DRAINED))

    def _welcome(self, message: Welcome, now: float) -> List[Effect]:
        effects: List[Effect] = []
        if message.run != self._run:
            effects = [Note("connected to run %s" % message.run),
                       Note("job: %s, %s, batches of %d" % (
                           message.job.generator, " ".join("%s %s%r" % (spec.name, spec.dtype, list(spec.shape))
                                                           for spec in message.job.arrays), message.job.batch_size))]
        self.state = SessionState.SERVING
        self._run, self._job, self._heartbeat_s = message.run, message.job, message.heartbeat_s
        self._waiting.clear()
        self._arrived_s.clear()
        self._spoke_s = now
        return effects

    def _arrived(self, lease: Lease, now: float) -> float:
        """Removes and returns the time at which the lease in work came; ``now`` if it is unknown."""
        return self._arrived_s.pop((self._work[0] if self._work else "", lease.lease), now)

    def _finished(self, now: float, message_for: Callable[[str], FromWorker]) -> List[Effect]:
        run = self._work[0] if self._work else ""
        self._work = None
        effects: List[Effect] = []
        if run and run == self._run:
            effects.append(Say(message_for(run)))
            self._spoke_s = now
        if self.state is SessionState.DRAINING:
            return effects + self._noted("drained", self._end(EXIT_DRAINED))
        return effects + self._next_work()

    def _next_work(self) -> List[Effect]:
        if self._work is not None or not self._waiting or self._job is None:
            return []
        lease = self._waiting.popleft()
        self._work = (self._run, lease)
        return [Work(self._job, lease)]

    def _seek(self, now: float) -> List[Effect]:
        self.state, self._run, self._job = SessionState.SEEKING, "", None
        self._waiting.clear()
        self._arrived_s.clear()
        self._sought_s = self._reported_s = now
        self._spoke_s = now - HELLO_INTERVAL_S       # at once
        return []

    @staticmethod
    def _noted(text: str, effects: List[Effect]) -> List[Effect]:
        note: List[Effect] = [Note(text)]
        return note + effects

    def _end(self, code: int) -> List[Effect]:
        self.state, self._run = SessionState.ENDED, ""
        self._waiting.clear()
        return [End(code)]
