"""Fuzzes the codec: it raises nothing but ProtocolError, a decoded message can be encoded again, and the arrays of a
batch are those that the job declares, in no more memory than came. The rows of leases are unpacked, and fuzzed too.

Plain (default): millions of seeded mutations on every core, on the interpreter that decodes in a training.
``--guided``: fewer, guided by the coverage of pipeline/protocol/codec.py (atheris, which needs a newer Python).
"""

import argparse
import itertools
import multiprocessing
import os
import random
import sys
import time
import traceback
from dataclasses import replace

import msgpack
import numpy as np

from stoker.pipeline.cores import cores
from tests.fuzz.mutation import Mutator
from tests.support.memory import rss_kb

CHUNK = 50000          # messages of one seed
MAX_GROWTH_KB = 8192  # of a process, from the end of its first chunk on: allowed for the allocator
ONE_ROW_IN = 8         # messages
ROWS = [None, True, -1, 1 << 63, 0.5, "a/b.png", b"\0\xff", [], ["a/b.png", 7], {"path": "a", "x": [1, {"y": None}]}]
ROW_BYTES = [msgpack.packb(row, use_bin_type=True) for row in ROWS] + [b"", b"\xd6\xff\0\0\0\1", b"\xc7\x01\x05a"]
JOBS = INDICES = codec = messages = ProtocolError = check_arrays = own = None   # set by load()


def load():
    """Imports the codec; ``--guided`` must do it while atheris instruments imports. Returns the corpus."""
    global JOBS, INDICES, codec, messages, ProtocolError, check_arrays, own
    from stoker.pipeline.errors import ProtocolError
    from stoker.pipeline.protocol import codec, messages
    from stoker.pipeline.protocol.batch_arrays import check_arrays
    from tests.unit.test_codec import FROM_TRAINER, FROM_WORKER, INDICES, JOB, OWN_JOB, PRODUCED, own
    JOBS = (JOB, OWN_JOB)
    return [codec_frames(message) for message in FROM_WORKER + FROM_TRAINER + [
        replace(PRODUCED, rows=(), missing=0), own(), own(rows=(1, 1, 1))]]


def codec_frames(message):
    """The frames of ``message``; the arrays of a batch may be bytes."""
    if not isinstance(message, messages.Produced):
        return [bytes(frame) for frame in codec.encode(message)]
    return codec.encode(replace(message, arrays=())) + [bytes(array) for array in message.arrays]


def own_batch(mutator):
    """The frames of a whole batch for the job with own arrays; sometimes with something wrong."""
    below = mutator.below
    used = below(4)
    skipped = tuple(messages.Skipped(index, "bad", "", bool(below(2)), bool(below(2))) for index in INDICES[used:])
    rows = tuple(1 + below(3) for _ in range(used)) if below(3) == 0 else ()
    missing = below(used + 1) if not rows and below(3) == 0 else 0
    count = sum(rows) if rows else used - missing
    sizes, depth = np.array([below(21) for _ in range(count)], "<i4"), np.array(
        [(below(4), below(3)) for _ in range(count)], "<i4").reshape(count, 2)
    high, wide = depth.max(axis=0).tolist() if count else (0, 0)
    longest = int(sizes.max()) if count else 0
    arrays = (b"\xff" * 16 * longest * count, bytes(below(2) for _ in range(count)), bytes(2 * high * wide * count),
              sizes.tobytes(), depth.tobytes())
    frames = codec_frames(messages.Produced("r1", 7, 12, count, skipped, 0.0, arrays, rows=rows, missing=missing))
    return frames if below(2) else mutator.mutated(frames)


def check(frames):
    """Returns how many of the two directions decoded ``frames``, and whether it was a whole batch. Raises an error that
    the codec must not raise, or AssertionError."""
    decoded = whole = 0
    for decode in (codec.decode_from_worker, codec.decode_from_trainer):
        try:
            message = decode(frames)
        except ProtocolError:
            continue
        decoded += 1
        if isinstance(message, messages.Produced):
            whole = max(check_batch(message, job, frames) for job in JOBS)
            message = replace(message, arrays=())
        elif isinstance(message, messages.Lease):
            for sample in message.samples + message.replacements:
                for each in (sample,) + sample.partners:
                    check_row(each.packed)
        assert decode(codec.encode(message)) == message, "%r changed on its way" % (message,)
    return decoded, whole


def check_batch(message, job, frames):
    """Whether ``message`` is a whole batch of ``job``. Raises AssertionError if it only seems to be one."""
    try:
        arrays = check_arrays(message, job, INDICES)
    except ProtocolError:
        return False
    again = codec.encode(replace(message, arrays=arrays))
    assert [bytes(frame) for frame in again[1:]] == list(frames[1:]), "a batch changed on its way"
    assert message.count <= job.rows * len(INDICES)
    assert message.count + len(message.skipped) + message.missing == len(INDICES) or message.rows
    sizes = iter(arrays[len(job.arrays):])
    for array, spec in zip(arrays, job.arrays):
        assert array.shape[0] == message.count and array.dtype == np.dtype(spec.dtype).newbyteorder("<")
        assert all(size <= int(side) if axis in spec.upto else size == side
                   for axis, (size, side) in enumerate(zip(array.shape[1:], spec.shape))), array.shape
        assert spec.dtype != "bool" or np.isin(array.view(np.uint8), (0, 1)).all()
        if spec.upto:
            true = next(sizes).reshape(message.count, len(spec.upto))
            padded = [array.shape[1 + axis] for axis in spec.upto]
            assert (true >= 0).all() and true.max(axis=0, initial=0).tolist() == padded, "the sizes"
    assert sum(array.nbytes for array in arrays) == sum(map(len, frames[1:]))
    return True


