"""Combined: the indexes of all files of a source as one, so that a record costs a few numbers and no Python object.

Files may differ: one has a part that others lack, other label names, or lists where others have single values. Here
they become alike.
"""

import logging
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import msgpack
import numpy as np

from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.sources.dataset import RecordsLeftOut
from stoker.pipeline.sources.fields import checked_classes, fault_of
from stoker.pipeline.sources.packing import packer
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.storage.folder import is_relative
from stoker.pipeline.text import name_list, path_bytes, printable_path, quoted

log = logging.getLogger("stoker")

MAX_CLASSES = 1 << 20       # of labels that are numbers: the class of the largest one needs all below it
MAX_RECORDS = 1 << 31
OTHER_CLASSES = "records of classes that are not among the given ones"


class Combined(NamedTuple):
    """The records of files, one file after the other. n records, of them those of file f from ``starts[f]`` on."""
    files: Tuple[str, ...]              # paths below the root
    starts: "np.ndarray"                # int64 [files + 1]
    names: Tuple[str, ...]              # of the parts; the first is the samples' own
    parts: Tuple[Tuple[Part, ...], ...]  # of each file: its parts, in the order of ``names``
    offsets: "Tuple[np.ndarray, ...]"   # of each part: int64 [n]
    lengths: "Tuple[np.ndarray, ...]"   # of each part: uint32 [n]
    labels: "Optional[np.ndarray]"      # int32 [n], class numbers; -1: of a class that is not among the given ones
    columns: Tuple[str, ...]
    rows: Tuple[bytes, ...]             # of each file
    row_ends: "Optional[np.ndarray]"    # int64 [n], in the file's ``rows``; None: no columns

    @property
    def size(self) -> int:
        """The number of records."""
        return int(self.starts[-1])


def combined(files: Sequence[str], indexes: Sequence[FileIndex], classes: Optional[Sequence[str]] = None,
             own_labels: "Optional[np.ndarray]" = None) -> Tuple[Combined, Tuple[str, ...]]:
    """The records of ``files`` with their ``indexes``, and the names of their classes. ``classes``: names that the user
    gives. ``own_labels``: int64, of all records, which replace those of the indexes. Raises ConfigError, DatasetError.
    """
    for path, index in zip(files, indexes):
        _check(path, index)
    starts = np.zeros(len(files) + 1, np.int64)
    np.cumsum([index.size for index in indexes], out=starts[1:])
    if not starts[-1]:
        raise ContentError("%s: no record, so there is nothing to train on" % name_list(files))
    if starts[-1] >= MAX_RECORDS:
        raise DatasetError("the files have %s records, and a source has fewer than 2**31: give fewer files"
                           % format(int(starts[-1]), ","))
    _check_names(files, indexes)
    if own_labels is not None:
        if len(own_labels) != starts[-1]:
            raise DatasetError("there are %s labels for %s records: give one for each" % (
                format(len(own_labels), ","), format(int(starts[-1]), ",")))
        indexes = [index._replace(labels=own_labels[start:end], label_names=())
                   for index, start, end in zip(indexes, starts[:-1], starts[1:])]
    labels, names = _labels(files, indexes, None if classes is None else _checked(classes))
    part_names = _part_names(indexes)
    parts: List[Tuple[Part, ...]] = []
    offsets: List[np.ndarray] = []
    lengths: List[np.ndarray] = []
    places = [[_place_of(index.parts, number, name) for index in indexes]
              for number, name in enumerate(part_names)]
    for of_files in places:
        wide, short = np.zeros(starts[-1], np.int64), np.full(starts[-1], MISSING, np.uint32)
        for number, (index, own) in enumerate(zip(indexes, of_files)):
            if own is not None and index.size:
                wide[starts[number]:starts[number + 1]] = index.offsets[:, own]
                short[starts[number]:starts[number + 1]] = index.lengths[:, own]
        if not offsets:
            short[short == MISSING] = 0      # a sample's own file: it has a path, of nothing
        offsets.append(wide)
        lengths.append(short)
    for index, own_places in zip(indexes, zip(*places) if places else [()] * len(indexes)):
        parts.append(tuple(Part(name) if place is None else index.parts[place]
                           for name, place in zip(part_names, own_places)))
    columns = _columns(files, indexes)
    both = set(columns).intersection(part_names)
    if both:
        raise ConfigError("%s is asked for as a part and as a column: leave it out of columns" % name_list(both))
    rows, row_ends = _rows(indexes) if columns else ((), None)
    return Combined(tuple(files), starts, part_names, tuple(parts), tuple(offsets), tuple(lengths), labels, columns,
                    tuple(rows), row_ends), names


