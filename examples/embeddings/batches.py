"""A picture of a person. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker


@stoker.sample({"picture": ("uint8", (32, 32, 3)), "person": "int32"})
def portrait(sample, random):
    picture = np.asarray(sample.image(sample.row["file"], size=(32, 32)))
    flip = sample.training and random.random() < 0.1
    return {"picture": picture[:, ::-1] if flip else picture, "person": sample.row["person"]}
