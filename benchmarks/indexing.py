"""How fast record files are indexed, and what the index costs: 1.2 million small records in 100 TFRecord files."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List

from stoker.pipeline.cores import cores
from stoker.pipeline.sources.records.tfrecord import crc_function, crc_of_8, masked

from benchmarks.table import Goal, Say, Table, main

RECORDS, FILES, PICTURE_BYTES = 1200000, 100, 200
SETTLED_S = 3.0             # files that have just changed are indexed again at the next start
LEAST_RATE, MOST_START_S, MOST_BYTES = 20000.0, 3.0, 60.0


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


def start(folder: str) -> Dict[str, float]:
    """What a process of its own measures that opens the files."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.indexing", "--open", folder], stdout=subprocess.PIPE,
                          check=True)
    found: Dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def rss_bytes() -> int:
    """The memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(folder: str) -> None:
    """Opens the files and prints what it took."""
    began_s = time.perf_counter()
    import stoker
    import stoker.pipeline.sources.records.public
    before, ready_s = rss_bytes(), time.perf_counter()
    source = stoker.tfrecord(os.path.join(folder, "train-*"))
    source.samples([0, len(source) // 2, len(source) - 1])
    usable_s = time.perf_counter()
    grown = rss_bytes() - before
    fingerprint = source.fingerprint()
    source.row_hashes()
    print(json.dumps({"records": len(source), "start_s": usable_s - began_s, "open_s": usable_s - ready_s,
                      "all_s": time.perf_counter() - began_s, "record_bytes": grown / len(source),
                      "split_bytes": _split_bytes(source), "fingerprint": fingerprint}))


def _split_bytes(source: Any) -> float:
    before = rss_bytes()
    parts = source.split(0.05, 0)
    return (rss_bytes() - before) / (len(parts.training) + len(parts.validation))


def run(quick: bool, say: Say) -> List[Table]:
    records = RECORDS // 10 if quick else RECORDS
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        say("writing %s records" % format(records, ","))
        write(folder, records, FILES)
        time.sleep(SETTLED_S)
        say("the first start, which reads them all")
        first = start(folder)
        say("the second start")
        second = start(folder)
    assert first["fingerprint"] == second["fingerprint"]
    rate, memory = first["records"] / first["open_s"], max(first["record_bytes"], second["record_bytes"])
    rows = [["first start, s", first["open_s"]], ["records/s", rate], ["second start, s", second["start_s"]],
            ["second start with hashes of all records, s", second["all_s"]],
            ["bytes of memory a record, first start", first["record_bytes"]],
            ["bytes of memory a record, second start", second["record_bytes"]],
            ["bytes a record that a split adds", second["split_bytes"]]]
    goals = [Goal("records indexed a second", rate, LEAST_RATE),
             Goal("second start, in s", second["start_s"], MOST_START_S, at_most=True),
             Goal("bytes of memory a record", memory, MOST_BYTES, at_most=True)]
    return [Table("indexing", "Indexing: %s records of %d bytes in %d TFRecord files, on %d cores" % (
        format(records, ","), PICTURE_BYTES, FILES, cores()), ["what", "figure"], rows,
        ["A start is a process of its own, from `import stoker` to the first samples. All checksums are compared."],
        goals)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        opened(sys.argv[2])
    else:
        main(run, __doc__)
