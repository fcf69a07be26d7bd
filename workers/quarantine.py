"""Quarantine: finds the sample that kills the process that opens it.

A worker that gets an *isolated* lease (other workers died of it) tests its samples one by one in a child process: the
generator runs there on leases of a single sample. A sample at which ``DEATHS`` children died, a fresh one each time, is
bad: kills from outside do not hit the same sample so often. So is one for which ``DEATHS`` children had no memory, and
one that takes more CPU time than Stoker permits. The other samples are produced in the worker as usual.
If a user's function has ended its process at each of the first ``HOPELESS`` samples of a run, it is the function. If
there is no memory for any sample, it is the host.
They exchange messages of the protocol, a line of base64 each, over the child's standard input and output.
"""

import os
import select
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, List, NamedTuple, Optional, Sequence, Set, Tuple, cast

from stoker.pipeline.errors import StokerError
from stoker.pipeline.functions import IN_WORKER
from stoker.pipeline.options import GENERATORS, WorkerOptions
from stoker.pipeline.protocol.codec import decode_from_trainer, decode_from_worker, encode
from stoker.pipeline.protocol.messages import (
    MAX_REASON, Alive, Failed, Job, Lease, Produced, Sample, Skipped, Welcome, sendable)
from stoker.workers import sandbox
from stoker.workers.descendants import end_group, has_ended
from stoker.workers.generators.output import check, filled
from stoker.workers.generators.registry import open_producer
from stoker.workers.host import die_with_parent
from stoker.workers.launch import LAUNCH, add_current_folder
from stoker.workers.picture_limits import CPU_SIGNAL, cpu_reason
from stoker.workers.shortage import is_shortage
from stoker.workers.supervisor import explain_exit

DEATHS = 3
#: Why a sample is bad for which there was no memory.
NO_MEMORY = ("takes more memory than a worker may have, in %d fresh processes: raise the limit of the container, or "
             "ulimit" % DEATHS)
HOPELESS = 8                 # samples
EXIT_WITHIN_S = 5.0          # for a child whose pipe has ended
POLL_MS = 50
_RUN = "quarantine"


class Hopeless(StokerError):
    """No sample can be made: it is the user's function, which ends its process, or this host, which has no memory."""


class Streak:
    """The samples at which a user's function has ended its process, whatever they are, and those for which there was no
    memory. Pure."""

    def __init__(self) -> None:
        self._deadly: Set[int] = set()
        self._spared = False                  # there was one at which it did not
        self._starved: Set[int] = set()       # since the last one for which there was enough

    def is_open(self, job: Job, lease: Lease) -> bool:
        """It may be the function, not a sample: no sample of the run has been produced, or was spared here."""
        return lease.unproven and job.generator not in GENERATORS and not self._spared

    def add(self, job: Job, index: int, death: str) -> None:
        """A sample was tested once. ``death``: how its process ended; '' if it did not. Raises Hopeless."""
        self._spared = self._spared or not death
        self._deadly.add(index)
        if len(self._deadly) >= HOPELESS and not self._spared:
            raise Hopeless("the function %s ends its process with %s, whatever the sample: so it was at each of "
                                 "the first %d" % (job.generator, death, len(self._deadly)))


    def starved(self, index: int, enough: int = HOPELESS) -> None:
        """There was no memory for a sample alone. Raises Hopeless if it was so with ``enough`` in a row."""
        self._starved.add(index)
        if len(self._starved) >= enough:
            raise Hopeless("there is no memory for any of %d samples, each alone in a process of its own: give this "
                           "worker more, or start fewer on its host" % len(self._starved))

    def fed(self) -> None:
        """There was enough for a sample."""
        self._starved.clear()


class Quarantined(NamedTuple):
    """What is left of an isolated lease: all of it if none of its samples kills."""
    lease: Lease                     # samples that can be produced, replacements in the place of others; none left over
    skipped: Tuple[Skipped, ...]     # the bad samples, tested replacements among them


def test_in_quarantine(job: Job, lease: Lease, options: WorkerOptions, streak: Streak) -> Quarantined:
    """Tests the samples of ``lease``, and as many of its replacements as are needed in the place of bad ones. Raises
    RuntimeError if no child can be started; Hopeless, see ``streak``."""
    children, known = _Children(job, options), {skip.index: skip for skip in lease.known}
    starved: List[int] = []
    fed: List[int] = []

    def alone(sample: Sample) -> Lease:
        return replace(lease, samples=(sample,), replacements=(), isolated=False, known=())

    def verdict_on(place: int, sample: Sample) -> Optional[Skipped]:
        if sample.index in known:
            return known[sample.index]
        verdict = children.verdict_on(alone(sample))
        if verdict is not None and verdict.reason == NO_MEMORY:
            starved.append(sample.index)
            streak.starved(sample.index)
        else:
            fed.append(sample.index)
            streak.fed()
        return verdict
    try:
        for sample in lease.samples:
            if streak.is_open(job, lease) and sample.index not in known:
                death = children.answer_to(alone(sample))[1]
                streak.add(job, sample.index, "" if children.was_too_slow or death == NO_MEMORY else death)
        # in the order of ``batch_of``: the batch must not depend on which of the two finds the bad samples
        content, skipped = filled(replace(lease, known=()), verdict_on)
        if len(starved) > 1 and not fed:
            streak.starved(starved[0], 1)
    finally:
        children.end()
    lease = replace(lease, isolated=False, known=())
    if not children.deadly and not any(skip.index in known for skip in skipped):
        # the other workers died by chance: the generator gets the lease as it is
        return Quarantined(lease, ())
    good = tuple(sample for sample in content if sample is not None)
    return Quarantined(replace(lease, samples=good, replacements=()), skipped)


