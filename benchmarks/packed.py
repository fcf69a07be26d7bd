"""The benchmarks' photos in record files, each written once by the library that its users write it with.

    python -m benchmarks.packed [FOLDER]        in the trainer's environment, for TensorFlow 1.9 writes the TFRecords

Below FOLDER: ``tfrecord/photos-0000N-of-00004.tfrecord``, ``tar/photos-N.tar`` and ``photos.zip`` with the JPEGs;
``npy/64.npy``, ``hdf5/64.h5`` (and 224) with their pixels at that size and ``labels``.
"""

import importlib
import io
import os
import shutil
import sys
import tarfile
import zipfile
from typing import Any, List, Tuple

import numpy as np

from benchmarks.contenders.protocol import files_of
from benchmarks.pictures import FOLDER as PICTURES

FOLDER = os.path.join(".cache", "bench-packed")
FILES = 4
SIZES = (64, 224)
RECIPE = "1"


def make(folder: str = FOLDER, photos: str = os.path.join(PICTURES, "photos")) -> None:
    """Writes what is missing."""
    done = os.path.join(folder, ".recipe")
    if os.path.exists(done):
        with open(done) as file:
            if file.read() == RECIPE:
                return
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("tfrecord", "tar", "npy", "hdf5"):
        os.makedirs(os.path.join(folder, name))
    samples = list(zip(*files_of(photos)))
    parts = [samples[len(samples) * number // FILES:len(samples) * (number + 1) // FILES] for number in range(FILES)]
    for number, part in enumerate(parts):
        _tfrecord(os.path.join(folder, "tfrecord", "photos-%05d-of-%05d.tfrecord" % (number, FILES)), part)
        _tar(os.path.join(folder, "tar", "photos-%d.tar" % number), part)
    with zipfile.ZipFile(os.path.join(folder, "photos.zip"), "w", zipfile.ZIP_STORED) as archive:
        for path, _ in samples:
            archive.write(path, os.path.relpath(path, photos))
    for size in SIZES:
        _arrays(folder, size, samples)
    with open(done, "w") as file:
        file.write(RECIPE)


def _tfrecord(path: str, samples: List[Tuple[str, int]]) -> None:
    import tensorflow as tf
    with tf.python_io.TFRecordWriter(path) as writer:
        for name, label in samples:
            with open(name, "rb") as file:
                picture = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.read()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                "image/encoded": picture, "image/class/label": tf.train.Feature(
                    int64_list=tf.train.Int64List(value=[label]))})).SerializeToString())


def _tar(path: str, samples: List[Tuple[str, int]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, label in samples:
            key = os.path.splitext(os.path.basename(name))[0]
            tar.add(name, key + ".jpg")
            member = tarfile.TarInfo(key + ".cls")
            member.size = len(b"%d" % label)
            tar.addfile(member, io.BytesIO(b"%d" % label))


def _arrays(folder: str, size: int, samples: List[Tuple[str, int]]) -> None:
    h5py: Any = importlib.import_module("h5py")
    from PIL import Image
    pixels: Any = np.empty((len(samples), size, size, 3), np.uint8)
    for number, (path, _) in enumerate(samples):
        with Image.open(path) as picture:
            picture.draft("RGB", (size, size))
            pixels[number] = np.asarray(picture.resize((size, size)).convert("RGB"))
    labels = np.array([label for _, label in samples])
    np.save(os.path.join(folder, "npy", "%d.npy" % size), pixels)
    np.save(os.path.join(folder, "npy", "labels.npy"), labels)
    with h5py.File(os.path.join(folder, "hdf5", "%d.h5" % size), "w") as file:
        file.create_dataset("images", data=pixels)
        file.create_dataset("labels", data=labels)


if __name__ == "__main__":
    make(*sys.argv[1:])
