"""Faces without labels: FOLDER/a/*.png and FOLDER/b/*.png, 32 x 32. One of the files is cut off.

    python make_data.py FOLDER
"""

import os
import random
import sys

from PIL import Image, ImageDraw


def make(folder: str) -> None:
    """150 faces in two folders."""
    for number in range(150):
        chance = random.Random(number)
        picture = Image.new("RGB", (32, 32), tuple(chance.randrange(256) for _ in range(3)))
        draw, width, smile = ImageDraw.Draw(picture), chance.randint(8, 12), chance.randint(-3, 4)
        draw.ellipse((16 - width, 3, 16 + width, 29), fill=(chance.randint(120, 255), chance.randint(90, 200), 90))
        for eye in (16 - width // 2, 16 + width // 2):
            draw.ellipse((eye - 2, 11, eye + 1, 14), fill=(20, 20, chance.randrange(256)))
        draw.line([(12, 22), (16, 22 + smile), (20, 22)], fill=(160, 30, 30), width=2)
        path = os.path.join(folder, "ab"[number % 2], "%03d.png" % number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture.save(path)
    with open(os.path.join(folder, "a", "010.png"), "r+b") as file:      # a bad file, as real folders have them
        file.truncate(100)


if __name__ == "__main__":
    make(sys.argv[1])
