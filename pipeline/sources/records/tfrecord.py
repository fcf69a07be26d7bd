"""TFRecord files of tf.train.Examples: where the picture of each record is, its label, and the columns that are wanted.

A record is framed by its length (uint64), a checksum of that, its bytes, and a checksum of these, all little-endian; a
checksum is CRC-32C, rotated and with a constant added. Nothing of TensorFlow or protobuf is needed: see ``protobuf``.
"""

import functools
import importlib
import logging
import struct
import zlib
from array import array
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.sources.packing import packer
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.sources.records.protobuf import (
    BYTES, FLOAT, INT64, KINDS, Feature, Malformed, features, floats, int64s, spans)
from stoker.pipeline.text import name_list, printable_path, quoted

log = logging.getLogger("stoker")

MAX_RECORD_BYTES = 1 << 30
BLOCK_BYTES = 1 << 20           # that are read at once
TRIED = 1000                    # if so many first records have no picture, none will have one
MAX_LABEL_TEXTS = 1 << 20       # different ones
_FRAME = struct.Struct("<QI")
_FRAME_BYTES = 16               # length, its checksum, and that of the bytes
_REMEDY = "write the file again or remove it; or stoker-pack --skip-damaged converts the records that are whole"
_POLYNOMIAL = 0x82f63b78        # of CRC-32C, reversed


def index(file: BinaryIO, size: int, options: Dict[str, Any]) -> FileIndex:
    """An ``Indexer``. Options: see ``public.tfrecord``; ``image``: list of names, ``label``, ``columns``, ``check``."""
    made = _Index(options)
    for number, (block, begin, end, at) in enumerate(records(file, size, bool(options["check"]))):
        try:
            made.add(number, block, begin, end, at - begin)
        except Malformed as error:
            hint = _compressed(block[:4096]) if number == 0 else ""
            raise DatasetError(hint or "record %d (at byte %d) is no tf.train.Example: %s" % (
                number, at - 12, error)) from None
        except DatasetError as error:
            raise DatasetError("record %d (at byte %d) %s" % (number, at - 12, error)) from None
    return made.finished()


# ------------------------------------------------------------------------------------------------------- the framing

def records(file: BinaryIO, size: int, check: bool) -> Iterator[Tuple[bytes, int, int, int]]:
    """(block, begin, end, at) of each record: its content is ``block[begin:end]``, which is at byte ``at`` of the file.
    ``check``: the checksums. Raises DatasetError with the record's number and byte."""
    crc = crc_function() if check else None
    file.seek(0)
    block, start, place, number = b"", 0, 0, 0          # the block begins at byte ``start``, the record at ``place``
    while start + place < size:
        at = start + place
        if size - at < _FRAME_BYTES:
            raise _torn(number, at, size, at + _FRAME_BYTES)
        if len(block) - place < 12:
            block, start, place = _longer(file, block, place, 12, size - at), at, 0
        length, length_crc = _FRAME.unpack_from(block, place)
        if check and masked(crc_of_8(block[place:place + 8])) != length_crc:
            raise DatasetError(number == 0 and _compressed(block[:4096]) or (
                "record %d (at byte %d) is damaged, for its length has another checksum: %s" % (number, at, _REMEDY)
                if number else "it is no TFRecord file, for the checksum of its first record's length is wrong: give "
                               "TFRecord files (check=False ignores checksums)"))
        if length > size - at - _FRAME_BYTES:
            raise (DatasetError(_compressed(block[:4096])) if number == 0 and _compressed(block[:4096])
                   else _torn(number, at, size, at + _FRAME_BYTES + length))
        if length > MAX_RECORD_BYTES:
            raise DatasetError("record %d (at byte %d) has %d bytes, and a record has at most %d: put large values "
                               "into files of their own" % (number, at, length, MAX_RECORD_BYTES))
        if len(block) - place < length + _FRAME_BYTES:
            block, start, place = _longer(file, block, place, length + _FRAME_BYTES, size - at), at, 0
        begin, end = place + 12, place + 12 + length
        if crc is not None:
            data_crc, = struct.unpack_from("<I", block, end)
            if masked(crc(memoryview(block)[begin:end])) != data_crc:
                raise DatasetError("record %d (at byte %d, %d bytes) is damaged, for its bytes have another checksum: "
                                   "%s" % (number, at, length, _REMEDY))
        yield block, begin, end, at + 12
        place, number = end + 4, number + 1


def _longer(file: BinaryIO, block: bytes, place: int, need: int, left: int) -> bytes:
    """The block from ``place`` on, with at least ``need`` bytes, of ``left`` in the file."""
    pieces, have = [block[place:]], len(block) - place
    while have < need:
        piece = file.read(min(max(BLOCK_BYTES, need - have), left - have))
        if not piece:
            raise DatasetError("it became shorter while it was read: wait until it is written, and start again")
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


