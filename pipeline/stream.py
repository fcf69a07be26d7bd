"""BatchStream, which users iterate: batches in order, in bounded memory, closed when the ``with`` block ends.

The coordinator's thread puts finished batches into a table under one lock. The consumer takes them out in order and
tells the coordinator its new position, so that it grants the next leases. The two threads share nothing else.
"""

import logging
import math
import os
import threading
import time
from contextlib import ExitStack
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

from stoker.pipeline.arrays import listed
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import WorkerGroup
from stoker.pipeline.coordinator.session import ABSENCE_S
from stoker.pipeline.coordinator.thread import Coordinator
from stoker.pipeline.errors import BatchesDiffer, DatasetError, RunFailed, StokerError
from stoker.pipeline.functions import refuse_nested
from stoker.pipeline.insight import Insight
from stoker.pipeline.joining import connect_address, worker_command
from stoker.pipeline.monitoring.audit import Audit
from stoker.pipeline.monitoring.bad_samples import BadFiles, BadSamples
from stoker.pipeline.monitoring.closing import Totals, closing_lines
from stoker.pipeline.monitoring.pace import Pace
from stoker.pipeline.monitoring.throughput import Fleet, Verdict
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.output import keep_descriptors, steady
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.sources.fields import checked
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.text import name_list, native

log = logging.getLogger("stoker")

ONE_PROCESS = ("take all its batches in the process that opened it (in Keras: workers=0 and "
               "use_multiprocessing=False); its workers are processes of their own")
CHECK_INTERVAL_S = 0.2      # a waiting consumer checks the attached workers so often
VERIFIED_WITHIN_S = 10.0    # at the end of a run: the last comparisons of ``StreamOptions.verify``


