"""How to write your own generator, by example. Try this one with

    python -m trainer photos/ --generator stoker.workers.generators.example:grayscale

To use your own, put it into a module that the workers can import and name it in the same way. Workers that the
trainer does not start itself (on other hosts) import nothing but what their own command line allows:
``python -m workers --connect tcp://trainer:5555 --allow-generator my_module:my_generator``.
"""

from __future__ import generator_stop  # without it, a stray StopIteration ends a generator in silence on 3.6

from functools import partial
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from stoker.pipeline.plan import sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import check_root, resolve
from stoker.workers import images
from stoker.workers.generators.output import Output, batch_of


def grayscale(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Grey pictures, uint8 [n, height, width, 3] with three equal channels, and their labels, int32 [n, 1].

    For training, each is a random part of the picture; for evaluation, the middle.

    You are handed an iterator of leases, one for each batch: ``lease.samples`` (each an index, a path below
    ``job.data_root`` and a label), ``lease.epoch``, ``lease.training``. Yield one ``Output`` for each, with one
    array for each of ``job.arrays``, of that dtype and shape, the samples in the lease's order. A worker may be
    given any lease, and another worker the same one again: yield the same for it, whatever was before.

    ``batch_of`` does what most generators need: you say what becomes of one sample. Bad files, for which
    ``images.load`` raises BadImage, are left out or replaced, and reported; any other error fails the step.
    """
    height, width = job.height_width
    larger = (height + height // 8, width + width // 8)

    def grey(lease: Lease, sample: Sample) -> Sequence[Any]:
        picture = images.load(resolve(job.data_root, sample.path, job.follow_links), larger, job.decode,
                              job.exif_rotate)
        top, left = (larger[0] - height) // 2, (larger[1] - width) // 2
        if lease.training:
            # all chance comes from (seed, epoch, index), never from random or numpy.random themselves
            random = sample_random(job.seed, lease.epoch, sample.index)
            top = int(random.random() * (larger[0] - height + 1))
            left = int(random.random() * (larger[1] - width + 1))
        pixels = np.asarray(picture.convert("L"))[top:top + height, left:left + width]
        return np.stack([pixels] * 3, axis=-1), [sample.label]   # a row of each array

    check_root(job.data_root, job.probes)      # else a worker with the wrong folder would skip everything
    for lease in leases:
        yield batch_of(lease, job, partial(grey, lease))