def _columns(files: Sequence[str], indexes: Sequence[FileIndex]) -> Tuple[str, ...]:
    pairs = [(path, index.columns) for path, index in zip(files, indexes) if index.size]
    first = pairs[0]
    other = next((pair for pair in pairs if pair[1] != first[1]), None)
    if other is not None:
        raise DatasetError("%s has the columns (%s), and %s has (%s): name those that all files have with columns=" % (
            printable_path(first[0]), name_list(first[1]), printable_path(other[0]), name_list(other[1])))
    return first[1]


def _part_names(indexes: Sequence[FileIndex]) -> Tuple[str, ...]:
    """The names of all parts. The first of each file is the samples' own: if it has several names, it is called image.
    """
    filled = [index for index in indexes if index.size and index.parts]
    own = {index.parts[0].name for index in filled}
    others = {part.name: None for index in filled for part in index.parts[1:]}
    name = own.pop() if len(own) == 1 else "image"
    while name in others:
        name += "_"
    return (name, *others) if filled else ()


def _place_of(parts: Sequence[Part], number: int, name: str) -> Optional[int]:
    """The number, among ``parts`` of a file, of the part ``number`` of all, which is called ``name``."""
    if not number:
        return 0 if parts else None
    return next((place for place, part in enumerate(parts) if place and part.name == name), None)


def _check(path: str, index: FileIndex) -> None:
    """Raises DatasetError if the path cannot be sent to workers. The rest was made, or checked, by Stoker."""
    fault = fault_of(path)
    if fault or not is_relative(path_bytes(path)) or "//" in path:
        raise DatasetError("the record file %.200r cannot be named to workers (%s): rename it" % (
            path, fault or "it must be below the root, without '..' and '//'"))
    assert index.offsets.shape == index.lengths.shape == (index.size, len(index.parts))


def _check_names(files: Sequence[str], indexes: Sequence[FileIndex]) -> None:
    """Raises DatasetError if no record of any file has a part or column that the user named: the usual mistake."""
    pairs = [(path, index) for path, index in zip(files, indexes) if index.size]
    nowhere = set(pairs[0][1].absent).intersection(*(index.absent for _, index in pairs))
    if nowhere:
        raise DatasetError("no record has %s; a record of %s has %s: name what you mean" % (
            name_list(map(quoted, sorted(nowhere))), printable_path(pairs[0][0]),
            name_list(pairs[0][1].there, 20) or "nothing"))


def _checked(classes: Any) -> Tuple[str, ...]:
    if isinstance(classes, (str, bytes, set, frozenset, dict)) or not hasattr(classes, "__iter__"):
        raise ConfigError("classes must be a list of names, such as ['cat', 'dog'], not %.80r" % (classes,))
    names = checked_classes(classes)
    if not names or len(set(names)) < len(names):
        raise ConfigError("classes must name each class once, and at least one, not %.80r" % (names,))
    return names


def _labels(files: Sequence[str], indexes: Sequence[FileIndex], classes: Optional[Tuple[str, ...]]
            ) -> "Tuple[Optional[np.ndarray], Tuple[str, ...]]":
    """int32 [n], and the names of the classes."""
    pairs = [(path, index) for path, index in zip(files, indexes) if index.size]
    if all(index.labels is None for _, index in pairs):
        if classes is not None:
            raise ConfigError("classes= names the classes of labels, and the records have no labels: leave it out")
        return None, ()
    without = next((path for path, index in pairs if index.labels is None), None)
    if without is not None:
        raise DatasetError("%s has no labels, and others of the files have: give label=None, or only files with labels"
                           % printable_path(without))
    are_texts = [bool(index.label_names) for _, index in pairs]
    if len(set(are_texts)) > 1:
        raise DatasetError("the labels of %s are numbers, and those of %s are texts: give only files with labels of "
                           "one kind" % tuple(printable_path(pairs[are_texts.index(kind)][0])
                                              for kind in (False, True)))
    if are_texts[0]:
        return _named(pairs, classes)
    labels = np.empty(sum(index.size for _, index in pairs), np.int32)
    most, place = len(classes) if classes is not None else MAX_CLASSES, 0
    for path, index in pairs:
        assert index.labels is not None
        low, high = int(index.labels.min()), int(index.labels.max())
        if low < 0 or high >= most:
            odd = low if low < 0 else high
            record = int(np.argmax(index.labels == odd))
            raise (DatasetError if classes is None else ContentError)("record %d of %s has the label %d, and %s: %s" % (
                record, printable_path(path), odd,
                "classes= names %d classes, the numbers 0 to %d" % (most, most - 1) if classes is not None else
                "the numbers of classes are 0 to %s" % format(most - 1, ","),
                "name all classes" if classes is not None else "if it is no class, give label=None and the feature in "
                                                               "columns=[...], which reaches sample.row"))
        labels[place:place + index.size] = index.labels
        place += index.size
    return labels, classes if classes is not None else tuple(map(str, range(int(labels.max()) + 1)))


