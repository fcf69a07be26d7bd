"""The index of a file as bytes: what is kept between two starts, and what a process that indexes gives to the trainer.

    "stoker index 1\\n", the head's length (uint32), the head (msgpack), then arrays one after the other
    offsets (int64), lengths (uint32), labels (int64) and ends of rows (int64) if there are any, rows (bytes)
    and the blake2b of all that (32 bytes)

Numbers are little-endian. Bytes that anyone may have written are read: their sizes are compared with the bytes that are
there before an array is made, and places with the size of the file. The checksum finds damage.
"""

import hashlib
import json
import struct
from typing import Any, Dict, List, NamedTuple, Tuple

import msgpack
import numpy as np

from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.storage.place import MAX_BYTES
from stoker.pipeline.storage.store import Version

MAGIC = b"stoker index 1\n"
DIGEST_BYTES = 32
MAX_BYTES_OF_INDEX = 1 << 32
_LENGTH = struct.Struct("<I")


class DamagedIndex(ValueError):
    """These bytes are no index, or a damaged one. ``str(error)``: why, in a clause."""


class Key(NamedTuple):
    """What an index depends on, besides the file's bytes."""
    format: str
    version: int            # of the format's indexes
    options: str            # JSON, with sorted keys
    path: str               # of the file: its name, or all of it

    @classmethod
    def of(cls, format_name: str, version: int, options: Dict[str, Any], path: str) -> "Key":
        """The key of a file ``path``. ``options``: plain values."""
        return cls(format_name, version, json.dumps(options, sort_keys=True), path)

    def digest(self) -> str:
        """8 hex digits for the format and its options."""
        return hashlib.blake2b("\0".join((self.format, self.options)).encode(), digest_size=4).hexdigest()


class Indexed(NamedTuple):
    """An index, and the version of the file that it was made of. ``settled``: the same version has the same bytes for
    good; else the file had changed just before."""
    file_index: FileIndex
    version: Version
    settled: bool


def to_bytes(key: Key, indexed: Indexed) -> bytes:
    """``indexed`` as bytes."""
    index = indexed.file_index
    head = msgpack.packb({
        "key": list(key), "file": [indexed.version.size, *indexed.version.marks], "settled": indexed.settled,
        "count": index.size, "parts": [list(part) for part in index.parts], "labels": index.labels is not None,
        "label_names": index.label_names, "columns": index.columns, "row_bytes": len(index.rows),
        "rows": index.row_ends is not None, "remarks": index.remarks, "scalars": index.scalars,
        "absent": index.absent, "there": index.there}, use_bin_type=True, unicode_errors="surrogateescape")
    pieces = [MAGIC, _LENGTH.pack(len(head)), head, np.ascontiguousarray(index.offsets, "<i8").tobytes(),
              np.ascontiguousarray(index.lengths, "<u4").tobytes()]
    pieces += [np.ascontiguousarray(each, "<i8").tobytes() for each in (index.labels, index.row_ends)
               if each is not None]
    pieces.append(index.rows)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    return b"".join(pieces + [digest.digest()])


def from_bytes(data: bytes, key: Key) -> Indexed:
    """The index of ``key`` in ``data``. Raises DamagedIndex, also if it is of another key."""
    view = memoryview(data)
    if view[:len(MAGIC)] != MAGIC:
        raise DamagedIndex("it is of another version of Stoker" if bytes(view[:13]) == MAGIC[:13] else
                           "it does not begin as an index")
    if len(data) < len(MAGIC) + 4 + DIGEST_BYTES or (
            hashlib.blake2b(view[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest() != view[-DIGEST_BYTES:]):
        raise DamagedIndex("its checksum is wrong")
    try:
        return _read(view[:-DIGEST_BYTES], key)
    except DamagedIndex:
        raise
    except Exception as error:          # msgpack's errors have no common base
        raise DamagedIndex("its head cannot be read (%s)" % type(error).__name__) from error


def _read(view: memoryview, key: Key) -> Indexed:
    place = len(MAGIC) + 4
    length, = _LENGTH.unpack(view[len(MAGIC):place])
    if length > len(view) - place:
        raise DamagedIndex("its head is cut")
    head = msgpack.unpackb(bytes(view[place:place + length]), raw=False, unicode_errors="surrogateescape",
                           strict_map_key=True)
    place += length
    if Key(*head["key"]) != key:
        raise DamagedIndex("it is of other options or another file")
    count, parts = _whole(head["count"]), tuple(_part(*each) for each in head["parts"])
    has_labels, has_rows = bool(head["labels"]), bool(head["rows"])
    row_bytes = _whole(head["row_bytes"])
    if place + count * (12 * len(parts) + 8 * has_labels + 8 * has_rows) + row_bytes != len(view):
        raise DamagedIndex("it has other sizes than its head says")
    arrays: List[np.ndarray] = []
    for kind, width, is_there in (("<i8", len(parts), True), ("<u4", len(parts), True), ("<i8", 1, has_labels),
                                  ("<i8", 1, has_rows)):
        arrays.append(np.frombuffer(view, kind, count * width * is_there, place))
        place += arrays[-1].nbytes
    names, columns, scalars = _texts(head["label_names"]), _texts(head["columns"]), tuple(map(bool, head["scalars"]))
    version = Version(_whole(head["file"][0]), tuple(map(_mark, head["file"][1:5])))  # type: ignore
    index = FileIndex(
        parts, arrays[0].reshape(count, len(parts)), arrays[1].reshape(count, len(parts)),
        arrays[2] if has_labels else None, names, columns, bytes(view[place:]), arrays[3] if has_rows else None,
        _texts(head["remarks"]), scalars, _texts(head["absent"]), _texts(head["there"]))
    _check(index, version.size)
    if len(version.marks) != 4 or has_rows != bool(columns) or scalars and len(scalars) != len(columns):
        raise DamagedIndex("its head has parts that do not fit")
    return Indexed(index, version, bool(head["settled"]))


def _check(index: FileIndex, size: int) -> None:
    """Raises DamagedIndex if a place, label or row is outside of what there is."""
    if not index.size:
        return
    for number, part in enumerate(index.parts):
        offsets, lengths = index.offsets[:, number], index.lengths[:, number].astype(np.int64)
        if part.dataset:
            ends, limit = offsets, MAX_BYTES
        else:
            ends, limit = offsets + np.where(lengths == MISSING, 0, lengths), size
        if int(offsets.min()) < 0 or int(offsets.max()) > MAX_BYTES or int(ends.max()) > limit:
            raise DamagedIndex("it has places outside of the file")
    if index.labels is not None and index.label_names and not (
            0 <= int(index.labels.min()) and int(index.labels.max()) < len(index.label_names)):
        raise DamagedIndex("it has labels without a name")
    if index.row_ends is not None:
        starts = np.concatenate([np.zeros(1, np.int64), index.row_ends[:-1]])
        if not (starts < index.row_ends).all() or int(index.row_ends[-1]) != len(index.rows):
            raise DamagedIndex("it has rows outside of its rows")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("no number")
    return value


def _mark(value: Any) -> int:
    """Of a version: the time of a file may lie before 1970."""
    if type(value) is not int or not -(1 << 63) <= value < 1 << 64:
        raise ValueError("no mark")
    return value


def _texts(values: Any) -> Tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("no texts")
    return tuple(values)


def _part(name: Any, dtype: Any, shape: Any, dataset: Any) -> Part:
    name, dtype, dataset = _texts([name, dtype, dataset])
    return Part(name, dtype, tuple(map(_whole, shape)), dataset)
