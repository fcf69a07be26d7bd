"""The worker processes of one host: start, restart, drain, stop.

``Supervisor`` decides and is pure: events and the time come in, effects go out. ``workers/host.py`` carries the effects
out. The supervisor has numbered slots; a slot holds one worker process after the other:

    STARTING ──"started"──> RUNNING          exit: EXIT_ENDED with once -> all stop
        └────── exit ───────────┴──────────>       EXIT_REFUSED, EXIT_CONFIG -> all stop, with that code
                                                   while draining -> DONE
                                                   slot not needed after ``resize`` -> DONE
                                                   anything else -> WAITING (back-off) -> STARTING

A worker writes "started" and "ended" into a pipe. Its exit code counts only if it has written "ended": a library that
calls ``exit(3)`` does not mean EXIT_REFUSED.

Shutdown: SIGTERM to all (each finishes the step in work), SIGKILL after ``drain_s`` or at the second signal, then the
supervisor leaves. If the supervisor itself is killed, the kernel kills the workers.
"""

import enum
import signal
from typing import List, NamedTuple, Optional, Union

from stoker.workers.session import EXIT_CONFIG, EXIT_DRAINED, EXIT_ENDED, EXIT_FAILED, EXIT_REFUSED, Note

MAX_START_FAILURES = 5    # deaths in a row before "started", after which all is given up
BACKOFF_S = 0.1        # pause after the second death in a row soon after the start; doubles up to MAX_BACKOFF_S
MAX_BACKOFF_S = 1.0    # the steps of a worker that dies again and again do not wait longer
SOON_S = 1.0           # a death within this time counts as soon after the start
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT")    # how ``explain_exit`` begins after a crash inside a library


class Spawn(NamedTuple):
    """Start a process in this slot; ``last_exit`` tells how its predecessor ended."""

    slot: int
    last_exit: str


class Signal(NamedTuple):
    """Send this signal to the process in this slot."""

    slot: int
    signum: int


Effect = Union[Spawn, Signal, Note]


class SlotState(enum.Enum):
    """The state of one slot."""

    WAITING = enum.auto()       # has no process; starts one at ``due_s``
    STARTING = enum.auto()      # has a process that has not yet written "started"
    RUNNING = enum.auto()       # has a process that has written "started"
    DONE = enum.auto()          # has no process and starts none


class _Slot:
    def __init__(self) -> None:
        self.state = SlotState.WAITING
        self.due_s = 0.0            # WAITING: when to start a process
        self.since_s = 0.0          # STARTING: when it was spawned; RUNNING: when it wrote "started"
        self.restarts = 0
        self.soon = 0               # deaths in a row soon after the start
        self.unstarted = 0          # deaths in a row before "started"
        self.last_exit = ""
        self.kill_at: Optional[float] = None     # the process must leave, since fewer are wanted

    @property
    def has_process(self) -> bool:
        return self.state in (SlotState.STARTING, SlotState.RUNNING)


def explain_exit(returncode: int) -> str:
    """How a process ended, for people: signal or exit code, and its usual cause."""
    if returncode >= 0:
        return "exit code %d" % returncode
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "signal %d" % -returncode
    causes = {signal.SIGKILL: "killed by hand or, if memory ran out, by the kernel",
              signal.SIGSEGV: "a crash inside a library", signal.SIGBUS: "a crash inside a library",
              signal.SIGABRT: "a library gave up"}
    cause = causes.get(-returncode)  # type: ignore[call-overload]
    return "%s (%s)" % (name, cause) if cause else name


