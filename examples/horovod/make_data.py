"""Pictures of four shapes, 32 x 32: FOLDER/SHAPE/NNN.png.

    python make_data.py FOLDER
"""

import os
import sys

import numpy as np
from PIL import Image

SHAPES = {"bar": lambda x, y: abs(x) < 3, "cross": lambda x, y: (abs(x) < 3) | (abs(y) < 3),
          "disc": lambda x, y: x * x + y * y < 80, "ring": lambda x, y: abs(x * x + y * y - 64) < 36}


def make(folder: str) -> None:
    """50 pictures of each shape, in varying places and colours, under noise."""
    y, x = np.mgrid[:32, :32]
    for shape, inside in SHAPES.items():
        os.makedirs(os.path.join(folder, shape), exist_ok=True)
        for number in range(50):
            random = np.random.RandomState(number)
            pixels = random.randint(0, 90, (32, 32, 3))
            pixels[inside(*(place - random.randint(13, 20) for place in (x, y)))] += random.randint(80, 160, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, shape, "%03d.png" % number))


if __name__ == "__main__":
    make(sys.argv[1])
