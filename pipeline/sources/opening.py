"""The source of whatever a user gives as data, and the data for training and validation that belong together."""

import inspect
import logging
import numbers
import operator
import os
from typing import Any, Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.functions import OLD_GENERATOR
from stoker.pipeline.sources.csv_file import TEXT
from stoker.pipeline.sources.dataset import Dataset, Splits, renumbered
from stoker.pipeline.sources.file_names import FileNames, Texts
from stoker.pipeline.sources.folder import NOT_NAMED, scan_folder
from stoker.pipeline.sources.reading import NOTHING_IN_COMMON, csv, jsonl, path_list
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.sources.text_file import Path, TextFile, checked_root
from stoker.pipeline.text import name_list, native, printable_path
from stoker.pipeline.user_errors import a_type

log = logging.getLogger("stoker")

MANY_ROWS = 1000000        # from here on, an iterator may be one without an end
_BATCHES = "give a list of files or rows, and " + OLD_GENERATOR
KINDS = ("a folder, a file .csv, .tsv, .jsonl or .txt (with a path in each line), stoker.csv(...) and the like, a list "
         "of paths or rows, or a number of samples")


def open_source(data: Any, root: Optional[Path] = None, classes: Optional[Sequence[str]] = None, labels: bool = True,
                label_word: Optional[str] = None, follow_links: bool = False, generator: str = "image",
                validation: bool = False, exclude: Texts = (), suffixes: Texts = (), former: int = 0
                ) -> Source:
    """The source of ``data``: a folder, a file by its suffix, an iterable of rows or paths, a number, or a source.

    ``root``: the folder below which the files lie that rows name, or from which a folder's paths start. ``classes``,
    ``labels``, ``label_word``, ``follow_links``, ``validation``, ``exclude``, ``suffixes``, ``former``: for a folder,
    see ``scan_folder``. The generator ``numerical`` needs a number. Raises ConfigError, DatasetError.
    """
    if generator == "numerical" and not _is_number(data) and not isinstance(data, Dataset):
        raise ConfigError("the generator numerical needs a number of records, not %.80r" % (data,))
    if isinstance(data, (str, os.PathLike)) and not _suffix(data):
        _no_pattern(os.fspath(data))
        return _below(scan_folder(os.fspath(data), label_word, follow_links, classes, labels, validation, exclude,
                                  suffixes, former), root)
    if FileNames(exclude, suffixes).are_given:
        raise ConfigError("%s is for a folder of images, and the data is %s: give only the samples that you want%s"
                          % ("exclude= (--exclude)" if exclude else "suffixes= (--suffix)", _what(data),
                             ", such as stoker.files(..., exclude=...)" if exclude else ""))
    if classes is not None or label_word is not None:
        raise ConfigError("%s is for a folder of images, and the data is %s: put the labels into the rows"
                          % ("label_word= (--label-word)" if classes is None else "classes= (--classes)", _what(data)))
    if isinstance(data, (str, os.PathLike)):
        source: Source = _READERS[_suffix(data)](data, root)
        return source
    if _is_number(data):
        number = operator.index(data)
        return generated(number) if generator == "numerical" else _below(Numbers(number), root)
    if hasattr(data, "samples") and hasattr(data, "fingerprint"):
        return _below(data, root)
    return _listed(data, root)


def _what(data: Any) -> str:
    """The data in a sentence: the name and kind of a file, or what else it is."""
    if isinstance(data, (str, os.PathLike)):
        return "the file %s, %s" % (printable_path(os.fspath(data)), _KINDS_OF_FILES[_suffix(data)])
    return "a number of samples (%d)" % data if _is_number(data) else a_type(data)


def is_share(value: Any) -> bool:
    """Whether it is a float, or one of numpy: a share of the data, not a number of samples."""
    return isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)


def _is_number(data: Any) -> bool:
    """Whether it is an int, or one of numpy, but no bool and no array."""
    return not isinstance(data, (bool, np.bool_)) and hasattr(data, "__index__") and not hasattr(data, "__len__")


def whole_number(data: Any) -> Optional[int]:
    """``data`` if it is a number of samples."""
    return operator.index(data) if _is_number(data) else None


def _suffix(data: Path) -> str:
    """The suffix of a file that a reader reads; '' for anything else."""
    path = os.fspath(data)
    path = native(path) if isinstance(path, str) else path
    suffix = os.path.splitext(path)[1].lower() if isinstance(path, str) else ""
    return suffix if suffix in _READERS and not os.path.isdir(path) else ""


def _no_pattern(path: Union[str, bytes]) -> None:
    """Raises ConfigError if ``path`` is not the name of a folder, but meant as something else."""
    if not isinstance(path, str):
        raise ConfigError("the folder must be given as str, not as %.80r" % (path,))
    if any(sign in path for sign in "*?") and not os.path.exists(native(path)):
        raise ConfigError("%s is a pattern, and files that match one are given as stoker.files(%r)"
                          % (printable_path(path), path))


