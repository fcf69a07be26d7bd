"""The same pictures in every form in which data lie: a folder, and record files as their users' programs write them.

Samples have the order of the folder: its classes by name, in each its files by name. So a run over any of the forms has
the same plan, and its audit must be the same.
"""

import io
import json
import os
import subprocess
import tarfile
import zipfile
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.integration.conftest import draw

CLASSES = ("left", "right")
SIZE = (48, 64)         # of each picture, so that no version of Pillow has anything to resize
COUNT = 60


class Picture(NamedTuple):
    """A sample. ``row``: what belongs to it beside its picture and its label; ``array``: numbers, a npy file."""
    path: str           # below the folder
    label: int
    data: bytes
    pixels: np.ndarray
    row: dict
    array: bytes


def drawn(folder, suffix="jpg", count=COUNT):
    """Draws the pictures in ``folder``, and returns them."""
    draw(str(folder), suffix, count, SIZE)
    found = []
    for label, name in enumerate(CLASSES):
        for file in sorted(os.listdir(os.path.join(str(folder), name))):
            with open(os.path.join(str(folder), name, file), "rb") as opened:
                data = opened.read()
            number, array = len(found), io.BytesIO()
            np.save(array, np.arange(number, number + 4, dtype=np.float32))
            found.append(Picture("%s/%s" % (name, file), label, data, np.asarray(Image.open(io.BytesIO(data))),
                                 {"height": 48 + number, "caption": "picture %d" % number}, array.getvalue()))
    return found


def parts_of(items, count):
    """``items`` in ``count`` lists, for as many files."""
    return [items[len(items) * number // count:len(items) * (number + 1) // count] for number in range(count)]


# ------------------------------------------------------------------------------------------------------- record files

def write_tfrecords(folder, pictures, files=3):
    """By TensorFlow 1.9: train-00000-of-00003.tfrecord ..., with the names of features that its own tools use."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    for number, part in enumerate(parts_of(pictures, files)):
        name = "train-%05d-of-%05d.tfrecord" % (number, files)
        with tf.python_io.TFRecordWriter(os.path.join(str(folder), name)) as writer:
            for picture in part:
                writer.write(tf.train.Example(features=tf.train.Features(feature={
                    "image/encoded": feature(picture.data), "image/class/label": feature(picture.label),
                    "height": feature(picture.row["height"]),
                    "caption": feature(picture.row["caption"].encode()),
                    "npy": feature(picture.array)})).SerializeToString())


def members(pictures):
    """(key, {end of the name: content}) of each sample of a tar, as WebDataset has them."""
    for number, picture in enumerate(pictures):
        yield "%06d" % number, {picture.path.rsplit(".", 1)[1]: picture.data, "cls": b"%d" % picture.label,
                                "json": json.dumps(picture.row).encode(), "npy": picture.array,
                                "txt": picture.row["caption"].encode()}


def write_tars(folder, pictures, files=3):
    """By Python's tarfile: train-000.tar ..."""
    for number, part in enumerate(parts_of(list(members(pictures)), files)):
        with tarfile.open(os.path.join(str(folder), "train-%03d.tar" % number), "w") as tar:
            for key, contents in part:
                for end, data in contents.items():
                    member = tarfile.TarInfo("%s.%s" % (key, end))
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


#: For the Python that has webdataset: its argument is the folder; the samples come as lines of JSON.
BY_WEBDATASET = """
import base64, json, sys, webdataset
for line in sys.stdin:
    name, samples = json.loads(line)
    with webdataset.TarWriter(name) as writer:
        for key, contents in samples:
            writer.write(dict({end: base64.b64decode(data) for end, data in contents.items()}, __key__=key))
"""


def write_tars_by_webdataset(folder, pictures, python, files=3):
    """By webdataset's own writer, with the Python that has it: train-000.tar ..."""
    import base64
    lines = [json.dumps([os.path.join(str(folder), "train-%03d.tar" % number),
                         [(key, {end: base64.b64encode(data).decode() for end, data in contents.items()})
                          for key, contents in part]])
             for number, part in enumerate(parts_of(list(members(pictures)), files))]
    subprocess.run([python, "-c", BY_WEBDATASET], input="\n".join(lines), universal_newlines=True, check=True,
                   timeout=120)


def write_zip(folder, pictures, name="train.zip"):
    """By Python's zipfile: stored entries in the folders of their classes."""
    with zipfile.ZipFile(os.path.join(str(folder), name), "w", zipfile.ZIP_STORED) as archive:
        for picture in pictures:
            archive.writestr(picture.path, picture.data)


def write_arrays(folder, pictures):
    """x.npy with the pixels, y.npy with the labels, and xy.npz with both."""
    pixels, labels = np.stack([picture.pixels for picture in pictures]), np.array([p.label for p in pictures])
    np.save(os.path.join(str(folder), "x.npy"), pixels)
    np.save(os.path.join(str(folder), "y.npy"), labels)
    np.savez(os.path.join(str(folder), "xy.npz"), x=pixels, y=labels)


#: How a dataset lies in a HDF5 file: the arguments of h5py's create_dataset.
LAYOUTS = {"contiguous": {}, "chunked": {"chunks": (4,) + SIZE + (3,)},
           "compressed": {"chunks": (4,) + SIZE + (3,), "compression": "gzip"}}


def write_hdf5(folder, pictures):
    """By h5py: contiguous.h5 and so on, each with the datasets images and labels."""
    import h5py
    pixels, labels = np.stack([picture.pixels for picture in pictures]), np.array([p.label for p in pictures])
    for name, options in LAYOUTS.items():
        with h5py.File(os.path.join(str(folder), name + ".h5"), "w") as file:
            file.create_dataset("images", data=pixels, **options)
            file.create_dataset("labels", data=labels)


def write_rows(folder, pictures):
    """rows.jsonl beside the folder's pictures, with a row for each as record files give it, and npy files. Its path."""
    path = os.path.join(str(folder), "rows.jsonl")
    with open(path, "w") as lines:
        for picture in pictures:
            array = picture.path.rsplit(".", 1)[0] + ".npy"
            with open(os.path.join(str(folder), array), "wb") as file:
                file.write(picture.array)
            lines.write(json.dumps(dict(picture.row, jpg=picture.path, npy=array, cls=picture.label)) + "\n")
    return path
