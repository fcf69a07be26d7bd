"""The formats of record files, and what makes the index of a file of each. A module is loaded when it is needed."""

import importlib
from typing import Any

from stoker.pipeline.sources.records.file_index import Indexer

#: The module of each format. It has ``index``, an ``Indexer``, and ``VERSION``, raised when the same file gets another
#: index: kept indexes of former versions are then made again.
MODULES = {
    "tfrecord": "stoker.pipeline.sources.records.tfrecord",
    "tar": "stoker.pipeline.sources.records.tar",
    "zip": "stoker.pipeline.sources.records.zip",
    "npy": "stoker.pipeline.sources.records.npy",
    "hdf5": "stoker.pipeline.sources.records.hdf5",
}


def indexer_of(format_name: str) -> Indexer:
    """What makes the index of a file of this format. Raises ImportError if a library of the format is missing."""
    found: Indexer = _module(format_name).index
    return found


def version_of_format(format_name: str) -> int:
    """The version of its indexes."""
    return int(_module(format_name).VERSION)


def _module(format_name: str) -> Any:
    return importlib.import_module(MODULES[format_name])
