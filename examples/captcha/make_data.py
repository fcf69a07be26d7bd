"""Digits to write with: FOLDER/digits/D-N.png, 12 x 8, three hands for each; FOLDER/texts.txt, one text a line.

    python make_data.py FOLDER
"""

import os
import random
import sys

import numpy as np
from PIL import Image

#: 5 rows of 3 dots for each digit.
SHAPES = ("111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
          "111100111001111", "111100111101111", "111001010010010", "111101111101111", "111101111001111")


def make(folder: str) -> None:
    """240 texts of 3 to 8 digits."""
    os.makedirs(os.path.join(folder, "digits"), exist_ok=True)
    for digit, shape in enumerate(SHAPES):
        dots = np.array([int(dot) for dot in shape]).reshape(5, 3).repeat(2, axis=0).repeat(2, axis=1)
        for hand in range(3):
            pixels = np.zeros((12, 8), np.uint8)
            pixels[hand % 2:hand % 2 + 10, hand // 2:hand // 2 + 6] = dots * (255 - 40 * hand)
            Image.fromarray(pixels).save(os.path.join(folder, "digits", "%d-%d.png" % (digit, hand)))
    chance = random.Random(0)
    with open(os.path.join(folder, "texts.txt"), "w") as file:
        for _ in range(240):
            file.write("".join(chance.choice("0123456789") for _ in range(chance.randint(3, 8))) + "\n")


if __name__ == "__main__":
    make(sys.argv[1])
