"""Own data: what a function per sample costs beside the generator ``image``, and what a million rows of a CSV cost.

The functions run in one process of the newest Python, without a trainer: of each kind, the same leases in turn, in
alternating rounds. CPU time counts. The rows are opened in the trainer's Python.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np

import stoker
from benchmarks.end_to_end import pictures_made
from benchmarks.pictures import FOLDER
from benchmarks.table import Goal, Say, Table, main, spread

WORKERS = os.path.abspath(os.path.join(".venv", "workers", "bin", "python"))
BATCH, PICTURES, ROUNDS = 32, 640, 5
ROWS, LEASES = 1000000, 2000
#: What each kind is compared with, and the least ratio of the rates. Mixup decodes two pictures for each sample.
KINDS = (("image", 1.0), ("sample function", 0.95), ("sample function, mixup", 0.45))
GOALS = {64: 0.95, 224: 0.98}


def picture(sample: Any, random: random.Random) -> Any:
    """What the generator ``image`` does."""
    return {"images": sample.image(size=SIZE[0]), "labels": [sample.label]}


def mixed(sample: Any, random: random.Random) -> Any:
    """Mixup, whose shares are those of the labels."""
    share = random.betavariate(0.2, 0.2)
    own, other = (np.asarray(each.image(size=SIZE[0]), np.float32) for each in (sample, sample.partners[0]))
    return {"images": (share * own + (1.0 - share) * other).astype(np.uint8), "labels": [sample.label]}


SIZE = [(64, 64)]      # of the present round


def run(quick: bool, say: Say) -> List[Table]:
    fact = pictures_made(say)["photos"]
    say("functions of samples")
    return [functions(os.path.join(FOLDER, "photos"), 1 if quick else ROUNDS, fact),
            rows(ROWS // 10 if quick else ROWS, say)]


def functions(root: str, rounds: int, fact: str) -> Table:
    """The table of what the functions cost, for the JPEGs in the class folders of ``root``."""
    command = [WORKERS, "-c", "from benchmarks import own; own.measure(%r, %d)" % (os.path.abspath(root), rounds)]
    measured = json.loads(subprocess.check_output(command, timeout=600).decode())
    found, goals = [], []
    for size, by_kind in sorted((int(size), by_kind) for size, by_kind in measured.items()):
        for name, least in KINDS:
            ratio = spread([plain / own for plain, own in zip(by_kind["image"], by_kind[name])])
            found.append(["%s at %d" % (name, size), spread(by_kind[name]).median, ratio.median, ratio.least,
                          ratio.most])
            if name != "image":
                goals.append(Goal("%s at %d pixels, times the rate of image" % (name, size), ratio.median,
                                  GOALS[size] if name == "sample function" else least))
    return Table("own-functions", "Own functions: CPU time per sample in a worker on the newest Python",
                 ["function", "us per sample", "rate, times image", "least", "most"], found,
                 [fact, "%d alternating rounds of %d samples; mixup decodes two pictures for each"
                  % (rounds, PICTURES)],
                 goals)


def measure(root: str, rounds: int) -> None:
    """For a worker's Python: prints {size: {kind: [us per sample in each round]}}."""
    from stoker.pipeline.arrays import keep_freed_memory
    keep_freed_memory()
    print(json.dumps({size: _measured(root, (size, size), rounds) for size in (64, 224)}))


