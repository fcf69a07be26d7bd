"""A picture, mirrored at random, and its class. Workers import this file: no TensorFlow and no Horovod in here."""

import numpy as np

import stoker


@stoker.sample({"picture": ("uint8", (32, 32, 3)), "label": "int32"})
def picture(sample, random):
    pixels = np.asarray(sample.image(size=(32, 32)))
    return {"picture": pixels[:, ::-1] if random.random() < 0.5 else pixels, "label": sample.label}
