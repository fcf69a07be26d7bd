"""Output: the batch of one lease. ``batch_of`` makes it sample by sample, ``check`` compares it with the job."""

from __future__ import generator_stop

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec, framed
from stoker.pipeline.functions import Skip
from stoker.pipeline.plan import produced_indices
from stoker.pipeline.protocol.messages import (
    MAX_REASON, MAX_SKIPPED_PATH, Job, Lease, Sample, Skipped, sendable)
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.batch_memory import BatchMemory, compacted, empty, memory_of
from stoker.workers.generators.rows import BatchRows, FunctionError, Misfit, is_of, named
from stoker.workers.generators.user_sample import name_of


class Output(NamedTuple):
    """The batch of one lease. Example: ``stoker.Output((pixels, labels))``."""
    arrays: Tuple[np.ndarray, ...]      # of framed(job.arrays), in order, each [n, ...], samples in the lease's order
    skipped: Tuple[Skipped, ...] = ()   # the lease's bad samples, and those of its replacements that were bad too
    rows: Tuple[int, ...] = ()          # of each sample in the arrays, if one sample may make several; (): one each
    missing: int = 0                    # samples that a batch function left out without saying which
    aligned: bool = True                # rows are in the lease's order; those of a batch function may be in any


Put = Callable[[int, Sample], None]                    # puts a sample into a place, or raises BadFile or Skip
Judge = Callable[[int, Sample], Optional[Skipped]]     # the same, or tells why the sample is left out
_of_last: List[Any] = [(), []]      # see ``_expected``


def batch_of(lease: Lease, job: Job, make: Callable[[Sample], Sequence[Any]]) -> Output:
    """The batch of ``lease``; ``make(sample)`` returns one row for each of ``job.arrays``. Example:
    ``stoker.batch_of(lease, job, lambda sample: (pixels_of(sample), [sample.label]))``.

    A sample for which it raises BadFile or Skip is skipped, or replaced by the lease's next good replacement. Where a
    side of an array is an UpTo, rows are padded to the longest, and the true sizes follow as an array of their own.
    Raises ValueError if the number of rows, a row's shape or its values do not fit the job: a dtype may be another if
    nothing is lost.
    """
    rows = BatchRows(job.arrays, len(lease.samples), memory=memory_of(lease))

    def put(place: int, sample: Sample) -> None:
        made = make(sample)
        rows.clear(place)
        try:
            if len(made) != len(job.arrays):
                raise Misfit("%d rows, must be %d: %s" % (len(made), len(job.arrays), named(job.arrays)))
            rows.put(place, made)
        except Misfit as error:
            raise FunctionError("generator %r, %s: %s" % (job.generator, name_of(sample), error)) from None
    content, skipped = filled(lease, judged(put))
    return Output(rows.finished(places_of(content)), skipped)


def fill_batch(lease: Lease, job: Job, into: "Callable[[Tuple[np.ndarray, ...]], Optional[Put]]") -> Output:
    """The batch of ``lease``. ``into(arrays)`` returns what writes a sample into its place of each array, or raises
    BadFile or Skip; None if it has written all of them. All arrays of ``job`` have fixed shapes."""
    memory = memory_of(lease)
    arrays = tuple([empty(memory, spec.name, (len(lease.samples),) + spec.shape, spec.dtype) for spec in job.arrays])
    put = into(arrays)
    if put is None:
        return Output(arrays)
    content, skipped = filled(lease, judged(put))
    places = places_of(content)
    return Output(arrays if places is None else tuple([compacted(array, places) for array in arrays]), skipped)


def judged(put: Put) -> Judge:
    """``put``, with BadFile and Skip as what it returns."""
    def judge(place: int, sample: Sample) -> Optional[Skipped]:
        try:
            put(place, sample)
        except (BadFile, Skip) as error:
            return skipped_for(sample, error)
        return None
    return judge


