"""The files that samples come from: found by patterns, told apart by their first bytes, and read as streams of bytes,
decompressed and never more at once than was asked for."""

import bz2
import gzip
import io
import lzma
import os
import zlib
from typing import IO, Any, BinaryIO, Dict, List, NamedTuple, Sequence

from stoker.packing.samples import MAX_PART_BYTES
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.patterns import find_files
from stoker.pipeline.storage.opening import is_url, open_store
from stoker.pipeline.storage.remote_file import open_file
from stoker.pipeline.storage.store import StoreError, Version
from stoker.pipeline.text import native, printable_path

GZIP, ZLIB, BZIP2, XZ = "gzip", "zlib", "bzip2", "xz"
_MAX_AT_ONCE = 1 << 20        # bytes that a decompressor makes at once
#: What decompressors raise for damaged data.
BROKEN = (EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


class SourceFile(NamedTuple):
    """A file with samples."""
    root: str                 # a folder or a URL
    path: str                 # below it
    version: Version
    kind: str = ""            # tfrecord, tar, zip, parquet
    compression: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.version.size

    @property
    def shown(self) -> str:
        """Its name, for messages."""
        return printable_path(os.path.basename(self.path))

    @property
    def facts(self) -> Dict[str, Any]:
        """What the manifest keeps."""
        marks = self.version.marks if is_url(self.root) else self.version.marks[:1]    # of a local file the mtime: the
        return {"name": self.place, "kind": self.kind, "bytes": self.size,             # others change with the disk
                "version": "-".join("%x" % mark for mark in marks)}

    @property
    def place(self) -> str:
        """Its path or URL, for messages."""
        return printable_path("%s/%s" % (self.root.rstrip("/"), self.path))

    def open(self) -> BinaryIO:
        """The file itself, if it still is of this version. Raises StoreError, OSError, DatasetError."""
        store = open_store(self.root)
        if store.size(self.path).version != self.version:
            raise DatasetError("%s changed while it was packed: let no program write it, and run the command again, "
                               "which says what to do" % self.place)
        return open_file(store, self.path)


def is_of_disk(error: BaseException) -> bool:
    """Whether ``error``, one of BROKEN, says nothing of the data, but that it cannot be read."""
    return isinstance(error, StoreError) or isinstance(error, OSError) and error.errno is not None


def found(patterns: Sequence[str]) -> List[SourceFile]:
    """The files that ``patterns`` name, sorted, each with its kind. Raises ConfigError, DatasetError."""
    root, entries = find_files([native(pattern) for pattern in patterns])
    return [_looked_at(SourceFile(root, entry.path, entry.version)) for entry in entries]


def _looked_at(source: SourceFile) -> SourceFile:
    shown = source.place
    try:
        with source.open() as file:
            start = file.read(1024)
            compression = compression_of(start)
            if compression:
                file.seek(0)
                try:
                    start = decompressed(file, compression).read(1024)
                except BROKEN as error:
                    if is_of_disk(error):
                        raise
                    raise DatasetError("%s is damaged: it is no %s that can be read (%s)" % (
                        shown, compression, error)) from error
    except StoreError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise DatasetError("%s cannot be read: %s" % (shown, error.strerror)) from error
    kind = kind_of(start)
    if not kind or compression and kind not in ("tfrecord", "tar") or kind == "tfrecord" and compression not in (
            "", GZIP, ZLIB):
        raise DatasetError("%s is no TFRecord, tar, zip or Parquet file%s, by its first bytes: name the files that "
                           "hold your samples" % (shown, " (inside of its %s)" % compression if compression else ""))
    return source._replace(kind=kind, compression=compression)


def compression_of(start: bytes) -> str:
    """Of a file with these first bytes; '' if there is none."""
    if start[:2] == b"\x1f\x8b":
        return GZIP
    if start[:3] == b"BZh":
        return BZIP2
    if start[:6] == b"\xfd7zXZ\0":
        return XZ
    if start[:1] == b"\x78" and len(start) > 1 and (start[0] << 8 | start[1]) % 31 == 0:
        return ZLIB
    return ""


def kind_of(start: bytes) -> str:
    """tfrecord, tar, zip, parquet, by the first bytes; '' if it is none."""
    from stoker.packing.inputs.tfrecords import is_frame
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if start[:4] == b"PAR1":
        return "parquet"
    if start[257:262] == b"ustar" or len(start) >= 512 and not any(start[:512]):
        return "tar"
    if is_frame(start[:12]):
        return "tfrecord"
    return ""


def decompressed(file: BinaryIO, compression: str) -> Any:
    """The content of ``file``, which is at its begin."""
    if compression == GZIP:
        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression == BZIP2:
        return bz2.BZ2File(file, "rb")
    if compression == XZ:
        return lzma.LZMAFile(file, "rb")
    if compression == ZLIB:
        return io.BufferedReader(_Zlib(file), _MAX_AT_ONCE)      # type: ignore[arg-type, unused-ignore]
    return file


class _Zlib(io.RawIOBase):
    """What a zlib stream holds. Raises EOFError if it ends before its end, zlib.error."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._decompress = zlib.decompressobj()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while not self._decompress.eof:
            data = self._left or self._file.read(1 << 16)
            made = self._decompress.decompress(data, len(view))
            self._left = self._decompress.unconsumed_tail
            if made:
                view[:len(made)] = made
                return len(made)
            if not data:
                raise EOFError("the file ends in the middle of its data")
        return 0


def read_exactly(stream: "IO[bytes]", size: int) -> bytes:
    """``size`` bytes, at most MAX_PART_BYTES; fewer only at the end of ``stream``. Raises what BROKEN has."""
    assert size <= MAX_PART_BYTES
    data = stream.read(size)
    if len(data) < size:
        pieces = [data]
        missing = size - len(data)
        while missing:
            more = stream.read(min(missing, _MAX_AT_ONCE))
            if not more:
                break
            pieces.append(more)
            missing -= len(more)
        data = b"".join(pieces)
    return data


def skipped(stream: "IO[bytes]", size: int) -> int:
    """Passes over ``size`` bytes; returns how many there were."""
    left = size
    while left:
        piece = stream.read(min(left, _MAX_AT_ONCE))
        if not piece:
            break
        left -= len(piece)
    return size - left
