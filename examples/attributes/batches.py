"""A face and its forty attributes. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

SIZE = (40, 32)      # height, width


@stoker.sample({"face": ("uint8", SIZE + (3,)), "attributes": ("bool", (40,))})
def face(sample, random):
    picture = np.asarray(sample.image(sample.row["file"], size=SIZE))
    if sample.training and random.random() < 0.5:
        picture = np.clip(picture * random.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
    return {"face": picture, "attributes": np.array(sample.row["attributes"]) == 1}
