"""What users call: ``stoker.tfrecord`` and the other functions that open record files."""

import builtins
import logging
import os
import re
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources.records.array_samples import with_labels
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.indexing import index_files
from stoker.pipeline.sources.records.label_file import array_in
from stoker.pipeline.sources.records.member_names import AUTO, FOLDER, Wanted, one_folder
from stoker.pipeline.sources.records.patterns import Pattern, find_files
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.records.watched import Watched
from stoker.pipeline.storage.urls import is_url
from stoker.pipeline.text import name_list, native, printable_path

log = logging.getLogger("stoker")

MAX_REMARKS = 20        # lines in the log
MANY = 20               # samples of which most have texts of their own as labels: these are hardly classes
_COUNTED = re.compile(r"(.*) \(([\d,]+)\)\Z")


def open_records(format_name: str, pattern: Any, options: Dict[str, Any], root: Optional[Any] = None,
                 classes: Optional[Sequence[str]] = None, labels: Optional[Any] = None) -> RecordSource:
    """The records of all files of ``pattern``: see ``find_files``. ``options``: of the format's ``Indexer``, plain
    values; and "labels_file", the absolute path or URL of an npy file with the labels of all records. ``labels``: those
    in memory; they replace those of the files. Raises ConfigError, DatasetError."""
    indexed_at = time.time()
    found = find_files(pattern, root)
    of_format = {name: value for name, value in options.items() if name != "labels_file"}
    labels_file = options.get("labels_file")
    if labels_file is not None:
        labels = array_in(labels_file)
    files, indexes = index_files(found.root, found.files, format_name, of_format)
    if labels is not None:
        indexes = with_labels(indexes, labels, "in " + printable_path(labels_file) if labels_file else "")
    for remark in remarks_of([entry.path for entry in files], indexes)[:MAX_REMARKS]:
        log.warning("%s", remark)
    opened_by = {"format": format_name, "pattern": _plain(pattern, root is None),
                 "root": None if root is None else _absolute(str(root)),
                 "classes": None if classes is None else list(classes), "options": options}
    source = RecordSource.of(found.root, [entry.path for entry in files], indexes, classes,
                             opened_by if labels is None or labels_file is not None else None)
    if classes is None and len(source) >= MANY and 2 * len(source.classes) > len(source) and any(
            index.label_names for index in indexes):
        log.warning("%s: %d samples have %d different labels, such as %s: if that is no class, name another field as "
                    "the label (label=, --label-field)", name_list([entry.path for entry in files], 1), len(source),
                    len(source.classes), name_list(source.classes, 2))
    source.watched = Watched(found.root, files, indexed_at)
    return source


def reopened(opened_by: Dict[str, Any], moved: Callable[[str], str] = str) -> RecordSource:
    """The source that was ``opened_by`` this: see ``RecordSource``. ``moved``: where a path or URL of then is now."""
    pattern, root, options = opened_by["pattern"], opened_by["root"], dict(opened_by["options"])
    if options.get("labels_file") is not None:
        options["labels_file"] = moved(options["labels_file"])
    return open_records(opened_by["format"], moved(pattern) if isinstance(pattern, str) else list(map(moved, pattern)),
                        options, None if root is None else moved(root), opened_by["classes"])


def remarks_of(files: Sequence[str], indexes: Sequence[FileIndex]) -> List[str]:
    """What was left out, in a sentence for each reason, with the sum of the numbers at the ends of alike remarks."""
    found: Dict[str, List[Tuple[str, int]]] = {}
    for path, index in builtins.zip(files, indexes):
        for remark in index.remarks:
            match = _COUNTED.match(remark)
            reason, count = (match.group(1), int(match.group(2).replace(",", ""))) if match else (remark, 0)
            found.setdefault(reason, []).append((path, count))
    return ["%s: %s%s" % (name_list([path for path, _ in where], 1), reason,
                          " (%s)" % format(sum(count for _, count in where), ",") if where[0][1] else "")
            for reason, where in found.items()]


