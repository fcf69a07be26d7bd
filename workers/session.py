"""WorkerSession: a worker's side of the protocol, without socket, clock or thread: inputs in, effects out.

              Welcome                        Stop, Refused(not final), connection lost, trainer silent
    SEEKING ───────────> SERVING ───────────────────────────────────────────────> SEEKING
       │                    │  drain()
       │ drain()            └──────────> DRAINING ── the lease in work is done ──> ENDED
       └───────────────────────────────────────────────────────────────────────> ENDED

SEEKING says Hello every ``HELLO_S``. SERVING holds leases, the first of which is in work, and says Alive. With
``once``, Stop ends the worker; Refused(final) always does. Finished, drained and refused are different exit codes.
What the generator finishes for a run that is over is dropped.
"""

from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Job, Lease, Leaving, Produced, Refused, Returned
from stoker.pipeline.protocol.messages import Revoked, Stop, Timings, Welcome, sendable

EXIT_ENDED = 0     # the run is over
EXIT_FAILED = 1    # what Python itself uses for an uncaught exception
EXIT_CONFIG = 2    # asked for something that cannot be
EXIT_REFUSED = 3   # the trainer will never serve this worker
EXIT_DRAINED = 4   # asked to leave, and left in good order

HELLO_S = 0.25     # between two Hellos; costs a hundred bytes
REPORT_S = 10.0    # between two lines that say that no trainer is there
LOST_HEARTBEATS = 12   # a trainer silent for so many heartbeats is lost; its own thread sends them, not its main loop


class Say(NamedTuple):
    """Send this message."""

    message: Any


class Work(NamedTuple):
    """Start to produce this lease; ``produced`` or ``failed`` will tell how it went."""

    job: Job
    lease: Lease


class Note(NamedTuple):
    """Tell the user, in one line."""

    text: str


class End(NamedTuple):
    """Leave with this exit code."""

    code: int


