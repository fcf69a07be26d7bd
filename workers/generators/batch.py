"""Runs a batch function, which ``stoker.batch`` declares: one call for all samples of a lease."""

from __future__ import generator_stop

from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.functions import BatchFunction
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped
from stoker.pipeline.storage.folder import check_root
from stoker.workers.batch_memory import BatchMemory, empty, memory_of
from stoker.workers.generators.bad_files import cause_of
from stoker.workers.generators.calls import Calls, seeded
from stoker.workers.generators.output import Output, skipped_for
from stoker.workers.generators.pictures import readers_of
from stoker.workers.generators.rows import BatchRows, FunctionError, Misfit, as_array, cast_into, in_order, text_fields
from stoker.workers.generators.user_sample import UserSample


def call_for_batches(function: BatchFunction, leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """The batches that ``function`` makes, one call each. After an exception for which bad files are the cause, it is
    called again without them, with replacements in their places if the lease has some. Raises FunctionError if it
    breaks the rules or raises anything else."""
    check_root(job.data_root, job.probes)
    run = _Run(function, job)
    for lease in leases:
        yield run.output(lease)


class _Run:
    """The function in one job."""

    def __init__(self, function: BatchFunction, job: Job) -> None:
        self._function, self._job = function.__wrapped__, job      # type: ignore[attr-defined]
        self._readers, self._calls = readers_of(job), Calls(job.generator, job, function.setup)
        self._may_skip = function.may_skip

    def output(self, lease: Lease) -> Output:
        samples, replacements = tuple(lease.samples), tuple(lease.replacements)
        bad: Dict[int, Skipped] = {}
        while True:
            used = _used(samples, replacements, bad)
            if not used:
                return Output(BatchRows(self._job.arrays, 0).finished(), tuple(bad.values()), aligned=False)
            try:
                returned = self._call(used, lease)
                break
            except BaseException as error:     # also SystemExit: it is the function's, and must not end the worker
                found = self._found_bad(error, used)
                if not found:
                    raise self._calls.error(error, _place(lease), used) from error
                bad.update(found)
        self._calls.check_threads()
        try:
            arrays, count = _rows_of(in_order(returned, self._job.arrays, axes=1), self._job.arrays, len(used),
                                     memory_of(lease))
            if count < len(used) and not self._job.may_skip:
                remedy = ("the trainer does not know that it may, and must be able to import the same version of it"
                          if self._may_skip else "declare it with may_skip=True if it leaves some out")
                raise Misfit("it returned %d rows for %d samples: %s" % (count, len(used), remedy))
        except Misfit as error:
            raise self._error(str(error) + text_fields(error, used, self._job), lease) from None
        return Output(arrays, tuple(bad.values()), missing=len(used) - count, aligned=False)

    def _call(self, used: Sequence[Sample], lease: Lease) -> Any:
        number = self._calls.number(lease.epoch, lease.samples[0])      # the same, whichever of them are bad
        given = [UserSample(sample, lease.epoch, lease.training, self._calls.shared, self._job, self._readers)
                 for sample in used]
        return self._function(given, seeded(number))

    def _found_bad(self, error: BaseException, used: Sequence[Sample]) -> Dict[int, Skipped]:
        """The samples whose files are the cause of ``error``."""
        owner = getattr(error, "owner", None)          # of the file that one of its readers could not read
        if owner is not None:
            return {sample.index: skipped_for(sample, error) for sample in used if sample.index == owner}
        causes = ((sample, cause_of(error, sample, self._job)) for sample in used)
        return {sample.index: skipped_for(sample, cause) for sample, cause in causes if cause is not None}

    def _error(self, sentence: str, lease: Lease) -> FunctionError:
        return FunctionError("function %r, %s: %s" % (self._job.generator, _place(lease), sentence))


def _place(lease: Lease) -> str:
    """The batch in a sentence for people."""
    return "batch at position %d" % lease.position


def _used(samples: Sequence[Sample], replacements: Sequence[Sample], bad: Dict[int, Skipped]) -> List[Sample]:
    """The batch's samples, in order, if these are bad: as ``plan.produced_indices``."""
    good = (each for each in replacements if each.index not in bad)
    chosen = [next(good, None) if sample.index in bad else sample for sample in samples]
    return [sample for sample in chosen if sample is not None]


def _rows_of(values: Sequence[Any], specs: Tuple[ArraySpec, ...], most: int,
             memory: Optional[BatchMemory]) -> Tuple[Tuple[np.ndarray, ...], int]:
    """The arrays of ``framed(specs)`` and their length, at most ``most``. A list of arrays or pictures is an array too.
    """
    arrays: List[np.ndarray] = []
    sizes: List[np.ndarray] = []
    for value, spec in zip(values, specs):
        made = _column(value, spec, most, memory)
        arrays, sizes = arrays + [made[0]], sizes + list(made[1:])
        if len(made[0]) != len(arrays[0]):
            raise Misfit("array %r has %d rows, and %r has %d" % (spec.name, len(made[0]), specs[0].name,
                                                                  len(arrays[0])))
    return tuple(arrays + sizes), len(arrays[0])


def _column(value: Any, spec: ArraySpec, most: int, memory: Optional[BatchMemory]) -> Tuple[np.ndarray, ...]:
    try:
        rows: Optional[Sequence[Any]] = None
        if isinstance(value, (list, tuple)) and (
                spec.upto or value and isinstance(value[0], (np.ndarray, Image.Image))):
            rows = value
        else:
            value = as_array(value)
            if not value.ndim:
                raise Misfit("is a single number, must have a row for each of %d samples" % most)
            rows = value if spec.upto else None
        count = len(value)
        if count > most:
            raise Misfit("has %d rows for %d samples" % (count, most))
        if rows is None and count:
            made = empty(memory, spec.name, (count,) + spec.shape, spec.dtype)
            cast_into(made, value)
            return made,
    except Misfit as error:
        raise error.of(spec) from None
    builder = BatchRows((spec,), count, memory=memory)
    for place, row in enumerate(() if rows is None else rows):
        try:
            builder.put(place, (row,))
        except Misfit as error:
            raise Misfit("row %d: %s" % (place, error), error.text) from None
    return builder.finished()
