"""The generator ``numerical``: random records for a logistic regression."""

from __future__ import generator_stop

import math
from typing import Iterable, Iterator, Tuple

import numpy as np

from stoker.pipeline.plan import sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.workers.generators.output import Output, Put, fill_batch

#: A record's label says on which side of a plane it lies. The plane goes through (0.5, 0.5, ...); this is its normal.
WEIGHTS = (3.0, -2.0, 1.0, 0.5, -0.5, -1.0, 2.0, -3.0, 1.5, -1.5)
#: This share of the records has the other label, so no model is right more often than 0.9.
NOISE = 0.1


def numerical(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """Generated records: features float32 [n, 10], uniform in 0..1, and binary labels int32 [n, 1].

    A record is a pure function of (job.seed, its number), the same in every epoch. Its label is 1 where
    ``sum(WEIGHTS * (features - 0.5)) > 0``, and with probability NOISE the opposite.
    """
    def into(arrays: Tuple[np.ndarray, ...]) -> Put:
        def put(place: int, sample: Sample) -> None:
            # random.random() and fsum give the same bits everywhere; sum() of floats does not since Python 3.12.
            random = sample_random(job.seed, 0, int(sample.path))
            features = [random.random() for _ in WEIGHTS]
            side = math.fsum(weight * (feature - 0.5) for weight, feature in zip(WEIGHTS, features)) > 0
            arrays[0][place], arrays[1][place] = features, side != (random.random() < NOISE)
        return put

    for lease in leases:
        yield fill_batch(lease, job, into)
