"""Pictures without labels. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker


@stoker.sample({"image": ("uint8", (32, 32, 3))})
def face(sample, random):
    picture = np.asarray(sample.image(size=(32, 32)))
    return {"image": picture[:, ::-1] if random.random() < 0.5 else picture}
