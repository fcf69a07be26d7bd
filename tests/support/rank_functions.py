"""Functions of a user for several trainers: of samples, with random numbers of every kind, and of a batch."""

import random as python_random

import numpy as np

import stoker


@stoker.sample({"number": "int64", "drawn": ("float64", (3,)), "digits": ("uint8", (stoker.UpTo(7),))}, rows=2)
def several(sample, random):
    """One row or two of each sample; the lengths of ``digits`` differ."""
    drawn = [random.random(), python_random.random(), np.random.random_sample()]
    row = {"number": sample.index, "drawn": drawn,
           "digits": [other.index % 200 for other in sample.partners] * (sample.index % 3)}
    return [row] * (1 + sample.index % 2)


@stoker.batch({"number": "int64", "drawn": "float64"})
def whole(samples, random):
    """Fails without a sample, as most functions of a batch do."""
    assert samples
    return {"number": [sample.index for sample in samples], "drawn": [random.random() for _ in samples]}


@stoker.batch({"number": "int64", "square": "int64"})
def each_by_itself(samples, random):
    """Draws no random numbers."""
    return {"number": [sample.index for sample in samples], "square": [sample.index ** 2 for sample in samples]}
