"""The generators ``image`` and ``augmented``: pictures of a folder, decoded and resized.

``generators/example.py`` explains what a generator is, and shows a user's own.
"""

from __future__ import generator_stop

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple, Type

import numpy as np
from PIL import Image

from stoker.pipeline.functions import Skip
from stoker.pipeline.plan import sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import BadFile, check_access, check_root, resolver
from stoker.workers import images, remarks
from stoker.workers.cache import Cache, CachedKind
from stoker.workers.generators.calls import Calls, seeded
from stoker.workers.generators.output import Output, Put, fill_batch
from stoker.workers.generators.rows import FunctionError, described
from stoker.workers.picture_limits import one_timer
from stoker.workers.readers import Readers
from stoker.workers.stopwatch import timed


@dataclass(frozen=True)
class CachedJob(Job):
    """A job as a worker process with a cache hands it to a generator. A user's generator that calls ``image`` passes it
    on, and so uses the cache too."""
    cache: Optional[Cache] = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> Tuple[Type[Job], Tuple[Any, ...]]:
        """A copy, or one that is sent to another process, is the job without the cache."""
        return Job, tuple(getattr(self, name) for name in Job.__dataclass_fields__)


def with_cache(job: Job, cache: Optional[Cache]) -> Job:
    """``job`` with the cache in which this process keeps decoded pictures, if any."""
    return job if cache is None else CachedJob(**dict(vars(job), cache=cache))


def readers_of(job: Job) -> Readers:
    """What a user's function reads the files of ``job`` with."""
    return Readers(job, job.cache if isinstance(job, CachedJob) else None)


#: Makes another picture of a sample's.
Vary = Callable[[Image.Image, Lease, Sample], Image.Image]


def image(leases: Iterable[Lease], job: Job, vary: Optional[Callable[..., Any]] = None) -> Iterator[Output]:
    """Pictures, uint8 RGB [n, height, width, 3], and their labels, int32 [n, 1], if they have some. Bad files are
    skipped, or replaced if the lease has replacements. ``vary``: the user's function ``job.augment``, which gets each
    resized picture for training, and random numbers, and returns a picture."""
    check_root(job.data_root, job.probes)
    user = None if vary is None else _Augmentation(vary, job)
    for lease in leases:
        yield _pictures(lease, job, user.vary if user is not None and lease.training else None, user is None)


def augmented(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """As ``image``; pictures for training are also augmented, each sample differently in every epoch."""
    def vary(picture: Image.Image, lease: Lease, sample: Sample) -> Image.Image:
        return images.augment(picture, sample_random(job.seed, lease.epoch, sample.index, sample.repeat))

    check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, vary if lease.training else None)


def _pictures(lease: Lease, job: Job, vary: Optional[Vary], is_ours: bool = True) -> Output:
    """``is_ours``: ``vary`` is Stoker's code."""
    cache = job.cache.kind(job.height_width, job.decode, job.exif_rotate) if isinstance(
        job, CachedJob) and job.cache is not None else None
    with ExitStack() as stack:
        if cache is not None:
            stack.enter_context(cache.one_look())
        if is_ours:
            stack.enter_context(one_timer())
        return fill_batch(lease, job, lambda arrays: _put_pictures(arrays, lease, job, cache, vary))


def _put_pictures(arrays: Tuple[np.ndarray, ...], lease: Lease, job: Job, cache: Optional[CachedKind],
                  vary: Optional[Vary]) -> Optional[Put]:
    """What puts a sample into its place of ``arrays``; None if all were in the cache, and are there."""
    size, decode, exif_rotate = job.height_width, job.decode, job.exif_rotate
    located = resolver(job.data_root, job.follow_links)
    pixels, labels, row_bytes = arrays[0], arrays[1:], 3 * size[0] * size[1]
    flat = memoryview(pixels.reshape(-1))
    own = lease.samples[:]
    for array in labels:                # at once: one by one takes ten times as long
        array[:] = np.array([sample.label for sample in own]).reshape((-1,) + (1,) * (array.ndim - 1))

    copied = frozenset(() if cache is None else cache.get_all(
        job.data_root, job.follow_links, [sample.path for sample in own], pixels))
    if len(copied) == len(own) and vary is None and not lease.known:
        return None

    def put(place: int, sample: Sample) -> None:
        path = located(sample.path)
        picture = None
        try:
            if place in copied and sample is own[place]:
                pass
            elif cache is None:
                picture = images.load(path, size, decode, exif_rotate)
            elif not cache.get(path, pixels[place]):
                data, status = images.read(path, keep=False)
                before = remarks.count()
                picture = images.decoded(data, size, decode, exif_rotate, sample.path)
                if remarks.count() == before:
                    cache.put(path, status, picture.tobytes())
        except (BadFile, OSError):
            check_access(job.data_root)         # if not the file is missing, but the whole folder
            raise
        if vary is not None:
            picture = vary(picture or Image.fromarray(pixels[place]), lease, sample)
        if picture is not None:
            flat[place * row_bytes:(place + 1) * row_bytes] = picture.tobytes()
        if sample is not own[place]:            # a replacement
            for array in labels:
                array[place] = sample.label
    return put


class _Augmentation:
    """The user's own augmentation."""

    def __init__(self, function: Callable[..., Any], job: Job) -> None:
        self._function, self._job, self._calls = function, job, Calls(job.augment, job, kind="augment ")

    @timed("augment")
    def vary(self, picture: Image.Image, lease: Lease, sample: Sample) -> Image.Image:
        """Raises FunctionError if it raises anything, or returns no picture that fits."""
        try:
            varied = self._function(picture, seeded(self._calls.number(lease.epoch, sample)))
        except (BadFile, Skip):
            raise
        except BaseException as error:         # also SystemExit: it is the function's, and must not end the worker
            raise self._calls.error(error, "sample %r" % sample.path, ()) from error
        self._calls.check_threads()
        size = self._job.height_width[::-1]
        if not isinstance(varied, Image.Image) or varied.mode != "RGB" or varied.size != size:
            came = ("a picture of mode %s and %d x %d pixels" % (varied.mode, varied.size[0], varied.size[1])
                    if isinstance(varied, Image.Image) else described(varied))
            raise FunctionError("augment function %r, sample %r: it returned %s, must return a PIL picture of mode RGB "
                                "and %d x %d pixels" % (self._job.augment, sample.path, came, size[0], size[1]))
        return varied
