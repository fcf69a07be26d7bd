"""Samples that are slices of arrays (npy, npz, HDF5): their parts, labels and columns. Pure."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.packing import pack_rows
from stoker.pipeline.sources.records.file_index import FileIndex, Part
from stoker.pipeline.storage.place import MAX_DIMENSIONS, Place, place_of
from stoker.pipeline.text import name_list, quoted

MAX_SAMPLES = 50000000          # of one file; as many as a scan of a folder takes
MAX_SAMPLE_BYTES = 1 << 30      # that a worker reads of one file
MAX_COLUMN_BYTES = 1 << 29      # of an array that is read as labels or a column


def part_of(name: str, dtype: Any, shape: Tuple[int, ...]) -> Tuple[Part, int]:
    """The part of which each sample has one item of the array ``name``, whose items have this dtype and shape, and the
    item's bytes. Raises DatasetError."""
    if dtype.hasobject:
        raise DatasetError("%s holds Python objects, which would need pickle: save it as an array of numbers"
                           % shown(name))
    if dtype.fields or dtype.subdtype:
        raise DatasetError("%s has a structured dtype (%.80s): save each of its fields as an array of its own"
                           % (shown(name), dtype))
    length = int(dtype.itemsize)
    for side in shape:
        length *= side
    if not 0 < length <= MAX_SAMPLE_BYTES:
        raise DatasetError("each sample in %s has %d bytes (dtype %.80s, shape %s), and a sample has 1 to %d"
                           % (shown(name), length, dtype, list(shape), MAX_SAMPLE_BYTES))
    if len(shape) > MAX_DIMENSIONS:
        raise DatasetError("each sample in %s has %d dimensions, and a sample has at most %d: reshape it"
                           % (shown(name), len(shape), MAX_DIMENSIONS))
    if place_of(str(Place("x", 0, length, dtype.str, shape))) is None:
        raise DatasetError("%s has the dtype %.80s, and samples are bool, int, uint or float numbers of 8 to 64 bits: "
                           "convert it (.astype)" % (shown(name), dtype))
    return Part(name, dtype.str, shape), length


def check_count(name: str, count: int) -> None:
    """Raises DatasetError unless this is a number of samples that a file can have."""
    if not 0 < count <= MAX_SAMPLES:
        raise DatasetError("%s has %s samples, by its first side, and a file has 1 to %s" % (
            shown(name), format(count, ","), format(MAX_SAMPLES, ",")))


def places(count: int, starts: Sequence[int], lengths: Sequence[int]) -> "Tuple[np.ndarray, np.ndarray]":
    """Offsets and lengths of samples whose parts lie one after the other, from ``starts`` on."""
    steps = np.arange(count, dtype=np.int64)[:, None]
    return (np.asarray(starts, np.int64) + steps * np.asarray(lengths, np.int64),
            np.tile(np.asarray(lengths, np.uint32), (count, 1)))


def labels_of(values: Any, count: int, name: str) -> "Tuple[np.ndarray, Tuple[str, ...]]":
    """int64 [count] and the names of labels that are texts. ``values``: an array or a list, one for each sample. Raises
    DatasetError, which calls them ``name``, if they have one."""
    array = np.asarray(values)
    name = name and name + " "
    if array.ndim == 2 and array.shape[1] == 1:       # as in many files of CIFAR
        array = array[:, 0]
    if array.ndim != 1 or len(array) != count:
        raise DatasetError("the labels %shave the shape %s, and there are %s samples: give one number or text for each"
                           % (name, list(array.shape), format(count, ",")))
    if array.dtype.kind in "biu":
        lowest, highest = int(array.min()), int(array.max())
        if lowest < 0 or highest >= 1 << 31:
            raise DatasetError("the labels %sgo from %d to %d, and labels are the numbers of classes from 0 on" % (
                name, lowest, highest))
        return array.astype(np.int64), ()
    texts = [_text(value) for value in array.tolist()]
    if array.dtype.kind not in "USO" or None in texts:
        raise DatasetError("the labels %shave the dtype %.80s, and labels are whole numbers or texts: convert them "
                           "(.astype('int64')), or take them as a column" % (name, array.dtype))
    names = sorted(set(texts), key=_bytes)          # type: ignore[arg-type]
    place = {text: number for number, text in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64), tuple(names)       # type: ignore[arg-type]


def with_labels(indexes: Sequence[FileIndex], labels: Any, name: str) -> List[FileIndex]:
    """The indexes with ``labels``, one for each sample of all of them. Raises DatasetError."""
    count = sum(index.size for index in indexes)
    numbers, names = labels_of(labels, count, name)
    found, start = [], 0
    for index in indexes:
        found.append(index._replace(labels=numbers[start:start + index.size], label_names=names))
        start += index.size
    return found


def packed_columns(columns: Dict[str, Any]) -> Tuple[bytes, Optional["np.ndarray"]]:
    """Rows and their ends, as ``FileIndex`` has them, of columns with a value for each sample: arrays and lists."""
    if not columns:
        return b"", None
    values = [_plain(column) for column in columns.values()]
    names = list(columns)
    packed, offsets = pack_rows((list(row) for row in zip(*values)), lambda row: "sample %d (columns %s)" % (
        row, name_list(names)))
    return packed, np.frombuffer(offsets, np.int64)[1:]


def _plain(column: Any) -> List[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    if values and isinstance(values[0], bytes):
        texts = [_text(value) for value in values]
        return values if None in texts else texts
    return values


def _text(value: Any) -> Optional[str]:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def shown(name: str) -> str:
    """What a sentence calls the array: that of an npy file has no name."""
    return "the array %s" % quoted(name) if name else "its array"
