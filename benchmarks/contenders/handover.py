"""The least that any pipeline into TensorFlow 1.9 does besides decoding: a process per core decodes into shared memory,
a byte in a pipe says which batch is there, and a session is fed from that memory.

It has no order, no checks, no other hosts, and hangs if a process dies. So what Stoker takes more than this is what its
promises cost.

With the URL of a web server, which has the same files, threads read ahead of the decoder with the fewest calls that a
read takes: no retries, no limits, no other servers, and every answer must be as nginx's.

Way: MODE:WORKER_PYTHON[:URL]. As a program with further arguments, it is one of the processes that decode.
"""

from __future__ import generator_stop

import mmap
import os
import queue
import socket
import subprocess
import sys
import threading
from typing import Any, Iterator, List, Tuple
from urllib.parse import urlsplit

import numpy as np

from benchmarks.contenders.limit import content, decoder
from benchmarks.contenders.protocol import BATCH, arguments, serve, shuffled

AHEAD = 3       # batches in the memory of each process
READS = 64      # under way, of each process: as many as Stoker's at most


def decode(mode: str, url: str, folder: str, size: int, number: int, memory: int, orders: int, done: int) -> None:
    """One process: makes a batch in the place of each byte that comes, and says so."""
    load = decoder(mode, size)
    files = read(shuffled(folder, number), url, folder) if url else (
        (content(path), label) for path, label in shuffled(folder, number))
    places = _places(memory, size)
    while True:
        order = os.read(orders, 1)
        if not order:
            return
        images, labels = places[order[0]]
        for row in range(BATCH):
            data, label = next(files)
            images[row] = load(data)
            labels[row] = label
        os.write(done, order)


def read(files: Iterator[Tuple[str, int]], url: str, folder: str) -> Iterator[Tuple[bytes, int]]:
    """The contents and labels of ``files``, in the order in which they come, from ``url`` instead of ``folder``."""
    wanted: "queue.SimpleQueue[Tuple[str, int]]" = queue.SimpleQueue()
    there: "queue.SimpleQueue[Tuple[bytes, int]]" = queue.SimpleQueue()
    parts = urlsplit(url)

    def fetch() -> None:
        assert parts.hostname and parts.port
        connection = socket.create_connection((parts.hostname, parts.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            path, label = wanted.get()
            connection.sendall(b"GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n" % (
                parts.path.encode(), path[len(folder):].encode()))
            data = connection.recv(1 << 17)
            end = data.index(b"\r\n\r\n") + 4
            assert data.startswith(b"HTTP/1.1 200 "), data[:60]
            length = int(data[data.index(b"Content-Length: ") + 16:end].split(b"\r", 1)[0])
            data = data[end:]
            while len(data) < length:
                data += connection.recv(length - len(data), socket.MSG_WAITALL)
            there.put((data, label))

    for _ in range(READS):
        wanted.put(next(files))
        threading.Thread(target=fetch, daemon=True).start()
    while True:
        yield there.get()
        wanted.put(next(files))


def batches(way: str, folder: str, size: int) -> Iterator[int]:
    from benchmarks.contenders.trainer_1_9 import fed
    mode, python, url = (way.split(":", 2) + [""])[:3]
    cores = os.cpu_count() or 1
    memory = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(memory, cores * AHEAD * _place_bytes(size))
    places, (heard, done) = _places(memory, size), os.pipe()
    orders: List[int] = []
    for number in range(cores):
        own, order = os.pipe()
        subprocess.Popen([python, "-m", "benchmarks.contenders.handover", mode, url, folder, str(size),
                          str(number), str(memory), str(own), str(done)], pass_fds=[memory, own, done],
                         stdin=subprocess.DEVNULL)
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
        decode(sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:9]))
    else:
        serve(batches(*arguments()), (os.cpu_count() or 1) * AHEAD)
