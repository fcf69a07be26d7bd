"""Runs a generator over leases, and answers each lease once: with its batch, or with what went wrong.
"""

import queue
import time
import traceback
from dataclasses import replace
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

from stoker.pipeline.errors import StokerError
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped, Timings
from stoker.workers import stopwatch
from stoker.workers.generators.output import Output, check
from stoker.workers.quarantine import Quarantined



class Finished(NamedTuple):
    """What the generator's thread hands to the socket's: an output, or what went wrong."""

    lease: Lease
    output: Optional[Output]
    error: str
    traceback: str
    sample: str              # path of the one that the generator had taken up last
    produce_s: float
    timings: Timings = Timings()


class _TrackedSamples(tuple):
    """Samples that remember which of them is at work: the file to name when the generator raises. '' when all were
    taken up, which may be long before they are opened."""

    last = ""

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            self.last = sample.path
            yield sample
        self.last = ""


def run_generators(items: "queue.Queue[Any]", finish: Callable[[Finished], None], find: Callable[[str], Any],
                   isolate: Callable[[Job, Lease], Quarantined]) -> None:
    """Runs ``find(job.generator)`` over the (job, lease) pairs of ``items`` until a None comes.

    Every lease is answered once through ``finish``: a generator that raises, ends early, or yields something else than
    the batch of its lease fails that lease, and is started anew for the next one.
    """
    item = items.get()
    while item is not None:
        feed = _LeaseFeed(items, item, isolate)
        try:
            for output in find(feed.job.generator)(feed.leases(), feed.job):
                feed.answer(output, finish)
            if feed.lease is not None or feed.is_between():
                raise RuntimeError("generator %s ended without a batch for its lease" % feed.job.generator)
        except Exception as error:
            kind = [] if isinstance(error, StokerError) else [type(error).__name__]
            text = ": ".join(kind + [str(error)] * bool(str(error)))      # a MemoryError says nothing
            trace = traceback.format_exc() if kind else ""                 # our own sentences need none
            if feed.is_between():            # the next lease shows it, if it is this generator's
                feed.fetch()
            if feed.lease is not None and feed.item[0] == feed.job:
                finish(Finished(feed.lease, None, text, trace, feed.samples.last or feed.replacements.last, 0.0))
                feed.fetch()
        item = feed.item


class _LeaseFeed:
    """The leases of one job, one after the other, as the iterator that a generator is handed."""

    def __init__(self, items: "queue.Queue[Any]", item: Any, isolate: Callable[[Job, Lease], Quarantined]) -> None:
        self._items, self._isolate = items, isolate
        self.item = item                       # the pair to go on with, None at the end
        self.job: Job = item[0]
        self.lease: Optional[Lease] = item[1]  # handed out and not yet answered
        self.answered: Optional[Lease] = None  # the last one that was
        self.samples = self.replacements = _TrackedSamples()   # of the lease handed out
        self._handed: Lease = item[1]          # what the generator got of it: less, after a trial
        self._bad: Tuple[Skipped, ...] = ()    # what the trial found
        self._started_s = time.monotonic()

    def is_between(self) -> bool:
        """The pair at hand was answered, and the generator has not asked for the next one."""
        return self.item is not None and self.item[1] is self.answered

    def fetch(self) -> None:
        """Waits for the next pair."""
        self.item = self._items.get()
        self.lease = self.item[1] if self.item is not None else None
        self._started_s = time.monotonic()
        stopwatch.take()                       # what was spent on a lease that failed

    def leases(self) -> Iterator[Lease]:
        """What the generator iterates; ends when the job changes."""
        while self.item is not None and self.item[0] == self.job:
            assert self.lease is not None
            self.samples = self.replacements = _TrackedSamples()
            self._handed, self._bad = self.lease, ()
            if self.lease.isolated:
                self._handed, self._bad = self._isolate(self.job, self.lease)
            self.samples, self.replacements = _TrackedSamples(self._handed.samples), _TrackedSamples(self._handed.replacements)
            yield replace(self._handed, samples=self.samples, replacements=self.replacements)
            if self.lease is not None:
                raise RuntimeError("generator %s asked for another lease before it yielded the batch of the first"
                                   % self.job.generator)
            self.fetch()
        self.lease = None                      # of another job: not this generator's to answer

    def answer(self, output: Any, finish: Callable[[Finished], None]) -> None:
        """The generator yielded."""
        self.samples.last = self.replacements.last = ""     # whatever is wrong now, it is no file
        if self.lease is None:
            raise RuntimeError("generator %s yielded more than one batch for a lease" % self.job.generator)
        arrays, skipped = check(output, self._handed, self.job)
        finish(Finished(self.lease, Output(arrays, skipped + self._bad), "", "", "",
                        time.monotonic() - self._started_s, _stages()))
        self.answered, self.lease = self.lease, None


def _stages() -> Timings:
    spent = stopwatch.take()
    return Timings(spent["storage"], spent["decode"], spent["augment"])
