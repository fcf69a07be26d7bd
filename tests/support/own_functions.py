"""Sample functions as users might write them: rows of a table, three arrays, one of which has a side that differs."""

import json
import os
import random as global_random
import signal
import sys
import time

import numpy as np

import stoker

CLASSES = "classes.json"      # beside the table: what ``setup`` reads
SIZE = (48, 64)
BOXES = {"image": ("uint8", SIZE + (3,)), "boxes": ("float32", (stoker.UpTo(9, pad=-1), 4)), "kind": "int32"}
MAX_POINTS = 4000
DEADLY = "left/018.png"


def classes(job):
    """The numbers of the classes."""
    with open(os.path.join(job.data_root, CLASSES)) as file:
        return json.load(file)


@stoker.sample(BOXES, setup=classes, rows=2)
def boxes(sample, random):
    """A picture mixed with its partner's, some boxes, and a class; a second, mirrored, for some; some are skipped."""
    if "tensorflow" in sys.modules:
        raise RuntimeError("a worker imported TensorFlow")
    row = sample.row
    if random.random() < row["skips"]:
        raise stoker.Skip("drawn to be skipped")
    image = np.array(sample.image(row["file"]))
    for partner in sample.partners:
        image = image // 2 + np.asarray(partner.image(partner.row["file"])) // 2
    found = np.random.uniform(0, 1, (global_random.randrange(10), 4)).astype(np.float32)
    made = {"image": image, "boxes": found, "kind": sample.shared[row["kind"]]}
    return [made, dict(made, image=image[:, ::-1], boxes=found[:1])] if random.random() < 0.2 else [made]


@stoker.sample(BOXES, setup=classes, rows=2)
def slow_boxes(sample, random):
    """The same, slowed down: with a twentieth of a second more for a batch of 9 or 10."""
    time.sleep(0.005)
    return boxes(sample, random)


@stoker.sample(BOXES, setup=classes, rows=2)
def deadly(sample, random):
    """The same, but one picture kills the process."""
    if sample.row["file"] == DEADLY:
        os.kill(os.getpid(), signal.SIGSEGV)
    return boxes(sample, random)


@stoker.sample(BOXES, setup=classes, rows=2)
def spared(sample, random):
    """The same, but that picture is skipped."""
    if sample.row["file"] == DEADLY:
        raise stoker.Skip("it kills")
    return boxes(sample, random)


@stoker.sample({"image": ("uint8", (16, 16, 3)), "points": ("float32", (stoker.UpTo(MAX_POINTS), 8)), "kind": "int32"},
               setup=classes)
def points(sample, random):
    """A small picture, any number of points, and a class."""
    count = int(MAX_POINTS * random.random() ** 2)
    return {"image": sample.image(sample.row["file"], size=(16, 16)), "kind": sample.shared[sample.row["kind"]],
            "points": np.full((count, 8), random.random(), np.float32)}


def write_table(folder):
    """Writes log.csv, a row for each picture that lies in a folder within ``folder``, and its classes. Returns its
    path."""
    path, kinds = os.path.join(folder, "log.csv"), sorted(
        name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    files = sorted("%s/%s" % (kind, name) for kind in kinds for name in os.listdir(os.path.join(folder, kind)))
    with open(path, "w") as file:
        file.write("file,kind,importance,skips\n")
        for number, name in enumerate(files):
            file.write("%s,%s,%g,%g\n" % (name, name.split("/")[0], 1 + number % 5, 0.5 * (number % 7 == 0)))
    with open(os.path.join(folder, CLASSES), "w") as file:
        json.dump({kind: number for number, kind in enumerate(kinds)}, file)
    return path
