"""RecordSource: the records of TFRecords, tars, HDF5 and npy files as samples, whose paths are places in these files.

It has no object for each record, but arrays with a number for each: 16 bytes a record with one picture and a label, 4
more in a part of the data, and the packed columns. Texts of places and rows are made for the samples of a lease.
"""

import hashlib
import os
import zlib
from itertools import repeat
from typing import Any, Collection, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.protocol.messages import Sample, samples_of, unpacked_row
from stoker.pipeline.sources.dataset import (
    Splits, check_indices, class_lines, held_out, left_out_lines, renumbered_gone)
from stoker.pipeline.sources.packing import packer
from stoker.pipeline.sources.records.combined import Combined, combined, left_out, renumbered
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.sources.records.texts import NOWHERE, Gone, head_bytes, mixed, template
from stoker.pipeline.sources.records.watched import Watched
from stoker.pipeline.storage.place import MARK
from stoker.pipeline.text import name_list, path_bytes, printable_path


class RecordSource:
    """Records in a fixed order: those of file after file. Sample ``index`` is the place of a record's first part.

    ``root``: the absolute folder, or the URL, below which the files lie. ``label`` is as in a folder: a class number.
    ``sample.row`` is a dict: the columns under their names, and each part under its name as the text of its place
    (None: the record does not have it). If a single part is all there is, nothing is packed: see ``Job.row``.
    """

    def __init__(self, root: str, records: Combined, classes: Tuple[str, ...] = (),
                 opened_by: Optional[Dict[str, Any]] = None, chosen: "Optional[np.ndarray]" = None,
                 gone: Collection[int] = frozenset()) -> None:
        """``opened_by``: what opens the same source again; None: nothing, as for a part of one. ``chosen``: int32, the
        numbers of those of ``records`` that count, in their order; None: all. ``gone``: numbers of samples that a
        checkpoint knows and the data has no more."""
        self.root, self.classes, self.opened_by = root, classes, opened_by
        self.gone: FrozenSet[int] = frozenset(gone)
        self.left_out: Tuple[Tuple[str, str], ...] = ()
        self._records, self._chosen = records, chosen
        self.packs = bool(records.columns) or len(records.names) > 1       # the rows; else they are made of the paths
        self.watched: Optional[Watched] = None     # the files, as they were when they were indexed
        self._hash = ""                # once it was computed
        self._starts = records.starts.tolist()
        self._templates = tuple(tuple(map(template, repeat(path), parts))
                                for path, parts in zip(records.files, records.parts))
        self._heads = () if any(parts and (parts[0].dtype or parts[0].dataset) for parts in records.parts) else tuple(
            path + MARK for path in records.files)

    @classmethod
    def of(cls, root: str, files: Sequence[str], indexes: Sequence[FileIndex], classes: Optional[Sequence[str]] = None,
           opened_by: Optional[Dict[str, Any]] = None, labels: "Optional[np.ndarray]" = None) -> "RecordSource":
        """The records of ``files``, paths below ``root``, that have these ``indexes``. ``classes``: the names of the
        classes, as the user gives them. ``labels``: int64, which replace those of the indexes. Raises ConfigError,
        DatasetError."""
        records, names = combined(files, indexes, classes, labels)
        others = tuple(left_out(records))
        chosen = np.flatnonzero(records.labels >= 0).astype(np.int32) if others and records.labels is not None else None
        source = cls(root, records, names, opened_by, chosen)
        source.left_out = others
        return source

    # ------------------------------------------------------------------------------------------- what each source has

    @property
    def columns(self) -> Tuple[str, ...]:
        """The names of the fields of the rows."""
        return self._records.columns + self._records.names

    @property
    def has_paths(self) -> bool:
        """Whether the samples have a part that is read; else they are columns alone."""
        return bool(self._records.names)

    @property
    def labels(self) -> "np.ndarray":
        """int32 [n], the class number of each sample; -1 if there are no classes."""
        if self._records.labels is None:
            return np.full(len(self), -1, np.int32)
        return self._records.labels if self._chosen is None else self._records.labels[self._chosen]

    @property
    def files(self) -> Tuple[str, ...]:
        """The paths of the record files below the root."""
        return self._records.files

    @property
    def own_parts(self) -> Tuple[Part, ...]:
        """The part that is the samples' own file, of each of ``files``."""
        return tuple(parts[0] for parts in self._records.parts) if self.has_paths else ()

    def __len__(self) -> int:
        return self._records.size if self._chosen is None else len(self._chosen)

    def __repr__(self) -> str:
        return "<RecordSource: %s>" % self._head()

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError if one is outside 0 .. len - 1."""
        numbers = self._numbers(indices)
        files = self._file_numbers(numbers).tolist()
        labels = repeat(-1) if self._records.labels is None else self._records.labels[numbers].tolist()
        gone = [index in self.gone for index in indices] if self.gone else None
        paths = self._places(0, numbers, files, gone) if self._records.names else repeat("")
        packed = self._packed(numbers, files, gone) if self.packs else repeat(b"")
        return samples_of(zip(indices, paths, labels, packed, repeat(0), repeat(())))

    def rows(self, indices: Sequence[int]) -> List[Any]:
        """The rows with these numbers, as a worker gets them: dicts. Raises IndexError."""
        numbers = self._numbers(indices)
        files = self._file_numbers(numbers).tolist()
        columns = self.columns
        if not self.packs:
            return [{columns[0]: place} for place in self._places(0, numbers, files)]
        return [unpacked_row(row, columns) for row in self._packed(numbers, files)]

    def probes(self, count: int) -> Tuple[str, ...]:
        """At most ``count`` of the record files, spread over all: without a place, for a worker only looks whether one
        of them is there."""
        gone = [0] * len(self.files)
        if self.gone:
            for file in self._file_numbers(self._numbers(sorted(self.gone))).tolist():
                gone[file] += 1
        there = [path for path, start, end, lost in zip(self.files, *self._bounds(), gone) if end - start > lost]
        return tuple(there[::-(-len(there) // count)]) if self.has_paths and len(self) else ()

    def split(self, fraction: float, seed: int) -> Splits:
        """Two sources, each in the order of this one and numbered from 0: ``fraction`` of each class, rounded, is for
        validation, as in ``Dataset.split``. Raises ConfigError unless 0 <= fraction < 1."""
        labels = self.labels if self.classes else np.zeros(len(self), np.int32)
        validates = held_out(labels, max(1, len(self.classes)), fraction, seed)
        return Splits(*(self._part(part) for part in (~validates, validates)))

    def below(self, root: str) -> "RecordSource":
        """The same records with their files' paths from ``root``, a folder or URL that contains this one's."""
        if root == self.root:
            return self
        start = os.path.relpath(self.root, root) if root.startswith("/") else self.root[len(root):].strip("/")
        files = tuple("%s/%s" % (start, path) for path in self.files)
        return self._like(root, self._records._replace(files=files), self.classes)

    def with_classes(self, classes: Tuple[str, ...]) -> "RecordSource":
        """The same records with the numbers of ``classes``, which has all classes of this source, by their names."""
        assert self._records.labels is not None
        labels = renumbered(self._records.labels, self.classes, classes)
        return self._like(self.root, self._records._replace(labels=labels), classes)

    def changed(self) -> Optional[str]:
        """A sentence if one of the files is not what it was when it was indexed, by their disk or store; else None."""
        return self.watched.changed() if self.watched is not None else None

    def with_gone(self, gone: Collection[int]) -> "RecordSource":
        """The same records, of which those with the numbers ``gone`` count as gone."""
        other = self._like(self.root, self._records, self.classes)
        other.gone, other.opened_by = frozenset(gone), self.opened_by
        return other

    def fingerprint(self) -> str:
        """16 hex digits, a hash of the files' paths, the places, labels, classes and columns. The root has no
        influence."""
        if not self._hash:
            self._hash = self._fingerprint()
        return self._hash

    def _fingerprint(self) -> str:
        records = self._records
        digest = hashlib.blake2b(digest_size=8)
        for names in (self.classes, records.columns, records.names):
            digest.update(path_bytes("%d\0%s\0" % (len(names), "\0".join(names))))
        for start, end, templates in zip(*self._bounds(), self._templates):
            if end > start:
                digest.update(path_bytes("%d\0%s\0" % (end - start, "\0".join(templates))))
        numbers = slice(None) if self._chosen is None else self._chosen
        for offsets, lengths in zip(records.offsets, records.lengths):
            digest.update(np.ascontiguousarray(offsets[numbers], "<i8"))
            digest.update(np.ascontiguousarray(lengths[numbers], "<u4"))
        if records.labels is not None:
            digest.update(np.ascontiguousarray(records.labels[numbers], "<i4"))
        for piece in self._row_pieces():
            digest.update(piece)
        return digest.hexdigest()

    def row_hashes(self) -> "np.ndarray":
        """uint32 [n], a hash of each record: of its places, its label and its columns."""
        records = self._records
        numbers = self._all()
        files = self._file_numbers(numbers)
        hashes = np.zeros(len(numbers), np.uint64)
        for part, (offsets, lengths) in enumerate(zip(records.offsets, records.lengths)):
            of_files = [zlib.crc32(path_bytes(templates[part])) for templates in self._templates]
            for values in (np.array(of_files, np.uint64)[files], offsets[numbers], lengths[numbers]):
                hashes = mixed(hashes, values)
        if records.labels is not None:
            hashes = mixed(hashes, records.labels[numbers].astype(np.int64))
        if records.columns:
            hashes = mixed(hashes, np.fromiter(map(zlib.crc32, self._own_rows(numbers, files.tolist())), np.uint64,
                                                len(numbers)))
        return (hashes >> np.uint64(32)).astype(np.uint32)

    def lease_bytes(self) -> "np.ndarray":
        """int64 [n], about as many bytes as each sample takes in a lease, without its numbers."""
        records = self._records
        numbers = self._all()
        files = self._file_numbers(numbers)
        texts = [sum(len(path_bytes(template)) + 24 for template in templates) + len(path_bytes(templates[0])) + 24
                 if templates else 0 for templates in self._templates]
        sizes: np.ndarray = np.array(texts, np.int64)[files]
        if records.row_ends is not None:
            starts, ends = self._row_bounds(numbers, files)
            sizes = sizes + ends - starts
        return sizes

    def summary(self) -> str:
        """A few lines for the user, to be shown before training starts."""
        lines = [self._head()]
        if self.classes:
            lines += class_lines(self.labels, self.classes)
        for what, names in (("parts", self._records.names), ("columns", self._records.columns)):
            if names:
                lines.append("  %s: %s" % (what, name_list(names, 12)))
        return "\n".join(lines + (left_out_lines(self.left_out) if self.left_out else []))

    def _head(self) -> str:
        return "{}: {:,} records in {:,} files{}".format(
            printable_path(self.root), len(self), len(self.files),
            ", {:,} classes".format(len(self.classes)) if self.classes else "")

    # --------------------------------------------------------------------------------------------------- what it holds

    def combined(self) -> Combined:
        """The records of this source alone, for what keeps or compares them."""
        if self._chosen is None:
            return self._records
        records, numbers = self._records, self._chosen
        starts, ends = self._bounds()
        rows: List[bytes] = []
        row_ends = None
        if records.row_ends is not None:
            first, last = self._row_bounds(numbers, self._file_numbers(numbers))
            sizes = last - first
            row_ends = np.empty(len(numbers), np.int64)
            for file, (start, end) in enumerate(zip(starts, ends)):
                blob = records.rows[file]
                rows.append(b"".join(blob[a:b] for a, b in zip(first[start:end].tolist(), last[start:end].tolist())))
                np.cumsum(sizes[start:end], out=row_ends[start:end])
        return records._replace(
            starts=np.array(starts + ends[-1:], np.int64),
            offsets=tuple(each[numbers] for each in records.offsets),
            lengths=tuple(each[numbers] for each in records.lengths),
            labels=None if records.labels is None else records.labels[numbers], rows=tuple(rows), row_ends=row_ends)

    def keys(self) -> List[bytes]:
        """What tells a record from the others, of each: its places and columns, without the label."""
        numbers = self._all()
        files = self._file_numbers(numbers).tolist()
        if self.packs:
            return self._packed(numbers, files)
        return [path_bytes(path) for path in self._places(0, numbers, files)]

    def _like(self, root: str, records: Combined, classes: Tuple[str, ...]) -> "RecordSource":
        other = RecordSource(root, records, classes, None, self._chosen, self.gone)
        other.left_out = self.left_out
        other.watched = self.watched
        return other

    def _part(self, part: "np.ndarray") -> "RecordSource":
        """Those samples for which ``part``, bool [n], is true."""
        if part.all() and self._chosen is None:
            return self.with_gone(self.gone)
        chosen = np.flatnonzero(part).astype(np.int32) if self._chosen is None else self._chosen[part]
        other = RecordSource(self.root, self._records, self.classes, None, chosen, renumbered_gone(self.gone, part))
        other.watched = self.watched
        return other

    def _numbers(self, indices: Sequence[int]) -> "np.ndarray":
        """The records of these samples. Raises IndexError."""
        check_indices(indices, len(self))
        numbers = np.array(indices, np.int64)
        return numbers if self._chosen is None else self._chosen[numbers]

    def _all(self) -> "np.ndarray":
        """The records of all samples."""
        return np.arange(self._records.size, dtype=np.int32) if self._chosen is None else self._chosen

    def _file_numbers(self, numbers: "np.ndarray") -> "np.ndarray":
        """The file of each record."""
        files: np.ndarray = self._records.starts.searchsorted(numbers, "right") - 1
        return files

    def _bounds(self) -> Tuple[List[int], List[int]]:
        """Where the samples of each file begin and end among those of this source."""
        bounds = self._starts if self._chosen is None else np.searchsorted(self._chosen, self._records.starts).tolist()
        return bounds[:-1], bounds[1:]

    def _places(self, part: int, numbers: "np.ndarray", files: Sequence[int], gone: Gone = None) -> List[str]:
        """The texts of the places of a part. ``gone``: see ``texts.NOWHERE``."""
        offsets = self._records.offsets[part][numbers].tolist()
        if gone is not None:
            offsets = [NOWHERE if is_gone else offset for is_gone, offset in zip(gone, offsets)]
        lengths = self._records.lengths[part][numbers].tolist()
        if self._heads and not part:         # the usual case, and the fastest way
            heads = self._heads
            return [f"{heads[file]}{offset}+{length}" for file, offset, length in zip(files, offsets, lengths)]
        templates = self._templates
        return [templates[file][part] % pair for file, pair in zip(files, zip(offsets, lengths))]

    def _packed(self, numbers: "np.ndarray", files: Sequence[int], gone: Gone = None) -> List[bytes]:
        """The packed rows, as workers get them."""
        pack, records = packer(), self._records
        parts = []
        for part in range(len(records.names)):
            absent = (0, MISSING) if not part else (MISSING,)
            parts.append([None if length in absent else place for place, length in zip(
                self._places(part, numbers, files, gone), records.lengths[part][numbers].tolist())]
                if not any(own[part].dataset for own in records.parts) else self._places(part, numbers, files, gone))
        own = self._own_rows(numbers, files) if records.columns else repeat(b"\x90")
        begin = pack([None] * len(self.columns))
        head = begin[:len(begin) - len(self.columns)]
        skip = head_bytes(len(records.columns))
        return [b"".join((head, row[skip:], *map(pack, places)))
                for row, places in zip(own, zip(*parts) if parts else repeat(()))]

    def _row_bounds(self, numbers: "np.ndarray", files: Any) -> "Tuple[np.ndarray, np.ndarray]":
        """Where each record's columns begin and end in the rows of its file."""
        row_ends = self._records.row_ends
        assert row_ends is not None
        is_first = self._records.starts[np.asarray(files, np.int64)] == numbers
        return np.where(is_first, 0, row_ends[numbers - 1]), row_ends[numbers]

    def _own_rows(self, numbers: "np.ndarray", files: Sequence[int]) -> Iterator[bytes]:
        """The packed columns of the records, each as a list."""
        rows = self._records.rows
        starts, ends = self._row_bounds(numbers, files)
        return (rows[file][start:end] for file, start, end in zip(files, starts.tolist(), ends.tolist()))

    def _row_pieces(self) -> Iterator[Any]:
        """What ``_own_rows`` gives for all samples, with their lengths."""
        if self._records.columns:
            numbers = self._all()
            files = self._file_numbers(numbers)
            starts, ends = self._row_bounds(numbers, files)
            yield np.ascontiguousarray(ends - starts, "<i8")
            if self._chosen is None:
                yield from self._records.rows
            else:
                yield from self._own_rows(numbers, files.tolist())
