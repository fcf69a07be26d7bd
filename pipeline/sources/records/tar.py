"""The index of a tar file: where each member's bytes are. The headers are read by ``tarfile``; this module looks at
what it would pass over, such as a damaged header, which it takes for the end."""

import re
import tarfile
from typing import Any, BinaryIO, Dict, Optional

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.file_index import FileIndex
from stoker.pipeline.sources.records.member_names import Member, shown
from stoker.pipeline.sources.records.members import Members
from stoker.pipeline.sources.records.other_formats import seems
from stoker.pipeline.storage.store import StoreError

BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(BLOCK)
MAX_HEADER_BYTES = 1 << 17      # of one member: long names, extended attributes
MAX_END_BYTES = 1 << 20         # that are looked at behind the end mark
_LONG_NUMBER = re.compile(rb"\d{100}")      # for which some releases of tarfile take a time that grows with its square
_COMPRESSED = ((b"\x1f\x8b", "gzip", "gunzip"), (b"BZh", "bzip2", "bunzip2"), (b"\xfd7zXZ", "xz", "unxz"),
               (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"), (b"\x04\x22\x4d\x18", "lz4", "unlz4"))


def index(file: BinaryIO, size: int, options: Dict[str, Any]) -> FileIndex:
    """The samples of a tar file: see ``stoker.tar`` for ``options``. Links, devices, folders and hidden members are
    left out. Raises DatasetError, without the file's name; ConfigError."""
    members = Members(file, options)
    headers = _Headers(file)
    offset = 0
    while True:
        info = _header(headers, offset, size)
        if info is None:
            break
        end = headers.tar.offset
        if not offset < end or info.size < 0:
            raise DatasetError("%s has the size %d: its header is damaged; write or copy the file again"
                               % (_where(info, offset), info.size))
        data_end = info.offset_data + info.size if info.isreg() else end
        if data_end > size:
            raise DatasetError("%s ends at byte %d, and the file has only %d: it was cut while it was written or "
                               "copied; write or copy it again" % (_where(info, offset), data_end, size))
        if info.isreg():
            if info.issparse():
                raise DatasetError("%s is stored as a sparse file, whose bytes are not side by side: write the tar "
                                   "again without --sparse (-S), or with stoker-pack" % _where(info, offset))
            if members.is_wanted(info.name):
                members.add(Member(info.name, info.offset_data, info.size))
        elif not info.isdir():
            members.leave_out("links" if info.issym() or info.islnk() else "devices, pipes and other special members")
        offset = end
    return members.index()


def _where(info: tarfile.TarInfo, offset: int) -> str:
    return "the member %s at byte %d" % (shown(info.name), offset)


class _Headers:
    """The file, as ``tarfile`` reads its headers: never more at once than a header has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left_bytes, self._first = file, 0, b""
        self.tell, self.seek = file.tell, file.seek
        self.tar = _Tar(fileobj=self, mode="r", encoding="utf-8",       # type: ignore[arg-type]
                        errors="surrogateescape")

    def at(self, offset: int) -> bytes:
        """The next header begins at ``offset``: its first block."""
        self._file.seek(offset)
        self.tar.offset = offset
        self._left_bytes = MAX_HEADER_BYTES
        self._first = self._file.read(BLOCK)
        return self._first

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Bytes that are no header."""
        self._file.seek(offset)
        return self._file.read(length)

    def read(self, length: int) -> bytes:
        """For ``tarfile``."""
        if not 0 <= length <= self._left_bytes:
            raise _TooLong
        self._left_bytes -= length
        first, self._first = self._first, b""
        if first and length == BLOCK:
            return first                # the file is behind it
        data = self._file.read(length)
        if length > BLOCK and _LONG_NUMBER.search(data):
            raise _TooLong
        return data


class _Tar(tarfile.TarFile):
    def next(self) -> Optional[tarfile.TarInfo]:
        """Nothing is read before it is asked for, and no members are kept."""
        return None


class _TooLong(Exception):
    """A header has more bytes than any writer makes."""


def _header(headers: _Headers, offset: int, size: int) -> Optional[tarfile.TarInfo]:
    """The member whose header begins at ``offset``; None at the end mark. Raises DatasetError."""
    block = headers.at(offset)
    if not offset:
        _check_compression(block)
    if len(block) < BLOCK:
        if not offset:
            raise DatasetError("it is no tar file: it has only %d bytes%s" % (size, seems(block)))
        raise DatasetError("it ends at byte %d without the end mark of a tar (blocks of zeros): it was cut while it "
                           "was written or copied; write or copy it again" % size)
    if block == _ZEROS:
        _check_end(headers, offset, size)
        return None
    try:
        return tarfile.TarInfo.fromtarfile(headers.tar)
    except (OSError, StoreError, MemoryError):
        raise
    except _TooLong as error:
        raise DatasetError("the header at byte %d has more than %d bytes or a number of 100 digits, which no tar "
                           "for training has: write the file again" % (offset, MAX_HEADER_BYTES)) from error
    except Exception as error:      # tarfile's own errors, and others of damaged numbers and texts
        raise DatasetError("%s the header at byte %d is damaged (%s)%s" % (
            "" if offset else "it is no tar file:", offset, _one_line(error),
            ": write or copy the file again" if offset else seems(block))) from error


def _check_compression(block: bytes) -> None:
    for beginning, name, command in _COMPRESSED:
        if block.startswith(beginning):
            raise DatasetError("it is compressed with %s, so that no picture in it can be read at its place: unpack it "
                               "(%s FILE), or write uncompressed tars from it with stoker-pack" % (name, command))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def _check_end(headers: _Headers, offset: int, size: int) -> None:
    """Raises DatasetError if there is more than zeros behind the end mark at ``offset``."""
    begin = offset + BLOCK
    while begin < min(size, offset + MAX_END_BYTES):
        rest = headers.bytes_at(begin, min(MAX_HEADER_BYTES, size - begin))
        if not rest:
            return
        if any(rest):
            raise DatasetError("there are bytes behind the end mark of the tar at byte %d, as if several tars were "
                               "joined by cat: write one tar of all members, or give the tars as files of their own"
                               % offset)
        begin += len(rest)