def _plain(pattern: Any, starts_here: bool) -> Union[str, List[str]]:
    if isinstance(pattern, (list, tuple)):
        return [str(_plain(each, starts_here)) for each in pattern]
    return _absolute(str(pattern)) if starts_here else str(pattern)


def _absolute(path: str) -> str:
    """The path or URL, also once the current folder is another one."""
    return path if is_url(path) else os.path.abspath(path)


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


def tar(pattern: Pattern, image: Optional[str] = None, label: Optional[str] = AUTO, columns: Sequence[str] = (),
        folder: Optional[str] = None, root: Optional[str] = None, classes: Optional[Sequence[str]] = None
        ) -> RecordSource:
    """The samples in uncompressed tar files, as WebDataset writes them: ``stoker.tar("data/train-{000..099}.tar")``.

    A sample is made of members side by side whose names agree up to the first dot: ``7.jpg``, ``7.cls``. Samples have
    the order of the files, sorted by the bytes of their paths, and in a file its own. Hidden members, folders, links
    and devices are left out. ``pattern``, ``root``: see ``stoker.tfrecord``. ``folder``: only members below this
    folder of the tar.

    - ``image``: the extension of the sample's own file; of several, such as "jpg;png", the first one that a sample has.
      Default: its picture (jpg, jpeg, png ...); samples without one are left out. All other members are parts, for
      ``sample.numpy("npy")``, ``sample.bytes("json")``.
    - ``label``: the extension of the member with the label, a whole number or a text. Default: "cls", or no labels if
      there are no such members. None: no labels. "folder": the tar is a tree of class folders, as ``scan_folder``
      has them, in which each picture is a sample. ``classes`` names the classes, or those that are to be used.
    - ``columns``: what reaches ``sample.row``, and is kept in the trainer's memory: extensions (json is parsed, txt is
      a text, cls a number or a text, others are bytes, at most 1 MiB), names in the object that the member json has,
      and "__key__", the name of the sample.

    Compressed tars are refused: no member of one can be read alone; stoker-pack converts them. Raises ConfigError;
    DatasetError, with member and byte, for a tar that is cut or damaged.
    """
    source = _of_members("tar", pattern, image, label, columns, folder, root, classes)
    if label == AUTO and not source.classes:
        log.warning("%s has no members .cls, so its samples have no labels: label='folder' takes the folders of the "
                    "pictures for classes, label='EXTENSION' other members, and with label=None this is no warning",
                    name_list(source.files, 1))
    return source


def zip(pattern: Pattern, image: Optional[str] = None, label: Optional[str] = FOLDER, columns: Sequence[str] = (),
        folder: Optional[str] = None, root: Optional[str] = None, classes: Optional[Sequence[str]] = None
        ) -> RecordSource:
    """The samples in zip files whose entries are stored, not compressed: ``stoker.zip("photos.zip", folder="train")``.

    By default a tree of class folders, in which each picture is a sample: its label is the first folder on its path,
    below ``folder``, if that is given. With another ``label``, "cls" or None, entries are grouped and named as the
    members of a tar: see ``stoker.tar``, also for the other arguments. Samples have the order of the zip's directory.
    Compressed entries are refused: ``zip -0 -r photos.zip photos`` writes them without compression, and stoker-pack
    converts zip files. Raises ConfigError; DatasetError, with entry and byte, for a zip that is cut or damaged.
    """
    return _of_members("zip", pattern, image, label, columns, folder, root, classes)


def _of_members(format_name: str, pattern: Pattern, image: Optional[str], label: Optional[str], columns: Sequence[str],
                folder: Optional[str], root: Optional[str], classes: Optional[Sequence[str]]) -> RecordSource:
    options = {"image": image, "label": label, "columns": _names("columns", columns), "folder": folder}
    Wanted.of(options)          # raises ConfigError before a file is read
    source = open_records(format_name, pattern, options, root, classes)
    if label == FOLDER and classes is None and len(source.classes) < 2:
        raise ConfigError(one_folder(name_list(source.files, 1), source.classes[0], folder))
    return source


