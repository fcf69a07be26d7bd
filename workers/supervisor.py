"""The worker processes of one host: start, restart, drain, stop.

``Supervisor`` decides and is pure: events and the time come in, effects go out. ``workers/host.py`` carries the effects
out. The supervisor has numbered slots; a slot holds one worker process after the other:

    STARTING ──"started"──> RUNNING          exit: EXIT_ENDED with once -> all stop
        └────── exit ───────────┴──────────>       EXIT_REFUSED, EXIT_CONFIG -> all stop, with that code
                                                   while draining -> DONE
                                                   slot not needed after ``resize`` -> DONE
                                                   anything else -> WAITING (back-off) -> STARTING

A worker writes "started" and "ended" into a pipe. Its exit code counts only if it has written "ended": a library that
calls ``exit(3)`` does not mean EXIT_REFUSED. Draining is SIGTERM (a worker finishes the step in work), and SIGKILL
after ``drain_s`` or at the second signal. If the supervisor itself is killed, the kernel kills the workers.
"""

import enum
import signal
from typing import List, NamedTuple, Optional, Union

from stoker.workers.effects import EXIT_CONFIG, EXIT_DRAINED, EXIT_ENDED, EXIT_FAILED, EXIT_REFUSED, Note

MAX_START_FAILURES = 5    # deaths in a row before "started", after which all is given up
BACKOFF_S = 0.1        # pause after the second death in a row soon after the start; doubles up to MAX_BACKOFF_S
MAX_BACKOFF_S = 1.0    # the steps of a worker that dies again and again do not wait longer
SOON_S = 1.0           # a death within this time counts as soon after the start
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT")    # how ``explain_exit`` begins after a crash inside a library

Spawn = NamedTuple("Spawn", [("slot", int), ("last_exit", str)])    # start a process; how its predecessor ended
Signal = NamedTuple("Signal", [("slot", int), ("signum", int)])     # send this signal to the slot's process
Effect = Union[Spawn, Signal, Note]
SlotState = enum.Enum("SlotState", "WAITING STARTING RUNNING DONE")


class _Slot:
    def __init__(self) -> None:
        self.state = SlotState.WAITING
        self.due_s = 0.0            # WAITING: when to start a process
        self.since_s = 0.0          # when the state STARTING or RUNNING began
        self.restarts = 0
        self.soon = 0               # deaths in a row soon after the start
        self.unstarted = 0          # deaths in a row before "started"
        self.last_exit = ""
        self.kill_at: Optional[float] = None     # set while the process is to leave

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
        return "signal %d" % -returncode
    causes = {"SIGKILL": "killed by hand or, if memory ran out, by the kernel", "SIGSEGV": "a crash inside a library",
              "SIGBUS": "a crash inside a library", "SIGABRT": "a library gave up",
              "SIGPROF": "a picture took more CPU time than --picture-cpu-s permits"}
    return "%s (%s)" % (name, causes[name]) if name in causes else name


class Supervisor:
    """Decides for the slots of one host. Times in seconds of one monotonic clock."""

    def __init__(self, processes: int, once: bool, drain_s: float) -> None:
        self._processes = processes     # slots from this one on are not needed any more
        self._slots = [_Slot() for _ in range(processes)]
        self._once, self._drain_s = once, drain_s
        self._stops = 0                 # how often all processes were told to stop
        self._end_with = 0              # the exit code when all slots are done

    @property
    def exit_code(self) -> Optional[int]:
        """None until the last process has ended."""
        done = self._stops and all(slot.state is SlotState.DONE for slot in self._slots)
        return self._end_with if done else None

    def next_deadline(self) -> float:
        """The latest time for the next ``tick``; infinite if ``tick`` has nothing to do before the next event."""
        times = [slot.due_s for slot in self._slots if slot.state is SlotState.WAITING]
        times += [slot.kill_at for slot in self._slots if slot.kill_at is not None]
        return min(times, default=float("inf"))

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
        return effects

    def resize(self, processes: int, now: float) -> List[Effect]:
        """Changes the number of processes: more are started; of too many, the last ones finish their step and leave."""
        if self._stops:
            return []
        self._slots += [_Slot() for _ in range(processes - len(self._slots))]
        return self._need(processes, now)

    def started(self, i: int, now: float) -> None:
        """The process in slot ``i`` has written "started"."""
        slot = self._slots[i]
        if slot.state is SlotState.STARTING:
            slot.state, slot.since_s, slot.unstarted = SlotState.RUNNING, now, 0

    def exited(self, i: int, returncode: int, ended: bool, now: float) -> List[Effect]:
        """The process in slot ``i`` has ended. ``ended``: it had written so."""
        slot = self._slots[i]
        unstarted, asked_to_leave = slot.state is SlotState.STARTING, slot.kill_at is not None
        slot.state, slot.kill_at, slot.last_exit = SlotState.DONE, None, ""
        for_all = returncode in (EXIT_REFUSED, EXIT_CONFIG) or returncode == EXIT_ENDED and self._once
        if ended and for_all and not self._stops:
            # ends the others too, even those that have just restarted and do not know of the end of the run
            return self.stop(now, returncode)
        if i >= self._processes:
            return []
        slot.state, slot.due_s = SlotState.WAITING, now
        if asked_to_leave:                      # and the slot is needed again meanwhile
            return []
        slot.unstarted = slot.unstarted + 1 if unstarted else 0
        if slot.unstarted >= MAX_START_FAILURES:
            return [Note("worker %d ended %d times before it had started, last with %s: giving up; see its output above"
                         % (i, MAX_START_FAILURES, explain_exit(returncode))), *self.stop(now, EXIT_FAILED)]
        slot.soon = slot.soon + 1 if now - slot.since_s < SOON_S or unstarted else 0
        if slot.soon > 1:   # no pause after the first death: the trainer waits for the steps of this worker
            slot.due_s += min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(slot.soon - 2, 16))
        slot.restarts += 1
        drained = ended and returncode == EXIT_DRAINED
        slot.last_exit = "%s%s, restart %d" % (explain_exit(returncode), " (asked to leave)" * drained, slot.restarts)
        return [] if drained else [Note("worker %d ended with %s" % (i, slot.last_exit))]

    def stop(self, now: float, exit_code: int = EXIT_ENDED) -> List[Effect]:
        """Ends all processes: the first call drains them, a second one (SIGTERM or Ctrl-C came again) kills them."""
        self._stops += 1
        if self._stops > 1:
            return [Signal(i, signal.SIGKILL) for i, slot in enumerate(self._slots) if slot.has_process]
        self._end_with = exit_code
        return self._need(0, now)

    def _need(self, processes: int, now: float) -> List[Effect]:
        self._processes = processes
        effects: List[Effect] = []
        for i, slot in enumerate(self._slots):
            if not slot.has_process:
                slot.state = SlotState.WAITING if i < processes else SlotState.DONE
            elif i >= processes:
                slot.kill_at = now + self._drain_s
                effects.append(Signal(i, signal.SIGTERM))
        return effects
