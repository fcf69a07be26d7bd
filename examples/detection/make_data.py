"""Pictures of many sizes with 0 to 20 boxes: FOLDER/pictures/NNN.png, and FOLDER/boxes.jsonl with a line for each:
{"picture": "pictures/000.png", "boxes": [[left, top, right, bottom, class], ...]}. Discs are class 0, squares class 1.

    python make_data.py FOLDER
"""

import json
import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """80 pictures; one has no box, one has 20."""
    os.makedirs(os.path.join(folder, "pictures"), exist_ok=True)
    with open(os.path.join(folder, "boxes.jsonl"), "w") as file:
        for number in range(80):
            random = np.random.RandomState(number)
            height, width = random.randint(80, 140, 2)
            pixels, y, x = random.randint(0, 80, (height, width, 3)), np.arange(height)[:, None], np.arange(width)
            boxes = []
            for _ in range((0, 20)[number] if number < 2 else random.randint(1, 6)):
                kind, half = int(random.randint(2)), int(random.randint(8, 16))
                top, left = int(random.randint(height - 2 * half)), int(random.randint(width - 2 * half))
                distances = abs(y - top - half), abs(x - left - half)
                inside = np.maximum(*distances) < half if kind else np.hypot(*distances) < half
                pixels[inside] = (230, 120, 60) if kind else (60, 120, 230)
                boxes.append([left, top, left + 2 * half, top + 2 * half, kind])
            name = "pictures/%03d.png" % number
            Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, name))
            file.write(json.dumps({"picture": name, "boxes": boxes}) + "\n")


if __name__ == "__main__":
    make(sys.argv[1])
