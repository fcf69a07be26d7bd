"""tf.data of a current TensorFlow, and its tf.data service with one worker process per core, consumed as numpy arrays.

Ways: tfdata, service.
"""

from __future__ import generator_stop

import os
import subprocess
import sys
from typing import Any, Iterator, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf

from benchmarks.contenders.protocol import BATCH, arguments, files_of, serve

HELD = 4


def decoded(folder: str, size: int, calls: int) -> Any:
    paths, labels = files_of(folder)

    def load(path: Any, label: Any) -> Any:
        data = tf.io.read_file(path)
        image = tf.io.decode_png(data, channels=3) if paths[0].endswith("png") else tf.io.decode_jpeg(data, channels=3)
        return tf.image.resize(image, [size, size]), label      # bilinear, float32 0..255

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
    return dataset.map(load, num_parallel_calls=calls, deterministic=False).batch(BATCH)


def numpy_of(dataset: Any) -> Iterator[int]:
    for images, _ in dataset.as_numpy_iterator():
        yield len(images)


def service(folder: str, size: int) -> Iterator[int]:
    cores = os.cpu_count() or 1
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    workers: List[Any] = [subprocess.Popen([sys.executable, "-m", __spec__.name, "worker", address, "0"])
                          for _ in range(cores)]
    dataset = decoded(folder, size, tf.data.AUTOTUNE).prefetch(1).apply(tf.data.experimental.service.distribute(
        "parallel_epochs", dispatcher.target, max_outstanding_requests=cores * HELD))
    yield from numpy_of(dataset)
    del workers


def main() -> None:
    way, folder, size = arguments()
    if way == "worker":
        config = tf.data.experimental.service.WorkerConfig(dispatcher_address=folder)
        tf.data.experimental.service.WorkerServer(config).join()
    elif way == "service":
        serve(service(folder, size), (os.cpu_count() or 1) * (2 * HELD + 2))
    else:
        serve(numpy_of(decoded(folder, size, tf.data.AUTOTUNE).prefetch(HELD)), 2 * HELD)


if __name__ == "__main__":
    main()
