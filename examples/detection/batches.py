"""A picture in a square, its boxes, and the targets of two grids. Workers import this file: no TensorFlow in here."""

import numpy as np
from PIL import Image

import stoker

SIDE, CLASSES, TARGET = 64, 2, 7        # TARGET, of a cell: is there an object (1), its box (4), its class (2)
GRIDS = {"fine": 16, "coarse": 8}       # cells a side


@stoker.sample({"picture": ("uint8", (SIDE, SIDE, 3)), "boxes": ("float32", (stoker.UpTo(20), 4)),
                "fine": ("float32", (16, 16, TARGET)), "coarse": ("float32", (8, 8, TARGET))})
def detection(sample, random):
    picture = sample.image(sample.row["picture"])
    scale = SIDE / max(picture.size)
    width, height = [round(scale * side) for side in picture.size]
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    square = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    square.paste(picture.resize((width, height), Image.BILINEAR), (left, top))
    objects = np.array(sample.row["boxes"], np.float32).reshape(-1, 5)
    boxes = (objects[:, :4] * scale + [left, top, left, top]) / SIDE         # 0 to 1, of the square
    pixels = np.array(square)
    if sample.training and random.random() < 0.5:
        pixels, boxes[:, [0, 2]] = pixels[:, ::-1], 1 - boxes[:, [2, 0]]
    targets = {name: np.zeros((cells, cells, TARGET), np.float32) for name, cells in GRIDS.items()}
    for box, kind in zip(boxes, objects[:, 4].astype(int)):
        name = "coarse" if max(box[2:] - box[:2]) > 0.25 else "fine"         # large objects go to large cells
        column, row = ((box[:2] + box[2:]) / 2 * GRIDS[name]).astype(int)
        targets[name][row, column] = np.concatenate([[1], box, np.eye(CLASSES)[kind]])
    return dict(targets, picture=pixels, boxes=boxes)
