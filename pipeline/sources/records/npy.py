"""The index of an npy or npz file, whose arrays have the samples along their first side: each sample is a slice."""

from typing import Any, BinaryIO, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records.array_samples import (
    MAX_COLUMN_BYTES, check_count, labels_of, packed_columns, part_of, places, shown)
from stoker.pipeline.sources.records.file_index import FileIndex, Part
from stoker.pipeline.sources.records.other_formats import MIN_BYTES, seems
from stoker.pipeline.sources.records.zip_directory import STORED, data_offset, directory, entries
from stoker.pipeline.storage.npy_header import MAGIC, MAX_BYTES, Header, header_of
from stoker.pipeline.text import name_list, quoted

MAX_ARRAYS = 1000               # in an npz file
ONLY_PART = "x"                 # the name of the array in an npy file


_NOT_READABLE = Header(np.dtype("V1"), (), False, 0, 0)


class _Array(NamedTuple):
    name: str                   # '' in an npy file
    header: Header
    offset: int                 # of its numbers in the file
    problem: str = ""           # why it cannot be read: its header is none

    @property
    def samples(self) -> int:
        return self.header.shape[0] if self.header.shape else 0

    @property
    def is_column(self) -> bool:
        """Whether it has a number or a text for each sample."""
        return len(self.header.shape) == 1 and self.header.dtype.kind in "biufUS"


def index(file: BinaryIO, size: int, options: Dict[str, Any]) -> FileIndex:
    """The samples of an npy or npz file: see ``stoker.npy`` for ``options``. Raises DatasetError, without the file's
    name; ConfigError."""
    given, labels, columns = options.get("array"), options.get("labels"), options.get("columns")
    for what, value in (("array", given), ("labels", labels)):
        if value is not None and not isinstance(value, str):
            raise ConfigError("%s must be the name of an array in the npz file, not %.80r" % (what, value))
    if columns is not None and not (isinstance(columns, (list, tuple)) and all(
            isinstance(name, str) for name in columns)):
        raise ConfigError("columns must be a list of names of arrays in the npz file, not %.80r" % (columns,))
    file.seek(0)
    beginning = file.read(MIN_BYTES)
    if beginning.startswith(MAGIC):
        arrays = [_array(file, "", 0, size)]
        asked = [name for name in (given, labels, *(columns or ())) if name is not None]
        if asked:
            raise ConfigError("an npy file has one array without a name, and no %s: arrays with names are in npz files "
                              "(np.savez)" % name_list(map(quoted, asked)))
    elif beginning[:4] in (b"PK\3\4", b"PK\5\6"):
        arrays = _arrays(file, size)
    else:
        raise DatasetError("it is neither an npy nor an npz file, as np.save and np.savez write them"
                           + seems(beginning))
    return _index(file, arrays, given, labels, columns)


def whole(file: BinaryIO, size: int) -> "np.ndarray":
    """All of the array in an npy file. Raises DatasetError, without the file's name."""
    array = _array(file, "", 0, size)
    if array.problem:
        raise DatasetError(array.problem)
    return _values(file, array)


def _index(file: BinaryIO, arrays: List[_Array], given: Optional[str], labels: Optional[str],
           columns: Optional[Sequence[str]]) -> FileIndex:
    main = _named(arrays, given, "array") if given else _main(arrays, labels)
    if main.problem:
        raise DatasetError(main.problem)
    if not main.header.shape:
        raise DatasetError("%s is a single number: the samples lie along the first side of an array"
                           % shown(main.name))
    check_count(main.name, main.samples)
    own_labels = _named(arrays, labels, "labels") if labels else None
    beside = [array for array in arrays if array not in (main, own_labels)]
    same = [array for array in beside if array.samples == main.samples]
    chosen = [array for array in same if array.is_column] if columns is None else [
        _named(arrays, name, "columns") for name in columns]
    for array in chosen:
        if array.samples != main.samples or not array.is_column:
            raise DatasetError("%s has the shape %s, and a column has one value for each of the %s samples in %s" % (
                shown(array.name), list(array.header.shape), format(main.samples, ","), shown(main.name)))
    parts, starts, lengths, unused = [], [], [], []
    for array in [main] + [array for array in same if not array.is_column]:
        try:
            part, length = _part(array)
        except DatasetError:
            if array is main:
                raise
            unused.append(array.name)
            continue
        parts.append(part if part.name else part._replace(name=ONLY_PART))
        starts.append(array.offset)
        lengths.append(length)
    numbers, names = (None, ()) if own_labels is None else labels_of(
        _values(file, own_labels), main.samples, quoted(own_labels.name))
    rows, ends = packed_columns({array.name: _values(file, array) for array in chosen})
    unused += [array.name for array in beside if array.samples != main.samples]
    return FileIndex(tuple(parts), *places(main.samples, starts, lengths), numbers, names,
                     tuple(array.name for array in chosen), rows, ends,
                     ("the arrays %s have another number of samples, or no plain numbers, and are left out"
                      % name_list(unused, 3),) if unused else ())


