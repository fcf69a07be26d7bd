"""Output: the batch of one lease. ``batch_of`` makes it sample by sample, ``check`` compares it with the job."""

from __future__ import generator_stop

from functools import partial
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

from stoker.pipeline.options import GENERATORS
from stoker.pipeline.plan import produced_indices
from stoker.pipeline.protocol.messages import MAX_REASON, Job, Lease, Sample, Skipped, sendable
from stoker.pipeline.storage.folder import BadFile


class Output(NamedTuple):
    """The batch of one lease. Example: ``stoker.Output((pixels, labels))``."""
    arrays: Tuple[np.ndarray, ...]      # in the order of job.arrays, each [n, ...], samples in the lease's order
    skipped: Tuple[Skipped, ...] = ()   # the lease's bad samples, and those of its replacements that were bad too
    rows: Tuple[int, ...] = ()          # of each sample in the arrays, if one sample may make several; (): one each
    missing: int = 0                    # samples that a batch function left out without saying which


def _require(subject: str, right: bool, sentence: str, *values: Any) -> None:
    if not right:
        raise ValueError(subject + sentence % values)


def batch_of(lease: Lease, job: Job, make: Callable[[Sample], Sequence[Any]]) -> Output:
    """The batch of ``lease``; ``make(sample)`` returns one row for each of ``job.arrays``. Example:
    ``stoker.batch_of(lease, job, lambda sample: (pixels_of(sample), [sample.label]))``.

    A sample for which it raises BadFile is skipped, or replaced by the lease's next good replacement. Raises ValueError
    if the number of rows, a row's shape or its values do not fit the job; TypeError if its type does not, such as
    floats for integers.
    """
    names = ", ".join(spec.name for spec in job.arrays)

    def put(rows: Sequence[np.ndarray], sample: Sample) -> None:
        made = make(sample)
        require = partial(_require, "generator %r, sample %r: " % (job.generator, sample.path))
        require(len(made) == len(rows), "%d rows, must be %d: %s", len(made), len(rows), names)
        for row, value, spec in zip(rows, made, job.arrays):
            require(np.shape(value) == tuple(spec.shape), "%r is of shape %s, must be %s", spec.name,
                    list(np.shape(value)), list(spec.shape))
            np.copyto(row, value, casting="same_kind")
            cast = getattr(value, "dtype", None) != row.dtype and row.dtype.kind in "iu"
            require(not (cast and (row != value).any()), "%r has values beyond %s", spec.name, spec.dtype)
    return fill_batch(lease, job, put)


def fill_batch(lease: Lease, job: Job, put: Callable[[Sequence[np.ndarray], Sample], None]) -> Output:
    """The batch of ``lease``; ``put`` writes a sample into its row of each array, or raises BadFile."""
    arrays = tuple(np.empty((len(lease.samples),) + tuple(spec.shape), spec.dtype) for spec in job.arrays)
    skipped: List[Skipped] = []

    def is_put(i: int, sample: Sample) -> bool:
        try:
            put([array[i, ...] for array in arrays], sample)     # with the dots, a single number is a view too
        except BadFile as error:
            skipped.append(Skipped(sample.index, str(error)))
            return False
        return True

    missing = [i for i, sample in enumerate(lease.samples) if not is_put(i, sample)]
    replacements = iter(lease.replacements)
    missing = [i for i in missing if not any(is_put(i, replacement) for replacement in replacements)]
    if missing:
        arrays = tuple(np.delete(array, missing, axis=0) for array in arrays)
    return Output(arrays, tuple(skipped))


def check(output: Output, lease: Lease, job: Job) -> Output:
    """``output`` with C-contiguous arrays that the generator does not use again. Raises ValueError, which says why, if
    it is not a batch of ``lease``."""
    require = partial(_require, "generator %r, batch at position %d: " % (job.generator, lease.position))
    require(isinstance(output, Output), "yielded a %s, must be an Output(arrays, skipped)", type(output).__name__)
    arrays, skipped = output
    require(isinstance(arrays, (tuple, list)), "arrays are a %s, must be a tuple", type(arrays).__name__)
    require(len(arrays) == len(job.arrays), "yielded %d arrays, must be %d: %s", len(arrays), len(job.arrays),
            ", ".join(spec.name for spec in job.arrays))
    for array, spec in zip(arrays, job.arrays):
        name, dtype, shape = spec.name, spec.dtype, tuple(spec.shape)
        require(isinstance(array, np.ndarray), "%r is a %s, must be a numpy array", name, type(array).__name__)
        require(array.dtype == np.dtype(dtype), "%r is of dtype %s, must be %s", name, array.dtype, dtype)
        require(array.ndim > 0 and array.shape[1:] == shape, "%r is of shape %s, must be [%s]", name,
                list(array.shape), ", ".join(map(str, ("n",) + shape)))
    count = len(arrays[0])
    require(all(len(array) == count for array in arrays), "the arrays are of different lengths: %s",
            ", ".join("%r %d" % (spec.name, len(array)) for array, spec in zip(arrays, job.arrays)))
    require(isinstance(skipped, (tuple, list)), "skipped is a %s, must be a tuple of Skipped", type(skipped).__name__)
    own, replacements = ([sample.index for sample in samples] for samples in (lease.samples, lease.replacements))
    left = set(own + replacements)
    for item in skipped:
        require(isinstance(item, Skipped) and isinstance(item.index, int) and isinstance(item.reason, str),
                "skipped holds %r, must be Skipped(sample.index, 'why')", item)
        require(item.index in left, "skipped the sample %d, which is not in the lease or was skipped before",
                item.index)
        left.remove(item.index)
    require(produced_indices(own, replacements, [item.index for item in skipped], count) is not None,
            "%d samples and %d skipped, must be %d together, as many as are in the lease%s", count, len(skipped),
            len(own), " (it has %d replacements for bad samples: use generators.output.batch_of)" % len(replacements)
            if replacements else "")
    # copied, since ZeroMQ sends them later, and a user's generator may fill the same array again by then
    return Output(tuple(np.array(array, order="C", copy=job.generator not in GENERATORS or not array.flags.c_contiguous)
                        for array in arrays),
                  tuple(Skipped(item.index, sendable(item.reason, MAX_REASON)) for item in skipped))
