"""tensorpack's three ways of doing the work in other processes, into a placeholder of TensorFlow 1.9. On CPython 3.6.

Ways: map (MultiProcessMapData), runner (MultiProcessRunnerZMQ), remote (RemoteDataZMQ); runner-cv2: OpenCV in place of
PIL. uint8 travels. The map is over whole batches, not over pictures: so it has the fewest messages.
"""

from __future__ import generator_stop

import multiprocessing
import os
from typing import Any, Iterator, List

import cv2
import numpy as np
from PIL import Image
from tensorpack.dataflow import BatchData, DataFlow, MapData, MultiProcessMapData, MultiProcessRunnerZMQ, RemoteDataZMQ
from tensorpack.dataflow.remote import send_dataflow_zmq

from benchmarks.contenders.protocol import BATCH, arguments, serve, shuffled
from benchmarks.contenders.trainer_1_9 import fed

HELD = 2        # batches that each end of a pipe may hold


class Files(DataFlow):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[List[Any]]:
        for path, label in shuffled(self.folder, os.getpid()):
            yield [path, np.array([label], np.int32)]


def flow(way: str, folder: str, size: int) -> DataFlow:
    def load(path: str) -> np.ndarray:
        return np.asarray(Image.open(path).resize((size, size)).convert("RGB"))

    def load_cv2(path: str) -> np.ndarray:
        return cv2.resize(cv2.imread(path), (size, size))[:, :, ::-1]

    cores = os.cpu_count() or 1
    files = Files(folder)
    if way == "map":
        paths = BatchData(files, BATCH, use_list=True)
        return MultiProcessMapData(paths, cores, lambda point: [np.array([load(path) for path in point[0]]),
                                                                np.array(point[1])], buffer_size=cores * HELD)
    if way.endswith("cv2"):
        cv2.setNumThreads(0)
        load = load_cv2
    batches = BatchData(MapData(files, lambda point: [load(point[0]), point[1]]), BATCH)
    if way.startswith("runner"):
        return MultiProcessRunnerZMQ(batches, cores, hwm=HELD)
    address = "ipc://@benchmark-%d" % os.getpid()
    for _ in range(cores):
        multiprocessing.Process(target=send, args=(batches, address), daemon=True).start()
    return RemoteDataZMQ(address, hwm=HELD)


def send(batches: DataFlow, address: str) -> None:
    send_dataflow_zmq(batches, address, hwm=HELD)


def main() -> None:
    way, folder, size = arguments()
    batches = flow(way, folder, size)
    batches.reset_state()
    # every process has what both ends of its pipe hold, what the kernel holds, and one in work
    serve(fed(iter(batches), size, "uint8"), (os.cpu_count() or 1) * (2 * HELD + 2))


if __name__ == "__main__":
    main()
