"""An example of your own generator. Try it with

    python -m trainer photos/ --generator stoker.workers.generators.example:grayscale

Put your own into a module beside your program and name it in the same way. Workers that you start yourself must be able
to import the module, and import only what their own command line allows:
``python -m workers --connect tcp://trainer:5555 --data DIR --allow-generator my_module:my_generator``.
"""

from __future__ import generator_stop  # without it, a stray StopIteration ends a generator in silence on 3.6

from functools import partial
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

import stoker


def grayscale(leases: Iterable[stoker.Lease], job: stoker.Job) -> Iterator[stoker.Output]:
    """Grey pictures, uint8 [n, height, width, 3] with three equal channels, and their labels, int32 [n, 1].

    For training, each is a random part of the picture; for evaluation, the middle.

    A generator gets an iterator of leases, one for each batch: ``lease.samples`` (each with an index, a path below
    ``job.data_root``, which may be a place in a record file, and a label), ``lease.epoch``, ``lease.training``. It
    yields one ``Output`` for each lease, with one array for each of ``job.arrays``, of that dtype and shape, the
    samples in the lease's order. Any worker may get any lease, and some leases go to two workers: yield the same for a
    lease, whatever came before it.

    The arrays are those of the generator ``image``. A generator with arrays of its own declares them with the decorator
    ``stoker.generator``. Most programs need none of this: ``stoker.sample`` and ``stoker.batch`` take a function.

    ``batch_of`` does the work that most generators share: you give it a function for one sample. Bad files, for which
    ``stoker.load`` raises BadFile, are left out or replaced, and reported; any other error fails the step.
    """
    height, width = job.height_width
    larger = (height + height // 8, width + width // 8)

    def grey(lease: stoker.Lease, sample: stoker.Sample) -> Sequence[Any]:
        path = stoker.resolve(job.data_root, sample.path, job.follow_links)
        picture = stoker.load(path, larger, job.decode, job.exif_rotate)
        top, left = (larger[0] - height) // 2, (larger[1] - width) // 2
        if lease.training:
            # random numbers come only from (seed, epoch, index), never from the modules random or numpy.random
            random = stoker.sample_random(job.seed, lease.epoch, sample.index, sample.repeat)
            top = int(random.random() * (larger[0] - height + 1))
            left = int(random.random() * (larger[1] - width + 1))
        pixels = np.asarray(picture.convert("L"))[top:top + height, left:left + width]
        return np.stack([pixels] * 3, axis=-1), [sample.label]   # a row of each array

    stoker.check_root(job.data_root, job.probes)      # else a worker with the wrong folder would skip everything
    for lease in leases:
        yield stoker.batch_of(lease, job, partial(grey, lease))
