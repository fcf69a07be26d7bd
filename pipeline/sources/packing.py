"""Rows as bytes: what a user's row may hold, how it is converted, and the error for a field that cannot travel.

A row is packed once, with msgpack, when its source is opened. The same bytes then go into every lease.
"""

import os
from array import array
from io import BytesIO
from itertools import accumulate
from typing import Any, Callable, Iterable, List, Optional, Tuple

import msgpack
import numpy as np

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.text import quoted
from stoker.pipeline.user_errors import a_type

MAX_DEPTH = 64                   # lists and dicts within each other
MAX_ARRAY_BYTES = 64 << 10       # of an array within a row: larger ones belong into files
ROWS_AT_ONCE = 4096              # packed before they are appended to the others

_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_TEXT = frozenset((str,))
#: What to do with a value of a type with this name.
_REMEDIES = {"Decimal": "use float(...)", "Fraction": "use float(...)", "complex": "use its real and imaginary part",
             "datetime": "use its .isoformat() or .timestamp()", "date": "use its .isoformat()",
             "time": "use its .isoformat()", "Timestamp": "use its .isoformat()", "datetime64": "use str(...)",
             "timedelta": "use its .total_seconds()", "UUID": "use str(...)", "set": "use sorted(...)",
             "frozenset": "use sorted(...)", "range": "use list(...)", "map": "use list(...)",
             "generator": "use list(...)", "Tensor": "use its .tolist()", "Image": "give the path of its file"}


class _Unfit(Exception):
    """A value that cannot travel. ``where``: the keys and numbers that lead to it from the row."""

    def __init__(self, where: Tuple[Any, ...], fact: str) -> None:
        super().__init__(where, fact)
        self.where, self.fact = where, fact


def packer() -> Callable[[Any], bytes]:
    """A function that packs one row of plain values; it is faster than ``msgpack.packb``."""
    pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, unicode_errors="surrogateescape").pack
    return pack


def pack_rows(rows: Iterable[Any], name: Callable[[int], str]) -> Tuple[bytes, "array[int]"]:
    """The packed ``rows`` one after the other, and the n + 1 offsets at which they begin and end. Reads ``rows`` once.

    Values of None, bool, int (64 bit), float, str, bytes, list, tuple and dict with str keys can travel, also within
    each other. A tuple arrives as a list, a bytearray as bytes, an object of a subclass as one of the class. Scalars
    and small arrays of numpy become plain numbers and lists. ``name``: how an error names the row of a number, counted
    from 0. Raises DatasetError if a row cannot travel.
    """
    pack, blob = packer(), Blob()
    for number, row in enumerate(rows):
        try:
            packed = pack(_plain(row, ()))
        except (_Unfit, OverflowError, UnicodeEncodeError) as error:
            unfit = error if isinstance(error, _Unfit) else _unpackable(row, ())
            raise DatasetError("%s: %s" % (name(number), _sentence(unfit))) from None
        if len(packed) > MAX_ROW_BYTES:
            raise DatasetError("%s has %d bytes when it is packed, and a row has at most %d: put large values into a "
                               "file and give its path" % (name(number), len(packed), MAX_ROW_BYTES))
        blob.append(packed)
    return blob.finished()


class Blob:
    """Packed rows that become one bytes object. It grows in place, and so needs no second copy at its end."""

    def __init__(self) -> None:
        self._rows: List[bytes] = []
        self._bytes = BytesIO()
        self._offsets = array("q", (0,))

    def append(self, packed: bytes) -> None:
        """Adds a row."""
        self._rows.append(packed)
        if len(self._rows) == ROWS_AT_ONCE:
            self.extend(self._rows)
            self._rows = []

    def extend(self, rows: List[bytes]) -> None:
        """Adds many rows, behind those of earlier calls of this method."""
        ends = accumulate([self._offsets[-1], *map(len, rows)])
        next(ends)
        self._offsets.extend(ends)
        self._bytes.write(b"".join(rows))

    def finished(self) -> Tuple[bytes, "array[int]"]:
        """All rows, and their n + 1 offsets."""
        self.extend(self._rows)
        return self._bytes.getvalue(), self._offsets


def _plain(value: Any, where: Tuple[Any, ...]) -> Any:
    """``value`` of types that msgpack packs, and that arrive as what they were. Raises _Unfit."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if len(where) >= MAX_DEPTH:
        raise _Unfit(where[:1], "is nested deeper than %d lists or dicts" % MAX_DEPTH)
    if isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            for key in value:
                if not isinstance(key, str):
                    raise _Unfit(where, "has the key %s, and a dict's keys must be str: use str(...)" % _shown(key))
        if _SCALARS.issuperset(map(type, value.values())):
            return value
        return {key: each if type(each) in _SCALARS else _plain(each, where + (key,)) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        if _SCALARS.issuperset(map(type, value)):
            return value if kind in (list, tuple) else list(value)     # msgpack's ExtType is a tuple
        return [each if type(each) in _SCALARS else _plain(each, where + (i,)) for i, each in enumerate(value)]
    if isinstance(value, np.ndarray):
        if value.nbytes > MAX_ARRAY_BYTES:
            raise _Unfit(where, "is an array with %d bytes, and arrays in rows have at most %d: save it to a file, "
                                "give its path, and read it with sample.numpy" % (value.nbytes, MAX_ARRAY_BYTES))
        return _plain(value.tolist(), where)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.generic):
        plain = value.item()
        if type(plain) in _SCALARS or isinstance(plain, tuple):
            return _plain(plain, where)
    remedy = _REMEDIES.get(kind.__name__, "use plain numbers, texts, lists or dicts")
    if isinstance(value, os.PathLike):
        remedy = "use str(...)"
    raise _Unfit(where, "is %s (%s), which cannot travel: %s" % (a_type(value), _shown(value), remedy))


def _unpackable(value: Any, where: Tuple[Any, ...]) -> _Unfit:
    """The first value in the row that ``_plain`` takes and msgpack does not."""
    found = _find_unpackable(_plain(value, where), where)
    assert found is not None
    return found


def _find_unpackable(value: Any, where: Tuple[Any, ...]) -> Optional[_Unfit]:
    inner: List[Tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
        for key in value:
            if _cannot_encode(key):
                return _Unfit(where, "has the key %s, which is not valid Unicode" % _shown(key))
    elif isinstance(value, (list, tuple)):
        inner = list(enumerate(value))
    elif isinstance(value, int) and not -1 << 63 <= value < 1 << 64:
        return _Unfit(where, "is an int of more than 64 bits (%s), which cannot travel: use str(...) or float(...)"
                      % _shown(value))
    elif isinstance(value, str) and _cannot_encode(value):
        return _Unfit(where, "is the text %s, which is not valid Unicode and cannot travel: use bytes" % _shown(value))
    for key, each in inner:
        found = _find_unpackable(each, where + (key,))
        if found is not None:
            return found
    return None


def _cannot_encode(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def _shown(value: Any) -> str:
    """A short and printable form of any object."""
    try:
        text = quoted(value)
    except Exception as error:       # a user's __repr__
        text = "its repr raises %s" % type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def _sentence(unfit: _Unfit) -> str:
    """The field, and what is wrong with it."""
    if not unfit.where:
        return "the row %s" % unfit.fact
    first, rest = unfit.where[0], unfit.where[1:]
    field = quoted(first) if isinstance(first, str) else "item %d" % first
    return field + "".join("[%s]" % quoted(key) for key in rest) + " " + unfit.fact
