"""Observation: what is kept of a run for those who look at its status address. Without one, nothing of it is there.

Pure: times come in, of one monotonic clock. It hears of each batch in the consumer's thread, which costs some
microseconds, and of workers in the coordinator's; other threads may read at any moment.
"""

import math
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, NamedTuple, Optional
from weakref import ref

from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring.events import Events, short
from stoker.pipeline.monitoring.history import History
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet, Verdict
from stoker.pipeline.monitoring.worker_rates import WorkerRates
if TYPE_CHECKING:
    from stoker.pipeline.plan import Plan

MAX_BAD_FILES = 50        # of the newest
MAX_BOTTLENECKS = 20
MAX_SENTENCE = 600        # characters of a bottleneck
EPOCH_INTERVAL_S = 10.0   # between two events that say that an epoch begins, if they are short
FIRST_BAD_FILES = 10      # so many have an event each; from then on, each time that their number has doubled


class BadFile(NamedTuple):
    """A bad file as it was found; its texts are printable."""
    when_s: float
    path: str
    why: str
    step: int


class Bottleneck(NamedTuple):
    """A bottleneck as it was reported."""
    when_s: float
    name: str
    sentence: str


class Counters:
    """What only grows. Times in seconds."""
    __slots__ = ("batches", "samples", "skipped", "waiting_s", "using_s", "storage_s", "decode_s", "augment_s",
                 "generator_s", "wire_s", "read_s")

    def __init__(self) -> None:
        self.batches = self.samples = self.skipped = 0
        self.waiting_s = self.using_s = 0.0
        self.storage_s = self.decode_s = self.augment_s = 0.0
        self.generator_s = self.wire_s = self.read_s = 0.0


class Observation:
    """Begins at ``now``, with a run of ``plan`` at ``step``."""

    def __init__(self, plan: "Plan", step: int, now: float) -> None:
        self._plan, self._batches = plan, plan.positions - plan.position_of(step)    # batches of the whole run
        self.begun_s, self.taken_s = now, now       # taken: the last batch
        self.counters, self.history, self.workers, self.events = Counters(), History(now), WorkerRates(), Events()
        self.bad_files: Deque[BadFile] = deque(maxlen=MAX_BAD_FILES)
        self.bottlenecks: Deque[Bottleneck] = deque(maxlen=MAX_BOTTLENECKS)
        self.is_batch_wanted = False                # the next batch is to be kept, for one who looks at it
        self.batch: Optional[Batch] = None          # that was kept
        self.wake: Callable[[], None] = lambda: None      # is called when one was
        self._counted: Callable[[], Optional[Batch]] = lambda: None       # the last batch, while the consumer has it
        self._bad_files = 0
        self._next_told = 1                         # bad file that has an event
        self._epoch_told_s = -math.inf              # when an epoch last had an event
        self._epoch = -1                            # of the last batch; -1: there was none
        self.events.add("run", "the run begins" if not step else "the run goes on from step %d" % step, now)

    @property
    def epoch(self) -> int:
        """That of the last batch, from 1; 0: there was none."""
        return self._epoch + 1

    def taken(self, batch: Batch, timings: BatchTimings, fleet: Fleet, now: float) -> None:
        """See ``BatchObserver``."""
        waited_s, step_s, produce_s, storage_s, decode_s, augment_s, wire_s, read_s = timings
        samples, counters = len(batch), self.counters
        if self._counted() is batch:
            return                   # a Ctrl-C interrupted the consumer before it had this batch
        self._counted = ref(batch)
        counters.batches += 1
        counters.samples += samples
        counters.waiting_s += waited_s
        counters.using_s += step_s
        counters.storage_s += storage_s
        counters.decode_s += decode_s
        counters.augment_s += augment_s
        counters.wire_s += wire_s
        counters.read_s += read_s
        generator_s = produce_s - storage_s - decode_s - augment_s
        if generator_s > 0:          # stages of several threads may add up to more than the whole
            counters.generator_s += generator_s
        if batch.skipped or batch.missing:
            counters.skipped += len(batch.skipped) + batch.missing
        self.history.add(samples, waited_s, step_s, now)
        if batch.worker:
            self.workers.add(batch.worker, samples, produce_s, storage_s, decode_s, augment_s, now)
        self.taken_s = now
        if batch.epoch != self._epoch:
            self._epoch = batch.epoch
            if now >= self._epoch_told_s + EPOCH_INTERVAL_S:
                self._epoch_told_s = now
                self.events.add("run", "epoch %d of %d begins" % (batch.epoch + 1, self._plan.epochs), now)
        if counters.batches == self._batches:
            self.events.add("run", "all %d steps are done" % self._plan.steps, now)
        if self.is_batch_wanted:
            self.is_batch_wanted = False
            self.batch = batch
            self.wake()

    def heard(self, kind: str, text: str, reassigned: str, now: float) -> None:
        """The coordinator's log has a line of this kind: see ``effects.Log``."""
        if kind:
            self.events.add(kind, text.partition("\n")[0], now)
        if reassigned:
            self.events.add("reassigned", reassigned, now)

    def reported(self, verdict: Verdict, now: float) -> None:
        """A new bottleneck is reported."""
        self.bottlenecks.append(Bottleneck(now, verdict.name, short(verdict.sentence, MAX_SENTENCE)))
        self.events.add("bottleneck", verdict.sentence, now)

    def bad_file(self, path: str, why: str, step: int, now: float) -> None:
        """A bad file was found for the first time. ``path`` is printable."""
        self._bad_files += 1
        found = BadFile(now, short(path), short(why), step)
        self.bad_files.append(found)
        if self._bad_files >= self._next_told:
            self._next_told = self._bad_files + 1 if self._bad_files < FIRST_BAD_FILES else 2 * self._bad_files
            more = "" if self._bad_files < FIRST_BAD_FILES else " (%s bad files so far)" % format(self._bad_files, ",")
            self.events.add("bad file", "%s: %s%s" % (short(path, 150), short(why, 100), more), now)
