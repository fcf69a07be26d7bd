"""A picture and its mask, cropped, flipped and turned together. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

SIDE = 48


@stoker.sample({"picture": ("uint8", (SIDE, SIDE, 3)), "mask": ("uint8", (SIDE, SIDE))})
def cropped(sample, random):
    picture = np.asarray(sample.image(sample.row["picture"]))
    mask = np.asarray(sample.image(sample.row["mask"], mode=None))      # as it is stored: the numbers of its palette
    spare = [length - SIDE for length in mask.shape]
    top, left = [random.randint(0, pixels) if sample.training else pixels // 2 for pixels in spare]
    flip, quarters = (random.random() < 0.5, random.randrange(4)) if sample.training else (False, 0)

    def transform(array):
        array = array[top:top + SIDE, left:left + SIDE]
        return np.rot90(array[:, ::-1] if flip else array, quarters)

    return {"picture": transform(picture), "mask": transform(mask)}