class Supervisor:
    """Decides for the slots of one host. ``exit_code`` is None until the last process has ended. Times in seconds."""

    def __init__(self, processes: int, once: bool, drain_s: float) -> None:
        self._processes = processes     # slots from this one on are not needed any more
        self._slots = [_Slot() for _ in range(processes)]
        self._once, self._drain_s = once, drain_s
        self._stops = 0                 # how often all processes were told to stop
        self._kill_at: Optional[float] = None
        self._end_with = 0              # the exit code when all slots are done
        self.exit_code: Optional[int] = None

    def next_deadline(self, now: float) -> Optional[float]:
        """The latest time for the next ``tick``; None: ``tick`` has nothing to do before the next event."""
        times = [slot.due_s for slot in self._slots if slot.state is SlotState.WAITING]
        times += [slot.kill_at for slot in self._slots if slot.kill_at is not None]
        if self._kill_at is not None:
            times.append(self._kill_at)
        return min(times) if times else None

    def tick(self, now: float) -> List[Effect]:
        """Starts the processes that are due, and kills those that took too long to drain."""
        effects: List[Effect] = []
        for i, slot in enumerate(self._slots):
            if slot.state is SlotState.WAITING and now >= slot.due_s:
                slot.state, slot.since_s = SlotState.STARTING, now
                effects.append(Spawn(i, slot.last_exit))
            if slot.kill_at is not None and now >= slot.kill_at:
                slot.kill_at = None
                effects += [Note("worker %d is still busy after %.0f s of draining: killed" % (i, self._drain_s)),
                            Signal(i, signal.SIGKILL)]
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            effects.append(Note("still busy after %.0f s of draining: killed" % self._drain_s))
            effects += self._to_all(signal.SIGKILL)
        return effects

    def resize(self, processes: int, now: float) -> List[Effect]:
        """Changes the number of processes: more are started; of too many, the last ones finish their step and leave."""
        if self._stops:
            return []
        self._processes = processes
        self._slots += [_Slot() for _ in range(processes - len(self._slots))]
        effects: List[Effect] = []
        for i, slot in enumerate(self._slots):
            if not slot.has_process:
                slot.state = SlotState.WAITING if i < processes else SlotState.DONE
            elif i >= processes:
                slot.kill_at = now + self._drain_s
                effects.append(Signal(i, signal.SIGTERM))
        return effects

    def started(self, i: int, now: float) -> None:
        """The process in slot ``i`` has written "started"."""
        slot = self._slots[i]
        if slot.state is SlotState.STARTING:
            slot.state, slot.since_s, slot.unstarted = SlotState.RUNNING, now, 0

    def exited(self, i: int, returncode: int, ended: bool, now: float) -> List[Effect]:
        """The process in slot ``i`` has ended. ``ended``: it had written so."""
        slot = self._slots[i]
        unstarted, slot.last_exit = slot.state is SlotState.STARTING, explain_exit(returncode)
        asked_to_leave, slot.kill_at = slot.kill_at is not None, None
        if ended and returncode == EXIT_DRAINED:
            slot.last_exit += " (asked to leave)"
        if self._stops:
            slot.state = SlotState.DONE
            self._end_if_all_done()
            return []
        if ended and returncode == EXIT_ENDED and self._once:
            # ends the others too, even those that have just restarted and do not know of the end of the run
            slot.state = SlotState.DONE
            return self._stop_all(EXIT_ENDED, now)
        if ended and returncode in (EXIT_REFUSED, EXIT_CONFIG):
            slot.state = SlotState.DONE
            return self._stop_all(returncode, now)
        if i >= self._processes:
            slot.state, slot.last_exit = SlotState.DONE, ""
            return []
        if asked_to_leave:                      # and the slot is needed again meanwhile
            slot.state, slot.due_s, slot.last_exit = SlotState.WAITING, now, ""
            return []
        slot.unstarted = slot.unstarted + 1 if unstarted else 0
        if slot.unstarted >= MAX_START_FAILURES:
            slot.state = SlotState.DONE
            gives_up = Note("worker %d ended %d times before it had started, last with %s: giving up; see its output "
                            "above" % (i, MAX_START_FAILURES, slot.last_exit))
            effects: List[Effect] = [gives_up]
            return effects + self._stop_all(EXIT_FAILED, now)
        slot.soon = slot.soon + 1 if now - slot.since_s < SOON_S or unstarted else 0
        slot.restarts += 1
        slot.state = SlotState.WAITING
        # no pause after the first death: the trainer waits for the steps of this worker
        slot.due_s = now + (min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(slot.soon - 2, 16)) if slot.soon > 1 else 0.0)
        slot.last_exit += ", restart %d" % slot.restarts
        if ended and returncode == EXIT_DRAINED:
            return []
        return [Note("worker %d ended with %s" % (i, slot.last_exit))]

    def asked_to_stop(self, now: float) -> List[Effect]:
        """SIGTERM or Ctrl-C has come: the first one drains, the second one kills."""
        return self._stop_all(EXIT_ENDED, now)

    def _stop_all(self, end_with: int, now: float) -> List[Effect]:
        self._stops += 1
        self._end_with = self._end_with or end_with
        for slot in self._slots:
            if slot.state is SlotState.WAITING:
                slot.state = SlotState.DONE
        if self._stops == 1:
            self._kill_at = now + self._drain_s
        self._end_if_all_done()
        return self._to_all(signal.SIGTERM if self._stops == 1 else signal.SIGKILL)

    def _to_all(self, signum: int) -> List[Effect]:
        return [Signal(i, signum) for i, slot in enumerate(self._slots) if slot.has_process]

    def _end_if_all_done(self) -> None:
        if all(slot.state is SlotState.DONE for slot in self._slots):
            self.exit_code = self._end_with
