"""Arrays from the content of npy and npz files, without pickle. All that a file promises is compared with its size
before memory is touched.

The format: numpy's documentation, ``numpy.lib.format``.
"""

import io
import zipfile
from typing import Dict, Optional

import numpy as np

from stoker.pipeline.storage.folder import MAX_FILE_BYTES, BadFile, bad_content
from stoker.pipeline.storage.npy_header import MAGIC, MAX_BYTES, Header, header_of
from stoker.pipeline.text import name_list
from stoker.workers import foreign
from stoker.workers.stopwatch import timed

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")     # how an npz file begins; one without arrays
_WRITTEN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)       # how numpy compresses; others may need gigabytes


@timed("decode")
def array_of(data: bytes, key: Optional[str] = None) -> np.ndarray:
    """The array in ``data``, the content of an npy file, or the one called ``key`` of an npz file; ``key`` may be None
    if it has only one. The array is writable and shares no memory.

    Raises BadFile if the content is at fault: it is neither format, has Python objects in it, or promises more than it
    has. Raises ValueError if ``key`` is: the file has no such array, or several, or is an npy file.
    """
    if data.startswith(MAGIC):
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
            beginning = member.read(MAX_BYTES)
            header = _header(beginning)
            _check_size(header, info.file_size - header.offset, exactly=True)
            return beginning + member.read(info.file_size - len(beginning))
    except Exception as error:
        raise bad_content(error) from error


def _guarded_array(data: bytes) -> np.ndarray:
    try:
        header = _header(data)
        _check_size(header, len(data) - header.offset)
        return np.ndarray(header.shape, header.dtype, data, header.offset, None,
                          "F" if header.is_fortran else "C").copy("K")
    except Exception as error:
        raise bad_content(error) from error


def _check_size(header: Header, there_bytes: int, exactly: bool = False) -> None:
    if header.bytes > min(there_bytes, MAX_FILE_BYTES) or exactly and header.bytes < there_bytes:
        raise BadFile("an array of %d bytes in %d" % (header.bytes, there_bytes))


def _header(data: bytes) -> Header:
    try:
        return header_of(data)
    except ValueError as error:
        raise BadFile(str(error)) from error
