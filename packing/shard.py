"""Writes one tar, as GNU tar and WebDataset read it, with the same bytes on every host, and reads it back.

Of Python's own tarfile, the headers differ from version to version; so they are made here. A shard has a temporary name
until it is complete, on the disk, and checked.
"""

import hashlib
import os
import threading
import zlib
from typing import IO, Callable, List, NamedTuple, Optional, Set

from stoker.packing.plan import BLOCK, MAX_NAME, member_name, padded, tar_bytes
from stoker.packing.samples import Parts
from stoker.pipeline.errors import DatasetError, RunFailed
from stoker.pipeline.storage.safe_files import new_file, replace
from stoker.pipeline.text import printable, printable_path
from stoker.trainer.files import sync, sync_path

_LONG_NAME = b"././@LongLink"       # GNU's member whose content is the name of the next one
SYNC_BYTES = 16 << 20               # that are written between two early syncs
_PIECE_BYTES = 1 << 20
_ZEROS = bytes(BLOCK)


def header(name: bytes, size: int) -> bytes:
    """What stands before the content of a member: 512 bytes, more if its name is long."""
    if len(name) <= MAX_NAME:
        return _block(name, size, b"0")
    text = name + b"\0"
    return (_block(_LONG_NAME, len(text), b"L") + text.ljust(padded(len(text)), b"\0")
            + _block(name[:MAX_NAME], size, b"0"))


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    block = b"".join((name.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
                      b"%011o\0" % 0, b" " * 8, kind, bytes(100), b"ustar  \0", bytes(247)))
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


class Member(NamedTuple):
    """What a member of the tar must be when it is read back."""
    name: bytes
    size: int
    crc: int


class Written(NamedTuple):
    """A shard that is complete."""
    samples: int
    size: int                 # bytes
    sha256: str


class ShardWriter:
    """The shard at ``path``, under its temporary name. Every ``OSError`` is the disk's."""

    def __init__(self, path: str) -> None:
        self.path = path
        fd, self.temporary = new_file(path)
        self._file: IO[bytes] = open(fd, "wb", 0)
        self._sync = _EarlySync(fd)
        self._digest = hashlib.sha256()
        self._members: List[Member] = []
        self.keys: Set[str] = set()
        self.samples = 0
        self.size = 0             # of its members, bytes

    def add(self, key: str, parts: Parts, where: str) -> None:
        """Writes the members of a sample. Raises DatasetError if it cannot be told from another one."""
        if key in self.keys:
            raise DatasetError("%s: another sample of this shard has the same key, %s, and readers would take both for "
                               "one: give --names number" % (where, printable(key[:200])))
        self.keys.add(key)
        pieces: List[bytes] = []
        for extension, content in parts:
            name = member_name(key, extension)
            pieces += (header(name, len(content)), content, _ZEROS[:-len(content) % BLOCK])
            self._members.append(Member(name, len(content), zlib.crc32(content)))
        self.samples += 1
        self.size += self._write(pieces)

    def _write(self, pieces: List[bytes]) -> int:
        data = b"".join(pieces)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left):]
        self._sync.written(len(data))
        self._digest.update(data)
        return len(data)

    def finish(self, verify: bool, stop: Callable[[], None]) -> Written:
        """Ends the tar, waits until it is on the disk, reads it back, and gives it its name. Raises OSError, RunFailed
        if the disk has other bytes than were written."""
        self._write([bytes(tar_bytes(self.size) - self.size)])
        fd = self._file.fileno()
        self._sync.finish(stop)
        stop()
        sync(fd)
        size = tar_bytes(self.size)
        if verify:
            if hasattr(os, "posix_fadvise"):        # so that it comes from the disk, not from memory
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with open(self.temporary, "rb", _PIECE_BYTES) as file:
                read_back(file, self._members, size, self.temporary, stop)
        replace(self.temporary, fd, self.path)
        self._file.close()
        sync_path(os.path.dirname(self.path))
        return Written(self.samples, size, self._digest.hexdigest())

    def discard(self) -> None:
        """Removes what was written, unless it has its name. Never raises."""
        self._sync.stop()
        try:
            self._file.close()
            os.unlink(self.temporary)
        except OSError:
            pass


class _EarlySync:
    """Has the disk write while the file grows, by a thread of its own: else the end of a shard waits for all of it."""

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self._new_bytes = 0
        self._wake = threading.Event()
        self._is_over = False
        self._error: Optional[OSError] = None     # Linux tells of a failed write only once
        self._thread = threading.Thread(target=self._run, name="stoker-sync", daemon=True)
        self._thread.start()

    def written(self, size: int) -> None:
        """So many further bytes are in the file."""
        self._new_bytes += size
        if self._new_bytes >= SYNC_BYTES:
            self._new_bytes = 0
            self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._is_over:
                    return
                sync(self._fd)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._fd)

    def stop(self) -> None:
        """Ends the thread, after what it does."""
        self._is_over = True
        self._wake.set()

    def finish(self, stop: Callable[[], None]) -> None:
        """Waits for the end of the thread. Raises OSError if the disk could not write."""
        self.stop()
        while self._thread.is_alive():            # a wait without a limit may miss Ctrl-C
            stop()
            self._thread.join(0.2)
        if self._error is not None:
            raise self._error


def read_back(file: "IO[bytes]", members: List[Member], size: int, path: str, stop: Callable[[], None]) -> None:
    """Compares a tar with what it must have: each header, the CRC-32 of each content, and zeros elsewhere. Raises
    RunFailed."""
    def different(what: str) -> RunFailed:
        return RunFailed("%s has other bytes than were written, at %s: the disk or the memory of this host is not "
                         "reliable. The shard was removed; check the disk, then run the command again"
                         % (printable_path(path), what))
    place = 0
    for name, length, crc in members:
        stop()
        expected = header(name, length)
        if _exactly(file, len(expected)) != expected:
            raise different("the header of %s" % printable_path(os.fsdecode(name)))
        left, found = length, 0
        while left:
            piece = _exactly(file, min(left, _PIECE_BYTES))
            if not piece:
                raise different("the end of the file")
            found, left = zlib.crc32(piece, found), left - len(piece)
        if found != crc or any(_exactly(file, -length % BLOCK)):
            raise different(printable_path(os.fsdecode(name)))
        place += len(expected) + padded(length)
    if _exactly(file, size - place + 1) != bytes(size - place):
        raise different("its end")


def _exactly(file: "IO[bytes]", size: int) -> bytes:
    """``size`` bytes, or fewer at the end of the file."""
    data = file.read(size) if size else b""
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            break
        data += more
    return data

