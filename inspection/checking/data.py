"""The files that ``stoker-check`` looks at: of DATA and of the validation data, in one list below one folder.

What a run would refuse is a problem to be reported, not an end, as long as there are files to look at.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.inspection.checking.kinds import MAX_EXAMPLES
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.data_files import suffix_of
from stoker.pipeline.sources.dataset import Dataset, LeftOut
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.records.pixels import check_pictures
from stoker.pipeline.sources.remote import files_among
from stoker.pipeline.sources.roots import common, is_url, relative
from stoker.pipeline.sources.table import MAX_PATH, Table
from stoker.pipeline.storage.folder import is_relative
from stoker.pipeline.text import name_list, normal_form, path_bytes, printable_path, quoted

TRAINING, VALIDATION = "training", "validation"
_GUESS_ROWS = 20         # rows by which the column with the paths is found, if --column does not name it
_ROWS_AT_ONCE = 1000
MAX_CLASSES = 100000     # of a table


@dataclass(frozen=True)
class Problem:
    """What is wrong with the data as a whole, before a file is opened. ``kind``: one of ``kinds.KINDS``."""
    kind: str
    count: int
    what: str                       # of what there are so many, in the plural
    examples: Tuple[str, ...] = ()


class Options(NamedTuple):
    """How the data is read: the options of ``stoker-train`` of these names."""
    root: Optional[str] = None
    classes: Optional[Sequence[str]] = None
    label_word: Optional[str] = None
    labels: bool = True
    follow_links: bool = False
    exclude: Sequence[str] = ()
    suffixes: Sequence[str] = ()
    column: Optional[str] = None    # of a table: that has the paths
    label: Optional[str] = None     # that has the classes


class Part(NamedTuple):
    """DATA, or the validation data."""
    root: str
    paths: Tuple[str, ...]
    labels: "np.ndarray"            # int32 [n], of ``classes``; -1: none
    classes: Tuple[str, ...]
    left_out: Tuple[LeftOut, ...]
    problems: Tuple[Problem, ...]
    has_rows: bool = False          # it is a table


class Data(NamedTuple):
    """All files, first those of DATA."""
    root: str
    paths: Tuple[str, ...]          # below root
    labels: "np.ndarray"            # int32 [n], of ``classes``; -1: none
    classes: Tuple[str, ...]        # of both parts
    training: int                   # the first so many files are those of DATA
    left_out: Tuple[Tuple[LeftOut, ...], ...]       # of each part
    starts: Tuple[str, ...]         # how the paths of each part begin; what was left out is named without
    problems: Tuple[Problem, ...]
    has_validation: bool

    def part_of(self, index: int) -> str:
        """TRAINING or VALIDATION."""
        return TRAINING if index < self.training else VALIDATION

    def class_of(self, index: int) -> str:
        """The name of the class of a file; '' if it has none."""
        return self.classes[self.labels[index]] if self.labels[index] >= 0 else ""

    def source(self) -> Dataset:
        """The files as a source for a stream."""
        return Dataset(self.root, (), self.paths, (-1,) * len(self.paths), ())


def open_data(data: Any, validation: Any, options: Options) -> Data:
    """The files of both. ``data``, ``validation``: what ``open_source`` takes, the latter may be None. Raises
    ConfigError, DatasetError."""
    parts = [_part(data, options, False)]
    if validation is not None:
        parts.append(_part(validation, options, True))
    if (options.column or options.label) and not any(part.has_rows for part in parts):
        raise ConfigError("--%s is for a file of rows (.csv, .tsv, .jsonl), and %s is none" % (
            "column" if options.column else "label", printable_path(str(data))))
    return joined(parts, options.root)


def joined(parts: Sequence[Part], root: Optional[str] = None) -> Data:
    """The files of all parts below one root. Classes of the same name are the same. Raises ConfigError if the parts
    have no folder in common but the root of the system, which a run refuses too."""
    both = common([part.root for part in parts])
    if both is None or both == "/" and root is None and any(part.root != both for part in parts):
        raise ConfigError("the files of training lie below %s, those of validation below %s, and workers have one "
                          "root: %s" % (*(printable_path(part.root) for part in parts),
                                        "give --root, a folder that holds both" if both else
                                        "copy them into one store"))
    numbers: "OrderedDict[str, int]" = OrderedDict()        # normal form of a name -> number
    classes: List[str] = []
    paths: List[str] = []
    labels, starts = [], []
    for part in parts:
        for name in part.classes:
            if numbers.setdefault(normal_form(name), len(classes)) == len(classes):
                classes.append(name)
        start = relative(part.root, both)
        starts.append(start)
        paths += [start + path for path in part.paths] if start else part.paths
        own = np.array([numbers[normal_form(name)] for name in part.classes] + [-1], np.int32)     # [-1] is the last
        labels.append(own[part.labels])
    return Data(both, tuple(paths), np.concatenate(labels), tuple(classes), len(parts[0].paths),
                tuple(part.left_out for part in parts), tuple(starts),
                tuple(problem for part in parts for problem in part.problems),
                len(parts) > 1)


def _part(data: Any, options: Options, is_validation: bool) -> Part:
    def opened(lenient: bool) -> Any:
        return open_source(data, options.root, None if hasattr(data, "opened_by") else options.classes, options.labels,
                           options.label_word, options.follow_links, "image", lenient, options.exclude,
                           options.suffixes)
    problems: List[Problem] = []
    is_folder = isinstance(data, str) and (os.path.isdir(data) or is_url(data) and not suffix_of(data))
    if not is_folder and isinstance(data, str) and (options.exclude or options.suffixes):
        options = options._replace(exclude=(), suffixes=())         # they are for DATA, if that is a folder
    try:
        source = opened(is_validation)
    except DatasetError as error:
        if is_validation or not is_folder:
            raise
        try:
            source = opened(True)       # as validation data, which may be anything that has pictures
        except DatasetError:
            raise DatasetError("%s%s" % (error, "; a folder without classes: --no-labels" * options.labels)) from error
        problems.append(Problem("refused", 1, "reasons for which stoker-train refuses the data: %s" % error))
    if isinstance(source, Table):
        return _of_table(source, options)
    if hasattr(source, "opened_by") and source.has_paths:
        check_pictures(source)
        samples = source.samples(range(len(source)))
        return Part(source.root, tuple(sample.path for sample in samples), np.array(source.labels, np.int32),
                    source.classes, source.left_out, ())
    if not isinstance(source, Dataset):
        raise ConfigError("stoker-check looks at files, and %r names none" % (data,))
    return Part(source.root, source.paths, np.array(source.labels, np.int32), source.classes, source.left_out,
                tuple(problems))


def _of_table(table: Table, options: Options) -> Part:
    """The files that the rows of a table name, each once."""
    column = options.column or _column_of_paths(table)
    numbers: "OrderedDict[str, int]" = OrderedDict()        # path -> its place
    classes: Dict[str, int] = {}
    labels: List[int] = []
    unusable: List[str] = []
    contradictions: List[str] = []
    unusable_count = contradicting = 0
    for number, row in _rows(table):
        _check_column(row, column, table)
        label = -1
        if options.label is not None:
            _check_column(row, options.label, table)
            label = classes.setdefault(str(row[options.label]), len(classes))
            if label == MAX_CLASSES:
                raise ConfigError("the column %s of %s has more than %s different values, so it is no class: omit "
                                  "--label" % (quoted(options.label), table.name, format(MAX_CLASSES, ",")))
        for value in row[column] if isinstance(row[column], list) else [row[column]]:
            path = _relative(value, table.root)
            if path is None:
                unusable_count += 1
                if len(unusable) < MAX_EXAMPLES:
                    unusable.append("row %d: %s is %.200s" % (number + 1, quoted(column), quoted(value)))
                continue
            place = numbers.setdefault(path, len(labels))
            if place == len(labels):
                labels.append(label)
            elif labels[place] != label:
                contradicting += 1
                if len(contradictions) < MAX_EXAMPLES:
                    names = list(classes)
                    contradictions.append("row %d: %s is %.60s, and %.60s in an earlier row" % (
                        number + 1, printable_path(path), quoted(names[label]), quoted(names[labels[place]])))
    problems = []
    if unusable_count:
        what = "rows without the path of a file below %s" % printable_path(table.root)
        problems.append(Problem("rows", unusable_count, what, tuple(unusable)))
    if contradicting:
        problems.append(Problem("contradictions", contradicting,
                                "rows that give a file another label than an earlier one", tuple(contradictions)))
    if not labels:
        raise DatasetError("no row of %s names a file below %s in its column %s%s" % (
            table.name, printable_path(table.root), quoted(column),
            "; such as " + unusable[0] if unusable else ""))
    by_name = sorted(classes, key=path_bytes)
    order = np.zeros(len(classes) + 1, np.int32)
    order[-1] = -1
    for number, name in enumerate(by_name):
        order[classes[name]] = number
    return Part(table.root, tuple(numbers), order[np.array(labels, np.int32)], tuple(by_name), (), tuple(problems),
                has_rows=True)


def _rows(table: Table) -> Iterator[Tuple[int, Any]]:
    for first in range(0, len(table), _ROWS_AT_ONCE):
        numbers = range(first, min(first + _ROWS_AT_ONCE, len(table)))
        for number, row in zip(numbers, table.rows(numbers)):
            yield number, row


def _check_column(row: Any, column: str, table: Table) -> None:
    if not isinstance(row, dict) or column not in row:
        raise ConfigError("%s: a row has no %s; it has %s" % (
            table.name, quoted(column), name_list(map(quoted, row)) if isinstance(row, dict) else "no names at all"))


def _column_of_paths(table: Table) -> str:
    """The one column whose values name files. Raises ConfigError if there is not exactly one."""
    rows = [row for row in table.rows(range(min(len(table), _GUESS_ROWS))) if isinstance(row, dict)]
    names = list(rows[0]) if rows else []
    found = [name for name in names if any(_is_there(row.get(name), table.root) for row in rows)]
    if len(found) == 1:
        return str(found[0])
    raise ConfigError("%s: %s: name the column with the paths by --column; there are %s%s" % (
        table.name, "several columns name files (%s)" % name_list(map(quoted, found)) if found else
        "no column of its first rows names files below %s" % printable_path(table.root), name_list(map(quoted, names)),
        "" if found else "; files elsewhere: --root DIR"))


def _is_there(value: Any, root: str) -> bool:
    path = _relative(value, root)
    try:
        if path is not None and is_url(root):
            return bool(files_among(root, [path]))
        return path is not None and os.path.isfile(os.path.join(root, path))
    except ValueError:          # a lone surrogate
        return False


def _relative(value: Any, root: str) -> Optional[str]:
    """The path below ``root`` that ``value`` names, as workers take it; None if it names none."""
    if not isinstance(value, str) or len(value) > MAX_PATH:
        return None
    if is_url(root) and value.startswith(root + "/"):
        value = value[len(root) + 1:]
    if value.startswith("/"):
        plain = os.path.normpath(value)
        if ".." in value.split("/") or not plain.startswith(os.path.join(root, "")):
            return None
        value = plain[len(os.path.join(root, "")):]
    try:
        return value if is_relative(path_bytes(value)) else None
    except UnicodeEncodeError:
        return None
