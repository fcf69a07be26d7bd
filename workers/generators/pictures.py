"""The data generators: from leases to arrays. Three are here, by name; ``workers/example.py`` shows a user's own.

A generator is a Python generator function that is handed an iterator of leases and the job, and yields exactly one
``Output`` for each lease, in order. It may keep what it likes between leases (an open file, a decoder), but what
it yields must depend on nothing but the lease and the job: any worker may be given any lease, and some are given
twice.
"""

from __future__ import generator_stop

from typing import Iterable, Iterator, Optional, Sequence

import numpy as np
from PIL import Image

from stoker.pipeline.plan import sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import check_root, resolve
from stoker.workers import images
from stoker.workers.cache import Cache
from stoker.workers.generators.output import Output, fill_batch


#: What this host has decoded before, if this process's own command line names a folder for it.
cache: Optional[Cache] = None


def image(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Pictures: uint8 RGB [n, height, width, 3], and their labels int32 [n, 1]. Bad files are skipped,
    or replaced if the lease has spares."""
    check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=False)


def augmented(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """As ``image``; what is for training is varied as well, each sample differently in every epoch."""
    check_root(job.data_root, job.probes)
    for lease in leases:
        yield _pictures(lease, job, augment=lease.training)


def _pictures(lease: Lease, job: Job, augment: bool) -> Output:
    kept = cache if cache is not None and cache.use(job) else None

    def put(rows: Sequence[np.ndarray], sample: Sample) -> None:
        place = resolve(job.data_root, sample.path, job.follow_links)
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
    return fill_batch(lease, job, put)


