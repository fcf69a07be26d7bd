"""Clips as folders of frames: FOLDER/clips/NN/000.png ..., 16 x 16; FOLDER/clips.csv has folder, frames and direction.

A ball moves left, right, up or down (direction 0 to 3). Two of the clips are too short.

    python make_data.py FOLDER
"""

import csv
import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """40 clips of 18 to 27 frames, and two of 9."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "clips.csv"), "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["folder", "frames", "direction"])
        for clip in range(42):
            random = np.random.RandomState(clip)
            name, direction, frames = "clips/%02d" % clip, clip % 4, 9 if clip in (11, 30) else random.randint(18, 28)
            os.makedirs(os.path.join(folder, name), exist_ok=True)
            y, x = random.randint(0, 16, 2)
            for frame in range(frames):
                pixels = random.randint(0, 60, (16, 16, 3)).astype(np.uint8)
                rows = (np.arange(4) + y + (0, 0, -frame, frame)[direction]) % 16
                columns = (np.arange(4) + x + (-frame, frame, 0, 0)[direction]) % 16
                pixels[rows[:, None], columns] = 255
                Image.fromarray(pixels).save(os.path.join(folder, name, "%03d.png" % frame))
            table.writerow([name, frames, direction])


if __name__ == "__main__":
    make(sys.argv[1])