def _torn(number: int, at: int, size: int, end: int) -> DatasetError:
    if not number:
        return DatasetError("it is no TFRecord file, or torn within its first record, which would end at byte %d, and "
                            "the file at %d: give TFRecord files, or remove this one" % (end, size))
    return DatasetError("record %d (at byte %d) is torn, for it would end at byte %d, and the file ends at %d: %s" % (
        number, at, end, size, _REMEDY))


def _compressed(beginning: bytes) -> str:
    """The error, if the file begins as one that was compressed as a whole; else ''."""
    if beginning[:3] == b"\x1f\x8b\x08":
        kind = "gzip"
    else:
        try:
            if beginning[:1] != b"\x78" or not zlib.decompressobj().decompress(beginning, 64):
                return ""
        except zlib.error:
            return ""
        kind = "zlib"
    return ("it is compressed as a whole (%s), so that no record can be read alone: convert it with stoker-pack, which "
            "reads it once" % kind)


def masked(crc: int) -> int:
    """A checksum as it stands in the file."""
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff


@functools.lru_cache(maxsize=1)
def crc_function() -> Optional[Callable[[Any], int]]:
    """CRC-32C of bytes, by the library crc32c; None, with a line in the log, if it is not installed."""
    try:
        found: Callable[[Any], int] = importlib.import_module("crc32c").crc32c
    except ImportError:
        log.warning("the library crc32c is not installed, so only the lengths of TFRecords are checked, not their "
                    "bytes: pip install crc32c")
        return None
    return found


@functools.lru_cache(maxsize=1)
def _table() -> Tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc_of_8(data: bytes) -> int:
    """CRC-32C of a record's length: so much is checked without a library, too."""
    table, crc = _table(), 0xffffffff
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


# --------------------------------------------------------------------------------------------------------- the index