def filled(lease: Lease, judge: Judge) -> Tuple[List[Optional[Sample]], Tuple[Skipped, ...]]:
    """Puts the lease's samples into the places of its batch, and replacements into those of bad ones, as
    ``plan.produced_indices`` says. Returns the sample in each place, None where none is left, and the bad ones. An
    index that occurs several times is bad in all its places, even if it is bad in one only."""
    bad: Dict[int, Skipped] = {}
    known = {skip.index: skip for skip in lease.known}

    def is_put(place: int, sample: Sample) -> bool:
        if sample.index in bad:
            return False
        skipped = known.get(sample.index) or judge(place, sample)
        if skipped is not None:
            bad[sample.index] = skipped
        return skipped is None

    own = [sample if is_put(place, sample) else None for place, sample in enumerate(lease.samples)]
    content = list(own)
    is_final = not bad
    while not is_final:
        good = iter(lease.replacements)
        for place, sample in enumerate(own):
            if sample is None or sample.index in bad:
                content[place] = next((each for each in good if each.index not in bad and (
                    each is content[place] or is_put(place, each))), None)
        # only if an index occurs several times, one that is in a place already can turn out to be bad in another
        is_final = not any(sample is not None and sample.index in bad for sample in content)
    return content, tuple(bad.values())


def skipped_for(sample: Sample, error: BaseException) -> Skipped:
    """That ``sample`` is left out because of ``error``, a BadFile or a Skip."""
    if isinstance(error, Skip):
        return Skipped(sample.index, " ".join(str(error).split()) or "no reason given", chosen=True)
    path = getattr(error, "path", "")
    return Skipped(sample.index, str(error), "" if path == sample.path else path)


def places_of(content: Sequence[Optional[Sample]]) -> Optional[List[int]]:
    """The places that have a sample; None if all have."""
    return [place for place, sample in enumerate(content) if sample is not None] if None in content else None


def _require(subject: str, right: bool, sentence: str, *values: Any) -> None:
    if not right:
        raise FunctionError(subject + sentence % values)


