"""Stoker over data that lies in some form at some place, into a placeholder of TensorFlow 1.9.

Way: JSON of {"form": a name of ``source_of``, "root": folder or URL, "files": names below it, if ``form`` is "files",
further arguments of ``open_stream``}.
"""

from __future__ import generator_stop

import json
from typing import Any, Dict, Iterator

import stoker
from stoker.pipeline.options import StreamOptions
from benchmarks.contenders.protocol import BATCH, arguments, files_of, serve
from benchmarks.contenders.trainer_1_9 import fed

PREFETCH = StreamOptions().prefetch


def source_of(form: str, root: str, folder: str, size: int) -> Any:
    """The data of ``benchmarks.packed`` in ``root``, or the pictures of ``folder`` there."""
    if form == "folder":
        return root
    if form == "files":         # a web server lists none
        paths, labels = files_of(folder)
        classes = sorted({path.split("/")[-2] for path in paths})
        return stoker.Dataset(root, tuple(classes), tuple("/".join(path.split("/")[-2:]) for path in paths),
                              tuple(labels), ())
    arguments: Dict[str, Any] = {"npy": {"labels": root + "/npy/labels.npy"},
                                 "hdf5": {"dataset": "images", "labels": "labels"}}.get(form, {})
    pattern = {"tfrecord": "tfrecord/photos-{00000..00003}-of-00004.tfrecord", "tar": "tar/photos-{0..3}.tar",
               "zip": "photos.zip", "npy": "npy/%d.npy" % size, "hdf5": "hdf5/%d.h5" % size}[form]
    return getattr(stoker, form)("%s/%s" % (root, pattern), **arguments)


def batches(way: str, folder: str, size: int) -> Iterator[int]:
    options = json.loads(way)
    data = source_of(options.pop("form"), options.pop("root"), folder, size)
    with stoker.open_stream(data, image_size=size, batch_size=BATCH, epochs=10000, seed=1, **options) as stream:
        yield from fed(((batch.images, batch.labels) for batch in stream), size, "uint8")


if __name__ == "__main__":
    serve(batches(*arguments()), PREFETCH + 2)
