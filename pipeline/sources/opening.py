"""The source of whatever a user gives as data."""

import inspect
import logging
import operator
import os
from typing import Any, Iterable, Iterator, Optional, Sequence

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.functions import OLD_GENERATOR
from stoker.pipeline.sources.data_files import RECORDS, check_folder, described_file, open_file, suffix_of
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.file_names import FileNames, Texts
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.reading import moved, path_list
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.sources.roots import Path
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.sources.text_file import absolute_root
from stoker.pipeline.user_errors import a_type

log = logging.getLogger("stoker")

MANY_ROWS = 1000000        # from here on, an iterator may be one without an end
_BATCHES = "give a list of files or rows, and " + OLD_GENERATOR
KINDS = ("a folder or its URL, a file .csv, .tsv, .jsonl or .txt (with a path in each line), record files (%s), "
         "stoker.csv(...), stoker.tfrecord(...) and the like, a list of paths or rows, or a number of samples"
         % ", ".join(RECORDS))


def open_source(data: Any, root: Optional[Path] = None, classes: Optional[Sequence[str]] = None, labels: bool = True,
                label_word: Optional[str] = None, follow_links: bool = False, generator: str = "image",
                validation: bool = False, exclude: Texts = (), suffixes: Texts = (), former: int = 0
                ) -> Source:
    """The source of ``data``: a folder, a file by its suffix, record files by the suffix of their pattern, an iterable
    of rows or paths, a number, or a source. A folder or file may be in a store: ``open_source("s3://bucket/photos")``.

    ``root``: the folder or URL below which the files lie that rows name, or from which a folder's paths start.
    ``classes``, ``labels``: for a folder or record files. ``label_word``, ``follow_links``, ``validation``,
    ``exclude``, ``suffixes``, ``former``: for a folder, see ``scan_folder``. The generator ``numerical`` needs a
    number. Raises ConfigError, DatasetError.
    """
    if generator == "numerical" and not is_number(data) and not isinstance(data, Dataset):
        raise ConfigError("the generator numerical needs a number of records, not %.80r" % (data,))
    is_path = isinstance(data, (str, os.PathLike))
    suffix = suffix_of(data) if is_path else ""
    if is_path and not suffix:
        check_folder(os.fspath(data))
        return _below(scan_folder(os.fspath(data), label_word, follow_links, classes, labels, validation, exclude,
                                  suffixes, former), root)
    if FileNames(exclude, suffixes).are_given:
        raise ConfigError("%s is for a folder of images, and the data is %s: give only the samples that you want%s"
                          % ("exclude= (--exclude)" if exclude else "suffixes= (--suffix)", _what(data),
                             ", such as stoker.files(..., exclude=...)" if exclude else ""))
    if label_word is not None or classes is not None and suffix not in RECORDS:
        raise ConfigError("%s is for a folder of images, and the data is %s: put the labels into the rows"
                          % ("label_word= (--label-word)" if classes is None else "classes= (--classes)", _what(data)))
    if is_path:
        return open_file(data, root, classes, labels)
    if is_number(data):
        number = operator.index(data)
        return generated(number) if generator == "numerical" else _below(Numbers(number), root)
    if hasattr(data, "samples") and hasattr(data, "fingerprint"):
        return _below(data, root)
    return _listed(data, root)


def _what(data: Any) -> str:
    """The data in a sentence: the name and kind of a file, or what else it is."""
    if isinstance(data, (str, os.PathLike)):
        return described_file(data)
    return "a number of samples (%d)" % data if is_number(data) else a_type(data)


def is_number(data: Any) -> bool:
    """Whether it is an int, or one of numpy, but no bool and no array."""
    return not isinstance(data, (bool, np.bool_)) and hasattr(data, "__index__") and not hasattr(data, "__len__")


def whole_number(data: Any) -> Optional[int]:
    """``data`` if it is a number of samples."""
    return operator.index(data) if is_number(data) else None


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
    start = os.path.abspath(os.curdir) if root is None else absolute_root(root)
    if isinstance(first, (str, os.PathLike)):
        kind = RECORDS.get(suffix_of(first))
        if kind in ("tfrecord", "tar", "zip"):
            raise ConfigError("the data is %s of record files: give stoker.%s([...]); or stoker.files([...]) if each "
                              "file is one sample" % (a_type(data), kind))
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
    root = source.root if folder is None else absolute_root(folder)
    if source.root == root:
        same: Source = source
        return same
    if source.has_paths and source.root and hasattr(source, "below"):
        within: Source = moved(source, root)
        return within
    if not isinstance(source, (Table, Numbers)):
        raise ConfigError("root is for rows, which name files below it, and the data is %s: omit root" % a_type(source))
    return source.below(root)
