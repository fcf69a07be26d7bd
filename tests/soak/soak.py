"""A long run that counts the memory, open files, threads and mappings of its processes. Exit code 1 if any of them
grows.

A trainer program iterates a stream of small pictures over real workers and ZeroMQ, and behaves in seeded phases:
steady, with pauses as for checkpoints, slow, in bursts. Each of its processes is sampled all the while. With ``--own``,
a sample function makes three arrays of the rows of a table, and the largest of them is another one in each batch.
"""

import argparse
import collections
import json
import sys
import tempfile
import time

import numpy as np

from stoker.pipeline.coordinator.slots import EXTRA_BATCHES, LEASES
from tests.integration.conftest import draw
from tests.support import own_functions
from tests.support.memory import mappings, open_files, rss_kb, threads
from tests.support.processes import Program, descendants, interpreter, worker_pids

WARM_UP = 0.5           # of the batches: imports, caches, allocators that take until they have enough of each size
BLOCKS = 10             # of residuals, which are drawn as wholes: neighbours are alike
RESAMPLES = 500
SIZE, BATCH, PREFETCH, PICTURES = 16, 4, 32, 64
BATCH_BYTES = BATCH * (SIZE * SIZE * 3 + 4)
OWN_BYTES = BATCH_BYTES + BATCH * own_functions.MAX_POINTS * 8 * 4 * 9 // 8     # the most: see BufferPool
BEYOND_BASE_KB = 24 << 10   # of a trainer, beside its buffers: threads, ZeroMQ's queues, the allocator's slack
RESOLUTION_KB = 16      # memory comes in pages of 4 KB, and the kernel counts them in lots: less cannot be told
HOLD = PREFETCH + 16    # batches that the trainer of own data holds at first, so that its buffers reach their bound
MORE_MAPPINGS = 16      # from the first quarter to the last one: a thread that reads ahead has some
GROWTH_KB = 1024        # from the warm-up to the end: a slope below is no leak, however straight the line

#: Prints "base KB", then "at BATCHES PHASE" every ``sample_s``. ``leak``: bytes that it keeps of each batch.
TRAINER = """
import json, os, random, sys, time
from stoker.trainer.feed import open_stream
from tests.support.memory import rss_kb
options = json.loads(sys.argv[1])
batches, pause_s, leak, chance = options["batches"], options["pause_s"], options["leak"], random.Random(options["seed"])
kept, held, phase, phase_ends, said = [], [], "steady", 0, 0.0
print("base", rss_kb(os.getpid()), flush=True)
with open_stream(**options["stream"]) as stream:
    for count, batch in enumerate(stream, 1):
        held = held + [batch] if count < options["hold"] else []
        if count > phase_ends:
            phase = chance.choice(["steady", "steady", "checkpoints", "slow", "bursts"])
            phase_ends = count + max(1, batches // 40)
            paused = False
        if phase == "checkpoints" and not paused:
            paused = True
            time.sleep(pause_s)
        elif phase == "slow":
            time.sleep(0.002)
        elif phase == "bursts" and count % 64 == 0:
            time.sleep(0.05)
        if leak:
            kept.append(bytearray(leak))
        if time.monotonic() - said > options["sample_s"] or count == batches:
            said = time.monotonic()
            print("at", count, phase, flush=True)
        if count == batches:
            break
print("end", flush=True)
"""


