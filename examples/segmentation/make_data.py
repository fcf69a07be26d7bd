"""Pictures and masks, 64 x 64: FOLDER/pictures/NNN.png in colour, FOLDER/masks/NNN.png with a palette, as in Pascal
VOC: 0 is the background, 1 a disc, 2 a square.

    python make_data.py FOLDER
"""

import os
import sys

import numpy as np
from PIL import Image

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0]


def make(folder: str) -> None:
    """100 pictures, each with a disc and a square."""
    for name in ("pictures", "masks"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    y, x = np.mgrid[:64, :64]
    for number in range(100):
        random = np.random.RandomState(number)
        mask = np.zeros((64, 64), np.uint8)
        for kind in (1, 2):
            top, left, half = random.randint(10, 54), random.randint(10, 54), random.randint(6, 14)
            distances = abs(y - top), abs(x - left)
            mask[(np.hypot(*distances) if kind == 1 else np.maximum(*distances)) < half] = kind
        colours = np.array([[60, 60, 60], [180, 80, 80], [80, 180, 80]])
        pixels = colours[mask] + random.randint(-40, 40, (64, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, "pictures", "%03d.png" % number))
        image = Image.fromarray(mask, "P")
        image.putpalette(PALETTE)
        image.save(os.path.join(folder, "masks", "%03d.png" % number))


if __name__ == "__main__":
    make(sys.argv[1])
