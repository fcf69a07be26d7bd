"""BatchStream, which users iterate: ordered batches, bounded memory, closed on exit.

The coordinator's thread puts finished batches into a table under one lock; the consumer takes them in order and wakes
the coordinator, which grants what the moved window allows. Nothing else is shared.

Shutdown order: the coordinator tells every worker Stop and closes the socket (so the words still leave), then the
attached worker processes are stopped, then the audit and the list of bad files are closed. ``close`` does all of it
whatever fails in between.
"""

import logging
import math
import os
import re
import socket
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.coordinator.thread import Coordinator
from stoker.pipeline.errors import RunFailed, StokerError
from stoker.pipeline.monitoring.audit import Audit
from stoker.pipeline.monitoring.bad_samples import BadSamples
from stoker.pipeline.monitoring.throughput import WINDOW_S, ThroughputMeter, Window, BatchTimings, Verdict, Watch, verdict
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import printable
from stoker.pipeline.sources.dataset import Splits

log = logging.getLogger("stoker")

REPORT_INTERVAL_S = 0.5           # between two looks at what holds the run up
POLL_S = 0.2           # how often a waiting consumer looks after the attached workers
BAD_SHOWN = 10         # bad files that are named at once; all of them are in ``BatchStream.skipped``


class BatchStream:
    """The batches of a plan, in order, each once, whoever produces them. A context manager and its own iterator.

    Raises ConfigError at once if the address cannot be bound; while iterating, RunFailed when nothing can produce the
    next batch any more. Iterate from one thread.
    """

    def __init__(self, plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions,
                 start_step: int = 0) -> None:
        self.plan, self._options = plan, options
        self._datasets = datasets
        self._raises = job.on_bad_image == "raise"
        self._position = plan.position_of(start_step)
        self._condition = threading.Condition()
        self._ready: Dict[int, Batch] = {}           # under the condition
        self._error: Optional[StokerError] = None    # under the condition
        self._closed = False
        self.interrupted = False      # ``interrupt`` was called: the iteration ends
        self._worker_groups: List[Any] = []
        self.waited_s = 0.0           # all the time that the consumer waited for batches
        self.produced_s = 0.0         # all the time that workers took for the batches consumed so far
        self._meter = ThroughputMeter(options.prefetch_of(job))
        self._watch = Watch()
        self._handed_s = self._reported_s = time.monotonic()   # when a batch was handed out; when it was looked
        self.skipped: Dict[str, str] = {}  # path -> reason, of the bad files met so far, whatever became of them
        self._audit: Optional[Audit] = None
        self._bad_samples: Optional[BadSamples] = None
        try:
            # read before the port is bound, for workers wait from then on; and changed only once it is
            if options.audit is not None:
                self._audit = Audit(options.audit, start_step, plan.training_indices)
            if options.bad_samples is not None:
                self._bad_samples = BadSamples(options.bad_samples, start_step)
            self._coordinator = Coordinator(self._position, plan, self._datasets, job, options, self._deliver,
                                            self._fail)
        except BaseException:
            self._close_files()
            raise
        try:
            for file in self._files():
                file.begin()
        except BaseException:
            self._coordinator.abandon()
            self._close_files()
            raise
        self.address = self._coordinator.address
        self.local_keys = self._coordinator.local_keys     # for attached workers, where the stream wants keys
        self._coordinator.start()

    @property
    def connect_address(self) -> str:
        """What workers on other hosts connect to: the bound address, with this host's name if it is bound to all."""
        return re.sub(r"//(0\.0\.0\.0|\[::\]|\*):", "//%s:" % socket.gethostname(), self.address)

    @property
    def worker_command(self) -> str:
        """What to say on other hosts."""
        keys = self._options.keys
        return "python -m workers --connect %s%s" % (self.connect_address, "" if keys is None else (
            " --keys NAME (a copy of %s)" % os.path.join(keys, "workers", "NAME")))

    @property
    def bad_files(self) -> int:
        """How many bad files were met: with a list of them (``StreamOptions.bad_samples``), before a resume too."""
        return len(self.skipped if self._bad_samples is None else self._bad_samples)

    def attach(self, group: Any) -> None:
        """Worker processes that end with this stream. ``source.trouble()`` says why no batch can come from them any
        more, or None; ``source.adjust(sums, fleet)`` may change their number, and says whether it did;
        ``source.stop()`` ends them within two seconds."""
        self._worker_groups.append(group)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise RuntimeError("the stream is closed")
        if self._position >= self.plan.positions:
            raise StopIteration
        asked_s, waited_before_s = time.monotonic(), self.waited_s
        batch = self._wait_for(self._position)
        if batch is None:
            raise StopIteration
        self._meter.add(BatchTimings(self.waited_s - waited_before_s, asked_s - self._handed_s, batch.produce_s,
                              *batch.timings[:3], batch.wire_s))
        self._handed_s = time.monotonic()
        if self._handed_s >= self._reported_s + REPORT_INTERVAL_S:
            self._reported_s = self._handed_s
            self._report()
        if batch.skipped:
            self._note_bad(batch)
        if self._audit is not None and batch.training:
            self._audit.write(batch)
        # last, so that an interrupt before it leaves the batch to be handed out again
        with self._condition:
            self._position += 1
            self.produced_s += batch.produce_s
            self._ready.pop(self._position - 1)
        self._coordinator.take_up_to(self._position)
        return batch

    def verdict(self, last_s: float = math.inf) -> Optional[Verdict]:
        """What held the run up in the last so many seconds, and how many workers it needs; None: too early to tell."""
        return self._found(self._meter.sums(last_s))

    def _found(self, sums: Window) -> Optional[Verdict]:
        fleet = self._coordinator.fleet
        return verdict(sums, fleet.workers, fleet.cores) if fleet.workers and self._meter.is_known(sums) else None

    def _report(self) -> None:
        sums = self._meter.sums(WINDOW_S)
        found = self._found(sums)
        if found is None:
            return
        if self._watch.is_news(found.name, self._handed_s):
            log.info("bottleneck: %s", found.sentence)
        for group in self._worker_groups:
            if group.adjust(sums, self._coordinator.fleet):
                self._meter.clear()

    def _note_bad(self, batch: Batch) -> None:
        dataset = self._datasets.of(batch.training)
        for skip in batch.skipped:
            sample, = dataset.samples((skip.index,))
            if sample.path not in self.skipped and len(self.skipped) < BAD_SHOWN and not self._raises:
                log.warning("bad file %r: %s%s", sample.path, printable(skip.reason),
                            "" if len(self.skipped) + 1 < BAD_SHOWN else "; further ones are only counted")
            self.skipped[sample.path] = skip.reason
            if self._bad_samples is not None:
                self._bad_samples.add(sample.path, dataset.classes[sample.label], skip.reason, batch.step)
        if self._raises:
            first, more = batch.skipped[0], len(batch.skipped) - 1
            where = ("step %d of epoch %d" if batch.training else
                     "the evaluation before step %d, after epoch %d") % (batch.step, batch.epoch + 1)
            raise RunFailed("%r, in %s, is a bad file: %s%s; put a good one in its place, or go on with --on-bad-image "
                            "skip" % (dataset.samples((first.index,))[0].path, where, printable(first.reason),
                                      " (and %d more of the batch)" % more if more else ""))

    def interrupt(self) -> None:
        """Ends the iteration at the next step. For signal handlers: takes no lock."""
        self.interrupted = True

    def close(self) -> None:
        """Stops the workers and frees the port. Takes about two seconds at most; once more does no harm."""
        if self._closed:
            return
        self._closed = True
        try:
            done = self._position >= self.plan.positions
            self._coordinator.stop("all steps are done" if done else "the trainer closed the stream", done)
        finally:
            for group in self._worker_groups:
                group.stop()
            self._close_files()

    def _files(self) -> List[Any]:
        return [file for file in (self._audit, self._bad_samples) if file is not None]

    def _close_files(self) -> None:
        for file in self._files():
            file.close()

    # ------------------------------------------------------------------------- between the coordinator and consumer

    def _deliver(self, position: int, batch: Batch) -> None:
        with self._condition:
            self._ready[position] = batch
            if position == self._position:
                self._condition.notify()

    def _fail(self, error: StokerError) -> None:
        with self._condition:
            self._error = self._error or error
            self._condition.notify()

    def _wait_for(self, position: int) -> Optional[Batch]:
        start = reported = time.monotonic()
        try:
            while not self.interrupted:
                batch, error = self._ready.get(position), self._error
                if batch is None and error is None:
                    with self._condition:
                        if position not in self._ready and self._error is None:
                            self._condition.wait(POLL_S)
                        batch, error = self._ready.get(position), self._error
                if batch is not None:
                    return batch
                if error is not None:
                    raise error
                now = time.monotonic()
                self._check_workers(now - start)
                if now - reported >= self._options.stall_s:
                    reported = now
                    limit_s = (self._options.worker_timeout_s if self._coordinator.without_workers_s()
                               else self._options.batch_timeout_s)
                    log.warning("%s", self._coordinator.stall_report(now - start, limit_s))
            return None
        finally:
            self.waited_s += time.monotonic() - start

    def _check_workers(self, waited_s: float) -> None:
        for group in self._worker_groups:
            trouble = group.trouble()
            if trouble:
                raise RunFailed(trouble)
        if waited_s > self._options.batch_timeout_s:
            raise RunFailed("%s; its samples: %s" % (self._coordinator.stall_report(waited_s, self._options.batch_timeout_s),
                                                     ", ".join(self._next_paths())))
        limit_s = self._options.worker_timeout_s
        if min(waited_s, self._coordinator.without_workers_s()) > limit_s:
            raise RunFailed("%s; start workers with: %s"
                            % (self._coordinator.stall_report(waited_s, limit_s), self.worker_command))

    def _next_paths(self) -> List[str]:
        planned = self.plan.at(self._position)
        return [sample.path for sample in self._datasets.of(planned.training).samples(planned.indices)]
