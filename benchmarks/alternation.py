"""Contenders that take turns on the same cores, in one run.

A contender is one program that starts once; ``benchmarks/contenders/protocol.py`` describes its messages. While it is
not its turn, it is suspended with all its processes. They are found by a mark in their environment, since a process
that starts a session of its own, as Stoker's workers do, leaves the process group. At the end all marked processes are
killed.

A turn in which other processes, or another machine on the same processor, took CPU time is repeated.
"""

import functools
import os
import select
import signal
import statistics
import subprocess
import tempfile
import time
import uuid
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.contenders.protocol import ANSWERS, MARK, marked, trackers_of
from benchmarks.machine import Others
from benchmarks.table import DISTURBED_CORES, Say, Spread, spread

START_S = 90.0
TURN_S = 30.0       # in addition to the seconds that it counts
END_S = 10.0
TRIES = 3           # of one turn
MOST_REPEATED = 0.5     # of all turns: on a machine that others use all the time, repeating would not help


class Failed(Exception):
    """A contender ended, or does not answer. The text ends with its last output."""


class Contender(NamedTuple):
    """One row of a table."""

    name: str
    command: Sequence[str]          # python -m benchmarks.contenders..., from the repository's root
    remark: str = ""                # the quality of its pictures: filter, antialiasing, scaled decode
    environment: Dict[str, str] = {}    # environment variables in addition to the mark
    missing: str = ""               # why it cannot run here
    kind: str = ""                  # its class of quality
    every: int = 1                  # it takes its turn in the first of so many rounds


class Result(NamedTuple):
    rates: List[float]              # images/s of each round
    cpu: List[float]                # CPU seconds per second of each round: how many cores it kept busy
    error: str = ""
    others: Sequence[float] = ()    # the same for all other processes of this machine: should be 0
    repeated: Sequence[float] = ()  # the same in the turns that were repeated because of it

    @property
    def rate(self) -> Optional[Spread]:
        return spread(self.rates) if self.rates else None


def ratio(one: Result, other: Result) -> float:
    """Of the rates, round by round: the median. Of their medians, if one had fewer rounds; 0 if one failed."""
    if one.error or other.error or one.rate is None or other.rate is None:
        return 0.0
    if len(one.rates) != len(other.rates):
        return one.rate.median / other.rate.median
    return statistics.median(own / its for own, its in zip(one.rates, other.rates))


class Program:
    """A contender that was started, and is suspended between its turns."""

    def __init__(self, contender: Contender) -> None:
        value = uuid.uuid4().hex
        self.mark = "%s=%s" % (MARK, value)
        self._said = tempfile.TemporaryFile()
        self._heard = b""
        environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=os.getcwd(), **contender.environment)
        environment[MARK] = value
        self._answers, answers = os.pipe()      # not its standard output, on which libraries print too
        environment[ANSWERS] = str(answers)
        try:
            self._process = subprocess.Popen(list(contender.command), stdin=subprocess.PIPE, stdout=self._said,
                                             stderr=self._said, env=environment, pass_fds=[answers],
                                             start_new_session=True)
        except BaseException:
            os.close(self._answers)
            raise
        finally:
            os.close(answers)

    def wait_until_ready(self) -> None:
        """Suspends it when it has consumed its first batch. Raises Failed."""
        line = self._line(START_S)
        if line != "ready":
            raise Failed("said %r instead of 'ready'" % line)
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> Sequence[float]:
        """Lets it run: images, seconds, CPU seconds. Raises Failed."""
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(b"go %g\n" % seconds)
            self._process.stdin.flush()
            return [float(word) for word in self._line(seconds + TURN_S).split()]
        except OSError as error:
            raise Failed(self._last_words()) from error
        finally:
            self._signal(signal.SIGSTOP)

    def end(self) -> None:
        """Kills it with everything that it started. Processes of ``multiprocessing`` that keep track of what lies in
        /dev/shm may first remove that, which they do as soon as all others are gone."""
        self._signal(signal.SIGKILL, trackers=False)
        self._signal(signal.SIGCONT)
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline and trackers_of(self.mark):
            time.sleep(0.01)
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline and (self._signal(signal.SIGKILL) or self._process.poll() is None):
            time.sleep(0.01)
        self._process.wait()
        os.close(self._answers)
        self._said.close()
        try:
            self._process.stdin.close()         # type: ignore[union-attr]
        except OSError:             # it did not read the last message
            pass

    def _signal(self, signum: int, trackers: bool = True) -> int:
        """Returns the number of processes. Done twice, since processes may start between the search and the signal.
        ``trackers``: those of ``multiprocessing``, too."""
        count = 0
        for _ in range(2):
            spared = [] if trackers else trackers_of(self.mark)
            for pid in set(marked(self.mark)).difference(spared):
                try:
                    os.kill(pid, signum)
                    count += 1
                except OSError:
                    pass
        return count

    def _line(self, limit_s: float) -> str:
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._heard:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failed("no answer within %g s; %s" % (limit_s, self._last_words()))
            data = os.read(self._answers, 4096)
            if not data:
                raise Failed(self._last_words())
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-300:] if lines else "said nothing"


