"""Places: where in a file a sample's bytes are, as a text that travels wherever a path does.

A trainer that has indexed ``train.tar`` gives a worker the path ``train.tar//512+40213``: 40,213 bytes, from byte 512
on. No normal path has a doubled '/', so this is no name of a file. Raw numbers have their type and shape behind it, as
in ``x.npy//128+12288:|u1:64x64x3``. What has no fixed place in a HDF5 file is named: ``x.h5//hdf5:17:images``.
"""

import re
from typing import NamedTuple, Optional, Tuple

MARK = "//"
MAX_DIMENSIONS = 8
CHANNELS = frozenset((1, 3, 4))     # that numbers of a picture may have
MAX_BYTES = 1 << 40         # of a file, and so of an offset
_DTYPES = frozenset("|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 >i2 >u2 >i4 >u4 >i8 >u8 >f2 >f4 >f8".split())
_PLACE = re.compile(r"(.+)//(?:(\d{1,13})\+(\d{1,13})(?::([<>|][biuf]\d):((?:\d{1,10}(?:x\d{1,10})*)?))?"
                    r"|hdf5:(\d{1,13}):([^\0]+))\Z", re.DOTALL)


class Place(NamedTuple):
    """A part of the file ``path``. Of raw numbers: ``dtype``, as numpy's ``dtype.str``, and ``shape``; '' and () for
    the bytes of what would be a file, such as a JPEG. ``dataset``: of a HDF5 file, of which it is item ``offset``."""
    path: str
    offset: int
    length: int
    dtype: str = ""
    shape: Tuple[int, ...] = ()
    dataset: str = ""

    def __str__(self) -> str:
        """The text that ``place_of`` takes."""
        if self.dataset:
            return "%s//hdf5:%d:%s" % (self.path, self.offset, self.dataset)
        text = "%s//%d+%d" % (self.path, self.offset, self.length)
        return "%s:%s:%s" % (text, self.dtype, "x".join(map(str, self.shape))) if self.dtype else text


def place_of(text: str) -> Optional[Place]:
    """The place that ``text`` says; None if it is a plain path, or no place that a record source makes."""
    if MARK not in text:
        return None
    match = _PLACE.match(text)
    if match is None:
        return None
    path, offset, length, dtype, shape, item, dataset = match.groups()
    if dataset is not None:
        return Place(path, int(item), 0, "", (), dataset)
    sides = tuple(map(int, shape.split("x"))) if shape else ()
    place = Place(path, int(offset), int(length), dtype or "", sides)
    if place.offset + place.length > MAX_BYTES or dtype is not None and not _fits(place):
        return None
    return place


def why_no_picture(dtype: str, shape: Tuple[int, ...]) -> str:
    """A clause why numbers of this dtype, such as "uint8", and shape are no picture; '' if they are one. One of 1, 3 or
    4 channels has them as its last side, or, if that is no such number, as its first."""
    channels = (1,) if len(shape) == 2 else (shape[2], shape[0]) if len(shape) == 3 else ()
    if dtype == "uint8" and CHANNELS.intersection(channels) and 0 not in shape:
        return ""
    return ("they are %s of shape %s, and a picture is uint8 of [height, width], or with 1, 3 or 4 channels; use "
            "sample.numpy() in a function of your own" % (dtype, list(shape)))


def _fits(place: Place) -> bool:
    """Whether its numbers take as many bytes as it has."""
    if place.dtype not in _DTYPES or len(place.shape) > MAX_DIMENSIONS:
        return False
    size = int(place.dtype[2:])
    for side in place.shape:
        size *= side
    return size == place.length
