"""TFRecord files of tf.train.Examples, compressed as a whole or not, read from begin to end.

The frames are read here and not by ``records.tfrecord``, which needs a file that can seek, and no record after a
damaged one. Here a record with damaged bytes is left out, and the ones behind it are read; if the length of a record is
damaged, the begin of the next one is not known.
"""

import struct
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple, Union

from stoker.packing.inputs.files import BROKEN, SourceFile, decompressed, is_of_disk, read_exactly
from stoker.packing.samples import MAX_PART_BYTES, Found, LeftOut
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.protobuf import (
    BYTES, FLOAT, INT64, Feature, Malformed, features, floats, int64s, spans)
from stoker.pipeline.sources.records.tfrecord import crc_function, crc_of_8, masked
from stoker.pipeline.text import name_list, printable, printable_path

IMAGE, LABEL = "image/encoded", "image/class/label"
REST_LOST = "; the records behind it in this file are lost, for it is not known where they begin"
_FRAME = struct.Struct("<QI")


def is_frame(start: bytes) -> bool:
    """Whether these are the first bytes of a TFRecord: a length with its checksum."""
    return len(start) >= 12 and masked(crc_of_8(start[:8])) == _FRAME.unpack(start[:12])[1]


class Fields(NamedTuple):
    """The features to take. ``label``: '' for none; ``columns`` None: none."""
    image: str
    label: str
    columns: Optional[Tuple[str, ...]]


class TFRecordReader:
    """The samples of TFRecord files."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._image = fields.image.encode("utf-8", "surrogateescape")
        self._label = fields.label.encode("utf-8", "surrogateescape")
        self._columns = [(name, name.encode("utf-8", "surrogateescape")) for name in fields.columns or ()]
        wanted = {self._image, self._label} | {key for _, key in self._columns}
        self._wanted = frozenset(wanted)

    def records(self, file: SourceFile, raw: Any, start: int, labels_only: bool) -> Iterator[Union[Found, LeftOut]]:
        """The samples of ``file``, which is open as ``raw``, from its record ``start`` on."""
        for number, record in enumerate(frames(file, raw, start), start):
            where = "%s, record %d" % (file.shown, number)
            yield LeftOut(where, record) if isinstance(record, str) else self._sample(record, where)

    def _sample(self, record: bytes, where: str) -> Union[Found, LeftOut]:
        try:
            there = features(record, 0, len(record), self._wanted)
            label = self._label_of(there.get(self._label), record)
            image = self._values(there.get(self._image), record)
            if len(image) != 1 or not isinstance(image[0], bytes):
                return LeftOut(where, "it has no picture in the feature %s" % printable_path(self._fields.image),
                               "name the right one with --image-field: its features are %s" % name_list(
                                   [name.decode("utf-8", "replace") for name in sorted(
                                       features(record, 0, len(record)))], 20))
            columns = None
            if self._columns:
                columns = {name: _single(self._values(there.get(key), record)) for name, key in self._columns}
        except Malformed as error:
            return LeftOut(where, "it is no tf.train.Example: %s" % error)
        except DatasetError as error:
            return LeftOut(where, str(error), "name the right feature with --label-field, or give --label-field none")
        return Found(where, None, label, image[0], "", columns)

    def _label_of(self, feature: Optional[Feature], record: bytes) -> Union[int, str, None]:
        if not self._label:
            return None
        values = self._values(feature, record)
        if len(values) != 1 or isinstance(values[0], float):
            raise DatasetError("it has no single number or text in the label %s" % printable_path(self._fields.label))
        value = values[0]
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value

    @staticmethod
    def _values(feature: Optional[Feature], record: bytes) -> List[Any]:
        if feature is None:
            return []
        if feature.kind == BYTES:
            return [record[begin:end] for begin, end in spans(record, feature, len(record))]
        if feature.kind == INT64:
            return list(int64s(record, feature, len(record)))
        return list(floats(record, feature)) if feature.kind == FLOAT else []


def _single(values: List[Any]) -> Any:
    """The value of a list of one."""
    return values[0] if len(values) == 1 else values or None


def frames(file: SourceFile, raw: Any, start: int) -> Iterator[Union[bytes, str]]:
    """Each record from number ``start`` on, or why it is damaged, in a clause."""
    crc = crc_function()
    number = 0
    end = None if file.compression else file.size
    try:
        stream = decompressed(raw, file.compression)
        while True:
            head = read_exactly(stream, 12)
            if not head:
                return
            length, length_crc = _FRAME.unpack(head.ljust(12, b"\0"))
            if len(head) < 12:
                why = "it is cut: the file ends in it"
            elif masked(crc_of_8(head[:8])) != length_crc:
                why = "the checksum of its length is wrong" + REST_LOST
            elif length > MAX_PART_BYTES:
                why = "it has %s bytes, and a record has at most %s%s" % (
                    format(length, ","), format(MAX_PART_BYTES, ","), REST_LOST)
            else:
                why = ""
                if number < start and end is not None and stream.tell() + length + 4 <= end:
                    stream.seek(length + 4, 1)
                    number += 1
                    continue
                body = read_exactly(stream, length + 4)
                if len(body) < length + 4:
                    why = "it is cut: the file ends in it"
            if why:
                if number >= start:
                    yield why
                return
            if number >= start:
                data = body[:length]
                if crc is not None and masked(crc(data)) != int.from_bytes(body[length:], "little"):
                    yield "the checksum of its bytes is wrong"
                else:
                    yield data
            number += 1
    except BROKEN as error:
        if not file.compression or is_of_disk(error):
            raise
        if number >= start:
            yield "the %s data of the file is damaged or cut (%s)%s" % (file.compression, printable(str(error)[:100]),
                                                                        REST_LOST)
