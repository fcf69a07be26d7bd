"""The index of a HDF5 file, whose datasets have the samples along their first side.

Where the bytes of a sample lie side by side in the file, workers read them there, without h5py: in contiguous datasets,
and in chunks without filters that hold whole samples. Else the sample is read by h5py on the worker.
"""

import fcntl
import sys
from typing import Any, BinaryIO, Dict, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.errors import ConfigError, DatasetError, StokerError
from stoker.pipeline.sources.records.array_samples import (
    MAX_COLUMN_BYTES, check_count, labels_of, packed_columns, part_of)
from stoker.pipeline.sources.records.file_index import FileIndex, Part
from stoker.pipeline.sources.records.other_formats import MIN_BYTES, seems
from stoker.pipeline.storage import hdf5_file
from stoker.pipeline.storage.hdf5_file import Unreadable, Watched
from stoker.pipeline.text import name_list, quoted

MAX_CHUNKS = 1000000            # of a dataset, whose places are asked for one by one
_TEXTS_AT_ONCE = 256            # read from a dataset: each may be long

_UNKNOWN = Part("")
_Places = Tuple["np.ndarray", "np.ndarray"]         # offsets, lengths


def index(file: BinaryIO, size: int, options: Dict[str, Any]) -> FileIndex:
    """The samples of a HDF5 file: see ``stoker.hdf5`` for ``options``. Raises DatasetError, without the file's name;
    ConfigError."""
    names, labels, columns = options["dataset"], options.get("labels"), options.get("columns") or ()
    _check_lock(file)
    watched = Watched(file)
    try:
        with hdf5_file.opened(watched) as opened:
            return _Indexing(watched, opened, size).index(names, labels, columns)
    except ImportError as error:
        raise ConfigError("HDF5 files are read with h5py, which %s cannot import (%s): pip install 'stoker[hdf5]', or "
                          "h5py" % (sys.executable, error)) from error
    except StokerError:
        raise
    except hdf5_file.NoHDF5 as error:
        file.seek(0)
        raise DatasetError(str(error) + seems(file.read(MIN_BYTES))) from error
    except Unreadable as error:
        raise DatasetError(str(error)) from error
    except Exception as error:      # h5py raises nearly any kind for a damaged file
        hdf5_file.raise_own(watched, error)
        raise DatasetError("h5py cannot read it, which is damaged (%s): write or copy it again"
                           % hdf5_file.one_line(error)) from error


