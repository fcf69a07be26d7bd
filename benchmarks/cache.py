"""Decode once: the rate of the first epoch, which fills the cache, of the second, and of the first after a restart.

Each round begins without a cache. A rate is measured from the first batch of an epoch to the first of the next one, in
a program that does nothing with the batches. Each picture has several names (hard links), so that an epoch out of the
cache lasts long enough; each name is a sample of its own, for the cache too.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from stoker.trainer.feed import open_stream
from benchmarks.end_to_end import pictures_made
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main, spread

WORKERS = os.path.abspath(os.path.join(".venv", "workers", "bin", "python"))
SCRATCH = os.path.join(".cache", "bench-cache")
PREFETCH = 16        # batches: those that are ready when an epoch begins count for its rate, so there are few
SETTLED_S = 2.5      # the cache does not store younger files
PARTS = 1920         # samples for measuring the parts of a hit


class Kind(NamedTuple):
    generator: str
    size: int
    names: int       # of each picture
    rounds: int


FULL = (Kind("image", 64, 6, 4), Kind("augmented", 64, 2, 2), Kind("image", 224, 3, 3))
HITS = 4             # epochs out of the cache in each round, of which the median counts
LEAST = {64: 40000.0, 224: 16000.0}     # images/s in the second epoch
QUICK = (Kind("image", 64, 2, 1),)


def run(quick: bool, say: Say) -> List[Table]:
    fact = pictures_made(say)["photos"]
    tables = []
    try:
        for kind in QUICK if quick else FULL:
            tables.append(_table(kind, fact, say))
        say("what a hit and its parts take")
        command = [WORKERS, "-c", "from benchmarks import cache; cache.measure_parts(%r)" % SCRATCH]
        found = json.loads(subprocess.check_output(command, timeout=120).decode())
        tables.append(Table("cache-parts", "Decode once: microseconds per sample in a worker on the newest Python",
                            ["what", "64 pixels", "224 pixels"], found,
                            ["Commits are made aside, by a thread of their own, synced, 4 MB at a time."],
                            [Goal("32 samples out of the cache at 64 pixels, in ms", found[0][1] * 32 / 1000, 1.0,
                                  True)]))
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    return tables


def _table(kind: Kind, fact: str, say: Say) -> Table:
    data, cache = os.path.join(SCRATCH, "data"), os.path.join(SCRATCH, "cache")
    samples = _link(data, kind.names)
    rounds: List[List[float]] = []
    for number in range(kind.rounds):
        shutil.rmtree(cache, ignore_errors=True)
        bare, (first, *hits) = _epochs(kind, data, None, 1), _epochs(kind, data, cache, 1 + HITS)
        rounds.append(bare + [first, spread(hits).median] + _epochs(kind, data, cache, 1))
        say("%s at %d, round %d: %s images/s" % (kind.generator, kind.size, number + 1,
                                                 ", ".join("%.0f" % rate for rate in rounds[-1])))
    rates = [spread(values) for values in zip(*rounds)]
    times = spread([second / first for _, first, second, _ in rounds]).median
    again = spread([again / second for _, _, second, again in rounds]).median
    rows = [[name, rate.median, rate.least, rate.most, rate.median / rates[1].median] for name, rate in zip(
        ("without a cache", "first epoch, which fills it", "second epoch and those after it",
         "first epoch after a restart"), rates)]
    goals = []
    if kind.generator == "image":
        goals = [Goal("the second epoch at %d pixels, images/s" % kind.size, rates[2].median, LEAST[kind.size])]
    if (kind.generator, kind.size) == ("image", 64):
        goals += [Goal("the second epoch, times the first epoch's rate", times, 6.0),
                  Goal("the first epoch after a restart, times the second epoch's rate", again, 0.8)]
    return Table("cache-%s-%d" % (kind.generator, kind.size),
                 "Decode once: %s at %d pixels, two workers on the newest Python" % (kind.generator, kind.size),
                 ["epoch", "images/s", "least", "most", "times the first"], rows,
                 ["%s, under %d names each: %s samples. %d round%s." % (
                     fact, kind.names, format(samples, ","), kind.rounds, "s" * (kind.rounds > 1))], goals)


def _link(data: str, names: int) -> int:
    """Makes the samples; how many there are."""
    shutil.rmtree(data, ignore_errors=True)
    count = 0
    for folder in ("negative", "positive"):
        os.makedirs(os.path.join(data, folder))
        for picture in os.listdir(os.path.join(FOLDER, "photos", folder)):
            for number in range(names):
                os.link(os.path.join(FOLDER, "photos", folder, picture),
                        os.path.join(data, folder, "%d-%s" % (number, picture)))
                count += 1
    time.sleep(SETTLED_S)
    return count


def _epochs(kind: Kind, data: str, cache: Optional[str], count: int) -> List[float]:
    """The rate of each epoch."""
    begun_s: Dict[int, float] = {}
    images: Dict[int, int] = {}
    with open_stream(data, generator=kind.generator, image_size=kind.size, epochs=count, seed=1, worker_python=WORKERS,
                     workers=2, prefetch=PREFETCH, cache=cache, cache_gb=8) as stream:
        for batch in stream:
            begun_s.setdefault(batch.epoch, time.perf_counter())
            images[batch.epoch] = images.get(batch.epoch, 0) + len(batch)
        begun_s[count] = time.perf_counter()
    return [images[epoch] / (begun_s[epoch + 1] - begun_s[epoch]) for epoch in range(count)]


def measure_parts(scratch: str) -> None:
    """For a worker's Python: prints the rows of the table of parts."""
    from stoker.pipeline.arrays import keep_freed_memory
    from stoker.pipeline.protocol.messages import Lease, Sample
    keep_freed_memory()
    root = os.path.abspath(os.path.join(scratch, "data"))
    paths = sorted(os.path.join(folder, name) for folder in ("negative", "positive")
                   for name in os.listdir(os.path.join(root, folder)))[:PARTS]
    samples = [Sample(index, path, 0) for index, path in enumerate(paths)]
    leases = [Lease(1, 0, 0, True, tuple(samples[begin:begin + 32])) for begin in range(0, len(samples), 32)]
    columns = [_parts(size, leases, paths, root, os.path.join(scratch, "parts")) for size in (64, 224)]
    names = ("out of the cache, all that the generator does", "of that the look-up, the checks and the copy",
             "decoded, all that the generator does", "commit, aside")
    json.dump([[name] + [column[row] for column in columns] for row, name in enumerate(names)], sys.stdout)


