"""Crops of pictures: a random one for training, ten for evaluation. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

SIDE, SPARE = 32, 8                     # of a crop; the pictures have 40 x 40 pixels
PLACES = [(0, 0), (0, SPARE), (SPARE, 0), (SPARE, SPARE), (SPARE // 2, SPARE // 2)]


@stoker.sample({"crop": ("uint8", (SIDE, SIDE, 3)), "label": "int32"}, rows=10)
def crops(sample, random):
    picture = np.asarray(sample.image())
    places = [(random.randint(0, SPARE), random.randint(0, SPARE))] if sample.training else PLACES
    views = [picture[top:top + SIDE, left:left + SIDE] for top, left in places]
    if not sample.training:
        views += [view[:, ::-1] for view in views]
    return [{"crop": view, "label": sample.label} for view in views]
