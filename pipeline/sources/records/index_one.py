"""The index of one file, and of which version of the file it is."""

import io
import os
import time
from typing import Any, BinaryIO, Callable, Dict, cast

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records.formats import indexer_of
from stoker.pipeline.sources.records.index_bytes import Indexed
from stoker.pipeline.storage.folder import version_of
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.remote_file import open_file
from stoker.pipeline.storage.store import StoreError, Version, etag_version
from stoker.pipeline.storage.urls import is_url, joined
from stoker.pipeline.text import path_bytes, printable_path

TRIES = 3               # of a file that changes while it is read
RACY_S = 2.0            # a file changed in the last seconds may change again without getting other times
_BUFFER_BYTES = 16 << 10


def index_one(root: str, path: str, format_name: str, options: Dict[str, Any], progress: Callable[[int], None],
              now: Callable[[], float] = time.time) -> Indexed:
    """The index of the file ``path`` below ``root``. ``progress`` is called with the bytes that were just read. Raises
    ConfigError and DatasetError, which name the file; what ``progress`` raises."""
    name = printable_path(joined(root, path) if is_url(root) else os.path.join(root, path))
    for _ in range(TRIES):
        before = None           # not known
        try:
            before, settled = _version(root, path, now())
            with _opened(root, path, progress) as file:
                index = indexer_of(format_name)(file, before.size, options)
            failure = None
        except (ConfigError, DatasetError) as error:
            failure = type(error)("%s: %s" % (name, error))
        except StoreError as error:
            failure = DatasetError("%s cannot be indexed: %s" % (name, error))
        except OSError as error:
            failure = DatasetError("%s cannot be read (%s): check its name, its permissions and its disk" % (
                name, error.strerror or error))
        if before is None:
            assert failure is not None
            raise failure from None
        try:
            changed = _version(root, path, now())[0] != before
        except (OSError, StoreError):
            changed = False
        if failure is not None and not (changed and before.size):
            raise failure from None
        if not changed:
            return Indexed(index, before, settled)
    raise DatasetError("%s changes while it is read: wait until it is written, and start again" % name)


def _version(root: str, path: str, now_s: float) -> "tuple[Version, bool]":
    """The version of the file now, and whether it has the same bytes for good."""
    if is_url(root):
        version = open_store(root).size(path).version
        return version, version != etag_version(version.size, None)         # a web server may tell its size alone
    status = os.stat(path_bytes(os.path.join(root, path)))
    return version_of(status), now_s - max(status.st_mtime, status.st_ctime) > RACY_S


def _opened(root: str, path: str, progress: Callable[[int], None]) -> BinaryIO:
    raw: Any = (open_file(open_store(root), path) if is_url(root)
                else open(path_bytes(os.path.join(root, path)), "rb", 0, opener=_without_waiting))
    return cast(BinaryIO, io.BufferedReader(_Counted(raw, progress), _BUFFER_BYTES))


def _without_waiting(path: Any, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)          # it may be a pipe by now


class _Counted(io.RawIOBase):
    """A file that tells how many of its bytes were read."""

    def __init__(self, file: Any, progress: Callable[[int], None]) -> None:
        super().__init__()
        self._file, self._progress = file, progress

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Of a file of this host; raises OSError for others."""
        number: int = self._file.fileno()
        return number

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)
        self._progress(count)
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place: int = self._file.seek(offset, whence)
        return place

    def tell(self) -> int:
        place: int = self._file.tell()
        return place

    def close(self) -> None:
        self._file.close()
        super().close()
