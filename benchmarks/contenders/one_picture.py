"""What one picture costs a worker: ``benchmarks/memory.py`` runs it in a process of its own for each.

    python -m benchmarks.contenders.one_picture FOLDER FILE DECODE EXIF_ROTATE

Decodes the file below the folder as a worker does, with the usual limits but that of CPU time, and all formats named.
Prints JSON: the most memory above that of the idle process in MB, seconds of CPU time, and why the file is bad, or ''.
"""

import json
import sys
import time

from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import JobOptions, StreamOptions, WorkerOptions
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.workers.generators.registry import open_producer
from tests.support.hostile_pictures import tiny

SIZE = (64, 64)


def lease(path: str) -> Lease:
    return Lease(1, 0, 1, False, (Sample(0, path, -1),))


def peak_kb() -> int:
    """The most memory since ``clear_peak``."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def clear_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main(folder: str, path: str, decode: str, exif_rotate: str) -> None:
    options = JobOptions(image_size=SIZE, batch_size=1, labels=False, decode=decode)
    job = Job("image", options.arrays, 1, 0, decode, folder, exif_rotate == "1", image_size=SIZE,
              picture_memory_mb=StreamOptions().memory_mb_of(options), formats=FORMATS)
    producer = open_producer(job, WorkerOptions("tcp://127.0.0.1:1"))
    for suffix in tiny():                # what is imported and kept once, whatever the picture
        producer.produce(lease("tiny." + suffix))
    clear_peak()
    idle_kb, start_s = peak_kb(), time.process_time()
    skipped = producer.produce(lease(path)).skipped
    print(json.dumps({"mb": (peak_kb() - idle_kb) / 1024, "cpu_s": time.process_time() - start_s,
                      "bad": skipped[0].reason if skipped else ""}))


if __name__ == "__main__":
    main(*sys.argv[1:])
