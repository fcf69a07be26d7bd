"""What a path or URL that a user gives as data is: a file by its suffix, with what reads it, or else a folder."""

import importlib
import os
import re
from typing import Any, Callable, Dict, Optional, Sequence, Union

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.reading import csv, jsonl, path_list
from stoker.pipeline.sources.roots import Path, is_url
from stoker.pipeline.sources.text_file import TextFile
from stoker.pipeline.storage import urls
from stoker.pipeline.text import native, printable_path

#: The record files, by their suffixes: the name of the function of ``stoker`` that opens them.
RECORDS = {".tfrecord": "tfrecord", ".tfrecords": "tfrecord", ".tar": "tar", ".zip": "zip", ".npy": "npy",
           ".npz": "npy", ".h5": "hdf5", ".hdf5": "hdf5"}
KINDS_OF_RECORDS = ("tfrecord", "tar", "zip", "npy", "hdf5")
#: Kinds whose files have members with names, and folders.
OF_MEMBERS = ("tar", "zip")
ROW_FILES = (".csv", ".tsv", ".jsonl", ".txt")
_KINDS_OF_FILES = {".csv": "a table of rows", ".tsv": "a table of rows", ".jsonl": "a list of rows",
                   ".txt": "a list of paths"}
#: Suffixes of files that hold samples which no worker can read where they are.
_PACKED = re.compile(r"\.(gz|tgz|bz2|xz|zst|lz4|parquet|7z|rar)\Z", re.IGNORECASE)
#: A pattern of names: {000..099} or {a,b}, besides the wildcards.
_BRACES = re.compile(r"\{[^{}/]*(?:,|\.\.)[^{}/]*\}")


def suffix_of(data: Path) -> str:
    """The suffix of a file, or of files, that a reader reads; '' for anything else. A folder of such a name wins."""
    path = os.fspath(data)
    if not isinstance(path, str):
        return ""
    suffix = os.path.splitext(path)[1].lower()
    known = suffix in ROW_FILES or suffix in RECORDS
    return suffix if known and (is_url(path) or not os.path.isdir(native(path))) else ""


def is_pattern(path: str) -> bool:
    """Whether it stands for several files."""
    return any(sign in path for sign in "*?[") or _BRACES.search(path) is not None


def described_file(data: Path) -> str:
    """The file in a sentence: its name and kind."""
    suffix = suffix_of(data)
    return "the file %s, %s" % (printable_path(os.fspath(data)), _KINDS_OF_FILES.get(suffix, "of records"))


def check_folder(path: Union[str, bytes]) -> None:
    """Raises ConfigError, DatasetError if ``path`` is not the name of a folder, but meant as something else."""
    if not isinstance(path, str):
        raise ConfigError("the folder must be given as str, not as %.80r" % (path,))
    shown = printable_path(path)
    if is_url(path):
        urls.split(path)                # a ConfigError for a URL that can be none, also of a pattern
    elif os.path.isdir(native(path)):
        return
    if _PACKED.search(path):
        raise DatasetError("%s is compressed, or holds samples in another way than one after the other, so no worker "
                           "can read one of them alone: convert it with stoker-pack, which writes tar files" % shown)
    if (any(sign in path for sign in "*?") or _BRACES.search(path)) and not os.path.exists(native(path)):
        raise ConfigError("%s is a pattern, and files that match one are given as stoker.files(%r); record files whose "
                          "names do not say what they are as stoker.tfrecord(%r), stoker.tar(...) ..., or with "
                          "--records KIND" % (shown, path, path))
    if not is_url(path) and os.path.isfile(native(path)):
        raise DatasetError("%s is a file, and its name does not say what it holds (%s): give a folder; or record files "
                           "as stoker.tfrecord(%r), stoker.tar(...) ..., or with --records KIND"
                           % (shown, " ".join(ROW_FILES + tuple(RECORDS)), path))


def open_file(data: Path, root: Optional[Path], classes: Optional[Sequence[str]] = None, labels: bool = True) -> Source:
    """The source of a file, or of record files, by its suffix. ``classes``, ``labels``: of record files. Raises
    ConfigError, DatasetError."""
    suffix = suffix_of(data)
    if suffix in RECORDS:
        return open_records(RECORDS[suffix], data, root, classes, {} if labels else {"label": None})
    reader = {".csv": csv, ".tsv": csv, ".jsonl": jsonl, ".txt": _paths_in}[suffix]    # type: Any
    source: Source = reader(data, root)
    return source


def open_records(kind: str, pattern: Any, root: Optional[Path], classes: Optional[Sequence[str]],
                 options: Dict[str, Any]) -> Source:
    """The source of record files. ``kind``: one of KINDS_OF_RECORDS; ``options``: further arguments of the function of
    that name. Raises ConfigError, DatasetError."""
    options = dict(options)
    if "folder" in options and kind not in OF_MEMBERS:
        raise ConfigError("folder= is for tar and zip files, and the data is %s" % printable_path(
            str(pattern)))
    if kind in _LABELS and "label" in options:
        options["labels"] = options.pop("label")
    if kind == "npy" and "image" in options:
        options["array"] = options.pop("image")
    if kind == "hdf5":
        if "image" not in options:
            raise ConfigError("%s is a HDF5 file, and Stoker must know which of its datasets has the samples: give "
                              "stoker.hdf5(%r, \"NAME\"), or --image-field NAME"
                              % (printable_path(str(pattern)), pattern))
        options["dataset"] = options.pop("image")
    source: Source = getattr(_public(), kind)(pattern, root=root, classes=classes, **options)
    return source


def reopened(opened_by: Dict[str, Any], of: Callable[[str], str]) -> Source:
    """The record files of a source whose ``opened_by`` this is, with absolute paths. ``of``: where a path is now.
    Raises ConfigError, DatasetError; LookupError, TypeError, AttributeError if it is damaged."""
    if opened_by["format"] not in KINDS_OF_RECORDS:
        raise LookupError("format")
    source: Source = _public().reopened(opened_by, of)
    return source


def opened_alike(opened_by: Dict[str, Any], data: Any) -> Any:
    """``data``; if these are record files of the kind that ``opened_by`` has, what they hold by its options. Raises as
    ``reopened``."""
    if not isinstance(data, str) or os.path.isdir(data):
        return data
    suffix = suffix_of(data)
    is_alike = RECORDS.get(suffix) == opened_by["format"] or not suffix and (is_pattern(data) or os.path.isfile(data))
    return reopened(dict(opened_by, pattern=data, root=None), str) if is_alike else data


def _public() -> Any:
    """The functions of ``stoker`` for record files, imported when there are some."""
    return importlib.import_module("stoker.pipeline.sources.records.public")


#: Kinds whose argument for the labels is called so.
_LABELS = ("npy", "hdf5")


def _paths_in(file: Path, root: Optional[Path] = None) -> Dataset:
    """The files that a text file lists, a path or URL in each line; paths start from its folder."""
    text = TextFile(file)
    try:
        return path_list(text.lines("surrogateescape"), text.root(root), False, text.name, root is None)
    except DatasetError as error:
        raise type(error)(str(error) if str(error).startswith(text.name) else "%s: %s" % (text.name, error)) from error
