"""A pair of drawings, and whether both are of the same character. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

SIZE = (28, 28)


@stoker.sample({"left": ("uint8", SIZE), "right": ("uint8", SIZE), "same": "float32"})
def pair(sample, random):
    partner, = sample.partners
    return {"left": np.asarray(sample.image(size=SIZE, mode="L")),
            "right": np.asarray(partner.image(size=SIZE, mode="L")),
            "same": float(sample.label == partner.label)}
