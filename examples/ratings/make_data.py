"""Rated photos: FOLDER/photos/NNN.png, 40 x 40, and FOLDER/ratings.jsonl: for each, how many people gave 1, 2 ... 10.

    python make_data.py FOLDER
"""

import json
import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """120 photos. People like contrast."""
    os.makedirs(os.path.join(folder, "photos"), exist_ok=True)
    y, x = np.mgrid[0:40, 0:40]
    with open(os.path.join(folder, "ratings.jsonl"), "w") as file:
        for number in range(120):
            random = np.random.RandomState(number)
            contrast = random.uniform(0.1, 1.0)
            waves = [np.sin(x * random.uniform(0.1, 0.6) + y * random.uniform(0.1, 0.6)) for _ in range(3)]
            pixels = 128 + 100 * contrast * np.stack(waves, axis=-1) + random.uniform(-20, 20, (40, 40, 3))
            name = "photos/%03d.png" % number
            Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, name))
            given = np.clip(random.normal(1 + 9 * contrast, 1.2, 80).round().astype(int), 1, 10)
            row = {"photo": name, "ratings": np.bincount(given, minlength=11)[1:].tolist()}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    make(sys.argv[1])
