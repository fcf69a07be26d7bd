"""The data generators: from leases to arrays. Three are here, by name; ``workers/example.py`` shows a user's own.

A generator is a Python generator function that is handed an iterator of leases and the job, and yields exactly one
``Output`` for each lease, in order. It may keep what it likes between leases (an open file, a decoder), but what
it yields must depend on nothing but the lease and the job: any worker may be given any lease, and some are given
twice.
"""

from __future__ import generator_stop

import importlib
import inspect
import math
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.messages import MAX_REASON, Job, Lease, Sample, Skipped, sendable
from pipeline.plan import held, sample_random
from workers import images
from workers.cache import Cache


class Output(NamedTuple):
    """The batch of one lease."""

    arrays: Tuple[np.ndarray, ...]      # in the order of job.arrays, each [n, ...], samples in the lease's order
    skipped: Tuple[Skipped, ...] = ()   # the lease's bad samples, and the spares that were tried and are bad too


#: What this host has decoded before, if this process's own command line names a folder for it.
cache: Optional[Cache] = None

Generator = Callable[[Iterable[Lease], Job], Iterator[Output]]

#: The rule behind the labels of ``numerical``: the side of the plane with this normal through the cube's middle.
WEIGHTS = (3.0, -2.0, 1.0, 0.5, -0.5, -1.0, 2.0, -3.0, 1.5, -1.5)
#: ... except for this share of the records, which have the other label: nothing can be right more often than 0.9.
NOISE = 0.1


def numerical(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Generated records: features float32 [n, 10], uniform in 0..1, and binary labels int32 [n, 1].

    A record is a pure function of (job.seed, its number), the same in every epoch. Its label is 1 where
    ``sum(WEIGHTS * (features - 0.5)) > 0``, and with probability NOISE the opposite: logistic regression can learn
    it to an accuracy of nearly 0.9.
    """
    for lease in leases:
        records = [_record(job.seed, int(sample.path)) for sample in lease.samples]
        features = np.array([features for features, label in records], dtype=np.float32)
        labels = np.array([label for features, label in records], dtype=np.int32)
        yield Output((features.reshape(-1, len(WEIGHTS)), labels.reshape(-1, 1)))


def image(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Pictures: uint8 RGB [n, height, width, 3], and their labels int32 [n, 1]. Bad files are skipped,
    or replaced if the lease has spares."""
    images.check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=False)


def augmented(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """As ``image``; what is for training is varied as well, each sample differently in every epoch."""
    images.check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=lease.training)


BUILT_IN = {generator.__name__: generator for generator in (numerical, image, augmented)}


def batch_of(lease: Lease, job: Job, make: Callable[[Sample], Sequence[Any]]) -> Output:
    """The batch of ``lease``; ``make(sample)`` gives the sample's own row for each of ``job.arrays``.

    A sample for which it raises BadImage is skipped, or replaced by the next of the lease's spares that is none.
    Raises ValueError if there are not as many rows, or one has not the shape or range that the job says; TypeError if
    its type does not fit at all, as floats for integers.
    """
    def put(rows: Sequence[np.ndarray], sample: Sample) -> None:
        made = make(sample)
        if len(made) != len(rows):
            raise ValueError("generator %r, sample %r: %d rows, must be %d: %s" % (
                job.generator, sample.path, len(made), len(rows), ", ".join(spec.name for spec in job.arrays)))
        for row, value, spec in zip(rows, made, job.arrays):
            if np.shape(value) != tuple(spec.shape):
                raise ValueError("generator %r, sample %r: %r is of shape %s, must be %s" % (
                    job.generator, sample.path, spec.name, list(np.shape(value)), list(spec.shape)))
            np.copyto(row, value, casting="same_kind")
            if getattr(value, "dtype", None) != row.dtype and row.dtype.kind in "iu" and (row != value).any():
                raise ValueError("generator %r, sample %r: %r has values beyond %s"
                                 % (job.generator, sample.path, spec.name, spec.dtype))
    return _filled(lease, job, put)


def _filled(lease: Lease, job: Job, put: Callable[[Sequence[np.ndarray], Sample], None]) -> Output:
    """The batch of ``lease``; ``put`` writes a sample into its row of each array, or raises BadImage."""
    arrays = tuple(np.empty((len(lease.samples),) + tuple(spec.shape), spec.dtype) for spec in job.arrays)
    skipped: List[Skipped] = []

    def is_put(place: int, sample: Sample) -> bool:
        try:
            put([array[place, ...] for array in arrays], sample)     # views also of what is a single number
        except images.BadImage as error:
            skipped.append(Skipped(sample.index, str(error)))
            return False
        return True

    missing = [place for place, sample in enumerate(lease.samples) if not is_put(place, sample)]
    spares = iter(lease.spares)
    missing = [place for place in missing if not any(is_put(place, spare) for spare in spares)]
    if missing:
        arrays = tuple(np.delete(array, missing, axis=0) for array in arrays)
    return Output(arrays, tuple(skipped))


