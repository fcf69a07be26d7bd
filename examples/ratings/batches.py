"""A photo and the distribution of its ratings. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker


@stoker.sample({"photo": ("uint8", (32, 32, 3)), "ratings": ("float32", (10,))})
def rated(sample, random):
    photo = np.asarray(sample.image(sample.row["photo"]))
    top, left = (random.randint(0, 8), random.randint(0, 8)) if sample.training else (4, 4)
    photo = photo[top:top + 32, left:left + 32]
    if sample.training and random.random() < 0.5:
        photo = photo[:, ::-1]
    votes = np.array(sample.row["ratings"], np.float32)
    return {"photo": photo, "ratings": votes / votes.sum()}
