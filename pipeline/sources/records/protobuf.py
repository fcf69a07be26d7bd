"""tf.train.Example without TensorFlow or protobuf: where the values of its features are in the bytes of a record.

    message Example     { Features features = 1; }
    message Features    { map<string, Feature> feature = 1; }        an entry: key = 1, value = 2
    message Feature     { oneof kind { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; } }
    message ...List     { repeated ... value = 1; }                  numbers packed or not

The bytes may be anything: each length is compared with the bytes that are there before it is used, each step goes
forward, and no memory is taken by a number that the bytes say.
"""

import struct
from typing import Container, Dict, List, NamedTuple, Optional, Tuple

from stoker.pipeline.text import quoted

BYTES, FLOAT, INT64 = 1, 2, 3
KINDS = {BYTES: "bytes", FLOAT: "float", INT64: "int64"}
_LENGTH_DELIMITED = 2       # of the wire types: 0 varint, 1 of 8 bytes, 2 of a length that it says, 5 of 4 bytes
_FIRST, _SECOND = 1 << 3 | _LENGTH_DELIMITED, 2 << 3 | _LENGTH_DELIMITED       # tags: field 1 and 2 with a length
_TOO_SHORT = "a length leads beyond its end"


class Malformed(ValueError):
    """The bytes are no tf.train.Example. ``str(error)``: why, in a clause."""


class Feature(NamedTuple):
    """The list of a feature's values: its bytes are those of the record from ``begin`` to ``end``."""
    kind: int               # BYTES, FLOAT or INT64; 0: it has no list, and so no value
    begin: int
    end: int


def varint(block: bytes, place: int, end: int) -> Tuple[int, int]:
    """The number at ``place``, below 2**64, and where it ends. Raises Malformed."""
    value = shift = 0
    while place < end:
        byte = block[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, place
        shift += 7
        if shift > 63:
            break
    raise Malformed("a number in it does not end")


def _span(block: bytes, place: int, end: int) -> Tuple[int, int]:
    """Where the bytes begin and end whose length is at ``place``. Raises Malformed."""
    if place >= end:
        raise Malformed(_TOO_SHORT)
    size = block[place]
    place += 1
    if size > 127:
        size, place = varint(block, place - 1, end)
    if size > end - place:
        raise Malformed(_TOO_SHORT)
    return place, place + size


def _skipped(block: bytes, tag: int, place: int, end: int) -> int:
    """Where the value ends that follows ``tag``, of a field that is not used. Raises Malformed."""
    wire = tag & 7
    if not tag >> 3 or wire in (3, 4) or wire > 5:
        raise Malformed("it has a field that no message has")
    if wire == 0:
        return varint(block, place, end)[1]
    if wire == _LENGTH_DELIMITED:
        return _span(block, place, end)[1]
    place += 8 if wire == 1 else 4
    if place > end:
        raise Malformed(_TOO_SHORT)
    return place


def features(block: bytes, begin: int, end: int, wanted: Optional[Container[bytes]] = None) -> Dict[bytes, Feature]:
    """The features with names in ``wanted`` (None: all) of the Example ``block[begin:end]``. Raises Malformed."""
    found: Dict[bytes, Feature] = {}
    place = begin
    while place < end:
        tag, place = varint(block, place, end)
        if tag == _FIRST:
            first, last = _span(block, place, end)
            _entries(block, first, last, wanted, found)
            place = last
        elif tag == _SECOND:
            raise Malformed("it is a SequenceExample, or another message")
        else:
            place = _skipped(block, tag, place, end)
    return found


def _entries(block: bytes, place: int, end: int, wanted: Optional[Container[bytes]], found: Dict[bytes, Feature]
             ) -> None:
    """Adds the features of a Features message. Every record has several: lengths below 128 are read here."""
    while place < end:
        if block[place] != _FIRST:
            tag, place = varint(block, place, end)
            place = _skipped(block, tag, place, end)
            continue
        place, last = _span(block, place + 1, end)
        name, value = None, None
        while place < last:
            tag = block[place]
            place += 1
            if tag == _FIRST:
                first, place = _span(block, place, last)
                name = block[first:place]
                if wanted is not None and name not in wanted and value is None:
                    break               # what follows is the value
            elif tag == _SECOND:
                if value is not None:
                    raise Malformed("a feature has two values")
                value = _span(block, place, last)
                place = value[1]
            else:
                tag, place = varint(block, place - 1, last)
                place = _skipped(block, tag, place, last)
        place = last
        if name is None:
            name = b""                  # the default of a text
        if wanted is None or name in wanted:
            if name in found:
                raise Malformed("it has the feature %s twice" % quoted(name.decode("utf-8", "replace")))
            found[name] = _feature(block, *value) if value is not None else Feature(0, place, place)


def _feature(block: bytes, place: int, end: int) -> Feature:
    found = None
    while place < end:
        tag, place = varint(block, place, end)
        if tag & 7 == _LENGTH_DELIMITED and tag >> 3 in KINDS:
            if found is not None:
                raise Malformed("a feature has two lists of values")
            first, place = _span(block, place, end)
            found = Feature(tag >> 3, first, place)
        else:
            place = _skipped(block, tag, place, end)
    return found or Feature(0, end, end)


def spans(block: bytes, feature: Feature, most: int) -> List[Tuple[int, int]]:
    """Where each value of a bytes list begins and ends, of the first ``most``. Raises Malformed."""
    found: List[Tuple[int, int]] = []
    place, end = feature.begin, feature.end
    while place < end and len(found) < most:
        tag, place = varint(block, place, end)
        if tag == _FIRST:
            found.append(_span(block, place, end))
            place = found[-1][1]
        else:
            place = _skipped(block, tag, place, end)
    return found


def int64s(block: bytes, feature: Feature, most: int) -> List[int]:
    """The values of an int64 list, of which there are at most a few more than ``most``. Raises Malformed."""
    found: List[int] = []
    place, end = feature.begin, feature.end
    while place < end and len(found) < most:
        tag, place = varint(block, place, end)
        if tag == _FIRST:
            place, last = _span(block, place, end)
            while place < last and len(found) < most:
                value, place = varint(block, place, last)
                found.append(value)
            place = last
        elif tag == 1 << 3:
            value, place = varint(block, place, end)
            found.append(value)
        else:
            place = _skipped(block, tag, place, end)
    return [value - (1 << 64) if value >> 63 else value for value in found]


def floats(block: bytes, feature: Feature) -> List[float]:
    """The values of a float list. Raises Malformed."""
    found: List[float] = []
    place, end = feature.begin, feature.end
    while place < end:
        tag, place = varint(block, place, end)
        if tag == _FIRST:
            first, place = _span(block, place, end)
            if (place - first) % 4:
                raise Malformed("a list of floats has a part of one")
            found += struct.unpack_from("<%df" % ((place - first) // 4), block, first)
        elif tag == (1 << 3 | 5):
            if end - place < 4:
                raise Malformed(_TOO_SHORT)
            found += struct.unpack_from("<f", block, place)
            place += 4
        else:
            place = _skipped(block, tag, place, end)
    return found
