"""The pace of a run: measures it, reports the bottleneck, and lets worker groups change their number."""

import logging
import math
from typing import Callable, List, NamedTuple, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import BatchObserver, WorkerGroup
from stoker.pipeline.monitoring.throughput import (WINDOW_S, BatchTimings, Fleet, ThroughputMeter, Verdict, Watch,
                                                   Window, verdict)

log = logging.getLogger("stoker")

VERDICT_INTERVAL_S = 0.5      # between two verdicts about the run
RECENT = 0.2                  # the weight of the last step in the recent time of a step ...
LONGEST = 4.0                 # ... in which it counts for so many times that time at most: it may be a checkpoint


class Judged(NamedTuple):
    """The last verdict on the run, and what it is about."""
    verdict: Verdict
    window: Window


class Pace:
    """Takes the timings of each batch as the consumer takes the batch. Times are seconds of a monotonic clock."""

    def __init__(self, prefetch: int, groups: List[WorkerGroup], now: float) -> None:
        """``groups``: the stream's list, to which it may add later."""
        self._groups, self.prefetch = groups, prefetch
        self.observers: List[BatchObserver] = []      # each is told of every batch
        self.reported: Optional[Callable[[Verdict, float], None]] = None     # is told of each bottleneck that is logged
        self._meter = ThroughputMeter(prefetch)
        self._watch = Watch()
        self._handed_out_s = self._judged_s = now
        self.trainers = 1           # so many share the cores of the host of local workers
        self.judged: Optional[Judged] = None      # of the last seconds; replaced as one, so that any thread may read it
        self.step_s = 0.0           # the recent time in which the consumer uses a batch; 0: not yet known

    def handed_out(self, batch: Batch, asked_s: float, waited_s: float, fleet: Fleet, now: float) -> None:
        """The consumer asked at ``asked_s`` for ``batch``, waited, and gets it ``now``."""
        step_s = max(0.0, asked_s - self._handed_out_s)
        self.step_s += RECENT * (min(step_s, max(0.01, LONGEST * self.step_s)) - self.step_s) if (
            self.step_s) else step_s
        timings = BatchTimings(waited_s, step_s, batch.produce_s, batch.timings.storage_s,
                               batch.timings.decode_s, batch.timings.augment_s, batch.wire_s, batch.timings.read_s)
        self._meter.add(timings)
        for observer in self.observers:
            observer.taken(batch, timings, fleet, now)
        self._handed_out_s = now
        if now < self._judged_s + VERDICT_INTERVAL_S:
            return
        self._judged_s = now
        window = self._meter.window(WINDOW_S)
        found = self._verdict(window, fleet)
        if found is None:
            return
        self.judged = Judged(found, window)
        if self._watch.is_news(found.name, now):
            log.info("bottleneck: %s", found.sentence)
            if self.reported is not None:
                self.reported(found, now)
        for group in self._groups:
            if group.adjust(window, fleet):
                self._meter.clear()

    def verdict(self, fleet: Fleet, last_s: float = math.inf) -> Optional[Verdict]:
        """See ``BatchStream.verdict``. None also if no worker is alive."""
        return self._verdict(self._meter.window(last_s), fleet)

    def _verdict(self, window: Window, fleet: Fleet) -> Optional[Verdict]:
        if not fleet.workers or not self._meter.is_known(window):
            return None
        return verdict(window, fleet.workers, max(1, fleet.cores // self.trainers))