class _Index:
    """The index of one file, while it grows."""

    def __init__(self, options: Dict[str, Any]) -> None:
        self._images: List[str] = options["image"]
        self._label: Optional[str] = options["label"]
        self._columns: List[str] = options["columns"]
        self._keys = {name: name.encode("utf-8", "surrogateescape")
                      for name in self._images + self._columns + ([self._label] if self._label else [])}
        self._wanted = frozenset(self._keys.values())
        self._offsets, self._lengths, self._labels = array("q"), array("I"), array("q")
        self._texts: Dict[bytes, int] = {}              # the labels that are texts, with their numbers
        self._are_texts: Optional[bool] = None
        self._rows: List[bytes] = []
        self._scalars = [True] * len(self._columns)
        self._unseen = set(self._images + self._columns)     # no record has a value of it so far
        self._there: Tuple[str, ...] = ()
        self._pack = packer()

    def add(self, number: int, block: bytes, begin: int, end: int, shift: int) -> None:
        """The next record, ``block[begin:end]``; byte i of the block is byte i + ``shift`` of the file. Raises
        Malformed; DatasetError, a clause about the record."""
        found = features(block, begin, end, self._wanted)
        if not number or self._unseen and number < TRIED:
            self._there = _names_of(features(block, begin, end))
        for name in self._images:
            self._add_part(name, found.get(self._keys[name]), block, begin, shift)
        if self._label is not None:
            feature = found.get(self._keys[self._label])
            if feature is None or not feature.kind or feature.begin == feature.end:
                there = _names_of(features(block, begin, end))
                raise DatasetError("has no %s %s, and %s" % (
                    "value in its label" if self._label in there else "label", quoted(self._label),
                    "those before it have: stoker-pack --skip-damaged leaves such records out; or give label=None "
                    "(--label-field none)" if number else "has the features %s: name its label with label=, or give "
                                                          "label=None" % (name_list(there, 20) or "(none)")))
            self._labels.append(self._label_of(feature, block))
        if self._columns:
            self._add_row(found, block)
        if number == TRIED - 1:
            for name in self._images:
                if name in self._unseen:
                    raise DatasetError("has no %s, and so have all before it; it has the features %s: name the one "
                                       "with the picture with image=" % (quoted(name), name_list(self._there, 20)))

    def _add_part(self, name: str, feature: Optional[Feature], block: bytes, begin: int, shift: int) -> None:
        values: List[Tuple[int, int]] = []
        if feature is not None and feature.kind:
            if feature.kind != BYTES:
                raise DatasetError("has %s values in %s, and a picture is bytes: name another feature with image=, or "
                                   "give it in columns=[...]" % (KINDS[feature.kind], quoted(name)))
            values = spans(block, feature, 2)
        if len(values) > 1:
            raise DatasetError("has several values in %s, and a picture is one: give it in columns=[...]"
                               % quoted(name))
        if values:
            self._unseen.discard(name)
        first, last = values[0] if values else (begin, begin)
        self._offsets.append(first + shift)
        self._lengths.append(last - first if values else MISSING)

    def _label_of(self, feature: Feature, block: bytes) -> int:
        """The label, or the number of its text."""
        texts = spans(block, feature, 2) if feature.kind == BYTES else []
        numbers = int64s(block, feature, 2) if feature.kind == INT64 else []
        if len(texts) + len(numbers) != 1:
            raise DatasetError("has %s in the label %s, which must be one int64 or one text: give label=None, and the "
                               "feature in columns=[...], which reaches sample.row" % (
                                   "floats" if feature.kind == FLOAT else "several values", quoted(self._label)))
        if self._are_texts not in (None, bool(texts)):
            raise DatasetError("has a label of another type than those before it: all must be int64, or all texts")
        self._are_texts = bool(texts)
        if numbers:
            return numbers[0]
        text = block[texts[0][0]:texts[0][1]]
        if text not in self._texts:
            if len(self._texts) == MAX_LABEL_TEXTS or len(text) > 1024 or b"\0" in text:
                raise DatasetError("has the label %s, which is no name of a class: give label=None" % (
                    quoted(text[:40].decode("utf-8", "replace"))))
        return self._texts.setdefault(text, len(self._texts))

    def _add_row(self, found: Dict[bytes, Feature], block: bytes) -> None:
        values = [self._values(name, found.get(self._keys[name]), block) for name in self._columns]
        for place, (name, listed) in enumerate(zip(self._columns, values)):
            if listed:
                self._unseen.discard(name)
            if len(listed) != 1 and self._scalars[place]:
                self._scalars[place] = False        # in this file, the column is a list from now on, and was before
                self._rows = [self._pack([[each] if other == place else each for other, each in enumerate(row)])
                              for row in map(_unpacked, self._rows)]
        packed = self._pack([listed[0] if scalar else listed for scalar, listed in zip(self._scalars, values)])
        if len(packed) > MAX_ROW_BYTES:
            raise _too_long(len(packed))
        self._rows.append(packed)

    def _values(self, name: str, feature: Optional[Feature], block: bytes) -> List[Any]:
        if feature is None or not feature.kind:
            return []
        size = feature.end - feature.begin
        if size > 2 * MAX_ROW_BYTES + 64:           # a value takes half of that at least when it is packed
            raise _too_long(size)
        if feature.kind == BYTES:
            return [block[first:last] for first, last in spans(block, feature, size)]
        return floats(block, feature) if feature.kind == FLOAT else int64s(block, feature, size)

    def finished(self) -> FileIndex:
        """The index of all that was added."""
        count, parts = len(self._labels) if self._label is not None else 0, len(self._images)
        count = len(self._offsets) // parts if parts else len(self._rows)
        labels = np.frombuffer(self._labels, np.int64) if self._label is not None and count else None
        names = sorted(self._texts)
        if self._texts and labels is not None:
            numbers = np.empty(len(names), np.int64)
            numbers[[self._texts[name] for name in names]] = np.arange(len(names))
            labels = numbers[labels]
        ends = np.cumsum(np.fromiter(map(len, self._rows), np.int64, len(self._rows))) if self._columns else None
        return FileIndex(
            tuple(map(Part, self._images)), _array(self._offsets, np.int64).reshape(count, parts),
            _array(self._lengths, np.uint32).reshape(count, parts), labels,
            tuple(name.decode("utf-8", "surrogateescape") for name in names), tuple(self._columns),
            b"".join(self._rows), ends, scalars=tuple(self._scalars),
            absent=tuple(sorted(self._unseen)) if count else (), there=self._there)


def _array(values: "array[int]", dtype: Any) -> "np.ndarray":
    return np.frombuffer(values, dtype) if len(values) else np.zeros(0, dtype)


def _unpacked(row: bytes) -> List[Any]:
    import msgpack
    values: List[Any] = msgpack.unpackb(row, raw=False)
    return values


def _names_of(found: Dict[bytes, Feature]) -> Tuple[str, ...]:
    """The names of a record's features, with their types, for people."""
    return tuple(printable_path(name.decode("utf-8", "surrogateescape"))[:100] for name in sorted(found)[:50])


def _too_long(size: int) -> DatasetError:
    return DatasetError("has columns of %d bytes, and a row has at most %d: leave the large one out of columns=, or "
                        "give it as an image, which is read by the workers" % (size, MAX_ROW_BYTES))