class _Indexing:
    def __init__(self, watched: Watched, opened: Any, size: int) -> None:
        self._watched, self._file, self._size = watched, opened, size
        self._count = 0
        self._main = ""

    def index(self, names: Sequence[str], labels: Optional[str], columns: Sequence[str]) -> FileIndex:
        parts: List[Part] = []
        offsets, lengths = [], []
        for name in names:
            dataset = self._dataset(name)
            self._check_count(name, dataset)
            part, (its_offsets, its_lengths) = self._part(name, dataset)
            parts.append(part)
            offsets.append(its_offsets)
            lengths.append(its_lengths)
        numbers, label_names = (None, ()) if labels is None else labels_of(
            self._values(labels), self._count, quoted(labels))
        rows, ends = packed_columns({name: self._values(name) for name in columns})
        return FileIndex(tuple(parts), np.stack(offsets, 1), np.stack(lengths, 1), numbers, label_names, tuple(columns),
                         rows, ends)

    def _dataset(self, name: str) -> Any:
        try:
            return hdf5_file.dataset_of(self._file, name)
        except Unreadable as error:
            there = hdf5_file.names_of(self._file)
            raise DatasetError("%s%s" % (error, "; its datasets are " + name_list(map(quoted, there), 10)
                                         if there and "has no dataset" in str(error) else "")) from error

    def _check_count(self, name: str, dataset: Any) -> None:
        """Raises DatasetError unless it has as many items as the others."""
        if not dataset.shape:
            raise DatasetError("the dataset %s is a single value: samples lie along the first side of a dataset"
                               % quoted(name))
        count = int(dataset.shape[0])
        if not self._main:
            check_count(name, count)
            self._main, self._count = name, count
        elif count != self._count:
            raise DatasetError("the dataset %s has %d items, and %s has %d: they must have one for each sample" % (
                quoted(name), count, quoted(self._main), self._count))

    def _part(self, name: str, dataset: Any) -> Tuple[Part, _Places]:
        """The part that the dataset is, and where its samples are."""
        kind, _ = hdf5_file.kind_of(dataset)
        hdf5_file.check_item(dataset)
        shape = tuple(map(int, dataset.shape[1:]))
        own = name.strip("/")
        if dataset.dtype.hasobject or kind == "bytes" and shape:
            return self._by_h5py(own, name)
        if kind == "numbers":
            part, length = part_of(own, dataset.dtype, shape)
        else:
            part, length = Part(own), int(dataset.dtype.itemsize)
        starts = self._starts(dataset, length) if length else None
        if starts is None or not self._are_right(dataset, starts, length):
            return self._by_h5py(own, name, part)
        return part, (starts, np.full(self._count, length, np.uint32))

    def _by_h5py(self, own: str, name: str, part: Part = _UNKNOWN) -> Tuple[Part, _Places]:
        """``part``: with dtype and shape, if these are the same of all items."""
        if "\0" in name:
            raise DatasetError("the name of the dataset %s cannot be sent to workers" % quoted(name))
        return Part(own, part.dtype, part.shape, name), (
            np.arange(self._count, dtype=np.int64), np.zeros(self._count, np.uint32))

    def _starts(self, dataset: Any, length: int) -> "Optional[np.ndarray]":
        """Where each sample of ``length`` bytes begins in the file; None if its bytes do not lie side by side."""
        h5d = hdf5_file.library().h5d
        own, plist = dataset.id, dataset.id.get_create_plist()
        count = self._count
        if plist.get_layout() == h5d.CONTIGUOUS:
            begin = own.get_offset()
            return None if begin is None else int(begin) + length * np.arange(count, dtype=np.int64)
        if plist.get_layout() != h5d.CHUNKED or plist.get_nfilters() or not hasattr(own, "get_chunk_info_by_coord"):
            return None         # the last one: of h5py 3, with HDF5 1.10.5
        chunk = dataset.chunks
        chunks = -(-count // chunk[0])
        if tuple(chunk[1:]) != tuple(dataset.shape[1:]) or chunks > MAX_CHUNKS or own.get_num_chunks() != chunks:
            return None
        starts = np.empty(count, np.int64)
        for first in range(0, count, chunk[0]):
            info = own.get_chunk_info_by_coord((first,) + (0,) * (len(chunk) - 1))
            if info.byte_offset is None or info.filter_mask or info.size != chunk[0] * length:
                return None
            some = starts[first:first + chunk[0]]
            some[:] = info.byte_offset + length * np.arange(len(some), dtype=np.int64)
        return starts

    def _are_right(self, dataset: Any, starts: "np.ndarray", length: int) -> bool:
        """Whether all places lie in the file, and the first and last one have the bytes that h5py reads."""
        if int(starts.min()) < 0 or int(starts.max()) + length > self._size:
            raise DatasetError("%s has items behind the end of the file: %s" % (quoted(dataset.name), hdf5_file.SHORT))
        for number in {0, self._count - 1}:
            item = hdf5_file.item_of(self._watched, dataset, number)
            self._watched.seek(int(starts[number]))
            there = self._watched.read(length)
            if (item.rstrip(b"\0") != there.rstrip(b"\0") if isinstance(item, bytes) else item.tobytes() != there):
                return False
        return True

    def _values(self, name: str) -> Any:
        """All values of a dataset of labels or of a column."""
        dataset = self._dataset(name)
        self._check_count(name, dataset)
        kind, _ = hdf5_file.kind_of(dataset)
        if not dataset.dtype.hasobject:
            if dataset.dtype.itemsize * dataset.size > MAX_COLUMN_BYTES:
                raise DatasetError("the dataset %s has %d bytes, and labels and columns have at most %d" % (
                    quoted(name), dataset.dtype.itemsize * dataset.size, MAX_COLUMN_BYTES))
            values = hdf5_file.read(self._watched, dataset, ())
            return values if kind == "numbers" else values.tolist()
        values, size_bytes = [], 0
        for begin in range(0, self._count, _TEXTS_AT_ONCE):
            some = list(hdf5_file.read(self._watched, dataset, slice(begin, begin + _TEXTS_AT_ONCE)))
            size_bytes += sum(map(len, some))
            if size_bytes > MAX_COLUMN_BYTES:
                raise DatasetError("the dataset %s has more than the %d bytes that labels and columns have at most"
                                   % (quoted(name), MAX_COLUMN_BYTES))
            values += [one if isinstance(one, (str, bytes)) else bytes(one) if one.dtype.itemsize == 1 else one.tolist()
                       for one in some]
        return values


def _check_lock(file: BinaryIO) -> None:
    """Raises DatasetError if a program of this host has the file open for writing, as HDF5 marks it."""
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError as error:
        raise DatasetError("a program has it open for writing: close it there first") from error
    except OSError:
        pass            # a file system without locks
