"""Sample functions over the data of tests/support/stored.py: the same arrays from a row of paths and from a record."""

import json

import numpy as np

import stoker


@stoker.sample({"image": ("uint8", (48, 64, 3)), "array": ("float32", (4,)), "height": "int32",
                "caption": ("uint8", (stoker.UpTo(20),)), "drawn": "float64"})
def parts(sample, random):
    """A picture, mirrored by chance in training; an array of its own; two facts and a label."""
    row = sample.row
    picture = np.asarray(sample.image(_part(row, "jpg", "image/encoded")))
    if sample.training and random.random() < 0.5:
        picture = picture[:, ::-1]
    facts = row["json"] if "json" in row else row
    facts = facts if isinstance(facts, dict) else json.loads(facts)
    caption = facts["caption"] if isinstance(facts["caption"], bytes) else facts["caption"].encode()
    return {"image": picture, "array": sample.numpy(_part(row, "npy")), "height": facts["height"],
            "caption": np.frombuffer(caption, np.uint8), "drawn": random.random()}


def _part(row, *names):
    """A part of a record by its name; of a row by the path that is there."""
    name = next(name for name in names if name in row)
    return name if "//" in row[name] else row[name]


@stoker.sample({"image": ("uint8", (48, 64, 3)), "number": "float64", "label": "int32"})
def pixels(sample, random):
    """The sample's own picture as PIL has it, and what numpy makes of it."""
    picture = sample.image()
    array = np.asarray(picture) if sample.path.endswith(".png") else sample.numpy()
    return {"image": picture, "number": array.astype(np.float64).mean() + random.random(), "label": sample.label}
