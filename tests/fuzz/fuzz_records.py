"""Fuzzes the indexing of record files, and kept indexes: whatever the bytes are, an index whose places lie within the
file, or a DatasetError; and no more memory than the file is worth.

    python -m tests.fuzz.fuzz_records --runs 20000 [--seed 1]
"""

import argparse
import hashlib
import io
import os
import sys
import tarfile
import time
import traceback
import zipfile

import numpy as np

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records.file_index import MISSING
from stoker.pipeline.sources.records.formats import indexer_of
from stoker.pipeline.sources.records.index_bytes import DIGEST_BYTES, DamagedIndex, Indexed, Key, from_bytes, to_bytes
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.storage.place import place_of
from stoker.pipeline.storage.store import Version
from tests.fuzz.mutation import Mutator
from tests.support import tfrecords as made
from tests.support.memory import rss_kb

MAX_GROWTH_KB = 32768
KEY = Key("tar", 1, "{}", "a.tar")
EXAMPLES = [{"image": [b"\xff\xd8" + b"x" * number], "label": [number], "x": [1.5] * number, "n": [-number]}
            for number in range(4)]
OPTIONS = {"image": ["image"], "label": "label", "columns": ["x", "n"], "check": True}


def corpus():
    """(format, options, bytes of a file)."""
    packed, zipped, arrays, one = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(3):
            for suffix, content in (("jpg", b"\xff\xd8%d" % number), ("cls", b"%d" % number), ("json", b"{}")):
                member = tarfile.TarInfo("a" * (number * 60) + "/%d.%s" % (number, suffix))
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(zipped, "w") as file:
        for number in range(4):
            file.writestr("%s/%d.jpg" % ("ab"[number % 2], number), b"\xff\xd8%d" % number)
    np.save(one, np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    np.savez(arrays, x=np.zeros((3, 4, 4, 3), np.uint8), y=np.arange(3))
    found = [("tfrecord", OPTIONS, made.tfrecord(*EXAMPLES)),
             ("tfrecord", dict(OPTIONS, check=False, image=[]), made.tfrecord(*EXAMPLES)),
             ("tar", {}, packed.getvalue()), ("zip", {}, zipped.getvalue()), ("npy", {}, one.getvalue()),
             ("npy", {}, arrays.getvalue())]
    return found


def check_file(name, options, content):
    """Returns whether it has an index. Raises AssertionError, and what no indexer may raise."""
    try:
        index = indexer_of(name)(io.BytesIO(content), len(content), options)
    except (DatasetError, ConfigError) as error:
        assert len(str(error)) < 5000 and str(error).isprintable(), "its sentence"
        return False
    for part, of_part in enumerate(index.parts):
        lengths = index.lengths[:, part].astype(np.int64)
        assert not index.size or of_part.dataset or (
            index.offsets.min() >= 0
            and (index.offsets[:, part] + np.where(lengths == MISSING, 0, lengths)).max() <= len(content)), "a place"
    assert same(from_bytes(to_bytes(KEY, Indexed(index, Version(len(content), (0,) * 4), True)), KEY).file_index, index)
    try:
        source = RecordSource.of("/data", ["a"], [index])
    except (DatasetError, ConfigError):
        return False
    for sample, row in zip(source.samples(range(len(source))), source.rows(range(len(source)))):
        assert not index.parts or place_of(sample.path) is not None, "a path that is no place: %r" % sample.path
        assert list(row) == list(source.columns)
    assert source.fingerprint() and len(source.row_hashes()) == len(source)
    return True


def same(one, other):
    """Whether these are equal indexes."""
    return all(np.array_equal(mine, yours) if isinstance(mine, np.ndarray) else mine == yours
               for mine, yours in zip(one, other))


def check_kept(packed):
    """Returns whether these bytes are an index."""
    try:
        from_bytes(packed, KEY)
    except DamagedIndex:
        return False
    return True


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    files, mutator = corpus(), Mutator(options.seed, [[]])
    for name, of_file, content in files:
        assert check_file(name, of_file, content), "the whole file has no index: %s" % name
    name, of_file, content = files[2]
    kept = to_bytes(KEY, Indexed(indexer_of(name)(io.BytesIO(content), len(content), of_file),
                                 Version(len(content), (0,) * 4), True))
    taken, slowest_s, start_kb, start_s = 0, 0.0, 0, time.monotonic()
    for number in range(options.runs):
        if number == options.runs // 10:
            start_kb = rss_kb(os.getpid())
        before_s = time.monotonic()
        name, of_file, content = mutator.pick(files)
        changed = content
        try:
            what = mutator.below(4)
            if what == 0:
                changed = kept[:-DIGEST_BYTES]
                for _ in range(1 + mutator.below(3)):
                    changed = mutator.changed_bytes(changed)
                taken += check_kept(changed + hashlib.blake2b(changed, digest_size=DIGEST_BYTES).digest())
                continue
            if what == 1 and name == "tfrecord":         # with right checksums
                changed = made.tfrecord(*(mutator.changed_bytes(made.example(each)) for each in EXAMPLES))
            else:
                for _ in range(1 + mutator.below(3)):
                    changed = mutator.changed_bytes(changed)
            taken += check_file(name, of_file, changed)
        except Exception:
            print("stoker: fuzz_records: %s, seed %d, run %d, bytes %s\n%s" % (
                name, options.seed, number, changed.hex(), traceback.format_exc()))
            return 1
        slowest_s = max(slowest_s, time.monotonic() - before_s)
    growth = rss_kb(os.getpid()) - start_kb
    print("records: %d files (%.1f %% with an index) in %.1f s; slowest %.1f ms; RSS grew by %d KB" % (
        options.runs, 100.0 * taken / options.runs, time.monotonic() - start_s, 1e3 * slowest_s, growth))
    if growth > MAX_GROWTH_KB:
        print("stoker: fuzz_records: the process grew by %d KB (limit %d)" % (growth, MAX_GROWTH_KB))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
