"""The records of a RecordSource as bytes, for the list of samples that is kept beside a checkpoint."""

from typing import Any, List, Sequence

import msgpack
import numpy as np

from stoker.pipeline.sources.records.combined import Combined
from stoker.pipeline.sources.records.file_index import Part
from stoker.pipeline.sources.records.source import RecordSource

PARTS = 5       # of a list: names, offsets and lengths, labels, ends of rows, rows


def listed(source: RecordSource) -> List[bytes]:
    """The records, in PARTS parts."""
    records = source.combined()
    names = {"files": records.files, "sizes": np.diff(records.starts).tolist(), "names": records.names,
             "parts": [[list(part) for part in parts] for parts in records.parts], "columns": records.columns,
             "row_bytes": list(map(len, records.rows))}
    return [msgpack.packb(names, use_bin_type=True, unicode_errors="surrogateescape"),
            b"".join(each.astype(kind).tobytes() for offsets, lengths in zip(records.offsets, records.lengths)
                     for each, kind in ((offsets, "<i8"), (lengths, "<u4"))),
            b"" if records.labels is None else records.labels.astype("<i4").tobytes(),
            b"" if records.row_ends is None else records.row_ends.astype("<i8").tobytes(),
            b"".join(records.rows)]


def from_list(parts: Sequence[bytes], classes: Sequence[str], root: str) -> RecordSource:
    """The records of such a list, below ``root``. Raises ValueError, TypeError, LookupError if it is damaged."""
    names = msgpack.unpackb(parts[0], raw=False, unicode_errors="surrogateescape", strict_map_key=True)
    starts = np.zeros(len(names["files"]) + 1, np.int64)
    np.cumsum(np.array(names["sizes"], np.int64), out=starts[1:])
    size, place = int(starts[-1]), 0
    offsets, lengths = [], []
    for _ in names["names"]:
        offsets.append(np.frombuffer(parts[1], "<i8", size, place).astype(np.int64))
        lengths.append(np.frombuffer(parts[1], "<u4", size, place + 8 * size).astype(np.uint32))
        place += 12 * size
    rows = []
    row_place = 0
    for length in names["row_bytes"]:
        rows.append(parts[4][row_place:row_place + length])
        row_place += length
    columns = tuple(names["columns"])
    labels = np.frombuffer(parts[2], "<i4").astype(np.int32) if parts[2] else None
    ends = np.frombuffer(parts[3], "<i8").astype(np.int64) if columns else None
    files = tuple(map(str, names["files"]))
    made = tuple(tuple(_part(*part) for part in own) for own in names["parts"])
    if (place != len(parts[1]) or row_place != len(parts[4]) or len(made) != len(files)
            or any(len(own) != len(names["names"]) for own in made) or columns and len(rows) != len(files)
            or any(each is not None and len(each) != size for each in (labels, ends))
            or labels is not None and not (0 <= labels.min() and labels.max() < len(classes))):
        raise ValueError("it has other records")
    records = Combined(files, starts, tuple(names["names"]), made, tuple(offsets), tuple(lengths), labels, columns,
                       tuple(rows), ends)
    return RecordSource(root, records, tuple(classes))


def _part(name: str, dtype: str, shape: Any, dataset: str) -> Part:
    return Part(str(name), str(dtype), tuple(map(int, shape)), str(dataset))
