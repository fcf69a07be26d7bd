"""Writes one tar, as GNU tar and WebDataset read it, with the same bytes on every host, and reads it back.

Of Python's own tarfile, the headers differ from version to version; so they are made here. A shard has a temporary name
until it is complete, on the disk, and checked.
"""

import hashlib
import os
import zlib
from typing import IO, List, NamedTuple

from stoker.packing.plan import BLOCK, MAX_NAME, member_name, padded, tar_bytes
from stoker.packing.samples import Parts
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.storage.safe_files import new_file, replace
from stoker.pipeline.text import printable, printable_path
from stoker.trainer.files import sync, sync_path

_LONG_NAME = b"././@LongLink"       # GNU's member whose content is the name of the next one
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
        self._digest = hashlib.sha256()
        self._members: List[Member] = []
        self._last_key = ""
        self.samples = 0
        self.size = 0             # of its members, bytes

    def add(self, key: str, parts: Parts, where: str) -> None:
        """Writes the members of a sample. Raises RunFailed if it cannot be told from the sample before."""
        if key == self._last_key:
            raise RunFailed("%s: the sample before it has the same key, %s, and readers of the shard would take both "
                            "for one: give --names number" % (where, printable(key[:200])))
        self._last_key = key
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
        self._digest.update(data)
        return len(data)

    def finish(self, verify: bool) -> Written:
        """Ends the tar, waits until it is on the disk, reads it back, and gives it its name. Raises OSError, RunFailed
        if the disk has other bytes than were written."""
        self._write([bytes(tar_bytes(self.size) - self.size)])
        fd = self._file.fileno()
        sync(fd)
        size = tar_bytes(self.size)
        if verify:
            if hasattr(os, "posix_fadvise"):        # so that it comes from the disk, not from memory
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with open(self.temporary, "rb", _PIECE_BYTES) as file:
                read_back(file, self._members, size, self.temporary)
        replace(self.temporary, fd, self.path)
        self._file.close()
        sync_path(os.path.dirname(self.path))
        return Written(self.samples, size, self._digest.hexdigest())

    def discard(self) -> None:
        """Removes what was written, unless it has its name. Never raises."""
        try:
            self._file.close()
            os.unlink(self.temporary)
        except OSError:
            pass


def read_back(file: "IO[bytes]", members: List[Member], size: int, path: str) -> None:
    """Compares a tar with what it must have: each header, the CRC-32 of each content, and zeros elsewhere. Raises
    RunFailed."""
    def different(what: str) -> RunFailed:
        return RunFailed("%s has other bytes than were written, at %s: the disk or the memory of this host is not "
                         "reliable. The shard was removed; check the disk, then run the command again"
                         % (printable_path(path), what))
    place = 0
    for name, length, crc in members:
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

