"""Expendable processes: find the sample that kills whoever opens it.

A worker that is given a *careful* lease (others died of it) has its samples tried one by one in a child that may die:
the generator runs there on leases of a single sample. What a child does not survive ``DEATHS`` times, a fresh one each
time, is bad; kills from outside do not hit the same sample so often. The rest is produced in the worker as usual.

Worker and child speak in the protocol's own messages, over the child's standard input and output.
"""

import os
import struct
import subprocess
import sys
from dataclasses import replace
from typing import Any, BinaryIO, List, NamedTuple, Optional, Sequence, Tuple

from stoker.pipeline.protocol.codec import decode_from_trainer, decode_from_worker, encode
from stoker.pipeline.protocol.messages import MAX_REASON, Alive, Job, Lease, Produced, Sample, Skipped, Welcome
from stoker.pipeline.protocol.messages import sendable
from stoker.pipeline.storage import folder as storage
from stoker.workers.generators import registry
from stoker.workers.generators.output import check
from stoker.workers.supervisor import die_with_parent, explain_exit

DEATHS = 3
END_S = 5.0          # for a child that hung up to be dead
_RUN = "trial"
_LENGTH = struct.Struct("<I")


class Quarantined(NamedTuple):
    """What became of a careful lease: nothing, if none of its samples kills. Else"""

    lease: Lease                     # only samples that can be produced, spares in the place of others; none left over
    skipped: Tuple[Skipped, ...]     # the bad ones, tried spares among them


def test_in_quarantine(job: Job, lease: Lease, allowed: Sequence[str]) -> Quarantined:
    """Tries the samples of ``lease``, and of its spares as many as are needed in the place of bad ones.

    ``allowed``: the generators of its own that this worker may import. Raises RuntimeError if no child can be started.
    """
    skipped: List[Skipped] = []
    with _Children(job, allowed) as children:
        def is_good(sample: Sample) -> bool:
            reason = children.reason_against(replace(lease, samples=(sample,), replacements=(), isolated=False))
            if reason is not None:
                skipped.append(Skipped(sample.index, reason))
            return reason is None

        # the order of batch_of: what is found must not depend on who finds it
        kept = [sample if is_good(sample) else None for sample in lease.samples]
        replacements = iter(lease.replacements)
        filled = [next(filter(is_good, replacements), None) if sample is None else sample for sample in kept]
        if not children.died_of:     # by chance, then: the generator is to see what it always sees
            return Quarantined(replace(lease, isolated=False), ())
    return Quarantined(replace(lease, samples=tuple(sample for sample in filled if sample is not None), replacements=(),
                         isolated=False), tuple(skipped))


class _Children:
    """A process that tries samples, and another one when it has died of one."""

    def __init__(self, job: Job, allowed: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "stoker.workers.quarantine", str(os.getpid()),
                         "follow" * storage.may_follow_links] + list(allowed)
        self._job = job
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self.died_of = 0         # samples that kill

    def __enter__(self) -> "_Children":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._end(0.0)

    def reason_against(self, lease: Lease) -> Optional[str]:
        """Why the one sample of ``lease`` is bad, None if it is not."""
        how = ""
        for _ in range(DEATHS):
            try:
                process = self._process or self._start()
                _write(process.stdin, lease)
                answer = _read(process.stdout)
            except BrokenPipeError:          # it died between two samples
                answer = None
            if answer is not None:
                skipped = decode_from_worker([answer]).skipped
                return skipped[0].reason if skipped else None
            how = explain_exit(self._end(END_S))
        self.died_of += 1
        return sendable("kills the process that opens it: " + how, MAX_REASON)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if _read(process.stdout) is None:
            raise RuntimeError("a process to try samples in cannot be started: it ended with %s"
                               % explain_exit(self._end(END_S)))
        _write(process.stdin, Welcome(_RUN, self._job, 0.0))
        return process

    def _end(self, wait_s: float) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            return process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()  # type: ignore[union-attr]
                except BrokenPipeError:      # what it had not read
                    pass


def _write(pipe: Any, message: Any) -> None:
    frame, = encode(message)
    pipe.write(_LENGTH.pack(len(frame)) + frame)
    pipe.flush()


def _read(pipe: Any) -> Optional[bytes]:
    """The next frame, None at the end."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length, = _LENGTH.unpack(head)
    frame = pipe.read(length)
    return frame if len(frame) == length else None


def main(parent: str, follow_links: str, *allowed: str) -> int:
    """The child: answers each lease with a batch without arrays."""
    storage.may_follow_links = bool(follow_links)
    die_with_parent()
    if os.getppid() != int(parent):
        return 1
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                        # a generator may print
    leases = sys.stdin.buffer
    _write(answers, Alive(_RUN))
    job = decode_from_trainer([_read(leases)]).job
    for frame in iter(lambda: _read(leases), None):
        lease = decode_from_trainer([frame])
        skipped: Tuple[Skipped, ...] = ()
        try:
            output = next(registry.find(job.generator, allowed)(iter([lease]), job))
            skipped = check(output, lease, job).skipped
        except Exception:                # no death: the worker itself will meet it, and tell of it
            pass
        _write(answers, Produced(_RUN, lease.lease, lease.position, 1 - len(skipped), skipped, 0.0, ()))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
