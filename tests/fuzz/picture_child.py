"""The expendable process of fuzz_pictures.py: makes pictures of a seed, and decodes each as a worker does.

    python -m tests.fuzz.picture_child '{"root": ..., "corpus": ..., "seed": 0, "cpu_s": 5, "memory_mb": 1536}'

Reads lines of two numbers, and decodes the pictures from the first one up to the second. Says a line of JSON of each:
[number, name of its corpus, outcome, reason, ms of CPU time, most memory of this process so far in KB]. With the key
``named``, a file below ``root``, it asks the quarantine instead, and prints what the trainer would list.
"""

import json
import os
import random
import sys
import time
import warnings

from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import JobOptions, WorkerOptions
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.generators.registry import open_producer
from stoker.workers.quarantine import Streak, test_in_quarantine
from stoker.workers.readers import Readers
from tests.fuzz.picture_mutation import PictureMutator
from tests.support.pillow_pictures import MORE

FILE = "picture"
HOSTILE = "hostile-"         # how the names of files begin that are nasty before they are mutated
OPTIONS = WorkerOptions("tcp://127.0.0.1:1")
OF_ONE_JOB = 250             # pictures in a row that are decoded by the same job
#: What differs between the jobs: (decode, exif_rotate, truncated).
JOBS = (("fastest", False, "bad"), ("exact", True, "bad"), ("fast", True, "use"), ("sampled", False, "use"))


def job_of(number, root, cpu_s, memory_mb):
    """The job by which picture ``number`` is decoded."""
    decode, exif_rotate, truncated = JOBS[number // OF_ONE_JOB % len(JOBS)]
    options = JobOptions(image_size=(48, 64), batch_size=1, labels=False, decode=decode,
                         exif_rotate=exif_rotate, truncated=truncated)
    return Job("image", options.arrays, 1, 0, decode, root, exif_rotate, image_size=(48, 64), truncated=truncated,
               picture_cpu_s=cpu_s, picture_memory_mb=memory_mb, formats=FORMATS)


def lease_of(number, name=FILE, isolated=False):
    """The lease of one picture."""
    return Lease(number + 1, number, 1, False, (Sample(number, name, -1),), (), isolated)


def corpus_in(folder):
    """Two sorted lists of (name, content): of honest files, and of hostile ones."""
    honest, hostile = [], []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            (hostile if name.startswith(HOSTILE) else honest).append((name, file.read()))
    return honest, hostile


def peak_kb():
    """The most memory that this process has had."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


class Decoder:
    """Decodes as a worker does, with the limits of the jobs."""

    def __init__(self, root, cpu_s, memory_mb):
        self._given, self._root = (root, cpu_s, memory_mb), root
        self._job = self._producer = None

    def outcome(self, number, data):
        """(outcome, reason)."""
        with open(os.path.join(self._root, FILE), "wb") as file:
            file.write(data)
        job = job_of(number, *self._given)
        if self._job != job:
            self._job, self._producer = job, open_producer(job, OPTIONS)
        try:
            if number % 4 == 3:              # as a user's function reads it
                Readers(job).image(FILE, *MORE[number // 4 % len(MORE)])
                return "good", ""
            skipped = self._producer.produce(lease_of(number)).skipped
        except BadFile as error:
            return "bad", str(error)
        except Exception as error:
            self._job = None
            return "raised", repr(error)
        return ("bad", skipped[0].reason) if skipped else ("good", "")


def main(given):
    """Until standard input ends."""
    warnings.simplefilter("ignore")
    root, cpu_s, memory_mb = given["root"], given["cpu_s"], given["memory_mb"]
    if "named" in given:
        number = given["number"]
        left = test_in_quarantine(job_of(number, root, cpu_s, memory_mb), lease_of(number, given["named"], True),
                                  OPTIONS, Streak())
        print(json.dumps([skipped.reason for skipped in left.skipped]))
        return
    corpus, decoder = corpus_in(given["corpus"]), Decoder(root, cpu_s, memory_mb)
    random.seed(0)
    for line in sys.stdin:
        for number in range(*map(int, line.split())):
            name, data = PictureMutator(corpus, given["seed"], number).picture()
            start_s = time.process_time()
            outcome, reason = decoder.outcome(number, data)
            spent_ms = 1e3 * (time.process_time() - start_s)
            print(json.dumps([number, name, outcome, reason, round(spent_ms, 2), peak_kb()]), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
