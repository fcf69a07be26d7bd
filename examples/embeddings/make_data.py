"""Pictures of people, 32 x 32: FOLDER/PERSON/NN.png.

    python make_data.py FOLDER
"""

import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """20 people with 8 or 9 pictures each: a coarse pattern of colours under noise and light that vary."""
    for person in range(20):
        pattern = np.random.RandomState(person).randint(60, 196, (4, 4, 3))
        os.makedirs(os.path.join(folder, "person-%02d" % person), exist_ok=True)
        for number in range(8 + person % 2):
            random = np.random.RandomState(1000 * person + number)
            pixels = pattern.repeat(8, axis=0).repeat(8, axis=1) * random.uniform(0.6, 1.2)
            pixels = np.roll(pixels, random.randint(-2, 3, 2), axis=(0, 1)) + random.randint(-40, 40, (32, 32, 3))
            path = os.path.join(folder, "person-%02d" % person, "%02d.png" % number)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    make(sys.argv[1])
