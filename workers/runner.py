"""Answers leases: each one exactly once, with its batch or with what went wrong."""

import os
import queue
import time
import traceback
from dataclasses import replace
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from stoker.pipeline.errors import StokerError
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Timings
from stoker.workers import stopwatch
from stoker.workers.generators.output import Output, check
from stoker.workers.generators.registry import Producer
from stoker.workers.quarantine import Quarantined

_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Finished(NamedTuple):
    """The answer to a lease, from the main thread to the socket's: an output, or what went wrong."""
    lease: Lease
    output: Optional[Output]
    error: str = ""
    traceback: str = ""
    sample: str = ""         # name of the sample that the generator was at
    produce_s: float = 0.0
    timings: Timings = Timings()


class _TrackedSamples(tuple):  # type: ignore[type-arg]    # Python 3.6 knows no tuple[Sample, ...]
    """Samples that remember which of them the generator is at."""
    current = ""    # its name; '' also when it has taken all, since it may take all before it opens the first

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            self.current = sample.name
            yield sample
        self.current = ""


def answer_leases(items: "queue.Queue[Optional[Tuple[Job, Lease]]]", finish: Callable[[Finished], None],
                  make: Callable[[Job], Producer], isolate: Callable[[Job, Lease], Quarantined]) -> None:
    """Produces the (job, lease) pairs of ``items`` until a None comes, and answers each one through ``finish``.
    ``make`` is called for each job, and again after a failure. ``isolate`` tests a lease in quarantine."""
    producer: Optional[Producer] = None
    for job, lease in iter(items.get, None):
        start_s = time.monotonic()
        if producer is not None and job != producer.job:
            producer.finish()
            producer = None
        stopwatch.take()                 # drops the time that a failed lease took
        samples = replacements = _TrackedSamples()
        try:
            handed, bad = isolate(job, lease) if lease.isolated else Quarantined(lease, ())
            samples, replacements = _TrackedSamples(handed.samples), _TrackedSamples(handed.replacements)
            producer = producer or make(job)
            output = producer.produce(replace(handed, samples=samples, replacements=replacements))
            samples.current = replacements.current = ""       # if ``check`` raises, no sample is at fault
            output = check(output, handed, job, producer.makes_fresh)
            answer = Finished(lease, output._replace(skipped=output.skipped + bad),
                              produce_s=time.monotonic() - start_s, timings=stopwatch.take())
        except (Exception, SystemExit) as error:        # sys.exit in a user's function is no death of this process
            producer = None              # closes its generator
            # the sentence of a StokerError says all
            text, trace = (str(error), "") if isinstance(error, StokerError) else _of_users_code(error)
            answer = Finished(lease, None, text, trace, samples.current or replacements.current)
        finish(answer)
    if producer is not None:
        producer.finish()


def _of_users_code(error: BaseException) -> Tuple[str, str]:
    """A sentence and a traceback for an exception in the code that a generator calls; both begin at its first frame
    that is not Stoker's."""
    text, frames = ": ".join(filter(None, [type(error).__name__, str(error)])), error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        frames = frames.tb_next
    if frames is None:
        return text, traceback.format_exc()
    code = frames.tb_frame.f_code
    return ("%s (%s, line %d, in %s)" % (text, os.path.basename(code.co_filename), frames.tb_lineno, code.co_name),
            "".join(traceback.format_exception(type(error), error, frames)))
