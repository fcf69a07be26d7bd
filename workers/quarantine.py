"""Quarantine: finds the sample that kills the process that opens it.

A worker that gets an *isolated* lease (other workers died of it) tests its samples one by one in a child process: the
generator runs there on leases of a single sample. A sample at which ``DEATHS`` children died, a fresh one each time, is
bad: kills from outside do not hit the same sample so often. The other samples are produced in the worker as usual.
If a user's function has ended its process at each of the first ``HOPELESS`` samples of a run, it is the function.
They exchange messages of the protocol, a line of base64 each, over the child's standard input and output.
"""

import os
import select
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple, Optional, Sequence, Set, Tuple, cast

from stoker.pipeline.errors import StokerError
from stoker.pipeline.functions import IN_WORKER
from stoker.pipeline.options import GENERATORS, WorkerOptions
from stoker.pipeline.protocol.codec import decode_from_trainer, decode_from_worker, encode
from stoker.pipeline.protocol.messages import (
    MAX_REASON, Alive, Job, Lease, Produced, Sample, Skipped, Welcome, sendable)
from stoker.workers.descendants import end_group, has_ended
from stoker.workers.generators.output import check, filled
from stoker.workers.generators.registry import open_producer
from stoker.workers.host import die_with_parent
from stoker.workers.launch import LAUNCH, add_current_folder
from stoker.workers.picture_limits import CPU_SIGNAL, cpu_reason
from stoker.workers.supervisor import explain_exit

DEATHS = 3
HOPELESS = 8                 # samples
EXIT_WITHIN_S = 5.0          # for a child whose pipe has ended
POLL_MS = 50
_RUN = "quarantine"


class EndsItsProcess(StokerError):
    """The user's function ends its process, whatever the sample."""


class Streak:
    """The samples of a run at which a user's function has ended its process. Pure."""

    def __init__(self) -> None:
        self._deadly: Set[int] = set()
        self._spared = False                  # there was one at which it did not

    def is_open(self, job: Job, lease: Lease) -> bool:
        """It may be the function, not a sample: no sample of the run has been produced, or was spared here."""
        return lease.unproven and job.generator not in GENERATORS and not self._spared

    def add(self, job: Job, index: int, death: str) -> None:
        """A sample was tested once. ``death``: how its process ended; '' if it did not. Raises EndsItsProcess."""
        self._spared = self._spared or not death
        self._deadly.add(index)
        if len(self._deadly) >= HOPELESS and not self._spared:
            raise EndsItsProcess("the function %s ends its process with %s, whatever the sample: so it was at each of "
                                 "the first %d" % (job.generator, death, len(self._deadly)))


class Quarantined(NamedTuple):
    """What is left of an isolated lease: all of it if none of its samples kills."""
    lease: Lease                     # samples that can be produced, replacements in the place of others; none left over
    skipped: Tuple[Skipped, ...]     # the bad samples, tested replacements among them


def test_in_quarantine(job: Job, lease: Lease, options: WorkerOptions, streak: Streak) -> Quarantined:
    """Tests the samples of ``lease``, and as many of its replacements as are needed in the place of bad ones. Raises
    RuntimeError if no child can be started; EndsItsProcess, see ``streak``."""
    children = _Children(job, options)

    def alone(sample: Sample) -> Lease:
        return replace(lease, samples=(sample,), replacements=(), isolated=False)
    try:
        for sample in lease.samples:
            if streak.is_open(job, lease):
                death = children.answer_to(alone(sample))[1]
                streak.add(job, sample.index, "" if children.was_too_slow else death)
        # in the order of ``batch_of``: the batch must not depend on which of the two finds the bad samples
        content, skipped = filled(lease, lambda place, sample: children.verdict_on(alone(sample)))
    finally:
        children.end()
    lease = replace(lease, isolated=False)
    if not children.deadly:          # the other workers died by chance: the generator gets the lease as it is
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
                return Skipped(lease.samples[0].index, cpu_reason(self._job.picture_cpu_s))
            if not death:
                skipped = cast(Produced, decode_from_worker([answer])).skipped
                return skipped[0] if skipped else None
        self.deadly = True
        return Skipped(lease.samples[0].index, sendable("kills the process that opens it: " + death, MAX_REASON))

    def answer_to(self, lease: Lease) -> Tuple[bytes, str]:
        """The answer of a child to ``lease``, and '', or how it died of it."""
        answer = b""
        with suppress(BrokenPipeError):          # it died between two samples
            process = self._process or self._start()
            _write(process.stdin, lease)
            answer = _answer(process)
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
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                        # a generator may print
    leases = sys.stdin.buffer
    _write(answers, Alive(_RUN))
    job = cast(Welcome, decode_from_trainer([_read(leases)])).job
    for frame in iter(lambda: _read(leases), b""):
        lease = cast(Lease, decode_from_trainer([frame]))
        skipped: Tuple[Skipped, ...] = ()
        with suppress(BaseException):    # no death: the same will happen in the worker, which reports it
            skipped = check(open_producer(job, options).produce(lease), lease, job).skipped
        _write(answers, Produced(_RUN, lease.lease, lease.position, 1 - len(skipped), skipped, 0.0, ()))
    return 0