def find(name: str, allowed: Sequence[str]) -> Generator:
    """The generator called ``name``: one of the three, or the user's 'module:function' if it is in ``allowed``.

    Names come from the trainer, over the network; importing runs code. So this worker's own command line says what
    may be imported. Raises ConfigError if there is no such generator here, or it is not allowed.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ConfigError("generator %r: is none of %s, and not of the form module:function"
                          % (name, ", ".join(BUILT_IN)))
    if name not in allowed:
        raise ConfigError("generator %r: this worker does not allow it (allowed: %s); start the worker with "
                          "--allow-generator %s" % (name, ", ".join(allowed) or "none", name))
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the user's module does when it is imported
        raise ConfigError("generator %r: importing %s on this worker failed: %s: %s"
                          % (name, module, type(error).__name__, error)) from error
    if found is None:
        raise ConfigError("generator %r: the module %s has no %s" % (name, module, function))
    if not inspect.isgeneratorfunction(found):
        raise ConfigError("generator %r: %s is no generator function (a def with a yield in it, which is handed "
                          "leases and a job) but a %s" % (name, function, type(found).__name__))
    return found


def check(output: Output, lease: Lease, job: Job) -> Output:
    """``output`` with arrays that are C-contiguous and nobody else's, if it is the batch of ``lease``.

    Raises ValueError with what is wrong if it is not.
    """
    subject = "generator %r, batch at position %d: " % (job.generator, lease.position)
    if not isinstance(output, Output):
        raise ValueError(subject + "yielded a %s, must be an Output(arrays, skipped)" % type(output).__name__)
    if not isinstance(output.arrays, (tuple, list)) or len(output.arrays) != len(job.arrays):
        count = len(output.arrays) if isinstance(output.arrays, (tuple, list)) else type(output.arrays).__name__
        raise ValueError(subject + "arrays are %s, must be a tuple of %d: %s"
                         % (count, len(job.arrays), ", ".join(spec.name for spec in job.arrays)))
    counts = set()
    for array, spec in zip(output.arrays, job.arrays):
        name = subject + "%r " % spec.name
        if not isinstance(array, np.ndarray):
            raise ValueError(name + "is a %s, must be a numpy array" % type(array).__name__)
        if array.dtype != np.dtype(spec.dtype):
            raise ValueError(name + "is of dtype %s, must be %s" % (array.dtype, spec.dtype))
        if array.ndim == 0 or array.shape[1:] != tuple(spec.shape):
            raise ValueError(name + "is of shape %s, must be [%s]"
                             % (list(array.shape), ", ".join(map(str, ("n",) + tuple(spec.shape)))))
        counts.add(len(array))
    if len(counts) > 1:
        raise ValueError(subject + "the arrays are of different lengths: %s"
                         % ", ".join("%r %d" % (spec.name, len(array))
                                     for array, spec in zip(output.arrays, job.arrays)))
    _check_skipped(output.skipped, lease, subject)
    count, = counts
    own, spares = ([sample.index for sample in samples] for samples in (lease.samples, lease.spares))
    if held(own, spares, [item.index for item in output.skipped], count) is None:
        raise ValueError(subject + "%d samples and %d skipped, must be %d together, for so many are in the lease%s"
                         % (count, len(output.skipped), len(own), spares and " (with %d spares in place of bad ones: "
                            "generators.batch_of sees to that)" % len(spares) or ""))
    # copied: ZeroMQ sends them later, and a user's generator may fill the same array again by then
    return Output(tuple(np.array(array, order="C", copy=job.generator not in BUILT_IN or not array.flags.c_contiguous)
                        for array in output.arrays),
                  tuple(Skipped(item.index, sendable(item.reason, MAX_REASON)) for item in output.skipped))


def _check_skipped(skipped: Sequence[Skipped], lease: Lease, subject: str) -> None:
    if not isinstance(skipped, (tuple, list)):
        raise ValueError(subject + "skipped is a %s, must be a tuple of Skipped" % type(skipped).__name__)
    left = {sample.index for sample in lease.samples + lease.spares}
    for item in skipped:
        if not (isinstance(item, Skipped) and isinstance(item.index, int) and isinstance(item.reason, str)):
            raise ValueError(subject + "skipped holds %r, must be Skipped(sample.index, 'why')" % (item,))
        if item.index not in left:
            raise ValueError(subject + "skipped the sample %d, which is not in the lease or was skipped before"
                             % item.index)
        left.remove(item.index)


def _pictures(lease: Lease, job: Job, augment: bool) -> Output:
    kept = cache if cache is not None and cache.use(job) else None

    def put(rows: Sequence[np.ndarray], sample: Sample) -> None:
        place = images.resolve(job.data_root, sample.path, job.follow_links)
        pixels, label = rows
        picture = None
        if kept is None:
            picture = images.load(place, job.height_width, job.decode, job.exif_rotate)
        elif not kept.get(place, pixels):
            data, status = images.read(place)
            picture = images.decoded(data, job.height_width, job.decode, job.exif_rotate)
            kept.put(place, status, picture.tobytes(), sample.index)
        if augment:
            picture = images.augment(picture or Image.fromarray(pixels),
                                     sample_random(job.seed, lease.epoch, sample.index))
        if picture is not None:
            pixels[:] = np.frombuffer(picture.tobytes(), np.uint8).reshape(pixels.shape)
        label[:] = sample.label
    return _filled(lease, job, put)


def _record(seed: int, number: int) -> Tuple[List[float], int]:
    # random.random() and fsum give the same bits everywhere; sum() of floats does not since Python 3.12.
    random = sample_random(seed, 0, number)
    features = [random.random() for _ in WEIGHTS]
    side = math.fsum(weight * (feature - 0.5) for weight, feature in zip(WEIGHTS, features)) > 0
    return features, int(side != (random.random() < NOISE))
