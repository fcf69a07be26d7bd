"""The worker processes of one host: start, restart, drain, stop.

``Supervisor`` decides and is pure (time comes in, effects go out); ``supervise`` carries out: it spawns, waits on
signals and dead children together, and kills. Each place holds one worker process after the other:

    STARTING ──"started"──> RUNNING          exit: EXIT_ENDED with once -> all stop
        └────── exit ───────────┴──────────>       EXIT_REFUSED, EXIT_CONFIG -> all stop, with that code
                                                   while draining -> DONE
                                                   one too many after ``resize`` -> DONE
                                                   anything else -> WAITING (back-off) -> STARTING

A worker says "started" and "ended" through a pipe. An exit code counts only if it said "ended": a library that calls
``exit(3)`` means nothing by it.

Shutdown order: SIGTERM to all (each finishes the step in work), SIGKILL after ``drain_s`` or at the second signal,
then the supervisor leaves. If the supervisor itself is killed, the kernel kills the workers (worker.py asked it to).
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from stoker.workers.session import EXIT_CONFIG, EXIT_DRAINED, EXIT_ENDED, EXIT_FAILED, EXIT_REFUSED

START_FAILURES = 5     # deaths in a row before "started", after which the place is given up
BACKOFF_S = 0.1        # after a death soon after the start; doubles up to BACKOFF_MOST_S
MAX_BACKOFF_S = 1.0   # whoever waits for the steps of a worker that is killed again and again waits no longer
SOON_S = 1.0
PR_SET_PDEATHSIG = 1
STARTED, ENDED = b"started\n", b"ended\n"   # what a worker says
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT")   # how ``explain_exit`` begins when a library failed
PARENT_CHECK_INTERVAL_S = 1.0           # how often to look whether the parent is still there


class Spawn(NamedTuple):
    """Start a process in this place; ``last_exit`` tells how its predecessor ended."""

    slot: int
    last_exit: str


class Signal(NamedTuple):
    """Send this signal to the process in this place."""

    slot: int
    signum: int


class Note(NamedTuple):
    """Tell the user, in one line."""

    text: str


class _Slot:
    def __init__(self) -> None:
        self.state = "WAITING"      # STARTING, RUNNING, WAITING or DONE
        self.due_s = 0.0            # WAITING: when to start
        self.since_s = 0.0          # STARTING: when it was spawned; RUNNING: since it said so
        self.restarts = 0
        self.soon = 0               # deaths in a row soon after the start
        self.unstarted = 0          # deaths in a row before the start
        self.last_exit = ""
        self.kill_at: Optional[float] = None     # asked to leave, for there are to be fewer


def die_with_parent() -> None:
    """SIGKILL when the parent dies, which reaches a suspended process too. Linux only; elsewhere the poll notices."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (AttributeError, OSError):
        pass


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def explain_exit(returncode: int) -> str:
    """How a process ended, for people: signal or exit code, and what usually causes it."""
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
    """Decides for ``processes`` places. ``exit_code`` is None until all is over. All times in seconds."""

    def __init__(self, processes: int, once: bool, drain_s: float) -> None:
        self._processes = processes     # places beyond it are to leave, or have left
        self._slots = [_Slot() for _ in range(processes)]
        self._once, self._drain_s = once, drain_s
        self._signals = 0
        self._kill_at: Optional[float] = None
        self._end_with = 0          # exit code when all places are done
        self.exit_code: Optional[int] = None

    def next_deadline(self, now: float) -> Optional[float]:
        """When ``tick`` wants to be called, at the latest; None: only events matter."""
        times = [slot.due_s for slot in self._slots if slot.state == "WAITING"]
        times += [slot.kill_at for slot in self._slots if slot.kill_at is not None]
        if self._kill_at is not None:
            times.append(self._kill_at)
        return min(times) if times else None

    def tick(self, now: float) -> List[Any]:
        """Starts what is due; kills what does not drain."""
        effects: List[Any] = []
        for number, slot in enumerate(self._slots):
            if slot.state == "WAITING" and now >= slot.due_s:
                slot.state, slot.since_s = "STARTING", now
                effects.append(Spawn(number, slot.last_exit))
            if slot.kill_at is not None and now >= slot.kill_at:
                slot.kill_at = None
                effects += [Note("worker %d is still busy after %.0f s of draining: killed" % (number, self._drain_s)),
                            Signal(number, signal.SIGKILL)]
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            effects.append(Note("still busy after %.0f s of draining: killed" % self._drain_s))
            effects += self._to_all(signal.SIGKILL)
        return effects

    def resize(self, processes: int, now: float) -> List[Any]:
        """So many from now on: new ones start; the last ones finish the step in work, and leave."""
        if self._signals:
            return []
        self._processes = processes
        self._slots += [_Slot() for _ in range(processes - len(self._slots))]
        for number, slot in enumerate(self._slots):
            if slot.state in ("WAITING", "DONE"):
                slot.state = "WAITING" if number < processes else "DONE"
        leave = [signal_ for signal_ in self._to_all(signal.SIGTERM) if signal_.slot >= processes]
        for signal_ in leave:
            self._slots[signal_.slot].kill_at = now + self._drain_s
        return leave

    def started(self, number: int, now: float) -> None:
        """The process in this place works."""
        slot = self._slots[number]
        if slot.state == "STARTING":
            slot.state, slot.since_s, slot.unstarted = "RUNNING", now, 0

    def exited(self, number: int, returncode: int, ended: bool, now: float) -> List[Any]:
        """The process in this place is dead. ``ended``: it had said so."""
        slot = self._slots[number]
        unstarted, slot.last_exit = slot.state == "STARTING", explain_exit(returncode)
        asked, slot.kill_at = slot.kill_at is not None, None
        if ended and returncode == EXIT_DRAINED:
            slot.last_exit += " (asked to leave)"
        if self._signals:
            slot.state = "DONE"
            return self._maybe_over()
        if ended and returncode == EXIT_ENDED and self._once:
            # over for those, too, that just restarted and never heard of it
            slot.state = "DONE"
            return self._stop_all(EXIT_ENDED, now) + self._maybe_over()
        if ended and returncode in (EXIT_REFUSED, EXIT_CONFIG):
            slot.state = "DONE"
            return self._stop_all(returncode, now) + self._maybe_over()
        if number >= self._processes:
            slot.state, slot.last_exit = "DONE", ""
            return []
        if asked:                               # and is wanted again meanwhile
            slot.state, slot.due_s, slot.last_exit = "WAITING", now, ""
            return []
        slot.unstarted = slot.unstarted + 1 if unstarted else 0
        if slot.unstarted >= START_FAILURES:
            slot.state = "DONE"
            return ([Note("worker %d ended %d times before it had started, last with %s: giving up; what it printed "
                          "stands above" % (number, START_FAILURES, slot.last_exit))]
                    + self._stop_all(EXIT_FAILED, now) + self._maybe_over())
        slot.soon = slot.soon + 1 if now - slot.since_s < SOON_S or unstarted else 0
        slot.restarts += 1
        slot.state = "WAITING"
        # the first death costs no pause: whoever waits for its steps waits for the new process
        slot.due_s = now + (min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(slot.soon - 2, 16)) if slot.soon > 1 else 0.0)
        slot.last_exit += ", restart %d" % slot.restarts
        if ended and returncode == EXIT_DRAINED:
            return []
        return [Note("worker %d ended with %s" % (number, slot.last_exit))]

    def asked_to_stop(self, now: float) -> List[Any]:
        """SIGTERM or Ctrl-C: the first drains, the second kills."""
        return self._stop_all(0, now) + self._maybe_over()

    def _stop_all(self, end_with: int, now: float) -> List[Any]:
        self._signals += 1
        self._end_with = self._end_with or end_with
        for slot in self._slots:
            if slot.state == "WAITING":
                slot.state = "DONE"
        if self._signals == 1:
            self._kill_at = now + self._drain_s
        return self._to_all(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    def _to_all(self, signum: int) -> List[Any]:
        return [Signal(number, signum) for number, slot in enumerate(self._slots)
                if slot.state in ("STARTING", "RUNNING")]

    def _maybe_over(self) -> List[Any]:
        if all(slot.state == "DONE" for slot in self._slots):
            self.exit_code = self._end_with
        return []


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    status_fd: int


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 64)
    except BlockingIOError:          # a fork of the dead worker holds the other end
        return b""


