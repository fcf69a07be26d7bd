"""What a worker's sessions ask their caller to do, in the order returned; and the exit codes of a worker process."""

from typing import NamedTuple, Optional, Union

from stoker.pipeline.protocol.messages import FromWorker, Job, Lease
from stoker.workers.batch_memory import BatchMemory

EXIT_ENDED = 0     # the run is over
EXIT_FAILED = 1    # what Python itself uses for an uncaught exception
EXIT_CONFIG = 2    # the options are wrong
EXIT_REFUSED = 3   # the trainer will never serve this worker
EXIT_DRAINED = 4   # asked to leave; finished its step first

Say = NamedTuple("Say", [("message", FromWorker)])            # send this message
Note = NamedTuple("Note", [("text", str)])                    # tell the user, in one line
HangUp = NamedTuple("HangUp", [])                             # end the connection, and make a new one after a while
End = NamedTuple("End", [("code", int)])                      # leave with this exit code


class Work(NamedTuple):
    """Produce this lease, then call ``produced`` or ``failed``. ``memory``: its slot, which the caller adds."""
    job: Job
    lease: Lease
    memory: Optional[BatchMemory] = None


class Check(NamedTuple):
    """Can this worker do the job? Then call ``checked``. ``trainer``: the number of the conversation."""
    job: Job
    run: str
    trainer: int = 0


Effect = Union[Say, Check, Work, Note, HangUp, End]
#: Of ``Conversations``: end the connection to one trainer for good, others go on. ``code``: what End would have.
Close = NamedTuple("Close", [("code", int)])


def described(job: Job) -> str:
    """``job`` in a line for the user."""
    return "%s, %s, batches of %d" % (job.generator, " ".join(
        "%s %s%r" % (spec.name, spec.dtype, list(spec.shape)) for spec in job.arrays), job.batch_size)