def _parts(size: int, leases: Sequence[Any], paths: Sequence[str], root: str, folder: str) -> Sequence[float]:
    """A column of that table."""
    from stoker.pipeline.arrays import ArraySpec
    from stoker.pipeline.protocol.messages import Job
    from stoker.pipeline.storage.folder import resolve
    from stoker.workers.generators import pictures
    from stoker.workers.cache import Cache
    job = Job("image", (ArraySpec("images", "uint8", (size, size, 3)), ArraySpec("labels", "int32", (1,))), 32, 0,
              "fastest", root, image_size=(size, size))

    def produce(cache: Optional[Cache] = None) -> None:
        for _ in pictures.image(iter(leases), pictures.with_cache(job, cache)):
            pass

    decoded_us = _us(produce, len(paths))
    cache = Cache(folder, 8.0, lambda text, error: None)
    kind = cache.kind(job.height_width, job.decode, job.exif_rotate)
    assert kind is not None and kind._file is not None
    file, spent_s = kind._file, []
    store = file._store

    def timed() -> None:
        begun_s = time.perf_counter()
        store()
        spent_s.append(time.perf_counter() - begun_s)

    file._store = timed  # type: ignore[method-assign]
    produce(cache)
    cache.close()
    kind = cache.kind(job.height_width, job.decode, job.exif_rotate)
    assert kind is not None
    batch_us = min(_us(lambda: produce(cache), len(paths)) for _ in range(5))
    sample_paths, pixels = [resolve(root, path) for path in paths], np.empty((size, size, 3), np.uint8)

    def look_up() -> None:
        for path in sample_paths:
            kind.get(path, pixels)

    hit_us = min(_us(look_up, len(paths)) for _ in range(5))
    cache.close()
    return batch_us, hit_us, decoded_us, 1e6 * sum(spent_s) / len(paths)


def _us(do: Callable[[], None], count: int) -> float:
    begun_s = time.perf_counter()
    do()
    return 1e6 * (time.perf_counter() - begun_s) / count


if __name__ == "__main__":
    main(run, __doc__)