class WorkerSession:
    """One worker's conversation with one trainer after the other. All times in seconds of one monotonic clock."""

    def __init__(self, hello: Hello, once: bool, now: float) -> None:
        self._hello, self._once = hello, once
        self.state = "SEEKING"
        self._run = ""                      # '' while SEEKING
        self._job: Optional[Job] = None
        self._held: Deque[Lease] = deque()  # not yet in work
        self._work: Optional[Tuple[str, Lease]] = None  # (run, lease) that the generator is at
        self._arrived_s: Dict[Tuple[str, int], float] = {}   # when a lease, by run and id, came here
        self._heartbeat_s = HELLO_S
        self._spoke_s = now - HELLO_S       # when something was last said that the trainer takes for a sign of life
        self._heard_s = now
        self._sought_s = now                # since when there is no trainer
        self._reported_s = now

    def next_deadline(self) -> float:
        """When ``tick`` wants to be called, at the latest."""
        return self._spoke_s + (HELLO_S if self.state == "SEEKING" else self._heartbeat_s)

    def receive(self, message: Any, now: float) -> List[Any]:
        """The trainer said something."""
        self._heard_s = now
        if self.state == "ENDED":
            return []
        if isinstance(message, Refused):
            if message.final:
                return [Note("the trainer refuses this worker: " + message.reason)] + self._end(EXIT_REFUSED)
            if self.state != "SERVING":
                return []
            return [Note("lost run %s: %s" % (self._run, message.reason))] + self._seek(now)
        if isinstance(message, Welcome):
            return self._welcome(message, now) if self.state != "DRAINING" else []
        if isinstance(message, Stop):
            text = [Note("run %s is over: %s" % (self._run or "?", message.reason))]
            if self._once or self.state == "DRAINING":
                return text + self._end(EXIT_ENDED if self._once else EXIT_DRAINED)
            return text + (self._seek(now) if self.state == "SERVING" else [])
        if self.state != "SERVING":         # meant for a run that this worker has left
            return []
        if isinstance(message, Lease):
            self._held.append(message)
            self._arrived_s[self._run, message.lease] = now
            return self._next_work()
        if isinstance(message, Revoked) and any(lease.lease == message.lease for lease in self._held):
            self._held = deque(lease for lease in self._held if lease.lease != message.lease)
            self._arrived_s.pop((self._run, message.lease), None)
            return [Say(Returned(self._run, message.lease))]
        return []                           # it is in work, and its batch will be the answer, or was

    def tick(self, now: float) -> List[Any]:
        """Time has passed."""
        if self.state == "SERVING" and now - self._heard_s > LOST_HEARTBEATS * self._heartbeat_s:
            return self.disconnected(now, "it was silent for %.1f s" % (now - self._heard_s))
        if now < self.next_deadline() or self.state == "ENDED":
            return []
        self._spoke_s = now
        if self.state != "SEEKING":
            return [Say(Alive(self._run))]
        effects: List[Any] = [Say(self._hello)]
        if now - self._reported_s >= REPORT_S:
            self._reported_s = now
            effects.append(Note("no trainer for %.0f s, still trying" % (now - self._sought_s)))
        return effects

    def disconnected(self, now: float, why: str = "the connection broke") -> List[Any]:
        """Nothing can be sent to the trainer, or nothing was heard of it for too long."""
        if self.state == "SERVING":
            return [Note("lost the trainer of run %s: %s" % (self._run, why))] + self._seek(now)
        return self._end(EXIT_DRAINED) if self.state == "DRAINING" else []

    def produced(self, lease: Lease, count: int, skipped: Tuple[Any, ...], arrays: Tuple[Any, ...],
                 produce_s: float, timings: Timings, now: float) -> List[Any]:
        """The lease in work is done. ``timings``: but for ``held_s``."""
        timings = timings._replace(held_s=now - self._arrived(lease, now))
        return self._finished(now, lambda run: Produced(run, lease.lease, lease.position, count, skipped, produce_s,
                                                        arrays, timings))

    def failed(self, lease: Lease, error: str, traceback: str, sample: str, now: float) -> List[Any]:
        """The lease in work cannot be done; ``sample``: the path that the generator was at."""
        self._arrived(lease, now)
        return self._finished(now, lambda run: Failed(run, lease.lease, lease.position, sendable(error),
                                                      sendable(traceback), sample))

    def drain(self, now: float, reason: str) -> List[Any]:
        """Finish what is in work, take no more, leave."""
        if self.state == "SEEKING":
            return self._end(EXIT_DRAINED)
        if self.state != "SERVING":
            return []
        self._held.clear()
        self.state = "DRAINING"
        in_work = self._work[1].lease if self._work and self._work[0] == self._run else -1
        effects: List[Any] = [Say(Leaving(self._run, in_work, reason))]
        return effects if in_work >= 0 else effects + [Note("drained")] + self._end(EXIT_DRAINED)

    def _welcome(self, message: Welcome, now: float) -> List[Any]:
        effects: List[Any] = []
        if message.run != self._run:
            effects = [Note("connected to run %s" % message.run),
                       Note("job: %s, %s, batches of %d" % (
                           message.job.generator, " ".join("%s %s%r" % (spec.name, spec.dtype, list(spec.shape))
                                                           for spec in message.job.arrays), message.job.batch_size))]
        self.state = "SERVING"
        self._run, self._job, self._heartbeat_s = message.run, message.job, message.heartbeat_s
        self._held.clear()
        self._arrived_s.clear()
        self._spoke_s = now
        return effects

    def _arrived(self, lease: Lease, now: float) -> float:
        """When the lease in work came, which is forgotten; now, where that has been already."""
        return self._arrived_s.pop((self._work[0] if self._work else "", lease.lease), now)

    def _finished(self, now: float, message_for: Any) -> List[Any]:
        run = self._work[0] if self._work else ""
        self._work = None
        effects: List[Any] = []
        if run and run == self._run:
            effects.append(Say(message_for(run)))
            self._spoke_s = now
        if self.state == "DRAINING":
            return effects + [Note("drained")] + self._end(EXIT_DRAINED)
        return effects + self._next_work()

    def _next_work(self) -> List[Any]:
        if self._work is not None or not self._held or self._job is None:
            return []
        lease = self._held.popleft()
        self._work = (self._run, lease)
        return [Work(self._job, lease)]

    def _seek(self, now: float) -> List[Any]:
        self.state, self._run, self._job = "SEEKING", "", None
        self._held.clear()
        self._arrived_s.clear()
        self._sought_s = self._reported_s = now
        self._spoke_s = now - HELLO_S       # at once
        return []

    def _end(self, code: int) -> List[Any]:
        self.state, self._run = "ENDED", ""
        self._held.clear()
        return [End(code)]
