"""A folder of this host as a store: what a trainer indexes. Workers read samples by ``folder``, with stricter rules."""

import errno
import os
import stat
from typing import Iterator, List, Optional, Set, Tuple

from stoker.pipeline.storage.folder import version_of
from stoker.pipeline.storage.store import (
    MAX_READ_BYTES,
    Entry,
    Gone,
    Refused,
    StoreError,
    TooLarge,
    TooShort,
    Unavailable,
    Version,
)
from stoker.pipeline.storage.urls import problem_of
from stoker.pipeline.text import path_bytes, printable_path

_PIECE_BYTES = 64 << 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM)


class FolderStore:
    """The files below the folder ``root``: see ``Store``."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def listed(self, prefix: str = "") -> Iterator[Entry]:
        """See ``Store``. Links are followed, but no folder is entered inside itself."""
        start = prefix.rpartition("/")[0]
        folder = self._file(start) if start else path_bytes(self.root)
        inside, above = set(), path_bytes(self.root)
        try:
            for part in [b""] + path_bytes(start).split(b"/"):
                above = os.path.join(above, part, b"")
                own = os.stat(above)
                inside.add((own.st_dev, own.st_ino))
        except OSError as error:
            if start and error.errno in _GONE:
                return
            raise _as_error(error, folder) from error
        yield from self._walked(folder, path_bytes(start + "/" if start else ""), path_bytes(prefix), inside)

    def _walked(self, folder: bytes, above: bytes, prefix: bytes, inside: Set[Tuple[int, int]]) -> Iterator[Entry]:
        found: List[Tuple[bytes, Optional[os.stat_result]]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = above + entry.name
                    if entry.is_dir():
                        found.append((path + b"/", None))
                    elif path.startswith(prefix) and entry.is_file():
                        found.append((path, entry.stat()))
        except OSError as error:
            raise _as_error(error, folder) from error
        for path, status in sorted(found, key=lambda each: each[0]):
            if status is not None:
                yield Entry(path.decode("utf-8", "surrogateescape"), version_of(status))
            elif path.startswith(prefix) or prefix.startswith(path):
                below = os.path.join(folder, path[len(above):-1])
                try:
                    own = os.stat(below)
                except OSError as error:
                    raise _as_error(error, below) from error
                key = own.st_dev, own.st_ino
                if key not in inside:
                    yield from self._walked(below, path, prefix, inside | {key})

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        fd = self._opened(path)
        try:
            return Entry(path, version_of(os.fstat(fd)))
        finally:
            os.close(fd)

    def read(self, path: str, offset: int = 0, length: Optional[int] = None, max_bytes: int = MAX_READ_BYTES
             ) -> Tuple[bytes, Version]:
        """See ``Store``."""
        fd = self._opened(path)
        try:
            version = version_of(os.fstat(fd))
            wanted = max(0, version.size - offset) if length is None else length
            if offset + wanted > version.size:
                raise too_short(self._shown(path), version.size, offset, wanted)
            if wanted > max_bytes:
                raise too_large(self._shown(path), wanted, max_bytes)
            pieces, left = [], wanted
            while left:
                piece = os.pread(fd, min(left, _PIECE_BYTES), offset + wanted - left)
                if not piece:
                    raise too_short(self._shown(path), offset + wanted - left, offset, wanted)
                pieces.append(piece)
                left -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces), version
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise _as_error(error, self._file(path)) from error
        finally:
            os.close(fd)

    def path_of(self, path: str) -> bytes:
        """The path for ``open``."""
        return self._file(path)

    def _file(self, path: str) -> bytes:
        problem = problem_of(path)
        if problem and "control" not in problem:
            raise Gone("there is no file %s below %s: its path %s" % (
                printable_path(path), printable_path(self.root), problem))
        return os.path.join(path_bytes(self.root), path_bytes(path))

    def _opened(self, path: str) -> int:
        file = self._file(path)
        try:
            if not stat.S_ISREG(os.stat(file).st_mode):        # a device may do anything when it is opened
                raise Gone("%s is no regular file" % self._shown(path))
            return os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _as_error(error, file) from error

    def _shown(self, path: str) -> str:
        return printable_path(os.path.join(self.root, path))


def part_length(what: str, size: int, offset: int, length: Optional[int], most: int) -> int:
    """The bytes of a part of a file with ``size``; ``length`` None: to its end. Raises TooShort, TooLarge."""
    found = max(0, size - offset) if length is None else length
    if offset + found > size:
        raise too_short(what, size, offset, found)
    if found > most:
        raise too_large(what, found, most)
    return found


def too_short(what: str, size: int, offset: int, length: int) -> TooShort:
    """The error of a read behind a file's end."""
    return TooShort("{} has {:,} bytes, and {:,} were asked for from byte {:,} on: it was cut or replaced since it was "
                    "indexed".format(what, size, length, offset))


def too_large(what: str, size: int, most: int) -> TooLarge:
    """The error of a read of more than the caller takes."""
    return TooLarge("{} has {:,} bytes to read, and {:,} are the limit".format(what, size, most))


def _as_error(error: OSError, file: bytes) -> StoreError:
    name, fact = printable_path(file.decode("utf-8", "surrogateescape")), error.strerror or str(error)
    if error.errno in _GONE:
        return Gone("%s is not there: %s" % (name, fact))
    if error.errno in _REFUSED:
        return Refused("%s cannot be read by this user: %s; give the user the right to read it" % (name, fact))
    return Unavailable("%s cannot be read: %s; is its disk or network share up?" % (name, fact))
