"""Pictures of two classes, 32 x 32: FOLDER/positive/NNN.png and FOLDER/negative/NNN.png.

    python make_data.py FOLDER
"""

import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """128 pictures: an orange disc in positive ones, a blue square in negative ones."""
    y, x = np.mgrid[:32, :32]
    for number in range(128):
        random = np.random.RandomState(number)
        name = ("negative", "positive")[number % 2]
        top, left = random.randint(10, 22, 2)
        inside = ((y - top) ** 2 + (x - left) ** 2 < 64 if number % 2 else
                  (abs(y - top) < 8) & (abs(x - left) < 8))
        pixels = random.randint(0, 100, (32, 32, 3))
        pixels[inside] += (120, 60, 0) if number % 2 else (0, 60, 120)
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, name, "%03d.png" % number))


if __name__ == "__main__":
    make(sys.argv[1])
