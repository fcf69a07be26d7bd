"""Pictures of three kinds of shapes: FOLDER/SHAPE/NNN.png, 32 x 32.

    python make_data.py FOLDER
"""

import os
import random
import sys

from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square")


def make(folder: str) -> None:
    """60 pictures of each shape."""
    for number in range(180):
        chance, shape = random.Random(number), SHAPES[number % 3]
        picture = Image.new("RGB", (32, 32), tuple(chance.randrange(128) for _ in range(3)))
        draw, colour = ImageDraw.Draw(picture), tuple(chance.randint(128, 255) for _ in range(3))
        x, y, half = chance.randint(10, 21), chance.randint(10, 21), chance.randint(6, 10)
        box = (x - half, y - half, x + half, y + half)
        if shape == "circle":
            draw.ellipse(box, fill=colour)
        elif shape == "square":
            draw.rectangle(box, fill=colour)
        else:
            draw.line([box[:2], box[2:]], fill=colour, width=3)
            draw.line([(x - half, y + half), (x + half, y - half)], fill=colour, width=3)
        path = os.path.join(folder, shape, "%03d.png" % number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture.save(path)


if __name__ == "__main__":
    make(sys.argv[1])