class _Children:
    """A process that tests samples, and another one when it has died of one."""

    def __init__(self, job: Job, options: WorkerOptions) -> None:
        self._command = [sys.executable, LAUNCH, "stoker.workers.quarantine", str(os.getpid()), options.to_json()]
        self._job, self._started, self._mark = job, 0, ""
        self._exit = 0           # code of the child that was asked last, if it died of it
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self.deadly = False      # whether one of the samples kills
        self._starved = False    # whether the last child had no memory

    @property
    def was_too_slow(self) -> bool:
        """The last child died of the limit of CPU time for a picture."""
        return self._exit == -CPU_SIGNAL and self._job.picture_cpu_s > 0

    def verdict_on(self, lease: Lease) -> Optional[Skipped]:
        """That the one sample of ``lease`` is left out, and why; None if it is good."""
        for _ in range(DEATHS):
            answer, death = self.answer_to(lease)
            if self.was_too_slow:        # a limit of Stoker's own: no kill from outside
                self.deadly = True
                return Skipped(lease.samples[0].index, cpu_reason(self._job.picture_cpu_s), deadly=True)
            if not death:
                skipped = cast(Produced, decode_from_worker([answer])).skipped
                return skipped[0] if skipped else None
        self.deadly = True
        reason = NO_MEMORY if self._starved else "kills the process that opens it: " + death
        return Skipped(lease.samples[0].index, sendable(reason, MAX_REASON), deadly=True)

    def answer_to(self, lease: Lease) -> Tuple[bytes, str]:
        """The answer of a child to ``lease``, and '', or how it died of it. One without memory is ended."""
        answer, self._starved = b"", False
        with suppress(BrokenPipeError):          # it died between two samples
            process = self._process or self._start()
            _write(process.stdin, lease)
            answer = _answer(process)
        if answer and isinstance(decode_from_worker([answer]), Failed):
            self.end()
            self._exit, self._starved = 0, True
            return b"", NO_MEMORY
        self._exit = 0 if answer else self.end(EXIT_WITHIN_S)
        return answer, "" if answer else explain_exit(self._exit)

    def _start(self) -> "subprocess.Popen[bytes]":
        # its own session and mark: what it started ends with it, not with this worker
        self._started += 1
        self._mark = "%sq%d/" % (os.environ.get(IN_WORKER, "%d/" % os.getpid()), self._started)
        self._process = process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                   env=dict(os.environ, **{IN_WORKER: self._mark}),
                                                   start_new_session=True, bufsize=0)
        if not _answer(process):
            raise RuntimeError("a process to test samples in cannot be started: it ended with %s"
                               % explain_exit(self.end(EXIT_WITHIN_S)))
        _write(process.stdin, Welcome(_RUN, self._job, 0.0))
        return process

    def end(self, wait_s: float = 0.0) -> int:
        """Waits for the end of the process, kills it after ``wait_s``, and returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            return end_group(process, IN_WORKER, self._mark, wait_s)
        finally:
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):      # the child did not read all
                    pipe.close()  # type: ignore[union-attr]


def _answer(process: "subprocess.Popen[bytes]") -> bytes:
    """The next frame of the child; b'' when it has ended. What it has started may hold the other end of its pipe."""
    pipe, line = select.poll(), b""
    assert process.stdout is not None
    pipe.register(process.stdout, select.POLLIN)
    while not line.endswith(b"\n"):
        ended = has_ended(process)           # asked first: an ended process has written all
        if pipe.poll(POLL_MS):
            part = process.stdout.read(1 << 16)
            if not part:
                return b""
            line += part
        elif ended:
            return b""
    return b64decode(line)


def _write(pipe: Any, message: Any) -> None:
    frame, = encode(message)
    rest = b64encode(frame) + b"\n"
    while rest:                       # without a buffer, a signal may cut a write short
        rest = rest[pipe.write(rest):]
    pipe.flush()


def _read(pipe: Any) -> bytes:
    """The next frame for the child; b'' at the end, also in the middle of a frame."""
    line = pipe.readline()
    return b64decode(line) if line.endswith(b"\n") else b""


def main(argv: Sequence[str]) -> int:
    """The child's entry: (pid of the worker, options as JSON). Answers each lease with a batch without arrays."""
    parent, options = int(argv[0]), WorkerOptions.from_json(argv[1])
    die_with_parent()
    if os.getppid() != parent:
        return 1
    if options.allow_generators:
        add_current_folder()
    if sandbox.is_wanted(options):
        sandbox.leave_to_worker()
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                        # a generator may print
    leases = sys.stdin.buffer
    _write(answers, Alive(_RUN))
    job = cast(Welcome, decode_from_trainer([_read(leases)])).job
    for frame in iter(lambda: _read(leases), b""):
        lease = cast(Lease, decode_from_trainer([frame]))
        skipped: Tuple[Skipped, ...] = ()
        try:
            skipped = check(open_producer(job, options).produce(lease), lease, job).skipped
        except BaseException as error:   # no death: the same will happen in the worker, which reports it
            if is_shortage(error):
                _write(answers, Failed(_RUN, lease.lease, lease.position, "no memory", "", starved=True))
                continue
        _write(answers, Produced(_RUN, lease.lease, lease.position, 1 - len(skipped), skipped, 0.0, ()))
    return 0
