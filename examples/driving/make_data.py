"""A drive as a simulator records it: FOLDER/driving_log.csv, and pictures of three cameras in FOLDER/IMG, 33 x 100.

The road bends to where the wheel is turned; the left camera sees it further right, the right one further left.

    python make_data.py FOLDER
"""

import csv
import os
import sys

import numpy as np
from PIL import Image

OFFSETS = {"center": 0.0, "left": 0.2, "right": -0.2}     # of the road, as an angle


def make(folder: str) -> None:
    """100 moments of a drive."""
    os.makedirs(os.path.join(folder, "IMG"), exist_ok=True)
    random = np.random.RandomState(0)
    with open(os.path.join(folder, "driving_log.csv"), "w", newline="") as file:
        table = csv.DictWriter(file, ["center", "left", "right", "steering", "throttle", "speed"])
        table.writeheader()
        for moment in range(100):
            steering = random.uniform(-0.5, 0.5)
            row = {"steering": "%.4f" % steering, "throttle": 1, "speed": "%.1f" % random.uniform(20, 30)}
            for camera, offset in OFFSETS.items():
                row[camera] = "IMG/%s_%03d.png" % (camera, moment)
                road(steering + offset, random).save(os.path.join(folder, row[camera]))
            table.writerow(row)


def road(angle: float, random: np.random.RandomState) -> Image.Image:
    """A grey road on noisy green, whose middle lies 40 pixels further right for each unit of ``angle``."""
    y, x = np.mgrid[:33, :100]
    pixels = random.randint(0, 60, (33, 100, 3)) + np.array([20, 90, 20])
    pixels[abs(x - 50 - 40 * angle) < 8 + y / 4] = 160
    return Image.fromarray(pixels.astype(np.uint8))


if __name__ == "__main__":
    make(sys.argv[1])
