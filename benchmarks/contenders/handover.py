"""The least that any pipeline into TensorFlow 1.9 does besides decoding: a process per core decodes into shared memory,
a byte in a pipe says which batch is there, and a session is fed from that memory.

It has no order, no checks, no other hosts, and hangs if a process dies. So what Stoker takes more than this is what its
promises cost.

Way: MODE:WORKER_PYTHON. As a program with three further arguments, it is one of the processes that decode.
"""

from __future__ import generator_stop

import mmap
import os
import subprocess
import sys
from typing import Any, Iterator, List

import numpy as np

from benchmarks.contenders.limit import loader
from benchmarks.contenders.protocol import BATCH, arguments, serve, shuffled

AHEAD = 3       # batches in the memory of each process


def decode(way: str, folder: str, size: int, number: int, memory: int, orders: int, done: int) -> None:
    """One process: makes a batch in the place of each byte that comes, and says so."""
    load, files = loader(way, size), shuffled(folder, number)
    places = _places(memory, size)
    while True:
        order = os.read(orders, 1)
        if not order:
            return
        images, labels = places[order[0]]
        for row in range(BATCH):
            path, label = next(files)
            images[row] = load(path)
            labels[row] = label
        os.write(done, order)


def batches(way: str, folder: str, size: int) -> Iterator[int]:
    from benchmarks.contenders.trainer_1_9 import fed
    mode, python = way.split(":")
    cores = os.cpu_count() or 1
    memory = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(memory, cores * AHEAD * _place_bytes(size))
    places, (heard, done) = _places(memory, size), os.pipe()
    orders: List[int] = []
    for number in range(cores):
        own, order = os.pipe()
        subprocess.Popen([python, "-m", "benchmarks.contenders.handover", mode, folder, str(size), str(number),
                          str(memory), str(own), str(done)], pass_fds=[memory, own, done], stdin=subprocess.DEVNULL)
        os.close(own)
        os.write(order, bytes(range(number * AHEAD, (number + 1) * AHEAD)))
        orders.append(order)

    def made() -> Iterator[Any]:
        while True:
            place = os.read(heard, 1)[0]
            yield places[place]
            os.write(orders[place // AHEAD], bytes([place]))
    return fed(made(), size, "uint8")


def _place_bytes(size: int) -> int:
    return -(-BATCH * (3 * size * size + 4) // 4096) * 4096


def _places(memory: int, size: int) -> List[Any]:
    """(images, labels) of each batch in this memory."""
    room, found = mmap.mmap(memory, 0), []
    for start in range(0, len(room), _place_bytes(size)):
        images = np.ndarray((BATCH, size, size, 3), np.uint8, room, start)
        found.append((images, np.ndarray((BATCH, 1), np.int32, room, start + images.nbytes)))
    return found


if __name__ == "__main__":
    if len(sys.argv) > 4:
        decode(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:8]))
    else:
        serve(batches(*arguments()), (os.cpu_count() or 1) * AHEAD)
