"""Handwritten characters, 28 x 28, grey: FOLDER/seen/CHARACTER/NN.png, and other characters in FOLDER/new/.

    python make_data.py FOLDER
"""

import os
import random
import sys

from PIL import Image, ImageDraw


def make(folder: str) -> None:
    """16 characters to train on and 6 new ones, ten drawings of each."""
    for number in range(22):
        chance = random.Random(number)
        strokes = [[(chance.uniform(4, 24), chance.uniform(4, 24)) for _ in range(3)] for _ in range(2)]
        character = os.path.join(folder, "seen" if number < 16 else "new", "character-%02d" % number)
        os.makedirs(character, exist_ok=True)
        for drawing in range(10):
            picture = Image.new("L", (28, 28))
            for stroke in strokes:
                ImageDraw.Draw(picture).line([(x + chance.gauss(0, 1), y + chance.gauss(0, 1)) for x, y in stroke],
                                             fill=255, width=2)
            picture.save(os.path.join(character, "%02d.png" % drawing))


if __name__ == "__main__":
    make(sys.argv[1])