def supervise(processes: int, worker_args: Sequence[str], once: bool, drain_s: float, lifeline: bool,
              note: Callable[[str], None]) -> int:
    """Runs ``processes`` workers until they are done, or until SIGTERM, SIGINT or (``lifeline``) the end of standard
    input, which kills at once; a number that comes in there is how many they are to be from now on. Returns the exit
    code. For the main thread of a process of its own."""
    supervisor = Supervisor(processes, once, drain_s)
    parent = os.getppid()   # a fork of it may hold the lifeline's other end
    children: Dict[int, _Child] = {}
    said: Dict[int, bytes] = {}
    wake_read, wake_write = socket.socketpair()
    for end in (wake_read, wake_write):
        end.setblocking(False)
    signal.set_wakeup_fd(wake_write.fileno())
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(signum, lambda signum, frame: None)   # the wake-up is what counts
    name = "%s:%d" % (socket.gethostname(), os.getpid())   # one host may have several supervisors

    def carry_out(effects: List[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Spawn):
                status_read, status_write = os.pipe()
                os.set_blocking(status_read, False)
                command = [sys.executable, "-m", "stoker.workers.process", "--name", "%s/%d" % (name, effect.slot),
                           "--parent", str(os.getpid()), "--status-fd", str(status_write),
                           "--last-exit", effect.last_exit] + list(worker_args)
                # a session of its own: the terminal's Ctrl-C comes here alone. It dies with this process from its first
                # moment on: one that is suspended while it starts could not see to that itself
                try:
                    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(status_write,),
                                               start_new_session=True, preexec_fn=die_with_parent)
                finally:
                    os.close(status_write)
                children[effect.slot] = _Child(process, status_read)
                said[effect.slot] = b""
            elif isinstance(effect, Signal):
                if effect.slot in children:
                    children[effect.slot].process.send_signal(effect.signum)
            else:
                note(effect.text)

    try:
        while supervisor.exit_code is None:
            carry_out(supervisor.tick(time.monotonic()))
            deadline = supervisor.next_deadline(time.monotonic())
            timeout_s = min(PARENT_CHECK_INTERVAL_S, PARENT_CHECK_INTERVAL_S if deadline is None else max(0.0, deadline - time.monotonic()))
            fds = {child.status_fd: slot for slot, child in children.items()}
            readable = select.select([wake_read] + ([sys.stdin] if lifeline else []) + list(fds), [], [], timeout_s)[0]
            now = time.monotonic()
            if lifeline and os.getppid() != parent:
                return EXIT_FAILED               # whoever started us is gone; finally kills
            if sys.stdin in readable:
                told = os.read(0, 4096)
                if not told:
                    return EXIT_FAILED
                numbers = [int(word) for word in told.split() if word.isdigit()]
                carry_out(supervisor.resize(max(1, numbers[-1]), now) if numbers else [])
            for fd in [fd for fd in readable if fd in fds]:
                said[fds[fd]] += _read(fd)
                if said[fds[fd]].startswith(STARTED):
                    supervisor.started(fds[fd], now)
            if wake_read in readable:
                for number in wake_read.recv(4096):
                    if number in (signal.SIGTERM, signal.SIGINT):
                        carry_out(supervisor.asked_to_stop(now))
            for slot, child in list(children.items()):
                returncode = child.process.poll()
                if returncode is not None:
                    said[slot] += _read(child.status_fd)
                    os.close(child.status_fd)
                    del children[slot]
                    carry_out(supervisor.exited(slot, returncode, said.pop(slot).endswith(ENDED), now))
        return supervisor.exit_code
    except (OSError, ValueError) as error:       # ValueError: select's limit of about a thousand
        note("cannot run %d processes: %s (see ulimit -n and ulimit -u)" % (processes, error))
        return EXIT_FAILED
    finally:
        for child in children.values():
            child.process.kill()
        for child in children.values():
            child.process.wait()
            os.close(child.status_fd)
        signal.set_wakeup_fd(-1)
        wake_read.close()
        wake_write.close()
