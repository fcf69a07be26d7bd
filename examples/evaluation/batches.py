"""Crops of pictures of 40 x 40 pixels, with their mirror images. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker


@stoker.sample({"crop": ("uint8", (32, 32, 3)), "label": "int32"}, rows=10)
def crops(sample, random):
    """In training a random crop of 32 x 32; else those in the four corners and in the middle."""
    picture = np.asarray(sample.image())
    places = [(random.randint(0, 8), random.randint(0, 8))] if sample.training else [
        (0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    views = [picture[top:top + 32, left:left + 32] for top, left in places]
    return [{"crop": view[:, ::step], "label": sample.label} for view in views for step in (1, -1)]