def _paths_in(file: Path, root: Optional[Path] = None) -> Dataset:
    """The files that a text file lists, a path in each line, from its folder on."""
    text = TextFile(file)
    try:
        return path_list(text.lines("surrogateescape"), text.root(root), False, text.name)
    except DatasetError as error:
        raise DatasetError(str(error) if str(error).startswith(text.name) else "%s: %s" % (text.name, error)) from error


#: What reads a file, by its suffix.
_READERS = {".csv": csv, ".tsv": csv, ".jsonl": jsonl, ".txt": _paths_in}     # type: Any
_KINDS_OF_FILES = {".csv": "a table of rows", ".tsv": "a table of rows", ".jsonl": "a list of rows",
                   ".txt": "a list of paths"}


def _listed(data: Any, root: Optional[Path]) -> Source:
    """The source of a list or iterable of rows, or of paths. Raises ConfigError if it is neither."""
    remedy = ""
    if hasattr(data, "to_dict"):
        remedy = "give its rows, data.to_dict(\"records\")" if hasattr(data, "columns") else "give data.tolist()"
    elif isinstance(data, dict):
        remedy = "give a list of rows, such as [{\"path\": \"1.jpg\", \"x\": 0.5}, ...]"
    elif isinstance(data, (set, frozenset)):
        remedy = "it has no order: give sorted(data)"
    elif callable(data):
        remedy = "give what it returns" + ("; or " + _BATCHES if inspect.isgeneratorfunction(data) else "")
    try:
        rows = None if remedy or isinstance(data, (bytes, bytearray)) else iter(data)
    except TypeError:
        rows = None
    if rows is None:
        raise ConfigError("the data is %s: %s" % (a_type(data), remedy or "it must be " + KINDS))
    try:
        first = next(rows)
    except StopIteration:
        raise DatasetError("the data is %s without rows, so there is nothing to train on" % a_type(data)) from None
    if rows is data and _is_batch(first):
        raise ConfigError("the data is %s of batches, and it must have a row for each sample: %s"
                          % (a_type(data), _BATCHES))
    start = os.path.abspath(os.curdir if root is None else checked_root(root))
    if isinstance(first, (str, os.PathLike)):
        return path_list(_chained(first, rows, rows is not data), start, root is None)
    return Table.of(_chained(first, rows, rows is not data), start)


def _is_batch(item: Any) -> bool:
    """Whether it is nothing but arrays, at least one of them with rows of its own, as what an old generator yields."""
    values = list(item.values()) if isinstance(item, dict) else item if isinstance(item, (tuple, list)) else [item]
    return all(isinstance(value, np.ndarray) and value.ndim for value in values) and any(
        value.ndim > 1 for value in values)


def _chained(first: Any, rows: Iterator[Any], is_counted: bool) -> Iterable[Any]:
    yield first
    for number, row in enumerate(rows, 2):
        if number == MANY_ROWS and not is_counted:
            log.warning("the data has given %s rows so far, and it is read to its end before the training begins: does "
                        "it end?", format(number, ","))
        yield row


def _below(source: Any, folder: Optional[Path]) -> Source:
    """``source`` with the root ``folder``. Raises ConfigError if it has files that are not below it."""
    root = source.root if folder is None else os.path.abspath(checked_root(folder))
    if source.root == root:
        same: Source = source
        return same
    if isinstance(source, Dataset) and source.root and not _contains(root, source.root):
        raise ConfigError("root %s does not contain %s, where the samples' files are: give a folder that does, or none"
                          % (printable_path(root), printable_path(source.root)))
    if not isinstance(source, (Dataset, Table, Numbers)) or isinstance(source, Dataset) and not source.root:
        raise ConfigError("root is for rows, which name files below it, and the data is %s: omit root" % a_type(source))
    moved: Source = source.below(root)
    return moved


def _contains(folder: str, inner: str) -> bool:
    return os.path.join(inner, "").startswith(os.path.join(folder, ""))


