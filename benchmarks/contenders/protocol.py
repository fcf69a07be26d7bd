"""The messages of a contender: it reads lines from standard input and answers in a pipe. For Python 3.6 to the newest.

    contender                    benchmark
    ready                        (when its first batch was consumed; now it is suspended)
                                 go SECONDS
    IMAGES SECONDS CPU_SECONDS   (suspended again, until its next turn or its end)

Between its turns a contender is suspended with all its processes: so it costs nothing, and need not start again.
Batches that were buffered before a turn must not count. After the start the buffers are full: in its first turn a
contender first consumes ``buffered`` batches, more than all its buffers can hold. At the end of a turn the buffers are
as usual for a consumer that is as fast as it can be, and a few milliseconds later it is suspended: in later turns it
consumes SETTLE batches for each core before it counts.
"""

from __future__ import generator_stop

import os
import random
import sys
import time
from typing import Any, Callable, Iterator, List, Tuple

#: A variable in the environment of all processes of a contender, by which they are found, also in other sessions.
MARK = "BENCHMARK_CONTENDER"
#: The variable with the file descriptor for its answers. Libraries print on the standard output.
ANSWERS = "BENCHMARK_ANSWERS"
BATCH = 32
SETTLE = 2
#: Samples of one epoch: so many that no measurement meets its end, where some peers pause to refill.
EPOCH = 400000


def serve(batches: Iterator[int], buffered: int) -> None:
    """Consumes ``batches``, each the number of its images, during its turns. Returns at the end of the input."""
    ahead = [buffered]

    def measure(seconds: float) -> Tuple[float, float]:
        for _ in range(ahead[0]):
            next(batches)
        ahead[0] = min(buffered, SETTLE * (os.cpu_count() or 1))
        images, begin = 0, time.perf_counter()
        while True:
            images += next(batches)
            passed = time.perf_counter() - begin
            if passed >= seconds:
                return images, passed
    serve_with(measure, lambda: next(batches))


def serve_with(measure: Callable[[float], Tuple[float, float]], first: Callable[[], Any]) -> None:
    """Writes 'ready' after ``first()``, and answers each 'go SECONDS' with the result of ``measure``: images,
    seconds."""
    answers = os.fdopen(int(os.environ.get(ANSWERS, "1")), "w")
    first()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        word, seconds = line.split()
        assert word == "go", line
        cpu_s, begin = cpu_of_all_s(), time.perf_counter()
        images, passed = measure(float(seconds))
        # the batches that were not counted cost CPU as well: the share of the time that was
        cpu_s = (cpu_of_all_s() - cpu_s) * passed / (time.perf_counter() - begin)
        print("%g %.6f %.3f" % (images, passed, cpu_s), file=answers, flush=True)


def marked(mark: str) -> List[int]:
    """The processes that have ``mark`` (NAME=value) in their environment."""
    found = []
    wanted = mark.encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/environ" % name, "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:     # it has ended, or belongs to another user
                pass
    return found


def trackers_of(mark: str) -> List[int]:
    """Those of them in which ``multiprocessing`` keeps track of semaphores and shared memory with names, to remove them
    when all that use them are gone."""
    found = []
    for pid in marked(mark):
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                if b"_tracker import main" in file.read():      # semaphore_tracker up to Python 3.7, resource_tracker
                    found.append(pid)
        except OSError:
            pass
    return found


def cpu_of_all_s() -> float:
    """CPU seconds that this contender's living processes have used so far."""
    ticks = 0
    for pid in marked("%s=%s" % (MARK, os.environ[MARK])) if MARK in os.environ else [os.getpid()]:
        try:
            with open("/proc/%d/stat" % pid) as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def files_of(folder: str) -> Tuple[List[str], List[int]]:
    """The pictures in the class folders below ``folder``, and their labels."""
    paths, labels = [], []
    classes = [name for name in sorted(os.listdir(folder)) if os.path.isdir(os.path.join(folder, name))]
    for label, name in enumerate(classes):
        for file in sorted(os.listdir(os.path.join(folder, name))):
            paths.append(os.path.join(folder, name, file))
            labels.append(label)
    return paths, labels


def long_epoch(folder: str) -> Tuple[List[str], List[int]]:
    """``files_of`` the folder again and again, EPOCH of them, for peers that shuffle by themselves."""
    paths, labels = files_of(folder)
    times = EPOCH // len(paths)
    return paths * times, labels * times


def shuffled(folder: str, seed: int) -> Iterator[Tuple[str, int]]:
    """Paths and labels of ``folder`` for ever, in another order each time, for peers that cannot shuffle."""
    samples = list(zip(*files_of(folder)))
    draw = random.Random(seed)
    while True:
        draw.shuffle(samples)
        for path, label in samples:
            yield path, label


def arguments() -> Tuple[str, str, int]:
    """WAY FOLDER SIZE."""
    return sys.argv[1], sys.argv[2], int(sys.argv[3])
