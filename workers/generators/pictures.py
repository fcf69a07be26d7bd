"""The generators ``image`` and ``augmented``: pictures of a folder, decoded and resized.

``generators/example.py`` explains what a generator is, and shows a user's own.
"""

from __future__ import generator_stop

from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, Optional, Sequence, Tuple, Type

import numpy as np
from PIL import Image

from stoker.pipeline.plan import sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import check_root, resolve
from stoker.workers import images
from stoker.workers.cache import Cache
from stoker.workers.generators.output import Output, fill_batch


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


def image(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Pictures, uint8 RGB [n, height, width, 3], and their labels, int32 [n, 1]. Bad files are skipped, or replaced if
    the lease has replacements."""
    check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=False)


def augmented(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """As ``image``; pictures for training are also augmented, each sample differently in every epoch."""
    check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=lease.training)


def _pictures(lease: Lease, job: Job, augment: bool) -> Output:
    cache = None
    if isinstance(job, CachedJob) and job.cache is not None:
        cache = job.cache.kind(job.height_width, job.decode, job.exif_rotate)

    def put(rows: Sequence[np.ndarray], sample: Sample) -> None:
        path = resolve(job.data_root, sample.path, job.follow_links)
        pixels, label = rows
        picture = None
        if cache is None:
            picture = images.load(path, job.height_width, job.decode, job.exif_rotate)
        elif not cache.get(path, pixels):
            data, status = images.read(path)
            picture = images.decoded(data, job.height_width, job.decode, job.exif_rotate)
            cache.put(path, status, picture.tobytes())
        if augment:
            picture = images.augment(picture or Image.fromarray(pixels),
                                     sample_random(job.seed, lease.epoch, sample.index))
        if picture is not None:
            pixels[:] = np.frombuffer(picture.tobytes(), np.uint8).reshape(pixels.shape)
        label[:] = sample.label
    return fill_batch(lease, job, put)
