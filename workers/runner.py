"""Answers leases: each one exactly once, with its batch or with what went wrong. Before the first one, it finds out
whether this worker can do the job at all: whether it has the folder, and can import the user's function."""

import time
from dataclasses import replace
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

from stoker.pipeline.errors import StokerError, UnfitWorker
from stoker.pipeline.protocol.messages import Job, Lease, Remark, Sample, Skipped, Timings
from stoker.pipeline.user_errors import line_of, sentence_of, traceback_of
from stoker.workers import remarks, stopwatch
from stoker.workers.batch_memory import BatchMemory, SlotLease
from stoker.workers.effects import Check, Work
from stoker.workers.generators.output import Output, check
from stoker.workers.generators.registry import Producer
from stoker.workers.generators.rows import BatchRows, FunctionError, SetupFailed
from stoker.workers.generators.user_sample import name_of
from stoker.workers.heap import Heap
from stoker.workers.quarantine import Hopeless, Quarantined
from stoker.workers.shortage import is_shortage
from stoker.workers.unreadable import unreadable


class Finished(NamedTuple):
    """The answer to a lease, from the main thread to the socket's: an output, or what went wrong."""
    lease: Lease
    output: Optional[Output]
    error: str = ""
    traceback: str = ""
    sample: str = ""         # name of the sample that the generator was at, if ``error`` does not say it
    produce_s: float = 0.0
    timings: Timings = Timings()
    remarks: Tuple[Remark, ...] = ()     # about pictures in the batch
    unreadable: Tuple[Skipped, ...] = ()     # the sample whose file had an I/O error
    is_unfit: bool = False   # ``error`` is no fault of the lease: this worker cannot do the job
    is_hopeless: bool = False    # no sample can be made, whichever it is
    is_starved: bool = False     # there was no memory
    memory: Optional[BatchMemory] = None     # in which the arrays of ``output`` are


class Checked(NamedTuple):
    """The answer to a Check."""
    run: str
    reason: str              # why this worker cannot do the job; '' if it can
    traceback: str = ""
    trainer: int = 0         # of its Check


class _TrackedSamples(tuple):  # type: ignore[type-arg]    # Python 3.6 knows no tuple[Sample, ...]
    """Samples that remember which of them the generator is at."""
    current: Optional[Sample] = None    # None also when it has taken all: it may take all before it opens the first

    def __iter__(self) -> Iterator[Sample]:
        for sample in super().__iter__():
            self.current = sample
            yield sample
        self.current = None


def answer_leases(next_item: Callable[[], Union[Check, Work, None]], finish: Callable[[Union[Finished, Checked]], None],
                  make: Callable[[Job], Producer], isolate: Callable[[Job, Lease], Quarantined],
                  resume: Callable[[Job], None] = lambda job: None, most: int = 1) -> None:
    """Does each ``next_item`` until None comes, and answers it through ``finish``. ``make`` is called for each job, and
    again after a failure; up to ``most`` producers are kept, for jobs of several trainers. ``resume`` is called when
    another one than the last is used again. ``isolate`` tests a lease in quarantine."""
    producer: Optional[Producer] = None
    others: List[Producer] = []          # the one that was used last is the last
    heap = Heap()
    while True:
        item = next_item()
        if item is None:
            break
        start_s, job = time.monotonic(), item.job
        if producer is not None and job != producer.job:
            others.append(producer)
            producer = None
        if producer is None and others:
            producer = next((one for one in others if one.job == job), None)
            if producer is not None:
                others.remove(producer)
                resume(job)
            while len(others) >= most:
                others.pop(0).finish()
        if isinstance(item, Check):
            try:
                producer = producer or _opened(make, job)
                finish(Checked(item.run, "", "", item.trainer))
            except UnfitWorker as error:
                finish(Checked(item.run, str(error), _import_traceback(error), item.trainer))
            continue
        lease = item.lease
        stopwatch.take()                 # drops the time that a failed lease took, and what was remarked in it
        remarks.take()
        try:
            handed, bad = isolate(job, lease) if lease.isolated else Quarantined(lease, ())
            producer = producer or _opened(make, job)
            made = (_produced(producer, handed, item.memory if producer.makes_fresh else None) if handed.samples
                    else Output(BatchRows(job.arrays, 0).finished()))
            output = check(made, handed, job, producer.makes_fresh, item.memory)
            answer = Finished(lease, output._replace(skipped=output.skipped + bad),
                              produce_s=time.monotonic() - start_s, timings=stopwatch.take(),
                              remarks=remarks.take(), memory=item.memory)
        except Exception as error:
            producer = None              # closes its generator
            cause = error.__cause__ if isinstance(error, FunctionError) else error
            text, trace = str(error) if isinstance(error, StokerError) else sentence_of(error), ""
            is_unfit = isinstance(error, (UnfitWorker, SetupFailed)) or isinstance(cause, UnfitWorker)
            if isinstance(error, UnfitWorker):
                trace = _import_traceback(error)
            elif cause is not None and not isinstance(cause, StokerError):      # its sentence says all
                trace = traceback_of(cause)
            answer = Finished(lease, None, text, trace, getattr(error, "sample", ""), is_unfit=is_unfit,
                              unreadable=unreadable(error, lease, job),
                              is_hopeless=isinstance(error, Hopeless), is_starved=is_shortage(error))
        finish(answer)
        if item.memory is not None:
            item.memory.let_go()
        batch_bytes = sum(array.nbytes for array in answer.output.arrays) if answer.output else 0
        made = output = answer = item = None    # type: ignore[assignment]
        heap.settle(time.monotonic() - start_s, batch_bytes)
    for each in others + [producer] if producer is not None else others:
        each.finish()


def _opened(make: Callable[[Job], Producer], job: Job) -> Producer:
    """``make(job)``. Raises UnfitWorker for all that it raises: no lease has to do with it."""
    try:
        return make(job)
    except UnfitWorker:
        raise
    except Exception as error:
        raise UnfitWorker(str(error) if isinstance(error, StokerError) else sentence_of(error)) from error


def _import_traceback(error: BaseException) -> str:
    """The traceback of what the user's module raised when it was imported; '' if its sentence says all."""
    while isinstance(error, StokerError) and error.__cause__ is not None:
        error = error.__cause__
    is_own = not isinstance(error, (StokerError, ModuleNotFoundError)) and line_of(error) is not None
    return traceback_of(error) if is_own else ""


def _produced(producer: Producer, lease: Lease, memory: Optional[BatchMemory]) -> Output:
    """The generator's output, which one of Stoker's makes in ``memory``. Raises FunctionError for what it raises; an
    error of Stoker's gets the attribute ``sample``, the name of the sample that the generator was at, unless it is in
    its sentence."""
    samples, replacements = _TrackedSamples(lease.samples), _TrackedSamples(lease.replacements)
    try:
        return producer.produce(SlotLease(**dict(vars(lease), samples=samples, replacements=replacements,
                                                 memory=memory)) if memory is not None else
                                replace(lease, samples=samples, replacements=replacements))
    except BaseException as error:                # also SystemExit: it is the generator's, and must not end the worker
        at = samples.current or replacements.current
        if not isinstance(error, StokerError):
            raise FunctionError("generator %r%s: %s" % (
                producer.job.generator, "" if at is None else ", " + name_of(at), sentence_of(error))) from error
        if at is not None and repr(at.name)[1:-1] not in str(error):
            error.sample = at.name      # type: ignore[attr-defined]
        raise
