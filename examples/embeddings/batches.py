"""A picture of a person. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker


@stoker.sample({"picture": ("uint8", (32, 32, 3)), "person": "int32"})
def portrait(sample, random):
    return {"picture": np.asarray(sample.image(size=(32, 32))), "person": sample.label}
