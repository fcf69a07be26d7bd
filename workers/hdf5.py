"""Samples of HDF5 files that only h5py can read: compressed ones, and items of any length, such as encoded pictures.

A few files stay open, for opening one takes milliseconds. One that has changed is opened again.
"""

import errno
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from typing import Any, BinaryIO, Dict, Optional, Tuple, Union, cast

import numpy as np

from stoker.pipeline.errors import UnfitWorker
from stoker.pipeline.storage import folder, hdf5_file, remote_file, url_sample
from stoker.pipeline.storage.folder import BadFile, SamplePath
from stoker.pipeline.storage.hdf5_file import InUse, MissingFilter, OtherLibrary, Unreadable, Watched
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.place import Place
from stoker.pipeline.storage.store import Damaged, Version
from stoker.pipeline.text import printable_path
from stoker.workers.stopwatch import timed

MAX_OPEN = 8                # files
_RACY_S = 2.0               # a file that changed in the last seconds may change again without getting other times


class _Open:
    """An open HDF5 file. ``version``: of a file of this host, or of the store's."""

    def __init__(self, path: SamplePath) -> None:
        self._raw, self.version = _raw(path)
        self.watched = Watched(self._raw)
        try:
            self._file = hdf5_file.opened(self.watched)
        except BaseException:
            self._raw.close()
            raise
        self._datasets: Dict[str, Any] = {}

    def item(self, name: str, number: int) -> Union[bytes, np.ndarray]:
        if name not in self._datasets:
            self._datasets[name] = hdf5_file.dataset_of(self._file, name)
        return hdf5_file.item_of(self.watched, self._datasets[name], number)

    def close(self) -> None:
        self._datasets.clear()
        try:
            self._file.close()
        finally:
            self._raw.close()


_lock = threading.Lock()        # h5py reads one thing at a time anyway
_open: "OrderedDict[bytes, _Open]" = OrderedDict()


@timed("storage")
def read_item(path: SamplePath, place: Place) -> Tuple[Union[bytes, np.ndarray], Optional[Version]]:
    """Item ``place.offset`` of the dataset ``place.dataset`` in the HDF5 file ``path``, and the file's version, as
    ``read_file`` has it. An array has the item's shape and dtype, and no number shares memory with another item. Bytes:
    items of any length of uint8, such as encoded pictures, opaque ones, and texts in UTF-8.

    Raises BadFile if the file or the item is at fault; UnfitWorker if this worker cannot read it and others may, such
    as without h5py; and what ``read_file`` raises.
    """
    with _lock:
        key = bytes(path)
        try:
            version = _check_version(path, key)
            opened = _opened(path, key)
            item = opened.item(place.dataset, place.offset)
            return item, version if version is not None or not path.store else opened.version
        except BaseException as error:
            if key in _open:
                _close(key)
            _judge(error, path)
            raise


def close_all() -> None:
    """Closes all files."""
    with _lock:
        for key in list(_open):
            _close(key)


def _opened(path: SamplePath, key: bytes) -> _Open:
    if key not in _open:
        while len(_open) >= MAX_OPEN:
            _close(next(iter(_open)))
        _open[key] = _Open(path)
    _open.move_to_end(key)
    return _open[key]


def _close(key: bytes) -> None:
    try:
        _open.pop(key).close()
    except Exception:
        pass            # h5py, of a file that it cannot read


def _check_version(path: SamplePath, key: bytes) -> Optional[Version]:
    """The version of a file of this host, if it will not change soon without getting another one. Closes the file if it
    is open and has changed. A file in a store checks itself whenever it is read."""
    if path.store or key not in _open:
        return None
    status = os.stat(path)
    version = folder.version_of(status)
    if version != _open[key].version:
        _close(key)
        return None
    return version if time.time() - status.st_ctime > _RACY_S else None


def _raw(path: SamplePath) -> Tuple[BinaryIO, Version]:
    if path.store:
        store = open_store(path.store, folder.note_of_store)
        remote = remote_file.open_file(store, path.name)
        return remote, cast(remote_file.RemoteFile, cast(Any, remote).raw).version
    descriptor, status = folder.open_file(path)
    return os.fdopen(descriptor, "rb", 0), folder.version_of(status)


def _judge(error: BaseException, path: SamplePath) -> None:
    """Raises what the error is worth here, if that is another one."""
    shown = printable_path(path.decode("utf-8", "surrogateescape"))
    if isinstance(error, ImportError):
        raise UnfitWorker("%s is read with h5py, which the worker's Python on %s, %s, cannot import (%s): pip "
                          "install 'stoker[hdf5]', or h5py, there" % (shown, socket.gethostname(), sys.executable,
                                                                      error)) from error
    if isinstance(error, InUse):
        raise OSError(errno.EBUSY, "%s: %s" % (shown, error)) from error
    if isinstance(error, (MissingFilter, OtherLibrary)):
        raise UnfitWorker("%s on %s: %s" % (shown, socket.gethostname(), error)) from error
    if isinstance(error, Unreadable):
        raise BadFile("HDF5", str(error)) from error
    if isinstance(error, FileNotFoundError):
        raise BadFile("FileNotFoundError: no such file") from error
    if path.store:
        url_sample.raise_worth(error)
    if isinstance(error, (OSError, MemoryError, BadFile, UnfitWorker, Damaged)) or not isinstance(error, Exception):
        return
    raise BadFile("HDF5", "h5py cannot read it, which is damaged") from error