class Turn(NamedTuple):
    """A contender's turn."""

    rate: float         # images/s
    cpu: float          # cores that it kept busy
    others: float       # cores that other processes, or the machine's host, took meanwhile


def watched(program: Program, seconds: float) -> Turn:
    """A turn of the program, and of what else this machine did. Raises Failed."""
    others = Others(program.mark)
    images, passed, cpu_s = program.turn(seconds)
    return Turn(images / passed, cpu_s / passed, others.cores())


def least_disturbed(take: Callable[[], Optional[Turn]], tries: int) -> Tuple[Optional[Turn], List[float]]:
    """The first turn that nothing disturbed, or the one that was disturbed least; and how much the others were."""
    turns: List[Turn] = []
    while len(turns) < max(1, tries):
        turn = take()
        if turn is None:
            return None, []
        turns.append(turn)
        if turn.others <= DISTURBED_CORES:
            break
    best = min(turns, key=lambda turn: turn.others)
    return best, [turn.others for turn in turns if turn is not best]


def alternate(contenders: Sequence[Contender], rounds: int, seconds: float, say: Say, tries: int = 1
              ) -> Dict[str, Result]:
    """Each contender's result, by its name. One that fails gets its error there, and the others go on. ``tries``: of a
    turn that is disturbed; 1 where processes that have no mark of their contender do a part of its work."""
    results = {each.name: Result([], [], each.missing, [], []) for each in contenders}
    programs: Dict[str, Program] = {}
    try:
        at_once = os.cpu_count() or 1       # they wait for the disk and import on one core each
        able = [each for each in contenders if not each.missing]
        for begin in range(0, len(able), at_once):
            part = able[begin:begin + at_once]
            say("starting %d of %d: %s" % (begin + len(part), len(able), ", ".join(each.name for each in part)))
            for each in part:
                try:
                    programs[each.name] = Program(each)
                except OSError as error:
                    results[each.name] = Result([], [], str(error))
            for each in part:
                if each.name in programs:
                    _try(each.name, programs, results, lambda program: program.wait_until_ready(), say)
        every = {each.name: each.every for each in contenders}
        left = int(MOST_REPEATED * rounds * len(programs))
        for number in range(rounds):
            say("round %d of %d, %d contenders" % (number + 1, rounds, len(programs)))
            # another order in each round: a contender does not always run after the same one
            names = list(programs)
            shift = number * 7 % max(1, len(names))
            for name in [name for name in names[shift:] + names[:shift] if number % every[name] == 0]:
                take = functools.partial(_try, name, programs, results, lambda program: watched(program, seconds), say)
                turn, repeated = least_disturbed(take, min(tries, 1 + left))
                left -= len(repeated)
                if turn is not None:
                    result: Any = results[name]
                    result.rates.append(turn.rate)
                    result.cpu.append(turn.cpu)
                    result.others.append(turn.others)
                    result.repeated.extend(repeated)
    finally:
        for program in programs.values():
            program.end()
    return results


def disturbance(results: Dict[str, Result]) -> List[str]:
    """Sentences for a report about turns that other work disturbed."""
    repeated = sum(len(result.repeated) for result in results.values())
    turns = [others for result in results.values() for others in result.others]
    still = sum(others > DISTURBED_CORES for others in turns)
    found = []
    if repeated:
        found.append("%d turn%s that other work on this machine disturbed %s repeated." % (
            repeated, "s" * (repeated > 1), "were" if repeated > 1 else "was"))
    if still * 10 > len(turns):
        found.append("DISTURBED: in %d of %d turns other work kept more than %g of a core busy, so these figures are "
                     "not valid." % (still, len(turns), DISTURBED_CORES))
    return found


def _try(name: str, programs: Dict[str, Program], results: Dict[str, Result], do: Any, say: Say) -> Any:
    try:
        return do(programs[name])
    except (Failed, ValueError) as error:
        say("%s failed: %s" % (name, error))
        programs.pop(name).end()
        results[name] = Result([], [], str(error))
        return None
