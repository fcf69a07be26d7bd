"""The header of an npy file, of which nothing is believed: it is short, no code in it runs, and it has no huge sizes.

The format: numpy's documentation, ``numpy.lib.format``.
"""

import io
import struct
import warnings
from typing import Any, NamedTuple, Tuple

from numpy.lib import format as npy_format

MAGIC = b"\x93NUMPY"
_LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}    # of the header, by version
MAX_HEADER_BYTES = 10000       # as in numpy: Python's parser, which reads the header, needs much memory for a long one
MAX_BYTES = 12 + MAX_HEADER_BYTES       # with magic, version and length before it
MAX_ITEM_BYTES = 1 << 30
MAX_DIMENSIONS = 32            # as in numpy 1


class Header(NamedTuple):
    """What an npy file says of its array. ``offset``: where its numbers begin; ``bytes``: how many it promises."""
    dtype: Any
    shape: Tuple[int, ...]
    is_fortran: bool
    offset: int
    bytes: int


def header_of(data: bytes) -> Header:
    """The header at the begin of ``data``: of an npy file, or at least of its first MAX_BYTES. Raises ValueError, a
    clause: it is no npy file, or has a header that numpy does not write, or Python objects, which need pickle."""
    if len(data) < 12 or not data.startswith(MAGIC) or data[6] not in _LENGTHS:
        raise ValueError("not an npy file of version 1, 2 or 3")
    length = _LENGTHS[data[6]]
    begin = 8 + length.size
    end = begin + length.unpack_from(data, 8)[0]
    if end - begin > MAX_HEADER_BYTES or end > len(data):
        raise ValueError("an npy header of %d bytes" % (end - begin))
    read = npy_format.read_array_header_1_0 if data[6] == 1 else npy_format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # of a header that Python 2 wrote
            shape, is_fortran, dtype = read(io.BytesIO(data[8:end]))
    except Exception as error:      # Python's parser runs out of its own stack, not of memory: the header is short
        raise ValueError("an npy header that cannot be parsed") from error
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which needs pickle")
    if not 0 < dtype.itemsize <= MAX_ITEM_BYTES or len(shape) > MAX_DIMENSIONS or not all(
            0 <= side < 1 << 63 for side in shape):
        raise ValueError("an npy header with the dtype %.80s and the shape %.200s" % (dtype, list(shape)))
    promised = int(dtype.itemsize)
    for side in shape:
        promised *= int(side)
    return Header(dtype, tuple(map(int, shape)), bool(is_fortran), end, promised)