def _part(array: _Array) -> Tuple[Part, int]:
    if array.header.is_fortran and len(array.header.shape) > 1:
        raise DatasetError("%s is stored in Fortran order, so that the numbers of a sample do not lie side by side: "
                           "save it again with np.save(FILE, np.ascontiguousarray(array))" % shown(array.name))
    return part_of(array.name, array.header.dtype, array.header.shape[1:])


def _array(file: BinaryIO, name: str, begin: int, end: int) -> _Array:
    """The array of the npy file that lies from ``begin`` to ``end`` in ``file``."""
    file.seek(begin)
    try:
        header = header_of(file.read(min(MAX_BYTES, end - begin)))
    except ValueError as error:
        return _Array(name, _NOT_READABLE, 0, "%s cannot be read: it is %s; save it as numbers, with np.save or "
                      "np.savez" % (shown(name), error))
    offset = begin + header.offset
    if offset + header.bytes > end:
        raise DatasetError("%s promises %d bytes (dtype %.80s, shape %s), and there are %d: it was cut while it was "
                           "written or copied; write or copy it again" % (
                               shown(name), header.bytes, header.dtype, list(header.shape), end - offset))
    return _Array(name, header, offset)


def _arrays(file: BinaryIO, size: int) -> List[_Array]:
    where, arrays = directory(file, size), []
    if where.entries > MAX_ARRAYS:
        raise DatasetError("it has %d entries, and an npz file has at most %d arrays: a zip of pictures is for "
                           "stoker.zip" % (where.entries, MAX_ARRAYS))
    for entry in list(entries(file, where)):
        if not entry.name.endswith(".npy"):
            continue
        name = entry.name[:-len(".npy")]
        if entry.method != STORED or entry.is_encrypted:
            raise DatasetError("%s is compressed, so that no sample in it can be read at its place: save the file with "
                               "np.savez instead of np.savez_compressed" % shown(name))
        begin = data_offset(file, entry, where)
        arrays.append(_array(file, name, begin, begin + entry.length))
    if len({array.name for array in arrays}) < len(arrays):
        raise DatasetError("it has two arrays of one name (%s): save it again" % name_list(
            sorted(array.name for array in arrays)))
    if not arrays:
        raise DatasetError("it has no arrays (entries .npy): an npz file is written by np.savez; a zip of pictures is "
                           "for stoker.zip")
    return arrays


def _named(arrays: List[_Array], name: str, argument: str) -> _Array:
    for array in arrays:
        if array.name == name:
            if array.problem:
                raise DatasetError(array.problem)
            return array
    raise DatasetError("it has no array %s, which %s= names: there are %s" % (
        quoted(name), argument, name_list(quoted(array.name) for array in arrays)))


def _main(arrays: List[_Array], labels: Optional[str]) -> _Array:
    """The array that has the samples, if that can only be one."""
    others = [array for array in arrays if array.name != labels]
    wide = [array for array in others if len(array.header.shape) > 1] or others
    if len(wide) != 1:
        raise DatasetError("it has several arrays (%s): name the one with the samples (array=)" % name_list(
            "%s %s" % (quoted(array.name), list(array.header.shape)) for array in arrays))
    return wide[0]


def _values(file: BinaryIO, array: _Array) -> "np.ndarray":
    if array.header.bytes > MAX_COLUMN_BYTES:
        raise DatasetError("%s has %d bytes, and labels and columns have at most %d: leave it out (columns=)" % (
            shown(array.name), array.header.bytes, MAX_COLUMN_BYTES))
    file.seek(array.offset)
    data = file.read(array.header.bytes)
    if len(data) < array.header.bytes:
        raise DatasetError("%s ends too early: the file is changing" % shown(array.name))
    values = np.frombuffer(data, array.header.dtype)
    return values.reshape(array.header.shape, order="F" if array.header.is_fortran else "C")