def open_splits(source: Source, validation: Any, seed: int, root: Optional[Path] = None,
                classes: Optional[Sequence[str]] = None, labels: bool = True, label_word: Optional[str] = None,
                follow_links: bool = False, generator: str = "image", exclude: Texts = (), suffixes: Texts = (),
                former: int = 0) -> Splits:
    """``source`` for training, and for validation a share of it, or other data; None or 0: none.

    ``validation``: a float at least 0 and below 1, or any data that ``open_source`` takes. A share is taken of each
    class, or of all samples if there are none. Validation folders have the classes of training, in the same order.
    The files of both are then below one root. The other arguments are those of ``open_source``. Raises ConfigError,
    DatasetError.
    """
    if validation is None or is_share(validation) or (_is_number(validation) and not validation):
        if not hasattr(source, "split"):
            if validation:
                raise ConfigError("%s has no method split(fraction, seed), so validation cannot be a share of it"
                                  % a_type(source))
            return Splits(source)
        parts: Splits = source.split(float(validation or 0.0), seed)
        return parts
    if isinstance(validation, (bool, np.bool_)):
        raise ConfigError("validation must be a share, such as 0.2, or data, not %r" % validation)
    if isinstance(source, Dataset) and isinstance(validation, (str, os.PathLike)) and not _suffix(validation):
        named, labels = (source.classes, True) if source.classes and label_word is None else (None, bool(label_word))
        other = open_source(validation, None, named, labels, label_word, follow_links, generator, True, exclude,
                            suffixes, former)
        if isinstance(other, Dataset) and named:
            _check_classes(other, classes is not None or former > 0)
    else:
        other = open_source(validation, root, None, labels, None, follow_links, generator)
    if isinstance(source, Dataset) and isinstance(other, Dataset) and other.classes and (
            set(other.classes) <= set(source.classes)):
        other = renumbered(other, source.classes)
    try:
        _check_alike(source, other)
    except ConfigError as error:
        if not _is_number(validation):
            raise
        raise ConfigError("%s; validation=%d is a number of samples: a share of the data is a float below 1, such as "
                          "0.2" % (error, validation)) from None
    if isinstance(other, Numbers) and not other.root:
        other = other.below(source.root)
    if isinstance(source, Numbers) and not source.root:
        source = source.below(other.root)
    if isinstance(source, Dataset) and isinstance(other, Dataset):
        common = os.path.commonpath([source.root, other.root])
        if common == "/" and root is None and source.root != other.root:
            raise ConfigError(NOTHING_IN_COMMON % "training and validation")
        source, other = source.below(common), other.below(common)
        _warn_of_overlap(source, other)
        return Splits(source, other)
    if source.root == other.root:
        return Splits(source, other)
    raise ConfigError("the rows for training name files below %s, those for validation below %s, and workers have one "
                      "root: give root=, a folder from which the paths of both start"
                      % (printable_path(source.root), printable_path(other.root)))


def _check_classes(validation: Dataset, is_chosen: bool) -> None:
    """Raises DatasetError if the validation folder has a class that training lacks, unless ``is_chosen``: the user
    named the classes. Warns of those that it lacks itself."""
    new = sorted(path for path, why in validation.left_out if why == NOT_NAMED)
    if new and not is_chosen:
        raise DatasetError("the validation folder %s has the classes %s, and training has %s: rename or "
                           "remove them, or name the classes of training (classes=[...] or --classes A,B,C), which "
                           "leaves others out" % (printable_path(validation.root), _names(new),
                                                  _names(validation.classes)))
    missing = sorted(set(range(len(validation.classes))).difference(validation.labels))
    if missing:
        log.warning("the validation folder %s has no image of the classes %s", printable_path(validation.root),
                    _names([validation.classes[number] for number in missing]))


def _warn_of_overlap(training: Dataset, validation: Dataset) -> None:
    both = set(training.paths).intersection(validation.paths) if training.root else ()
    if both:
        log.warning("%s of the %s samples for validation are trained on too, such as %s: so the evaluation shows what "
                    "the model remembers; leave them out of training (exclude= or --exclude PATTERN)",
                    format(len(both), ","), format(len(validation), ","), printable_path(min(both)))


def _check_alike(source: Source, other: Source) -> None:
    """Raises ConfigError if a sample of ``other`` is not what one of ``source`` is."""
    for what in ("classes", "columns"):
        ours, theirs = getattr(source, what), getattr(other, what)
        if ours != theirs and not (what == "columns" and isinstance(other, Numbers)):      # which have no rows
            raise ConfigError("the data for training has the %s %s, that for validation %s: both must have the same "
                              "ones, in the same order" % (what, _names(ours), _names(theirs)))
    for name, our, their in zip(source.columns, getattr(source, "types", ()), getattr(other, "types", ())):
        if (our == TEXT) != (their == TEXT):
            log.warning("the column %s is %s in the data for training and %s in that for validation, by the cells that "
                        "are there: convert it in your function, as in str(...)", ascii(name), our, their)
    if source.has_paths != other.has_paths:
        raise ConfigError("the samples for %s are files, and those for %s are not: give data of the same kind"
                          % (("training", "validation") if source.has_paths else ("validation", "training")))


def _names(names: Sequence[str]) -> str:
    return "(%s)" % name_list(names) if names else "(none)"
