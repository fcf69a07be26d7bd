"""What users call: ``stoker.tfrecord`` and the other functions that open record files."""

import logging
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.indexing import index_files
from stoker.pipeline.sources.records.patterns import Pattern, find_files
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.records.watched import Watched
from stoker.pipeline.storage.store import Entry
from stoker.pipeline.text import name_list, printable_path

log = logging.getLogger("stoker")

MAX_REMARKS = 20        # lines in the log


def open_records(format_name: str, pattern: Any, options: Dict[str, Any], root: Optional[Any] = None,
                 classes: Optional[Sequence[str]] = None, labels: "Optional[np.ndarray]" = None) -> RecordSource:
    """The records of all files of ``pattern``: see ``find_files``. ``options``: of the format's ``Indexer``, plain
    values. ``labels``: int64, of all records, which replace those of the files. Raises ConfigError, DatasetError."""
    indexed_at = time.time()
    found = find_files(pattern, root)
    files, indexes = index_files(found.root, found.files, format_name, options)
    for remarks, file in _remarks(files, indexes)[:MAX_REMARKS]:
        log.warning("%s: %s", file, remarks)
    opened_by = {"format": format_name, "pattern": _plain(pattern), "root": None if root is None else str(root),
                 "classes": None if classes is None else list(classes), "options": options}
    source = RecordSource.of(found.root, [entry.path for entry in files], indexes, classes, opened_by, labels)
    source.watched = Watched(found.root, files, indexed_at)
    return source


def reopened(opened_by: Dict[str, Any], moved: Callable[[str], str] = str) -> RecordSource:
    """The source that was ``opened_by`` this: see ``RecordSource``. ``moved``: where a path or URL of then is now."""
    pattern, root = opened_by["pattern"], opened_by["root"]
    return open_records(opened_by["format"], moved(pattern) if isinstance(pattern, str) else list(map(moved, pattern)),
                        opened_by["options"], None if root is None else moved(root), opened_by["classes"])


def _remarks(files: Sequence[Entry], indexes: Sequence[FileIndex]) -> List[Tuple[str, str]]:
    """What was left out, and an example of a file, for the log."""
    first: Dict[str, str] = {}
    for entry, index in zip(files, indexes):
        for remark in index.remarks:
            first.setdefault(remark, printable_path(entry.path))
    return list(first.items())


def _plain(pattern: Any) -> Union[str, List[str]]:
    return [str(each) for each in pattern] if isinstance(pattern, (list, tuple)) else str(pattern)


def tfrecord(pattern: Pattern, image: Union[str, Sequence[str], None] = "image/encoded",
             label: Optional[str] = "image/class/label", columns: Sequence[str] = (), root: Optional[str] = None,
             classes: Optional[Sequence[str]] = None, check: bool = True) -> RecordSource:
    """The records of TFRecord files with tf.train.Examples: ``stoker.tfrecord("imagenet/train-*")``.

    ``pattern``: a path, a pattern, braces such as ``train-{000..099}``, a list of these, or URLs of such. Records have
    the order of the files, sorted by the bytes of their paths, and within a file its own. ``root``: the folder or URL
    from which relative patterns start, and below which workers find the files (default: the current folder, and the
    folder before the first wildcard).

    ``image``: the feature with the picture's file (JPEG, PNG ...), which is the sample's own; a list of names: several
    parts, for ``sample.image("name")``; None: none. ``label``: a feature with one whole number or one text in each
    record; None: no labels. The classes of numbers are "0" to the largest one, those of texts are sorted; ``classes``
    names them. ``columns``: features that reach ``sample.row``, and are kept in the trainer's memory: int, float or
    bytes. One that has exactly one value in every record of all files is that value, and any other is a list in every
    record.

    ``check``: whether the checksums of all bytes are compared, where the library crc32c is installed. Files that were
    compressed as a whole (gzip, zlib) have no places to read from: stoker-pack converts them. Raises ConfigError;
    DatasetError, with file, record and byte, for a file that is torn or damaged, or a record without its label.
    """
    images = [image] if isinstance(image, str) else [] if image is None else list(image)
    names = _names("columns", columns)
    if not all(isinstance(name, str) and name for name in images) or len(set(images)) < len(images):
        raise ConfigError("image must be the name of a feature, a list of such names, or None, not %.80r" % (image,))
    if label is not None and (not isinstance(label, str) or not label):
        raise ConfigError("label must be the name of a feature, or None, not %.80r" % (label,))
    if not images and not names:
        raise ConfigError("image is None and there are no columns, so the records would be empty: name a feature")
    both = set(images).intersection(names)
    if both:
        raise ConfigError("%s is given as image and in columns: leave it out of columns" % name_list(sorted(both)))
    options = {"image": images, "label": label, "columns": names, "check": bool(check)}
    return open_records("tfrecord", pattern, options, root, classes)


def _names(what: str, names: Any) -> List[str]:
    """A list of names as the user gives it. Raises ConfigError."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names) or (
            len(set(names)) < len(names)):
        raise ConfigError("%s must be a list of names, such as ['image/height'], not %.80r" % (what, names))
    return list(names)