def check_row(packed):
    """A row is unpacked, or it is a ProtocolError, whatever its bytes are."""
    for job in JOBS:
        try:
            row = job.row(messages.Sample(1, "a.png", -1, packed))
        except ProtocolError:
            continue
        assert not (packed and job.columns) or list(row) == list(job.columns)


def chunk(job):
    """Checks ``count`` messages of ``job``, a pair (seed, count). Runs in a process of the pool."""
    seed, count = job
    mutator = Mutator(seed, load())
    taken = whole = 0
    slowest_s = 0.0
    frames = None
    try:
        before = time.perf_counter()
        for _ in range(count):
            frames = mutator.message() if mutator.below(8) else own_batch(mutator)
            if mutator.below(ONE_ROW_IN) == 0:
                row = mutator.pick(ROW_BYTES)
                check_row(mutator.changed_value(row) if mutator.below(2) else mutator.changed_bytes(row))
            one, batch = check(frames)
            taken, whole = taken + (one > 0), whole + batch
            now = time.perf_counter()
            slowest_s, before = max(slowest_s, now - before), now
    except Exception:
        return {"failed": "seed %d, frames %r\n%s" % (seed, [frame.hex() for frame in frames],
                                                      traceback.format_exc())}
    return {"pid": os.getpid(), "count": count, "taken": taken, "whole": whole, "slowest_s": slowest_s,
            "rss_kb": rss_kb(os.getpid())}


def plain(runs, seed):
    """Returns the exit code."""
    from tqdm import tqdm
    processes = cores()
    jobs = [(seed + number, min(CHUNK, runs - start)) for number, start in enumerate(range(0, runs, CHUNK))]
    taken = whole = 0
    slowest_s, memory, start = 0.0, {}, time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool, tqdm(
            total=runs, unit="msg", disable=None) as bar:
        for done in pool.imap_unordered(chunk, jobs):
            if "failed" in done:
                print("stoker: fuzz_codec: %s" % done["failed"])
                return 1
            taken, whole = taken + done["taken"], whole + done["whole"]
            slowest_s = max(slowest_s, done["slowest_s"])
            memory.setdefault(done["pid"], []).append(done["rss_kb"])
            bar.update(done["count"])
    seconds = time.monotonic() - start
    print("codec, plain: %d messages (%.1f %% decoded, %d whole batches) in %.1f s on %d processes: %.0f/s; "
          "slowest %.1f ms" % (runs, 100.0 * taken / runs, whole, seconds, processes, runs / seconds,
                               1e3 * slowest_s))
    growth = [samples[-1] - samples[0] for samples in memory.values()]
    for samples in memory.values():
        print("  RSS %d KB after the first chunk, %d KB at the end of %d" % (samples[0], samples[-1], len(samples)))
    if max(growth) > MAX_GROWTH_KB:
        print("stoker: fuzz_codec: a process grew by %d KB (limit %d)" % (max(growth), MAX_GROWTH_KB))
        return 1
    return 0


def guided(runs, seed, found):
    """Does not return: libFuzzer ends the process, with 0 if nothing was found."""
    import atheris
    with atheris.instrument_imports(include=["stoker.pipeline"]):
        corpus = load()
    count = itertools.count(1)

    def test_one_input(data):
        number = next(count)
        if number in (runs // 10, runs):
            print("codec, guided: RSS %d KB after %d messages" % (rss_kb(os.getpid()), number), flush=True)
        check(unpacked(data))

    def mutate(data, most, seed):
        if len(data) < 8 or seed % 50 == 0:  # libFuzzer begins with nothing and prefers short inputs
            return packed(random.Random(seed).choice(corpus))[:most]
        mutator = Mutator(seed, corpus)
        frames = unpacked(data)
        if seed % 4 == 0 and frames:         # libFuzzer's own mutation knows the bytes that the code compared with
            frames = [bytes(atheris.Mutate(frames[0], 4096))] + frames[1:]
        else:
            frames = mutator.mutated(frames)
        return packed(frames)[:most]

    atheris.Setup([sys.argv[0], "-runs=%d" % runs, "-seed=%d" % (seed + 1), "-max_len=8192", "-print_final_stats=1",
                   "-verbosity=0",
                   "-artifact_prefix=" + found], test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


def packed(frames):
    """Frames as the one string that libFuzzer mutates."""
    return msgpack.packb(list(frames), use_bin_type=True)


def unpacked(data):
    """The frames again. Data that is not a list of frames is taken for a header."""
    try:
        frames = msgpack.unpackb(data, raw=False)
        if type(frames) is list and all(type(frame) is bytes for frame in frames):
            return frames
    except Exception:       # no common base
        pass
    return [data]


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.fuzz_codec", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000000, help="messages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("--found", default="", help="folder, with / at its end, in which --guided saves failing inputs")
    args = parser.parse_args()
    return guided(args.runs, args.seed, args.found) if args.guided else plain(args.runs, args.seed)


if __name__ == "__main__":
    sys.exit(main())
