"""The formats of record files, and what makes the index of a file of each. A module is loaded when it is needed."""

import importlib

from stoker.pipeline.sources.records.file_index import Indexer

#: The module of each format. It has ``index``, an ``Indexer``. ``VERSIONS`` are raised when the same file gets another
#: index: kept indexes of former versions are then made again.
MODULES = {
    "tfrecord": "stoker.pipeline.sources.records.tfrecord",
    "tar": "stoker.pipeline.sources.records.tar",
    "zip": "stoker.pipeline.sources.records.zip",
    "npy": "stoker.pipeline.sources.records.npy",
    "hdf5": "stoker.pipeline.sources.records.hdf5",
}
VERSIONS = {"tfrecord": 1, "tar": 1, "zip": 1, "npy": 1, "hdf5": 2}


def indexer_of(format_name: str) -> Indexer:
    """What makes the index of a file of this format. Raises ImportError if a library of the format is missing."""
    found: Indexer = importlib.import_module(MODULES[format_name]).index
    return found
