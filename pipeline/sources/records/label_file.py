"""The labels that lie in an npy file of their own, beside the record files."""

import importlib
import os
from typing import Any

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.npy import whole
from stoker.pipeline.storage.store import StoreError
from stoker.pipeline.storage.urls import is_url
from stoker.pipeline.text import path_bytes, printable_path


def array_in(path: str) -> Any:
    """The array in the npy file ``path``, an absolute path or a URL. Raises DatasetError."""
    try:
        if is_url(path):
            root, name = importlib.import_module("stoker.pipeline.storage.urls").parent(path)
            store: Any = importlib.import_module("stoker.pipeline.storage.opening").open_store(root)
            with importlib.import_module("stoker.pipeline.storage.remote_file").open_file(store, name) as remote:
                return whole(remote, store.size(name).version.size)
        with open(path_bytes(path), "rb") as file:
            return whole(file, os.fstat(file.fileno()).st_size)
    except DatasetError as error:
        raise DatasetError("the labels in %s: %s" % (printable_path(path), error)) from None
    except (OSError, StoreError) as error:
        raise DatasetError("the labels in %s cannot be read: %s" % (
            printable_path(path), getattr(error, "strerror", None) or error)) from error
