"""How fast record files are indexed, and what the index costs: 1.2 million small records in 100 TFRecord files.

    python -m benchmarks.indexing [--records 1200000] [--files 100] [--folder FOLDER] [--columns]

Prints a line for each measurement: records a second of the first start, seconds of the second (a process of its own,
from ``import stoker`` to the first samples), and the bytes of memory a record that the process grows by.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from typing import List

from stoker.pipeline.cores import cores
from stoker.pipeline.sources.records.tfrecord import crc_function, crc_of_8, masked

PICTURE_BYTES = 200


def varint(value: int) -> bytes:
    """``value`` as protobuf has it."""
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A field of a message, with its length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(picture: bytes, label: int) -> bytes:
    """A tf.train.Example as those of ImageNet, with few features."""
    def entry(name: bytes, feature: bytes) -> bytes:
        return field(1, field(1, name) + field(2, feature))
    return field(1, b"".join((
        entry(b"image/class/label", field(3, field(1, varint(label)))),
        entry(b"image/class/text", field(1, field(1, b"class %d" % label))),
        entry(b"image/encoded", field(1, field(1, picture))),
        entry(b"image/height", field(3, field(1, varint(64)))))))


def frame(content: bytes) -> bytes:
    """A record of a TFRecord file."""
    crc = crc_function()
    assert crc is not None, "needs the library crc32c"
    length = struct.pack("<Q", len(content))
    return b"".join((length, struct.pack("<I", masked(crc_of_8(length))), content,
                     struct.pack("<I", masked(crc(content)))))


def write(folder: str, records: int, files: int) -> None:
    """``files`` TFRecord files with ``records`` records together."""
    shapes = [frame(example(os.urandom(PICTURE_BYTES), label)) for label in range(1000)]
    for number in range(files):
        count = records * (number + 1) // files - records * number // files
        with open(os.path.join(folder, "train-%05d-of-%05d" % (number, files)), "wb") as file:
            file.write(b"".join(shapes[place % 1000] for place in range(count)))


def start(folder: str, columns: List[str]) -> "dict[str, float]":
    """What a process of its own measures that opens the files."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.indexing", "--open", folder, "--columns", *columns],
                          stdout=subprocess.PIPE, check=True)
    found: "dict[str, float]" = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def rss_bytes() -> int:
    """The memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(folder: str, columns: List[str]) -> None:
    """Opens the files and prints what it took."""
    began_s = time.perf_counter()
    import stoker
    import stoker.pipeline.sources.records.public
    before, ready_s = rss_bytes(), time.perf_counter()
    source = stoker.tfrecord(os.path.join(folder, "train-*"), columns=columns)
    source.samples([0, len(source) // 2, len(source) - 1])
    usable_s = time.perf_counter()
    grown = rss_bytes() - before
    fingerprint = source.fingerprint()
    source.row_hashes()
    print(json.dumps({"records": len(source), "start_s": usable_s - began_s, "open_s": usable_s - ready_s,
                      "all_s": time.perf_counter() - began_s, "record_bytes": grown / len(source),
                      "split_bytes": _split_bytes(source), "fingerprint": fingerprint}))


def _split_bytes(source: "object") -> float:
    before = rss_bytes()
    parts = source.split(0.05, 0)  # type: ignore[attr-defined]
    return (rss_bytes() - before) / (len(parts.training) + len(parts.validation))


def main() -> None:
    """Measures both starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1200000)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--folder", help="where the files are made, and stay; default: a temporary folder")
    parser.add_argument("--columns", nargs="*", default=[])
    parser.add_argument("--open", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        opened(options.open, options.columns)
        return
    folder = options.folder or tempfile.mkdtemp()
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "train-00000-of-%05d" % options.files)):
            write(folder, options.records, options.files)
            time.sleep(3.0)         # files that have just changed are indexed again at the next start
        shutil.rmtree(os.path.join(folder, ".stoker-index"), ignore_errors=True)
        first = start(folder, options.columns)
        second = start(folder, options.columns)
        assert first["fingerprint"] == second["fingerprint"]
        print("%d cores, Python %s, %d records in %d files" % (
            cores(), sys.version.split()[0], first["records"], options.files))
        print("first start     %.0f records/s (%.1f s)" % (first["records"] / first["open_s"], first["open_s"]))
        print("second start    %.2f s (%.2f s with hashes of all records)" % (second["start_s"], second["all_s"]))
        print("memory          %.1f bytes a record at the first start, %.1f at the second, %.1f more for a split"
              % (first["record_bytes"], second["record_bytes"], second["split_bytes"]))
    finally:
        if not options.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