def _whole(value: Any) -> Any:
    """A whole number of numpy as an int; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def check(output: Output, lease: Lease, job: Job, fresh: bool = False, memory: Optional[BatchMemory] = None) -> Output:
    """``output`` with C-contiguous arrays that the generator does not use again; ``fresh``: it never does. With
    ``memory``, they lie there. Raises ValueError, which says why, if it is not a batch of ``lease``."""
    if not (isinstance(output, Output) and _is_plain(output, lease, job)):      # else all that follows is right
        output = _checked(output, lease, job)
    arrays, skipped, rows, missing, aligned = output
    # copied, since ZeroMQ sends them later, and a user's generator may fill the same array again by then; a bool may be
    # another byte than 0 and 1, if it is a view of other numbers
    return Output(memory.placed(arrays) if memory is not None else tuple(
                      np.array(np.not_equal(array, False), order="C") if array.dtype == np.bool_ and not fresh
                      else np.array(array, order="C", copy=not fresh or not array.flags.c_contiguous)
                      for array in arrays),
                  tuple(skipped), tuple(rows), missing, bool(aligned))


def _is_plain(output: Output, lease: Lease, job: Job) -> bool:
    """It is what most are: a row of each sample in each array, and nothing to tell of."""
    arrays, skipped, rows, missing, _ = output
    expected = _expected(job.arrays)
    if type(arrays) is not tuple or type(skipped) is not tuple or type(rows) is not tuple or len(arrays) != len(
            expected) or skipped or rows or type(missing) is not int or missing:
        return False
    count = len(lease.samples)
    for array, (dtype, shape) in zip(arrays, expected):
        if type(array) is not np.ndarray or array.dtype != dtype or shape is None or array.shape != (count,) + shape:
            return False
    return True


def _expected(arrays: Tuple[ArraySpec, ...]) -> List[Tuple["np.dtype[Any]", Optional[Tuple[int, ...]]]]:
    """The dtype and the shape of a row of each array; None if it differs from batch to batch."""
    if _of_last[0] is not arrays:       # a worker makes many batches of one job
        _of_last[:] = arrays, [(np.dtype(spec.dtype), None if spec.upto else spec.shape) for spec in framed(arrays)]
    expected: List[Tuple["np.dtype[Any]", Optional[Tuple[int, ...]]]] = _of_last[1]
    return expected


def _checked(output: Output, lease: Lease, job: Job) -> Output:
    """``output``, with its numbers as Python's. Raises ValueError."""
    require = partial(_require, "generator %r, batch at position %d: " % (job.generator, lease.position))
    require(isinstance(output, Output), "yielded a %s, must be an Output(arrays, skipped)", type(output).__name__)
    arrays, skipped, rows, missing, aligned = output
    require(isinstance(arrays, (tuple, list)), "arrays are a %s, must be a tuple", type(arrays).__name__)
    specs = framed(job.arrays)
    require(len(arrays) == len(specs), "yielded %d arrays, must be %d: %s", len(arrays), len(specs),
            ", ".join(spec.name for spec in specs))
    for array, spec in zip(arrays, specs):
        name, dtype, shape = spec.name, spec.dtype, spec.shape
        require(isinstance(array, np.ndarray), "%r is a %s, must be a numpy array", name, type(array).__name__)
        require(array.dtype == np.dtype(dtype), "%r is of dtype %s, must be %s", name, array.dtype, dtype)
        require(array.ndim > 0 and is_of(array.shape[1:], shape), "%r is of shape %s, must be [%s]", name,
                list(array.shape), ", ".join(["n"] + [repr(side) for side in shape]))
    count = len(arrays[0])
    require(all(len(array) == count for array in arrays), "the arrays are of different lengths: %s",
            ", ".join("%r %d" % (spec.name, len(array)) for array, spec in zip(arrays, specs)))
    sizes = iter(arrays[len(job.arrays):])
    for array, spec in zip(arrays, job.arrays):
        if spec.upto and count:
            true = next(sizes).reshape(count, -1)
            longest, padded = true.max(axis=0).tolist(), [array.shape[1 + axis] for axis in spec.upto]
            require(longest == padded and true.min() >= 0, "%r has sides of %s, must be padded to its longest sample, "
                    "which is %s by its sizes", spec.name, padded, longest)
    if isinstance(rows, (tuple, list)):
        rows = tuple(_whole(each) for each in rows)
    missing = _whole(missing)
    require(isinstance(rows, tuple) and all(type(each) is int and 1 <= each <= job.rows for each in rows)
            and (not rows or sum(rows) == count), "rows are %r, must be 1 to %d for each sample, %d together", rows,
            job.rows, count)
    require(type(missing) is int and (missing == 0 or missing > 0 and job.may_skip),
            "missing is %r, must be 0 unless the function is declared with may_skip=True", missing)
    require(isinstance(skipped, (tuple, list)), "skipped is a %s, must be a tuple of Skipped", type(skipped).__name__)
    own, replacements = ([sample.index for sample in samples] for samples in (lease.samples, lease.replacements))
    left = set(own + replacements)
    skipped = tuple(item._replace(index=_whole(item.index)) if isinstance(item, Skipped) else item for item in skipped)
    for item in skipped:
        require(isinstance(item, Skipped) and isinstance(item.index, int) and isinstance(item.reason, str)
                and isinstance(item.path, str), "skipped holds %r, must be Skipped(sample.index, 'why')", item)
        require(item.index in left, "skipped the sample %d, which is not in the lease or was skipped before",
                item.index)
        left.remove(item.index)
    used = len(rows) if rows else count + missing
    require(produced_indices(own, replacements, [item.index for item in skipped], used) is not None,
            "%d samples and %d skipped, must be %d together, as many as are in the lease%s", used, len(skipped),
            len(own), " (it has %d replacements for bad samples: use generators.output.batch_of)" % len(replacements)
            if replacements else "")
    return Output(tuple(arrays), tuple(
        Skipped(int(item.index), sendable(item.reason, MAX_REASON), sendable(item.path, MAX_SKIPPED_PATH),
                bool(item.chosen), item in lease.known) for item in skipped), rows, missing, aligned)