def npy(pattern: Pattern, array: Optional[str] = None, labels: Any = None, columns: Optional[Sequence[str]] = None,
        root: Optional[str] = None, classes: Optional[Sequence[str]] = None) -> RecordSource:
    """The slices of an array along its first side, in npy and npz files: ``stoker.npy("x.npy", labels="y.npy")``.

    An array uint8 [n, height, width], or with 1, 3 or 4 channels behind, has pictures, for ``sample.image()`` and the
    generator 'image'; ``sample.numpy()`` gives any array of bool, int, uint or float: one sample of ``x`` [n, 8] has
    the shape [8]. ``pattern``, ``root``: see ``stoker.tfrecord``.

    - ``array``: its name in npz files (as np.savez writes them; those of np.savez_compressed are refused). Default: the
      only one with more than one side.
    - ``labels``: the name of another array in the npz file, the path of an npy file (``.npy``), or an array or list:
      whole numbers from 0 on, or texts, [n] or [n, 1]. None: no labels. ``classes`` names the classes.
    - ``columns``: arrays [n] of numbers or texts in the npz files that reach ``sample.row``, and are kept in the
      trainer's memory. Default: all of them.
    - Other arrays in the npz file whose first side has n, too, are parts: ``sample.numpy("boxes")``.

    Raises ConfigError; DatasetError for a file that is cut, for Python objects, structured arrays and Fortran order.
    """
    options: Dict[str, Any] = {"array": array, "labels": None,
                               "columns": None if columns is None else _names("columns", columns)}
    return open_records("npy", pattern, options, root, classes, _given_labels(labels, options))


def hdf5(pattern: Pattern, dataset: Union[str, Sequence[str]], labels: Any = None, columns: Sequence[str] = (),
         root: Optional[str] = None, classes: Optional[Sequence[str]] = None) -> RecordSource:
    """The items of datasets in HDF5 files, along their first side: ``stoker.hdf5("train.h5", "images", "labels")``.

    ``dataset``: the name of the one with the samples; a list: several parts, of which the first is the sample's own.
    uint8 [n, height, width], or with 1, 3 or 4 channels behind, are pictures, and so are items of any length of uint8
    that hold JPEG files and the like: for ``sample.image()`` and the generator 'image'. ``sample.numpy("features")``
    gives other numbers. ``labels``: the name of a dataset with a whole number from 0 on or a text for each sample, the
    path of an npy file, or an array or list; None: no labels. ``columns``: datasets with a number or a text for each
    sample, which reach ``sample.row`` and are kept in the trainer's memory. ``pattern``, ``root``, ``classes``: see
    ``stoker.tfrecord``.

    The trainer needs h5py (``pip install 'stoker[hdf5]'``). Workers need it only for samples whose bytes do not lie
    side by side in the file: compressed ones, those of chunks that do not hold whole samples, and items of any length.
    Datasets in other files (external, virtual, linked) are refused. Raises ConfigError; DatasetError for a file that is
    cut, damaged, or open for writing.
    """
    names = _names("dataset", [dataset] if isinstance(dataset, str) else dataset)
    if not names:
        raise ConfigError("dataset must be the name of a dataset in the HDF5 files, or a list of names, and not empty")
    options: Dict[str, Any] = {"dataset": names, "labels": None, "columns": _names("columns", columns)}
    both = set(names).intersection(columns)
    if both:
        raise ConfigError("%s is given as dataset and in columns: leave it out of columns" % name_list(sorted(both)))
    return open_records("hdf5", pattern, options, root, classes, _given_labels(labels, options))


def _given_labels(labels: Any, options: Dict[str, Any]) -> Any:
    """The labels in memory, if they are there; else puts into ``options`` where they are."""
    if isinstance(labels, os.PathLike) or isinstance(labels, str) and labels.lower().endswith(".npy"):
        file = os.fspath(labels)
        options["labels_file"] = file if is_url(file) else os.path.abspath(native(file))
    elif isinstance(labels, str):
        options["labels"] = labels
    else:
        return labels
    return None


def _names(what: str, names: Any) -> List[str]:
    """A list of names as the user gives it. Raises ConfigError."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names) or (
            len(set(names)) < len(names)):
        raise ConfigError("%s must be a list of names, such as ['image/height'], not %.80r" % (what, names))
    return list(names)
