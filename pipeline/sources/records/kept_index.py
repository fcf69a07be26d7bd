"""Kept indexes: so that only the first start with record files reads all of them.

An index is kept in the folder ``.stoker-index`` beside its file, or, where this user cannot write there, in the user's
cache folder. It counts only for the version of the file that it was made of (size, times, inode; in a store its etag),
and for its format and options. A file that had changed within two seconds before may change again without getting other
times: its index is not kept.
"""

import hashlib
import logging
import os
import stat
import time
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from stoker.pipeline.sources.records.formats import VERSIONS
from stoker.pipeline.sources.records.index_bytes import MAX_BYTES_OF_INDEX, DamagedIndex, Indexed, Key, from_bytes
from stoker.pipeline.storage.safe_files import UnsafeFile, new_file, open_own, replace
from stoker.pipeline.storage.store import Entry, Version
from stoker.pipeline.storage.urls import is_url, joined
from stoker.pipeline.text import native, path_bytes, printable_path

log = logging.getLogger("stoker")

FOLDER = ".stoker-index"
SUFFIX = ".index"
MAX_OF_A_FILE = 4           # indexes of one file with different options


class _Place(NamedTuple):
    """Where an index may be."""
    folder: str
    name: str
    key: Key
    is_beside: bool         # in a folder beside the data, which may be of other users


class KeptIndexes:
    """The indexes of files below ``root``, of one format and with the same options."""

    def __init__(self, root: str, format_name: str, options: Dict[str, Any]) -> None:
        self._root, self._format, self._options = root, format_name, options
        self._is_url = is_url(root)
        self._written: Set[str] = set()             # folders
        self._damaged = self._failed = 0
        self._problem = ""

    def get(self, entry: Entry) -> Optional[Indexed]:
        """The index of the file, if there is one of this version of it."""
        for place in self._places(entry.path):
            try:
                if place.is_beside:
                    self._check(place, entry)
                indexed = from_bytes(_content(native(os.path.join(place.folder, place.name))), place.key)
            except FileNotFoundError:
                continue
            except (OSError, DamagedIndex) as error:
                if isinstance(error, DamagedIndex):
                    self._damaged += 1
                    self._problem = self._problem or "%s: %s" % (printable_path(entry.path), error)
                continue
            if indexed.settled and self.is_of(indexed.version, entry.version):
                return indexed
        return None

    def is_of(self, kept: Version, now: Version) -> bool:
        """Whether these are versions of the same bytes. The number of a local file's device may be another one after
        each start of the host."""
        return kept == now if self._is_url else (kept.size, kept.marks[:3]) == (now.size, now.marks[:3])

    def put(self, entry: Entry, packed: bytes) -> None:
        """Keeps ``packed``, the bytes of an index of the file: where it can."""
        problem = "there is no home folder: set XDG_CACHE_HOME"
        for place in self._places(entry.path):
            try:
                os.makedirs(place.folder, 0o777 if place.is_beside else 0o700, exist_ok=True)
                if place.is_beside:
                    self._check(place, entry)
                _write(native(os.path.join(place.folder, place.name)), packed)
                self._written.add(place.folder)
                return
            except OSError as error:
                problem = error.strerror or str(error)
        self._failed += 1
        self._problem = self._problem or "%s: %s" % (printable_path(entry.path), problem)

    def finish(self) -> None:
        """Removes what became old in the folders that were written to, and logs what went wrong, in one line each."""
        for folder in self._written:
            with suppress(OSError):
                _remove_old(folder)
        if self._damaged:
            log.warning("%d kept index%s could not be used and will be made again (%s)", self._damaged,
                        "es" * (self._damaged > 1), self._problem)
        if self._failed:
            log.warning("the index of %d file%s could not be kept, so the next start reads %s again (%s)", self._failed,
                        "s" * (self._failed > 1), "them" if self._failed > 1 else "it", self._problem)

    def key(self, path: str) -> Key:
        """The key of a file's index in a folder beside it."""
        return Key.of(self._format, VERSIONS[self._format], self._options, path.rpartition("/")[2])

    def _places(self, path: str) -> Iterator[_Place]:
        key = self.key(path)
        if not self._is_url:
            above, name = os.path.split(os.path.join(self._root, path))
            yield _Place(native(os.path.join(above, FOLDER)), "%s-%s%s" % (name[:180], key.digest(), SUFFIX), key, True)
        whole = joined(self._root, path) if self._is_url else os.path.join(self._root, path)
        digest = hashlib.blake2b(path_bytes(whole), digest_size=16).hexdigest()
        folder = cache_folder()
        if folder.startswith("/"):          # else it has no home
            yield _Place(folder, "%s-%s%s" % (digest, key.digest(), SUFFIX), key, False)

    def _check(self, place: _Place, entry: Entry) -> None:
        """Raises UnsafeFile if users who could not change the data could make the indexes beside it; OSError."""
        folder = os.lstat(place.folder)
        data_folder = os.stat(os.path.dirname(place.folder))
        data = os.stat(path_bytes(os.path.join(self._root, entry.path)))
        if not stat.S_ISDIR(folder.st_mode):
            raise UnsafeFile("%s is no folder" % printable_path(place.folder))
        trusted = {0, os.geteuid(), data.st_uid, data_folder.st_uid}
        shared = stat.S_IWGRP if data_folder.st_gid == folder.st_gid else 0
        if folder.st_uid not in trusted or folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP) & ~(
                data_folder.st_mode & (stat.S_IWOTH | shared)):
            raise UnsafeFile("%s is of another user" % printable_path(place.folder))


def cache_folder() -> str:
    """Where indexes are kept that cannot be beside their files; no absolute path if this user has no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "stoker", "indexes")


def _content(path: str) -> bytes:
    with open(open_own(path), "rb", 0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES_OF_INDEX:
            raise DamagedIndex("it is too large")
        content = file.read(size)
    if len(content) != size:
        raise DamagedIndex("it is torn")
    return content


def _write(path: str, content: bytes) -> None:
    fd, new = new_file(path, is_shared=True)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left):]
        replace(new, fd, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(fd)


def _remove_old(folder: str) -> None:
    """Removes indexes of files that are gone, if they are beside them; of each file, all but the newest ones; and what
    killed processes left."""
    by_file: Dict[str, List[Tuple[float, str]]] = {}
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            name, _, rest = entry.name.rpartition("-")
            if not entry.is_file(follow_symlinks=False) or SUFFIX not in entry.name:
                continue
            changed = entry.stat(follow_symlinks=False).st_mtime
            if not entry.name.endswith(SUFFIX):
                if ".new" in entry.name and changed < now - 3600:
                    os.unlink(entry.path)
            elif rest:
                by_file.setdefault(name, []).append((changed, entry.path))
    is_beside = os.path.basename(folder) == FOLDER
    for name, found in by_file.items():
        is_gone = is_beside and len(name) < 180 and not os.path.lexists(os.path.join(os.path.dirname(folder), name))
        for _, path in sorted(found, reverse=True)[0 if is_gone else MAX_OF_A_FILE:]:
            with suppress(OSError):
                os.unlink(path)