def _measured(root: str, size: Tuple[int, int], rounds: int) -> Dict[str, List[float]]:
    from stoker.pipeline.protocol.messages import Job, Lease
    from stoker.workers.generators.pictures import image
    from stoker.workers.generators.sample import call_for_samples
    SIZE[0] = size
    source = stoker.scan_folder(root)
    job = stoker.JobOptions(image_size=size)
    sent = Job("image", job.arrays, BATCH, 0, job.decode, source.root, image_size=job.image_size)
    own = {spec.name: (spec.dtype, spec.shape) for spec in job.arrays}
    every = range(0, min(PICTURES, len(source)), BATCH)
    plain = [Lease(1, 0, 0, True, source.samples(range(start, start + BATCH))) for start in every]
    partnered = [Lease(1, 0, 0, True, tuple(sample._replace(partners=source.samples([sample.index ^ 1]))
                                            for sample in lease.samples)) for lease in plain]

    def consume(outputs: Iterable[Any]) -> None:
        for _ in outputs:
            pass

    kinds = {"image": lambda: consume(image(iter(plain), sent)),
             "sample function": lambda: consume(call_for_samples(stoker.sample(own)(picture), iter(plain), sent)),
             "sample function, mixup": lambda: consume(
                 call_for_samples(stoker.sample(own)(mixed), iter(partnered), sent))}
    times: Dict[str, List[float]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name, produce in kinds.items():
            begun_s = time.process_time()
            produce()
            if number:                      # the first round fills caches
                times[name].append(1e6 * (time.process_time() - begun_s) / (BATCH * len(plain)))
    return times


def rows(count: int, say: Say) -> Table:
    """The table of what a CSV of ``count`` rows costs in this process, and its leases beside those of a folder."""
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        path = os.path.join(folder, "rows.csv")
        say("a CSV of %d rows" % count)
        with open(path, "w") as file:
            file.write("path,a,b,c,d\n")
            draw = random.Random(0)
            for number in range(count):
                file.write("%03d/%07d.jpg,%.6f,%.6f,%.6f,%.6f\n" % (
                    number % 1000, number, draw.random(), draw.random(), draw.random(), draw.random()))
        opened = json.loads(subprocess.check_output(
            [sys.executable, "-c", "from benchmarks import own; own.measure_rows(%r)" % path], timeout=300).decode())
    found = [["opened, s", opened["opened_s"]], ["more memory at the peak, MB", opened["peak_mb"]],
             ["a lease of %d rows, us" % BATCH, opened["rows_us"]],
             ["a lease of %d files of a folder, us" % BATCH, opened["folder_us"]]]
    goals = [Goal("a million rows opened, in s", opened["opened_s"] * 1e6 / count, 10.0, True),
             Goal("more memory at the peak, in MB", opened["peak_mb"] * 1e6 / count, 160.0, True),
             Goal("a lease of rows, times one of files", opened["rows_us"] / opened["folder_us"], 1.1, True)]
    return Table("own-rows", "Rows: a CSV of %s rows with a path and four floats, in the trainer" % format(count, ","),
                 ["what", "figure"], found, ["A lease is planned, filled and encoded; CPU time, median of rounds."],
                 goals)


def measure_rows(path: str) -> None:
    """Prints the figures of the CSV at ``path``."""
    from stoker.pipeline.plan import Plan
    from stoker.pipeline.protocol import codec
    from stoker.pipeline.protocol.messages import Lease
    from stoker.pipeline.sources.dataset import Dataset
    before_kb, begun_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    table = stoker.csv(path)
    opened_s = time.perf_counter() - begun_s
    peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    names = tuple("%03d/%07d.jpg" % (number % 1000, number) for number in range(len(table)))
    files = Dataset("/data", ("a", "b"), names, (0, 1) * (len(table) // 2), ())
    plan = Plan(len(table), BATCH, 1, 0)
    plan.at(0)

    def lease_us(source: Any) -> float:
        begun_s = time.process_time()
        for position in range(LEASES):
            planned = plan.at(position, False)
            codec.encode(Lease(position, position, 0, True, source.samples(planned.indices)))
        return 1e6 * (time.process_time() - begun_s) / LEASES

    taken = [(lease_us(table), lease_us(files)) for _ in range(ROUNDS)]
    rows_us, folder_us = (spread(column).median for column in zip(*taken))
    print(json.dumps({"opened_s": opened_s, "peak_mb": peak_mb, "rows_us": rows_us, "folder_us": folder_us}))


if __name__ == "__main__":
    main(run, __doc__)
