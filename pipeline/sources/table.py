"""Table: the packed rows of a source, in one bytes object with their offsets; and Numbers, which have no rows."""

import hashlib
import operator
import os
import zlib
from itertools import repeat
from typing import Any, Callable, Collection, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.errors import ConfigError, ContentError
from stoker.pipeline.protocol.messages import Sample, samples_of, unpacked_row
from stoker.pipeline.sources.dataset import Splits, check_indices, held_out, renumbered_gone
from stoker.pipeline.sources.packing import pack_rows
from stoker.pipeline.sources.remote import files_among
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.storage.folder import is_relative
from stoker.pipeline.text import name_list

MAX_PATH = 4096     # characters; longer texts in a row name no file


class Table:
    """Rows in a fixed order; sample ``index`` is row ``index``. They cost their packed size and at most 16 bytes each.

    ``root``: the absolute folder below which the files lie that rows name. ``columns``: the names of the fields, if
    the rows are packed as lists. ``name``: of the table, for people. Raises DatasetError if there is no row.
    """
    classes: Tuple[str, ...] = ()
    has_paths = False
    types: Tuple[str, ...] = ()        # of the columns of a CSV file: see csv_file.py
    gone: Collection[int] = frozenset()    # numbers of rows that a checkpoint knows and the data has no more
    csv_options: Optional[Dict[str, Any]] = None     # of ``stoker.csv``, which read it, and ...
    path = ""                                        # ... the file, as it was given

    def __init__(self, packed: bytes, starts: "np.ndarray", ends: "np.ndarray", root: str,
                 columns: Tuple[str, ...] = (), name: str = "rows") -> None:
        self.root, self.columns, self.name = root, columns, name
        self._hash = ""        # once it was computed
        # indexing a memoryview makes an int, in less time than numpy
        self._packed, self._starts, self._ends = packed, memoryview(starts), memoryview(ends)

    @classmethod
    def of(cls, rows: Iterable[Any], root: str, name: str = "rows",
           name_row: Callable[[int], str] = "row %d".__mod__) -> "Table":
        """The table of ``rows``, which are read once: see ``pack_rows`` for their types and errors."""
        return cls.packed(*pack_rows(rows, name_row), root, (), name)

    @classmethod
    def packed(cls, packed: bytes, offsets: Any, root: str, columns: Tuple[str, ...], name: str) -> "Table":
        """The table of packed rows. ``offsets``: int64 [n + 1]. Raises DatasetError if there is no row."""
        if len(offsets) < 2:
            raise ContentError("%s: no row, so there is nothing to train on" % name)
        places = np.frombuffer(offsets, np.int64)
        return cls(packed, places[:-1], places[1:], root, columns, name)

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return "<Table: %s>" % self.summary()

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError if one is outside 0 .. len - 1."""
        return samples_of(zip(indices, repeat(""), repeat(-1), self._rows(indices), repeat(0), repeat(())))

    def _rows(self, indices: Sequence[int]) -> List[bytes]:
        check_indices(indices, len(self))
        packed, starts, ends = self._packed, self._starts, self._ends
        return [packed[starts[index]:ends[index]] for index in indices]

    def all_packed(self) -> List[bytes]:
        """All packed rows, in order."""
        return self._rows(range(len(self)))

    def rows(self, indices: Sequence[int]) -> List[Any]:
        """The rows with these numbers, as a worker gets them. Raises IndexError."""
        return [unpacked_row(row, self.columns) for row in self._rows(indices)]

    def probes(self, count: int) -> Tuple[str, ...]:
        """At most ``count`` paths of files that rows name and that are there. Only the user knows which fields name
        files, so all texts of a few rows are tried; in a store at most MAX_ASKED, for each costs a request."""
        found: List[str] = []
        if is_url(self.root):
            rows = self.rows(range(0, len(self), -(-len(self) // count)))
            return files_among(self.root, [text for row in rows for text in _texts(row) if len(text) <= MAX_PATH])
        if self.root:
            for row in self.rows(range(0, len(self), -(-len(self) // count))):
                named = (os.path.relpath(text, self.root) if text.startswith(self.root + "/") else text
                         for text in _texts(row) if len(text) <= MAX_PATH)
                found += [path for path in named if _is_file(self.root, path)][:1]
        return tuple(found)

    def split(self, fraction: float, seed: int) -> Splits:
        """Two tables, each in the order of this one and numbered from 0; ``fraction`` of the rows, rounded, is for
        validation. The choice depends on the number of rows, the fraction and the seed. Raises ConfigError."""
        validates = held_out(np.zeros(len(self), np.int32), 1, fraction, seed)
        return Splits(*(self._part(np.asarray(self._starts)[part], np.asarray(self._ends)[part], self.root,
                                   renumbered_gone(frozenset(self.gone), part)) for part in (~validates, validates)))

    def below(self, root: str) -> "Table":
        """The same rows, for files below ``root``."""
        return self._part(np.asarray(self._starts), np.asarray(self._ends), root, self.gone)

    def _part(self, starts: "np.ndarray", ends: "np.ndarray", root: str, gone: Collection[int]) -> "Table":
        part = Table(self._packed, starts, ends, root, self.columns, self.name)
        part.types, part.gone = self.types, gone
        return part

    def fingerprint(self) -> str:
        """16 hex digits, a hash of columns and rows. The folder has no influence."""
        if not self._hash:
            self._hash = self._fingerprint()
        return self._hash

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        digest.update(("%d\0%s\0" % (len(self.columns), "\0".join(self.columns))).encode("utf-8", "surrogateescape"))
        digest.update(self.lengths().astype("<i8").tobytes())
        for part in self.pieces():
            digest.update(part)
        return digest.hexdigest()

    def lengths(self) -> "np.ndarray":
        """int64 [n], the bytes of each packed row."""
        lengths: np.ndarray = np.asarray(self._ends) - np.asarray(self._starts)
        return lengths

    def pieces(self) -> Iterable[Any]:
        """The bytes of all packed rows, in order, in as few pieces as possible."""
        packed, starts, ends = memoryview(self._packed), np.asarray(self._starts), np.asarray(self._ends)
        if not len(starts):
            return                                             # a part of a table may have no row
        breaks = np.flatnonzero(starts[1:] != ends[:-1])       # none, unless it is a part of a table
        for first, last in zip([0, *(breaks + 1).tolist()], [*breaks.tolist(), len(starts) - 1]):
            yield packed[starts[first]:ends[last]]

    def row_hashes(self) -> "np.ndarray":
        """uint32 [n], the CRC-32 of each packed row."""
        packed = memoryview(self._packed)
        return np.fromiter((zlib.crc32(packed[start:end]) for start, end in zip(self._starts, self._ends)),
                           np.uint32, len(self))

    def summary(self) -> str:
        """A line for the user, to be shown before training starts."""
        names = self.columns
        if self.types:
            names = tuple("%s (%s)" % pair for pair in zip(self.columns, self.types))
        fields = " of %s columns: %s" % (len(names), name_list(names, 12)) if names else ""
        return "%s: %s rows%s" % (self.name, format(len(self), ","), fields)


def _texts(row: Any) -> Iterable[str]:
    """The texts in a row, at any depth."""
    if isinstance(row, str):
        yield row
    elif isinstance(row, (list, dict)):
        for value in row.values() if isinstance(row, dict) else row:
            yield from _texts(value)


def _is_file(root: str, path: str) -> bool:
    try:
        return is_relative(path.encode("utf-8", "surrogateescape")) and os.path.isfile(os.path.join(root, path))
    except ValueError:          # a lone surrogate: no path
        return False


class Numbers:
    """``size`` samples that are but their index: they have no row, no path and no label. Raises ConfigError.

    ``root``: the absolute folder in which a function may read files that it names by the index; "": none.
    """
    classes: Tuple[str, ...] = ()
    columns: Tuple[str, ...] = ()
    has_paths = False
    gone: Collection[int] = frozenset()    # those of a checkpoint, if it had more

    def __init__(self, size: int, root: str = "") -> None:
        if not 1 <= size < 1 << 40:
            raise ConfigError("the number of samples must be at least 1 and below 2**40, not %r" % (size,))
        self._size, self.root = operator.index(size), root

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return "<Numbers: %s>" % self.summary()

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError if one is outside 0 .. len - 1."""
        check_indices(indices, self._size)
        return samples_of(zip(indices, repeat(""), repeat(-1), repeat(b""), repeat(0), repeat(())))

    def rows(self, indices: Sequence[int]) -> List[Any]:
        """None for each."""
        return [None] * len(indices)

    def probes(self, count: int) -> Tuple[str, ...]:
        """No paths."""
        return ()

    def split(self, fraction: float, seed: int) -> Splits:
        """Raises ConfigError unless ``fraction`` is 0: both parts would have the same samples."""
        if fraction:
            raise ConfigError("a number of samples has no part for validation, because training and validation both "
                              "count from 0: give validation a number of its own, and look at sample.training")
        return Splits(self)

    def below(self, root: str) -> "Numbers":
        """The same samples, for files below ``root``."""
        numbers = Numbers(self._size, root)
        numbers.gone = self.gone
        return numbers

    def fingerprint(self) -> str:
        """16 hex digits, a hash of the number. The folder has no influence."""
        return hashlib.blake2b(b"numbers %d" % self._size, digest_size=8).hexdigest()

    def row_hashes(self) -> "np.ndarray":
        """uint32 [0]: there are no rows that could differ."""
        return np.zeros(0, np.uint32)

    def summary(self) -> str:
        """A line for the user, to be shown before training starts."""
        return "%s samples without rows" % format(self._size, ",")
