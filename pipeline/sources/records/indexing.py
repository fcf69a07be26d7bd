"""Indexing: the index of each record file of a source."""

import os
from typing import Any, Dict, List, Sequence

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.formats import indexer_of
from stoker.pipeline.storage.opening import is_url, open_store
from stoker.pipeline.storage.remote_file import open_file
from stoker.pipeline.storage.store import Entry
from stoker.pipeline.text import path_bytes, printable_path


def index_files(root: str, files: Sequence[Entry], format_name: str, options: Dict[str, Any]) -> List[FileIndex]:
    """The indexes of ``files`` below ``root``, in their order. Raises DatasetError, which names the file."""
    return [index_file(root, entry.path, format_name, options) for entry in files]


def index_file(root: str, path: str, format_name: str, options: Dict[str, Any]) -> FileIndex:
    """The index of one file. Raises DatasetError, which names it."""
    index = indexer_of(format_name)
    name = "%s/%s" % (root.rstrip("/"), path)
    try:
        if is_url(root):
            store = open_store(root)
            with open_file(store, path) as remote:
                return index(remote, store.size(path).version.size, options)
        with open(path_bytes(name), "rb", 0) as file:
            return index(file, os.fstat(file.fileno()).st_size, options)
    except DatasetError as error:
        raise DatasetError("%s: %s" % (printable_path(name), error)) from None
    except OSError as error:
        raise DatasetError("%s cannot be read (%s): check its name, its permissions and its disk" % (
            printable_path(name), error.strerror or error)) from error
