"""Pictures of three kinds of shapes, 40 x 40: FOLDER/train/SHAPE/NNN.png, FOLDER/test/SHAPE/NNN.png, and
FOLDER/unlabelled/NNN.png without classes. One of the unlabelled files is cut off.

    python make_data.py FOLDER
"""

import os
import random
import sys

from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square")


def make(folder: str) -> None:
    """120 pictures to train on, 45 to evaluate on, 20 unlabelled."""
    for number in range(185):
        chance, shape = random.Random(number), SHAPES[number % 3]
        picture = Image.new("RGB", (40, 40), tuple(chance.randrange(128) for _ in range(3)))
        draw, colour = ImageDraw.Draw(picture), tuple(chance.randint(128, 255) for _ in range(3))
        x, y, half = chance.randint(14, 25), chance.randint(14, 25), chance.randint(6, 10)
        box = (x - half, y - half, x + half, y + half)
        if shape == "circle":
            draw.ellipse(box, fill=colour)
        elif shape == "square":
            draw.rectangle(box, fill=colour)
        else:
            draw.line([box[:2], box[2:]], fill=colour, width=3)
            draw.line([(x - half, y + half), (x + half, y - half)], fill=colour, width=3)
        part = "train" if number < 120 else "test" if number < 165 else "unlabelled"
        path = os.path.join(folder, part, "" if part == "unlabelled" else shape, "%03d.png" % number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture.save(path)
    with open(os.path.join(folder, "unlabelled", "170.png"), "r+b") as file:     # a bad file, as real folders have
        file.truncate(100)


if __name__ == "__main__":
    make(sys.argv[1])
