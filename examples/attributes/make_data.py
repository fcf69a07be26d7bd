"""Faces with forty attributes each, in the layout of CelebA: FOLDER/img_align_celeba/NNNNNN.png, 32 x 40,
FOLDER/list_attr_celeba.txt (their number, the attributes' names, then a file name and forty times 1 or -1 a line) and
FOLDER/list_eval_partition.txt (a file name, and 0 for training or 1 for validation a line).

    python make_data.py FOLDER
"""

import os
import sys

import numpy as np
from PIL import Image


def make(folder: str) -> None:
    """160 faces to train on, 40 for validation. Each attribute is a bright or dark patch."""
    os.makedirs(os.path.join(folder, "img_align_celeba"), exist_ok=True)
    attributes, partition = ["200", " ".join("attribute_%d" % number for number in range(40))], []
    for number in range(200):
        random = np.random.RandomState(number)
        values, name = random.choice([-1, 1], 40), "%06d.png" % (number + 1)
        patches = np.kron(values.reshape(8, 5), np.full((5, 6), 30))
        pixels = np.full((40, 32, 3), 128) + random.randint(-60, 60, (40, 32, 3))
        pixels[:, 1:31] += patches[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(os.path.join(folder, "img_align_celeba", name))
        attributes.append("%s %s" % (name, " ".join("%2d" % value for value in values)))
        partition.append("%s %d" % (name, number >= 160))
    for name, lines in (("list_attr_celeba.txt", attributes), ("list_eval_partition.txt", partition)):
        with open(os.path.join(folder, name), "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    make(sys.argv[1])