def _named(pairs: Sequence[Tuple[str, FileIndex]], classes: Optional[Tuple[str, ...]]
           ) -> "Tuple[np.ndarray, Tuple[str, ...]]":
    """Labels that are texts: their classes are in the order of the names' bytes, or as ``classes`` lists them."""
    found = {name for _, index in pairs for name in index.label_names}
    names = tuple(sorted(found, key=path_bytes)) if classes is None else classes
    missing = [name for name in names if name not in found]
    if len(missing) == len(names):
        raise ContentError("no record has the label %s, which classes= names; the labels are %s: check the names"
                           % (name_list(missing), name_list(sorted(found))))
    if missing:             # as in data for validation
        log.warning("no record has the label %s, which classes= names; the labels are %s", name_list(missing),
                    name_list(sorted(found)))
    number_of = {name: number for number, name in enumerate(names)}
    pieces = []
    for _, index in pairs:
        numbers = np.array([number_of.get(name, -1) for name in index.label_names], np.int32)
        pieces.append(numbers[index.labels])
    return np.concatenate(pieces), names


def _rows(indexes: Sequence[FileIndex]) -> "Tuple[List[bytes], np.ndarray]":
    """The rows of each file, and the ends of all. A column is a single value in each record of all files, or a list in
    each."""
    flags = [index.scalars for index in indexes if index.size and index.scalars]
    are_scalar = [all(column) for column in zip(*flags)]
    rows, ends = [], []
    for index in indexes:
        assert index.row_ends is not None or not index.size
        to_list = [scalar and not all_are for scalar, all_are in zip(index.scalars, are_scalar)] if index.size else []
        blob, own_ends = index.rows, index.row_ends
        if any(to_list):
            blob, own_ends = _as_lists(index, to_list)
        rows.append(blob)
        if own_ends is not None:
            ends.append(own_ends)
    return rows, np.concatenate(ends)


def _as_lists(index: FileIndex, to_list: Sequence[bool]) -> "Tuple[bytes, np.ndarray]":
    """The rows with some of their columns as lists of one value."""
    pack, pieces, start = packer(), [], 0
    assert index.row_ends is not None
    for end in index.row_ends.tolist():
        values = unpacked(index.rows[start:end])
        pieces.append(pack([[value] if change else value for value, change in zip(values, to_list)]))
        start = end
    return b"".join(pieces), np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)))


def unpacked(row: bytes) -> List[Any]:
    """A packed list of values."""
    values: List[Any] = msgpack.unpackb(row, raw=False, use_list=True, unicode_errors="surrogateescape",
                                        strict_map_key=True)
    return values


def renumbered(labels: "np.ndarray", own: Sequence[str], names: Sequence[str]) -> "np.ndarray":
    """``labels`` with the numbers of ``names``, which has all names of ``own``."""
    number_of: Dict[str, int] = {name: number for number, name in enumerate(names)}
    numbers = np.array([number_of[name] for name in own] + [-1], np.int32)        # -1 stays -1
    found: np.ndarray = numbers[labels]
    return found


def left_out(records: Combined) -> Iterable[Tuple[str, str]]:
    """(file, reason) of files with records of classes that were not asked for."""
    if records.labels is not None:
        odd = np.flatnonzero(records.labels < 0)
        numbers, counts = np.unique(np.searchsorted(records.starts, odd, "right") - 1, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist()):
            yield records.files[number], RecordsLeftOut(OTHER_CLASSES, count)
