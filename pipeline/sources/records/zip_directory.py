"""The directory at the end of a zip file, and where its entries' bytes are: for zip and npz files.

The format: APPNOTE.TXT of PKWARE. ``zipfile`` would hold an object of a kilobyte for each entry, takes each offset for
right, and reads a directory of any size at once.
"""

import struct
from typing import BinaryIO, Iterator, List, NamedTuple

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.other_formats import MIN_BYTES, seems
from stoker.pipeline.text import printable_path

STORED = 0
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")         # of the directory
_LOCAL = struct.Struct("<4s2B4HL2L2H")          # before an entry's bytes
_END = struct.Struct("<4s4H2LH")
_END64, _LOCATOR64 = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
MAX_COMMENT_BYTES = 0xffff
_PIECE_BYTES = 1 << 20          # of the directory that are read at a time
_ENCRYPTED, _UTF8 = 1, 0x800    # flags
_TORN = "it was cut while it was written or copied, or is damaged; write or copy it again"


class Entry(NamedTuple):
    """A file or folder in a zip file."""
    name: str
    method: int             # how it is compressed
    is_encrypted: bool
    stored_bytes: int
    length: int             # once it is unpacked
    header: int             # where its local header begins


class Directory(NamedTuple):
    """Where the directory is. Offsets in it count from ``base``, where the zip file begins in the file."""
    begin: int
    end: int
    entries: int            # how many
    base: int


def directory(file: BinaryIO, size: int) -> Directory:
    """The directory of the zip file. Raises DatasetError if the file has none."""
    tail_begin = max(0, size - _END.size - MAX_COMMENT_BYTES)
    file.seek(tail_begin)
    tail = file.read(size - tail_begin)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        file.seek(0)
        head = file.read(MIN_BYTES)
        raise DatasetError("it is no zip file" + seems(head) if head[:4] not in (b"PK\3\4", b"PK\5\6") else
                           "it is a zip file without its directory, which stands at the end: %s" % _TORN)
    _, disk, first_disk, here, count, length, begin, comment_bytes = _END.unpack_from(tail, at)
    if any(tail[at + _END.size + comment_bytes:]):
        raise DatasetError("there are bytes behind the end of the zip file at byte %d, as if several were joined: %s"
                           % (tail_begin + at + _END.size + comment_bytes, _TORN))
    end = tail_begin + at
    if end >= _LOCATOR64.size:
        file.seek(end - _LOCATOR64.size)
        mark, its_disk, _, disks = _LOCATOR64.unpack(_exactly(file, _LOCATOR64.size))
        if mark == b"PK\6\7":
            end -= _LOCATOR64.size + _END64.size
            if its_disk or disks > 1 or end < 0:
                raise DatasetError("it is a part of a zip file in several parts: join them (zip -s 0 FILE --out NEW)")
            file.seek(end)      # not where the locator says: something may stand before the zip file
            mark, _, _, _, disk, first_disk, here, count, length, begin = _END64.unpack(_exactly(file, _END64.size))
            if mark != b"PK\6\6":
                raise DatasetError("the end of its directory, at byte %d, is damaged: %s" % (end, _TORN))
    if disk or first_disk or here != count:
        raise DatasetError("it is a part of a zip file in several parts: join them (zip -s 0 FILE --out NEW)")
    base = end - length - begin
    if base < 0 or count > length // _ENTRY.size:
        raise DatasetError("its directory of %d entries in %d bytes from byte %d on does not fit into the file: %s"
                           % (count, length, begin, _TORN))
    return Directory(base + begin, end, count, base)


def entries(file: BinaryIO, where: Directory) -> Iterator[Entry]:
    """The entries, in the order of the directory. The file may be read elsewhere meanwhile. Raises DatasetError."""
    at, piece, piece_begin = where.begin, b"", where.begin
    for number in range(where.entries):
        need = _ENTRY.size
        for _ in range(2):              # without, then with its name and the like
            if piece_begin + len(piece) < at + need:
                file.seek(at)
                piece, piece_begin = file.read(min(max(_PIECE_BYTES, need), where.end - at)), at
                if len(piece) < need:
                    raise _damaged(number, at)
            (mark, _, _, _, _, flags, method, _, _, _, stored, length, name_bytes, extra_bytes, comment_bytes, _, _, _,
             header) = _ENTRY.unpack_from(piece, at - piece_begin)
            need = _ENTRY.size + name_bytes + extra_bytes + comment_bytes
        if mark != b"PK\1\2":
            raise _damaged(number, at)
        begin = at - piece_begin + _ENTRY.size
        name = piece[begin:begin + name_bytes]
        if 0xffffffff in (stored, length, header):
            extra = piece[begin + name_bytes:begin + name_bytes + extra_bytes]
            length, stored, header = _large(extra, [length, stored, header], number, at)
        yield Entry(_text(name, bool(flags & _UTF8)), method, bool(flags & _ENCRYPTED), stored, length,
                    where.base + header)
        at += need
    if at != where.end:
        raise DatasetError("its directory has more than its %d entries, at byte %d: %s" % (where.entries, at, _TORN))


def data_offset(file: BinaryIO, entry: Entry, where: Directory) -> int:
    """Where the bytes of a stored entry begin. Raises DatasetError unless all of them are before the directory."""
    shown = "the entry '%s'" % printable_path(entry.name)[:200]
    if entry.header + _LOCAL.size > where.begin:
        raise DatasetError("%s begins at byte %d, where the file has no entries: %s" % (shown, entry.header, _TORN))
    file.seek(entry.header)
    mark, *_, name_bytes, extra_bytes = _LOCAL.unpack(_exactly(file, _LOCAL.size))
    if mark != b"PK\3\4":
        raise DatasetError("the header of %s, at byte %d, is damaged: %s" % (shown, entry.header, _TORN))
    name = _exactly(file, name_bytes) if entry.header + _LOCAL.size + name_bytes <= where.begin else b""
    if entry.name not in (_text(name, False), _text(name, True)):
        raise DatasetError("the header of %s, at byte %d, names another entry: %s" % (shown, entry.header, _TORN))
    offset: int = entry.header + _LOCAL.size + name_bytes + extra_bytes
    if entry.stored_bytes != entry.length or offset + entry.length > where.begin:
        raise DatasetError("%s has %d bytes from byte %d on, and its directory begins at byte %d: %s"
                           % (shown, entry.length, offset, where.begin, _TORN))
    return offset


def _large(extra: bytes, values: List[int], number: int, at: int) -> List[int]:
    """``values`` (length, stored bytes, header), those of 4 GiB and more from the extra field of zip64."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            field = extra[4:4 + length]
            for place, value in enumerate(values):
                if value == 0xffffffff:
                    if len(field) < 8:
                        raise _damaged(number, at)
                    values[place], field = int.from_bytes(field[:8], "little"), field[8:]
            return values
        extra = extra[4 + length:]
    return values


def _text(name: bytes, is_utf8: bool) -> str:
    """The name; if its encoding is not told, UTF-8 where it is that, as many programs write it."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape") if is_utf8 else name.decode("cp437")


def _damaged(number: int, at: int) -> DatasetError:
    return DatasetError("entry %d of its directory, at byte %d, is damaged: %s" % (number, at, _TORN))


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise DatasetError("it ends %d bytes too early: %s" % (length - len(data), _TORN))
    return data
