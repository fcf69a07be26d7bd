"""The run that ``looking`` measures: Stoker as users run it, into a placeholder of TensorFlow 1.9, with a status
address.

    python -m benchmarks.looked_at FOLDER SIZE WORKERS WORKER_PYTHON TIMES

First it writes a line of JSON: its status address, and the numbers of its threads. It writes the time of each batch
that was used to the file TIMES, so that it need not be asked: an int64, how many, and that many float64, seconds of
the system's monotonic clock. It ends with its standard input.
"""

from __future__ import generator_stop

import ctypes
import json
import mmap
import os
import sys
import threading
import time
from typing import Any, Dict, Iterator

import numpy as np

MAX_TIMES = 1 << 20
HEADER_BYTES = 8
BATCH = 32


def thread_ids() -> Dict[str, int]:
    """The kernel's number of each thread of Python in this process, by its name."""
    library, found = ctypes.CDLL(None), {}
    for thread in threading.enumerate():
        clock = ctypes.c_int()
        # a thread's clock is known by its number, which Python 3.6 does not tell: ~number << 3 | 6
        if library.pthread_getcpuclockid(ctypes.c_ulong(thread.ident or 0), ctypes.byref(clock)) == 0:
            found[thread.name] = ~(clock.value >> 3)
    return found


class Times:
    """The times of batches in a file. One process adds, others read."""

    def __init__(self, path: str) -> None:
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.truncate(HEADER_BYTES + 8 * MAX_TIMES)
        with open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        self._count = np.frombuffer(memory, np.int64, 1)
        self._times = np.frombuffer(memory, np.float64, MAX_TIMES, HEADER_BYTES)

    def add(self, now: float) -> None:
        count = int(self._count[0])
        self._times[count % MAX_TIMES] = now
        self._count[0] = count + 1

    def rate(self, begin_s: float, end_s: float) -> float:
        """Batches a second between the first and the last one in this time. The last MAX_TIMES are known."""
        times = self._times[:min(int(self._count[0]), MAX_TIMES)]
        within = np.sort(times[(times >= begin_s) & (times <= end_s)])
        return (len(within) - 1) / float(within[-1] - within[0]) if len(within) > 1 else 0.0

    def __len__(self) -> int:
        return int(self._count[0])


def used(stream: Any, size: int) -> Iterator[int]:
    from benchmarks.contenders.trainer_1_9 import fed
    return fed(((batch.images, batch.labels) for batch in stream), size, "uint8")


def main() -> None:
    from stoker.trainer.feed import open_stream
    folder, size, workers, python, times_path = sys.argv[1:]
    times = Times(times_path)
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()
    threading.Thread(target=wait_for_end, name="input", daemon=True).start()
    with open_stream(folder, image_size=int(size), batch_size=BATCH, epochs=100000, seed=1, drop_last=True,
                     decode="fastest", workers=int(workers), worker_python=python, status="127.0.0.1:0") as stream:
        is_told = False
        for _ in used(stream, int(size)):
            times.add(time.monotonic())
            if not is_told:
                url = str(stream.status_url).rpartition("/")[0]
                print(json.dumps({"url": url, "threads": thread_ids()}), flush=True)
                is_told = True
            if ended.is_set():
                break


if __name__ == "__main__":
    main()
