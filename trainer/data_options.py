"""The options that say what DATA is, of all command lines that take it, and the data that they give."""

import argparse
import os
import re
from typing import Any, Callable, Dict, List, Optional, Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources.data_files import (KINDS_OF_RECORDS, OF_MEMBERS, RECORDS, ROW_FILES, is_pattern,
                                                open_records, suffix_of)
from stoker.pipeline.sources.reading import csv
from stoker.pipeline.sources.roots import is_url

DATA = ("folder of images, one sub-folder per class; or a file of rows: .csv (its first line names the columns), "
        ".jsonl (an object per line), or .txt (the path of a file per line); or record files: %s, one or a pattern "
        "such as 'train-*.tfrecord' or 'train-{000..099}.tar'. All of them may be in a store: s3://, gs://, az://, and "
        "files on a web server (http://, https://)" % ", ".join(RECORDS))
ROOT = "folder or URL below which the files lie that rows name (default: the folder of DATA)"
NO_LABELS = "none"
_OPTIONS = {"image": "--image-field", "label": "--label-field", "folder": "--folder"}      # of record files
#: The kind of record files -> what --label-field names there.
_LABELS = {"npy": "the npy file with a label for each sample, such as y.npy, or their array in an npz file",
           "hdf5": "the dataset with a label for each sample, or an npy file with them",
           "tfrecord": "the feature with the label, such as image/class/label",
           "tar": "the extension of the members with the labels, such as cls, or folder if the folders are the classes",
           "zip": "the extension of the entries with the labels, such as cls, or folder if the folders are the classes"}
_DOUBLED = re.compile(r"([-_.])[-_.]+")
_WILDCARDS = re.compile(r"\{[^{}]*\}|\[[^\]]*\]|[*?]+")


def names(text: str) -> List[str]:
    """'cat,dog' -> ['cat', 'dog']."""
    return [name.strip() for name in text.split(",")]


def add_names(add: Callable[..., Any]) -> None:
    """The options of a folder that say which of its files count."""
    add("--exclude", action="append", metavar="PATTERN",
        help="of a folder: leave out files, and folders with all in them, whose path below DATA or name matches, "
             "such as cat/raw or '*_copy.*'. * stands for any characters, / included, ? for one, [ab] for a or b. "
             "Repeat it for several. Hidden folders and those of systems, such as @eaDir or lost+found, never count")
    add("--suffix", action="append", metavar="SUFFIX",
        help="of a folder: another suffix of pictures, such as .JPG_, in any case; '' for names without one. Repeat it "
             "for several")


def add_csv(add: Callable[..., Any]) -> None:
    """The options of a CSV file, which are arguments of ``stoker.csv``: see ``csv_options``."""
    add("--encoding", metavar="NAME", help="of a CSV file, such as latin-1 (default: utf-8)")
    add("--delimiter", metavar="SIGN", help="of a CSV file (default: a comma, or a tab for a file .tsv)")
    add("--decimal", metavar="SIGN", help="of a CSV file: , if its numbers have a decimal comma (default: .)")
    add("--na-values", type=names, metavar="A,B,C",
        help="of a CSV file: cells that are None in a column of numbers, as empty ones are")


def csv_options(args: argparse.Namespace) -> Dict[str, Any]:
    """The arguments of ``stoker.csv`` that the command line has."""
    options = {name: getattr(args, name) for name in ("encoding", "delimiter", "decimal", "na_values")}
    return {name: value for name, value in options.items() if value is not None}


