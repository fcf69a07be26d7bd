"""Arrays from the content of npy and npz files, without pickle. All that a file promises is compared with its size
before memory is touched.

The format: numpy's documentation, ``numpy.lib.format``.
"""

import io
import struct
import warnings
import zipfile
from typing import Dict, Optional, Tuple

import numpy as np
from numpy.lib import format as npy_format

from stoker.pipeline.storage.folder import MAX_FILE_BYTES, BadFile, bad_content
from stoker.pipeline.text import name_list
from stoker.workers import foreign
from stoker.workers.stopwatch import timed

_NPY, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")     # how the files begin; an empty zip file
_LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}    # of the header, by version
_PREFIX_BYTES = 12              # magic, version and the longer one of these
_MAX_HEADER_BYTES = 10000       # as in numpy: Python's parser, which reads the header, needs much memory for a long one
_WRITTEN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)       # how numpy compresses; others may need gigabytes


@timed("decode")
def array_of(data: bytes, key: Optional[str] = None) -> np.ndarray:
    """The array in ``data``, the content of an npy file, or the one called ``key`` of an npz file; ``key`` may be None
    if it has only one. The array is writable and shares no memory.

    Raises BadFile if the content is at fault: it is neither format, has Python objects in it, or promises more than it
    has. Raises ValueError if ``key`` is: the file has no such array, or several, or is an npy file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of a header that Python 2 wrote
        if data.startswith(_NPY):
            if key is not None:
                raise ValueError("an npy file has one array and no keys, not %r" % key)
            return _guarded_array(data)
        if not data.startswith(_ZIP):
            raise BadFile(foreign.kind_of(data, foreign.ARRAY) or "not an npy or npz file")
        try:
            file = zipfile.ZipFile(io.BytesIO(data))
            members = {info.filename[:-len(".npy")]: info for info in file.infolist() if info.filename.endswith(".npy")}
        except Exception as error:
            raise bad_content(error) from error
        if key is None and len(members) == 1:
            key, = members
        if key not in members:
            raise ValueError("an npz file has %s, so key= must name one of them, not %r"
                             % (_listed(members), key))
        return _guarded_array(_member(file, members[key]))


def _listed(members: Dict[str, zipfile.ZipInfo]) -> str:
    return "the arrays " + name_list(map(repr, sorted(members))) if members else "no arrays"


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of one array of an npz file, of exactly the size that its header promises."""
    try:
        if info.compress_type not in _WRITTEN:
            raise BadFile("an array is compressed in a way that numpy does not write")
        with file.open(info) as member:
            beginning = member.read(_PREFIX_BYTES + _MAX_HEADER_BYTES)
            dtype, shape, _, offset = _header(beginning)
            _check_size(dtype, shape, info.file_size - offset, exactly=True)
            return beginning + member.read(info.file_size - len(beginning))
    except Exception as error:
        raise bad_content(error) from error


def _guarded_array(data: bytes) -> np.ndarray:
    try:
        dtype, shape, fortran, offset = _header(data)
        _check_size(dtype, shape, len(data) - offset)
        return np.ndarray(shape, dtype, data, offset, None, "F" if fortran else "C").copy("K")
    except Exception as error:
        raise bad_content(error) from error


def _check_size(dtype: np.dtype, shape: Tuple[int, ...], there_bytes: int, exactly: bool = False) -> None:
    promised_bytes = dtype.itemsize
    for side in shape:
        promised_bytes *= side
    if promised_bytes > min(there_bytes, MAX_FILE_BYTES) or exactly and promised_bytes < there_bytes:
        raise BadFile("an array of %d bytes in %d" % (promised_bytes, there_bytes))


def _header(data: bytes) -> Tuple[np.dtype, Tuple[int, ...], bool, int]:
    """dtype, shape, whether the first index is the fastest, and where the values begin."""
    if len(data) < _PREFIX_BYTES or not data.startswith(_NPY) or data[6] not in _LENGTHS:
        raise BadFile("not an npy file of version 1, 2 or 3")
    length = _LENGTHS[data[6]]
    begin = 8 + length.size
    end = begin + length.unpack_from(data, 8)[0]
    if end - begin > _MAX_HEADER_BYTES or end > len(data):
        raise BadFile("an npy header of %d bytes" % (end - begin))
    read = npy_format.read_array_header_1_0 if data[6] == 1 else npy_format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(io.BytesIO(data[8:end]))
    except MemoryError as error:        # Python's parser runs out of its own stack, not of memory: the header is short
        raise BadFile("an npy header that cannot be parsed") from error
    if dtype.hasobject:
        raise BadFile("an array of Python objects, which needs pickle")
    if not dtype.itemsize or any(side < 0 for side in shape):
        raise BadFile("an npy header with the dtype %s and the shape %s" % (dtype, list(shape)))
    return dtype, tuple(map(int, shape)), bool(fortran), end