def fitted(x, y, seed=0):
    """(slope, its standard error) of the line through the points, by least squares. The error comes from a bootstrap:
    the residuals are put together anew from ``BLOCKS``-th parts drawn anywhere, so that samples which follow their
    neighbours do not count as independent ones."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    slope, offset = np.polyfit(x, y, 1)
    line, chance = slope * x + offset, np.random.RandomState(seed)
    residuals, length = y - line, max(1, len(x) // BLOCKS)
    slopes = []
    for _ in range(RESAMPLES):
        starts = chance.randint(0, len(x) - length + 1, -(-len(x) // length))
        drawn = np.concatenate([residuals[start:start + length] for start in starts])[:len(x)]
        slopes.append(np.polyfit(x, line + drawn, 1)[0])
    return slope, float(np.std(slopes))


class Samples:
    """Memory, open files, threads and mappings of one process, sample after sample."""

    def __init__(self):
        self.batches, self.kb, self.files, self.threads, self.mappings = [], [], [], [], []

    def take(self, pid, batches):
        kb = rss_kb(pid)
        if kb:                              # 0: it is gone
            self.batches.append(batches)
            self.kb.append(kb)
            self.files.append(open_files(pid))
            self.threads.append(threads(pid))
            self.mappings.append(mappings(pid))

    def report(self, name, warm_up, growth_kb):
        """Prints the growth after ``warm_up`` batches. Returns whether anything grows."""
        first = int(np.searchsorted(self.batches, warm_up))
        x, kb = self.batches[first:], self.kb[first:]
        if len(x) < 2 * BLOCKS:
            print("  %-12s too few samples (%d) for a line" % (name, len(x)))
            return True
        slope, error = fitted(x, kb)
        growth = slope * (x[-1] - x[0])
        real = slope > 2 * error and growth > RESOLUTION_KB
        grows = real and growth > growth_kb
        print("  %-16s RSS %.0f..%.0f KB, slope %+.3f +- %.3f KB per 1,000 batches (%s: %+.0f KB, limit %d); from "
              "fifth to fifth of the run: %s KB" % (
                  name, min(kb), max(kb), 1e3 * slope, 1e3 * error,
                  "distinguishable from zero" if real else "not distinguishable from zero", growth, growth_kb,
                  " ".join("%+.0f" % change for change in np.diff([max(part) for part in np.array_split(self.kb, 5)]))))
        for what, counts, slack in (("open files", self.files[first:], 0), ("threads", self.threads[first:], 0),
                                    ("mappings", self.mappings[first:], MORE_MAPPINGS)):
            quarter = max(1, len(counts) // 4)
            more = min(counts[-quarter:]) > max(counts[:quarter]) + slack
            print("  %-16s %s %d..%d%s" % ("", what, min(counts), max(counts), ": more and more" if more else ""))
            grows = grows or more
        return grows


def soak(batches, workers, seed, pause_s=2.0, sample_s=0.5, leak=0, growth_kb=GROWTH_KB, own=False, shared_memory=True):
    """Returns the exit code. ``own``: with a table and a sample function."""
    from tqdm import tqdm
    samples = collections.OrderedDict()
    with tempfile.TemporaryDirectory(prefix="stoker-soak-") as folder:
        draw(folder, "jpg", PICTURES, (24, 24))
        stream = dict(data=folder, image_size=SIZE, batch_size=BATCH, prefetch=PREFETCH, workers=workers, seed=seed,
                      epochs=-(-batches * BATCH // PICTURES) + 1, shared_memory=shared_memory,
                      worker_python=interpreter("STOKER_TEST_WORKER_PYTHON"))
        if own:
            stream.update(data=own_functions.write_table(folder), generator="tests.support.own_functions:points")
        options = {"stream": stream, "batches": batches, "pause_s": pause_s, "sample_s": sample_s, "leak": leak,
                   "seed": seed, "hold": HOLD * own}
        start = time.monotonic()
        with Program(["-c", TRAINER, json.dumps(options)]) as trainer, tqdm(total=batches, unit="batch",
                                                                           disable=None) as bar:
            base_kb = int(trainer.wait_for_line("^base ")[0].split()[1])
            done, read, changed_s = 0, 0, time.monotonic()
            while trainer.running() and done < batches:
                time.sleep(sample_s / 10)
                lines, read = trainer.lines[read:], len(trainer.lines)
                reached = [line.split() for line in lines if line.startswith("at ")]
                if not reached:
                    if time.monotonic() - changed_s > 120:
                        break
                    continue
                bar.update(int(reached[-1][1]) - done)
                bar.set_postfix_str(reached[-1][2], refresh=False)
                done, changed_s = int(reached[-1][1]), time.monotonic()
                if done == batches:         # it is closing
                    break
                workers_now = worker_pids(trainer.pid)
                for pid in [trainer.pid] + descendants(trainer.pid):
                    kind = "trainer" if pid == trainer.pid else "worker" if pid in workers_now else "supervisor"
                    samples.setdefault((kind, pid), Samples()).take(pid, done)
            code = trainer.wait()
        seconds = time.monotonic() - start
        if code or done < batches:
            print("stoker: soak: the trainer ended at batch %d with exit code %d:\n%s" % (done, code, trainer.text))
            return 1
    print("soak: %d batches in %.0f s (%.0f/s), %d workers, %d samples; warm-up %d %%; errors by a bootstrap of %d "
          "blocks" % (batches, seconds, batches / seconds, workers, len(samples[("trainer", trainer.pid)].kb),
                      100 * WARM_UP, BLOCKS))
    grows = False
    for (kind, pid), taken in samples.items():
        if len(taken.kb) > 1:
            grows |= taken.report("%s %d" % (kind, pid), WARM_UP * batches, growth_kb)
    peak_kb = max(samples[("trainer", trainer.pid)].kb)
    window = PREFETCH + EXTRA_BATCHES
    batches_kept = window + (window + LEASES * workers if shared_memory else 0)      # copies, and slots
    most_kb = batches_kept * (OWN_BYTES if own else BATCH_BYTES) // 1024
    beyond_kb = peak_kb - base_kb - most_kb
    print("  trainer: peak %d KB = base %d KB + the batches that it may keep %d KB + %d KB (limit %d)"
          % (peak_kb, base_kb, most_kb, beyond_kb, BEYOND_BASE_KB))
    if grows or beyond_kb > BEYOND_BASE_KB:
        print("stoker: soak: something grows, or holds more than it should: see above")
        return 1
    return 0


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.soak.soak", description=__doc__)
    parser.add_argument("--batches", type=int, default=100000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own", action="store_true", help="with a table and a sample function")
    parser.add_argument("--no-shared-memory", action="store_true", help="batches travel in frames")
    args = parser.parse_args()
    return soak(args.batches, args.workers, args.seed, own=args.own, shared_memory=not args.no_shared_memory)


if __name__ == "__main__":
    sys.exit(main())