def add_records(add: Callable[..., Any]) -> None:
    """The options of record files, which are arguments of ``stoker.tfrecord`` and the like: see ``record_options``."""
    add("--records", choices=KINDS_OF_RECORDS, metavar="KIND",
        help="DATA are record files of this kind, whatever their names end with: %s (default: as the suffix says)"
             % ", ".join(KINDS_OF_RECORDS))
    add("--image-field", metavar="NAME",
        help="of record files: the field that is the picture; of HDF5, the dataset (default: image/encoded of a "
             "TFRecord, the first picture of each sample of a tar or zip file, the array of npy)")
    add("--label-field", metavar="NAME",
        help="of record files: the field that is the class; of npy and HDF5, the file or dataset; none: no classes "
             "(default: image/class/label of a TFRecord, cls of a tar file)")
    add("--folder", metavar="NAME",
        help="of tar and zip files: only what lies below this folder in them; with classes by folder, the folders in "
             "it are the classes. For files that zip -r NAME.zip NAME made")


def record_options(args: argparse.Namespace) -> Dict[str, Any]:
    """The arguments of ``stoker.tfrecord`` and the like that the command line has."""
    options: Dict[str, Any] = {}
    if args.image_field is not None:
        options["image"] = args.image_field
    if args.label_field is not None:
        options["label"] = None if args.label_field == NO_LABELS else args.label_field
    if getattr(args, "columns", None) is not None:
        options["columns"] = args.columns
    if args.folder:
        options["folder"] = args.folder
    return options


def opened(data: Any, args: argparse.Namespace, is_data: bool = True, classes: Optional[Sequence[str]] = None,
           labels: bool = True) -> Any:
    """``data``; or what it holds, if it is a CSV file or record files that are read with options. ``is_data``: it is
    DATA, for which such options are given. ``classes``: of record files. Raises ConfigError, DatasetError."""
    options, of_records = csv_options(args), record_options(args)
    kind = _kind_of_records(data, args, is_data)
    if kind is not None and (of_records or args.records):
        if not labels:
            of_records["label"] = None
        if not is_data and kind not in OF_MEMBERS:          # it is for DATA, as the options of a CSV file
            of_records.pop("folder", None)
        return open_records(kind, data, args.root, classes, of_records)
    if options and isinstance(data, str) and data.lower().endswith((".csv", ".tsv")):
        return csv(data, args.root, **options)
    if not is_data:
        return data
    if options:
        raise ConfigError("--%s is for a CSV file, and DATA is %s" % (min(options).replace("_", "-"), data))
    given = [option for name, option in _OPTIONS.items() if name in of_records]      # --columns may be for rows
    if given and kind is None:
        raise ConfigError("%s is for record files, and DATA is %s: say which kind it is with --records" % (
            given[0], data))
    return data


def _kind_of_records(data: Any, args: argparse.Namespace, is_data: bool) -> Optional[str]:
    """One of KINDS_OF_RECORDS, or None if ``data`` are no record files."""
    if not isinstance(data, str):
        return None
    suffix = suffix_of(data)
    kind = args.records            # of the validation data too, unless they are of another kind
    if kind and (is_data or suffix not in ROW_FILES and not os.path.isdir(data)):
        return str(kind)
    return RECORDS.get(suffix)


def label_remedy(source: Any) -> str:
    """Why the built-in model cannot train on record files that were opened without labels, and what names these; ''
    for anything else."""
    opened_by = getattr(source, "opened_by", None)
    if source.classes or not opened_by:
        return ""
    return "no labels were named, and the built-in model needs them: --label-field names " + (
        _LABELS[opened_by["format"]])


def name_of_data(data: str) -> str:
    """The name of a folder, file, pattern or URL without what is no name in it; '' if nothing is left."""
    if is_url(data):
        path = data[data.index("://") + 3:].rstrip("/")
        is_folder = not suffix_of(data)
    else:
        path = os.path.abspath(data)
        is_folder = os.path.isdir(data)
    if is_pattern(path) and (is_url(data) or not os.path.lexists(path)):
        parts = [_DOUBLED.sub(r"\1", _WILDCARDS.sub("", part)).strip("-_.")
                 for part in os.path.splitext(path)[0].split("/")]
        return next((part for part in reversed(parts) if part), "")
    name = os.path.basename(path)
    return name if is_folder else os.path.splitext(name)[0]