class BatchStream(Iterator[Batch]):
    """The batches of a plan, each exactly once and in order. A context manager and its own iterator:
    ``with stoker.open_stream("photos") as stream: print(next(stream).step)``.

    Raises ConfigError at once if the address cannot be bound, DatasetError if a sample cannot be sent. While iterating,
    raises RunFailed when the next batch cannot be produced any more, DatasetError after an epoch without a single
    sample, and RuntimeError if two threads take batches at the same time, or in a fork of the process that opened it.
    Threads may take turns. A fork that closes it, or ends, changes nothing.
    """

    def __init__(self, plan: Plan, datasets: Splits, job: JobOptions, options: StreamOptions, start_step: int = 0,
                 coordinator: Callable[..., Coordinator] = Coordinator, now: Callable[[], float] = time.monotonic,
                 wait: Callable[[threading.Condition, float], object] = threading.Condition.wait) -> None:
        """``coordinator``, ``now`` and ``wait`` are replaced in tests only."""
        refuse_nested()
        keep_descriptors()
        steady(log)
        self.plan, self._process = plan, os.getpid()
        self.interrupted = False      # ``interrupt`` was called: the iteration ends
        self.status_url: Optional[str] = None     # of the figures of this run, with ``open_stream(status=...)``
        self._totals = Totals()
        self.unit = "samples" if job.declared or job.generator == "numerical" else "images"
        self._last_verdict: Optional[Verdict] = None     # when the stream was closed
        datasets = Splits(*(checked(source, (Dataset, RecordSource, Table, Numbers)) for source in datasets))
        self._datasets, self._options, self._now, self._wait = datasets, options, now, wait
        self._position, start_step = plan.position_of(start_step), int(start_step)      # it may be one of numpy's
        self._start_step, self._used = start_step, 0   # the other: samples of the current epoch's batches so far
        self._unusable: Optional[str] = None         # a sentence: an epoch had no sample; the next call raises it
        if start_step < plan.steps:
            plan.training_indices(start_step)        # an error of the user's order is raised here
        self._condition = threading.Condition()
        # Held by the thread that takes a batch. It can be taken again by that thread: a Ctrl-C may have left it held
        self._taking = threading.RLock()
        self._ready: Dict[int, Batch] = {}           # under the condition
        self._error: Optional[StokerError] = None    # under the condition
        self._closed = False
        self._worker_groups: List[WorkerGroup] = []
        self.pace = Pace(options.prefetch_of(job), self._worker_groups, now())
        self._audit: Optional[Audit] = None
        self._listing: Optional[BadSamples] = None
        self._files = ExitStack()                    # closes both
        with ExitStack() as undo:
            undo.enter_context(self._files)
            # read before the port is bound, since workers connect then; changed after it, since it may be in use
            if options.audit is not None:
                self._audit = Audit(options.audit, start_step, plan.training_indices, plan.rank, plan.ranks)
                self._files.callback(self._audit.close)
            if options.bad_samples is not None:
                self._listing = BadSamples(options.bad_samples, start_step)
                self._files.callback(self._listing.close)
            self._coordinator = coordinator(self._position, plan, datasets, job, options, self._deliver, self._fail)
            undo.callback(self._coordinator.abandon)
            for file in (self._audit, self._listing):
                if file is not None:
                    file.begin()
            undo.pop_all()
        self._own_functions = job.own_functions
        self.arrays = job.arrays      # what the batches hold
        self._bad_files = BadFiles(self._listing, job.on_bad_image == "raise")
        self.skipped = self._bad_files.reasons             # the bad files so far: path -> why it is bad
        self.address, self.run_id = self._coordinator.address, self._coordinator.run_id
        self.local_keys = self._coordinator.local_keys     # for attached workers, if the stream uses keys
        self._coordinator.start()

    @property
    def classes(self) -> Tuple[str, ...]:
        """The names of the classes by number: of the class folders, or "other" and the label word; (): none, as of rows
        or files. A label in a batch is an index into it; of training and validation alike."""
        return self._datasets.training.classes

    @property
    def connect_address(self) -> str:
        """The address for workers on other hosts: ``address``, with this host's name if it is one of all interfaces."""
        return connect_address(self.address)

    @property
    def worker_command(self) -> str:
        """The command that starts workers on another host."""
        return worker_command(self.address, self._options.keys, self._own_functions, self._datasets.training.root)

    @property
    def step(self) -> int:
        """The number of the next training step: the ``global_step`` after the batches handed out so far."""
        epoch, offset = divmod(self._position, self.plan.steps_per_epoch + self.plan.evaluations_per_epoch)
        return epoch * self.plan.steps_per_epoch + min(offset, self.plan.steps_per_epoch)

    @property
    def due(self) -> Optional[bool]:
        """``training`` of the next batch, before it is there: False in an evaluation; None at the end of the stream."""
        if self._position >= self.plan.positions:
            return None
        offset = self._position % (self.plan.steps_per_epoch + self.plan.evaluations_per_epoch)
        return self.plan.training and offset < self.plan.steps_per_epoch

    @property
    def is_over(self) -> bool:
        """All batches were handed out and, with ``StreamOptions.verify``, compared: no worker is needed any more."""
        return self._position >= self.plan.positions and not self._coordinator.is_verifying

    @property
    def fleet(self) -> Fleet:
        """The workers, as of the last heartbeat."""
        return self._coordinator.fleet

    @property
    def waited_s(self) -> float:
        """The consumer waited for batches, in all."""
        return self._totals.waited_s

    @property
    def produced_s(self) -> float:
        """Workers took for the batches consumed so far, in all."""
        return self._totals.produced_s

    @property
    def bad_files(self) -> int:
        """The number of bad files so far. With ``StreamOptions.bad_samples``, those before a resume are included."""
        return len(self.skipped if self._listing is None else self._listing)

    @property
    def decoders(self) -> FrozenSet[str]:
        """The libraries by which the workers that have joined so far decode pictures, such as "pillow 13.0.0,
        libjpeg-turbo 3.1.2"; none if the data are no files."""
        return self._coordinator.decoders

    def verdict(self, last_s: float = math.inf) -> Optional[Verdict]:
        """The bottleneck of the last ``last_s`` seconds, and the number of workers needed. None: too early to tell. Of
        a closed stream: as it was when it was closed."""
        return self._last_verdict if self._closed else self.pace.verdict(self._coordinator.fleet, last_s)

    def report(self) -> str:
        """Three lines, at the end of a run, or so far: the result, with what was left out; the speed; the bottleneck,
        with the number of workers needed. With ``StreamOptions.verify`` a fourth: how many batches were compared. Also
        of a closed stream: ``print(stream.report())``."""
        # in a form that ``print`` takes: under LC_ALL=C, that of Python 3.6 knows only ASCII, and bytes of file names
        return native(closing_lines(self.step, self.plan.steps, self.left_out(),
                                    self._totals.speed(self.unit, self._now()), self.verdict(),
                                    self._coordinator.verification_report() if self._options.verify else ""))

    def left_out(self) -> str:
        """What is not in the batches so far, in a sentence: "no bad files", "3 bad files (listed in ...)"."""
        return self._bad_files.report()

    def insight(self) -> Insight:
        """For the status address: from now on, more is noted of batches, bad files and workers."""
        return Insight(self.plan, self._start_step, self._coordinator, self.pace, self._totals, self._bad_files,
                       self._ready, self._now)

    def attach(self, group: WorkerGroup) -> None:
        """Makes ``group`` end with this stream, which also checks it while waiting and lets it adjust its size."""
        self._worker_groups.append(group)

    def interrupt(self) -> None:
        """Ends the iteration at the next step. For signal handlers: takes no lock."""
        self.interrupted = True

    def close(self) -> None:
        """Stops the workers, frees the port, and closes the files, even if one of these fails. Takes some seconds at
        most; a second call does no harm. Does nothing in a fork: all of it belongs to the process that opened it."""
        if self._closed or os.getpid() != self._process:
            return
        self._totals.ended(self._now())
        self._last_verdict = self.verdict()
        self._closed = True
        done = self._position >= self.plan.positions
        with self._files as last_first:
            for group in self._worker_groups:
                last_first.callback(group.stop)
            last_first.callback(self._coordinator.stop,
                                "all steps are done" if done else "the trainer closed the stream", done)

    def __repr__(self) -> str:
        return "<BatchStream: %d of %d steps, batches of %s%s>" % (
            self.step, self.plan.steps, listed(self.arrays), ", closed" * self._closed)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getstate__(self) -> None:
        raise TypeError("a stream cannot be sent to another process, or copied: " + ONE_PROCESS)

    def check_process(self) -> None:
        """Raises RuntimeError in a fork of the process that opened the stream: its threads are not there."""
        if os.getpid() != self._process:
            raise RuntimeError("process %d takes batches from the stream that process %d opened, of which it is a "
                               "fork: %s" % (os.getpid(), self._process, ONE_PROCESS))

    def __next__(self) -> Batch:
        self.check_process()
        if not self._taking.acquire(blocking=False):
            raise RuntimeError("two threads take batches from one stream at the same time, and each would get only "
                               "some of them: let one thread take them all (in Keras: workers=0)")
        try:
            return self._take()
        finally:
            self._taking.release()

    def _take(self) -> Batch:
        if self._closed and self._position < self.plan.positions:
            raise RuntimeError("the stream is closed")
        if self._unusable is not None:
            raise DatasetError(self._unusable)
        if self._position >= self.plan.positions:
            self._totals.ended(self._now())
            self._wait_until_verified()
            raise StopIteration
        asked_s, waited_before_s = self._now(), self.waited_s
        self._totals.asked(asked_s)
        batch = self._next_batch()
        waited_s = self.waited_s - waited_before_s
        self.pace.handed_out(batch, asked_s, waited_s, self._coordinator.fleet, self._now())
        if batch.skipped or batch.missing:
            self._bad_files.note(batch, self._datasets.of(batch.training))
        if self._audit is not None and batch.training:
            self._audit.write(batch)
        # Only now is the batch handed out: after an exception above, the next call returns the same batch.
        with self._condition:
            self._position += 1
            self._totals.handed_out(batch.worker, len(batch), batch.produce_s)
            del self._ready[self._position - 1]      # last: an interrupt before it must not lose the batch
        self._coordinator.take_up_to(self._position, self.pace.step_s)
        if batch.training:
            self._count_used(batch)
        return batch

    def _count_used(self, batch: Batch) -> None:
        """An epoch without any sample ends the run: nothing was trained on, and the next epoch would not be better."""
        self._used += len(batch)
        if (batch.step + 1) % self.plan.steps_per_epoch == 0:
            is_whole = batch.epoch * self.plan.steps_per_epoch >= self._start_step
            if is_whole and not self._used:
                self._unusable = "not one sample of epoch %d could be used: %s" % (
                    batch.epoch + 1, self._bad_files.example(self._datasets.training.root))
            self._used = 0

    def _deliver(self, position: int, batch: Batch) -> None:
        with self._condition:
            self._ready[position] = batch
            if position == self._position:
                self._condition.notify()

    def _fail(self, error: StokerError) -> None:
        with self._condition:
            self._error = self._error or error
            self._condition.notify()

    def _next_batch(self) -> Batch:
        start = reported = seen = self._now()
        try:
            while not self.interrupted:
                if self._closed:             # by another thread, meanwhile
                    raise RuntimeError("the stream is closed")
                with self._condition:
                    if self._position not in self._ready and self._error is None:
                        self._wait(self._condition, CHECK_INTERVAL_S)
                    batch, error = self._ready.get(self._position), self._error
                now = self._now()
                absent_s, seen = now - seen - CHECK_INTERVAL_S, now
                if absent_s > ABSENCE_S:     # this process was suspended, or one C call kept all threads waiting
                    start, reported = start + absent_s, reported + absent_s
                if batch is not None and not isinstance(error, BatchesDiffer):
                    return batch
                if error is not None:
                    raise error
                self._check_workers(now - start)
                if now - reported >= self._options.stall_s:
                    reported = now
                    no_worker = self._coordinator.without_workers_s() > 0
                    limit_s = self._options.worker_timeout_s if no_worker else self._options.batch_timeout_s
                    log.warning("%s", self._coordinator.stall_report(now - start, limit_s))
            raise StopIteration
        finally:
            self._totals.waited(self._now() - start)      # also if a Ctrl-C ended the wait

    def _wait_until_verified(self) -> None:
        """All batches were handed out, and some may yet be compared with second ones. Raises BatchesDiffer."""
        if not self._options.verify or self._closed:
            return
        end_s = self._now() + VERIFIED_WITHIN_S
        while self._coordinator.is_verifying and self._error is None and not self.interrupted and self._now() < end_s:
            with self._condition:
                self._wait(self._condition, CHECK_INTERVAL_S)
        if isinstance(self._error, BatchesDiffer):
            raise self._error

    def _samples_at_fault(self) -> str:
        """Part of a sentence: the samples that a worker may hang at; '' if none is ready to work on them."""
        if not self._coordinator.fleet.ready:
            return ""
        planned = self.plan.at(self._position)
        samples = self._datasets.of(planned.training).samples(planned.indices)
        return "; its samples: " + name_list(sample.name for sample in samples)

    def _check_workers(self, waited_s: float) -> None:
        for trouble in filter(None, [group.trouble(self.fleet) for group in self._worker_groups]):
            raise RunFailed(trouble)
        report, options = self._coordinator.stall_report, self._options
        if waited_s > options.batch_timeout_s:
            raise RunFailed(report(waited_s, options.batch_timeout_s) + self._samples_at_fault())
        if min(waited_s, self._coordinator.without_workers_s()) > options.worker_timeout_s:
            raise RunFailed("%s; start workers with: %s" % (report(waited_s, options.worker_timeout_s),
                                                            self.worker_command))
