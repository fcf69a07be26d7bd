"""Pictures of texts, drawn by the workers. Workers import this file: no TensorFlow in here."""

import os

import numpy as np
from PIL import Image

import stoker

LONGEST, HEIGHT, WIDTH = 8, 16, 10       # characters of a text; pixels of a picture, and for each character


def read_digits(job):
    """Once in each worker: (digit, hand) -> uint8 [12, 8]."""
    return {(digit, hand): np.asarray(Image.open(os.path.join(job.data_root, "digits", "%d-%d.png" % (digit, hand))))
            for digit in range(10) for hand in range(3)}


@stoker.sample({"picture": ("uint8", (HEIGHT, stoker.UpTo(LONGEST * WIDTH))),
                "text": ("int32", (stoker.UpTo(LONGEST),))}, setup=read_digits)
def written(sample, random):
    longest = 3 + sample.epoch if sample.training else LONGEST        # it becomes harder: longer texts, more noise
    text = [int(character) for character in sample.row[:longest]]
    picture = np.zeros((HEIGHT, WIDTH * len(text)), np.uint8)
    for place, digit in enumerate(text):
        top, left = random.randint(1, 3), place * WIDTH + random.randint(0, 2)
        picture[top:top + 12, left:left + 8] = sample.shared[digit, random.randrange(3)]
    noise = np.random.randint(0, min(30 * (sample.epoch + 1), 120), picture.shape)    # seeded for this sample as well
    return {"picture": np.maximum(picture, noise.astype(np.uint8)), "text": text}
