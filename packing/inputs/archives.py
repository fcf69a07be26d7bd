"""Tars, compressed or not, and zips, with the samples that ``stoker.tar`` and ``stoker.zip`` find in them.

A tar is read from begin to end, so it may be compressed. A member's size is compared with limits before it is read, and
the header of a tar is read here: Python's tarfile takes a damaged one for the end, and a long name of any length.
"""

import tarfile
import zipfile
import zlib
from collections import Counter
from typing import IO, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from stoker.packing.inputs.files import BROKEN, SourceFile, decompressed, is_of_disk, read_exactly, skipped
from stoker.packing.plan import BLOCK, padded
from stoker.packing.samples import IMAGE_EXTENSIONS, MAX_PART_BYTES, Found, LeftOut, escaped
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.member_names import FOLDER, NUMBER, Wanted
from stoker.pipeline.text import name_list, printable, printable_path

CLS = "cls"
MAX_EXTRA_BYTES = 1 << 17     # of a long name, or of extended attributes
MAX_LABEL_BYTES = 1000
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
          tarfile.SOLARIS_XHDTYPE)
_REST_LOST = "; the members behind it in this file are lost"

Content = Callable[[], bytes]       # reads a member. Raises _Bad


class _Bad(Exception):
    """A member is damaged, or too large. ``ends``: nothing behind it can be read. ``is_behind``: the members are whole,
    and what is wrong lies behind them."""

    def __init__(self, why: str, ends: bool = False, is_behind: bool = False) -> None:
        super().__init__(why + _REST_LOST * (ends and not is_behind))
        self.ends, self.is_behind = ends, is_behind


class _Member(NamedTuple):
    name: str
    content: Content


class Members(NamedTuple):
    """The members to take. ``label``: an extension, FOLDER, or '' for none; ``columns``: the extensions to keep beside
    picture and label, None: all."""
    image: Optional[str]
    label: str
    columns: Optional[Tuple[str, ...]]
    folder: Optional[str] = None        # only what lies below it


class ArchiveReader:
    """The samples of tars or zips. ``prefix``: the name of the file is the first part of the keys, since another one
    may have the same."""

    def __init__(self, fields: Members, prefix: bool) -> None:
        self._fields, self._prefix = fields, prefix
        self.not_taken: "Counter[str]" = Counter()      # kinds of members that are parts of no sample
        self.by_folder = fields.label == FOLDER
        self._wanted = Wanted.of({"image": fields.image, "label": fields.label or None, "folder": fields.folder})

    def records(self, file: SourceFile, raw: Any, start: int, labels_only: bool) -> Iterator[Union[Found, LeftOut]]:
        """The samples of ``file`` from number ``start`` on."""
        members = _zip_members(raw) if file.kind == "zip" else _tar_members(decompressed(raw, file.compression))
        number, behind = 0, ""
        key, parts = None, []       # type: Optional[str], List[Tuple[str, bytes]]
        bad = ""                    # why the sample whose members come now is left out
        try:
            for member in members:
                why_not = self._wanted.why_not(member.name)
                if why_not is not None:
                    if why_not and number >= start and not labels_only:
                        self.not_taken[why_not] += 1
                    continue
                member_key, extension = self._wanted.key_of(member.name)
                if member_key != key or self._fields.label == FOLDER:
                    if key is not None:
                        if number >= start:
                            yield self._sample(file, key, parts, bad)
                        number += 1
                    key, parts, bad = member_key, [], ""
                if number < start or bad:
                    continue
                try:
                    if extension in (name for name, _ in parts):
                        raise _Bad("it has two members .%s" % printable(extension))
                    is_read = not labels_only or extension in (self._fields.label, CLS)
                    parts.append((extension, member.content() if is_read else b""))
                except _Bad as error:
                    bad = str(error)
                    if error.ends:
                        raise
        except _Bad as error:
            if error.is_behind or key is None:
                behind = str(error)
            else:
                bad = bad or str(error)
        if key is not None:
            if number >= start:
                yield self._sample(file, key, parts, bad)
            number += 1
        if behind and number >= start:
            yield LeftOut(file.shown, behind)

    def _sample(self, file: SourceFile, key: str, parts: List[Tuple[str, bytes]], bad: str) -> Union[Found, LeftOut]:
        where = "%s, %s" % (file.shown, printable_path(key))
        if bad:
            return LeftOut(where, bad)
        by_name = dict(parts)
        wanted, label = self._fields, None      # type: Members, Union[int, str, None]
        image = next((name for name in self._wanted.image or IMAGE_EXTENSIONS if name in by_name), None)
        if image is None:
            return LeftOut(where, "it has no picture among its members (%s)" % name_list(
                ["." + name for name in by_name]), "name its extension with --image-field")
        if wanted.label == FOLDER:
            label = key.partition("/")[0]
        elif wanted.label:
            if wanted.label not in by_name:
                return LeftOut(where, "it has no member .%s with a label" % printable(wanted.label),
                               "give --label-field folder if the folders are classes, or none if there are no labels")
            text = by_name[wanted.label].strip()
            try:
                label = int(text) if NUMBER.fullmatch(text) else text.decode("utf-8")
            except UnicodeDecodeError:
                label = ""
            if label == "" or len(text) > MAX_LABEL_BYTES:
                return LeftOut(where, "its label is neither a number nor a short text")
        others = tuple((name, content) for name, content in parts if name not in (image, wanted.label)
                       and (wanted.columns is None or name in wanted.columns))
        if label is not None and any(name == CLS for name, _ in others):
            others = tuple((name, content) for name, content in others if name != CLS)
        name = key if wanted.label != FOLDER else key.rpartition(".")[0]
        if self._prefix:
            name = "%s/%s" % (file.shown.rpartition(".")[0] or file.shown, name)
        other = None if wanted.label != FOLDER else escaped(name + key[len(key.rpartition(".")[0]):])
        return Found(where, escaped(name), label, by_name[image], image.rpartition(".")[2], None, others, other)


# ------------------------------------------------------------------------------------------------------------- tar

def _tar_members(stream: "IO[bytes]") -> Iterator[_Member]:
    """The regular files of a tar. Each must be read, if at all, before the next one is asked for. Raises _Bad."""
    extra: Dict[str, str] = {}        # of the next member: path, size
    while True:
        block = _next(stream, BLOCK)
        if not block:
            raise _Bad("the file ends without the end mark of a tar: it was cut", True)
        if not any(block):
            _check_end(stream)
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except Exception as error:         # tarfile's own errors, and others of damaged numbers
            raise _Bad("the header behind it is damaged (%s)" % printable(str(error)[:80]), True) from None
        if info.type in _NAMES:
            if not 0 <= info.size <= MAX_EXTRA_BYTES:
                raise _Bad("the header behind it has %d bytes, and at most %d are read" % (info.size, MAX_EXTRA_BYTES),
                           True)
            extra.update(_extra(info, _next(stream, padded(info.size))[:info.size]))
            continue
        name, size = extra.get("path", info.name), info.size
        if extra.get("size", "").isdigit() and len(extra["size"]) < 20:
            size = int(extra["size"])
        is_sparse = info.type == tarfile.GNUTYPE_SPARSE or any(each.startswith("GNU.sparse") for each in extra)
        extra = {}
        if size < 0:
            raise _Bad("the header behind it has the size %d" % size, True)
        if is_sparse:
            raise _Bad("the member behind it, %s, is a sparse file, which is not read" % printable_path(name), True)
        if not info.isreg():
            if info.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                 tarfile.FIFOTYPE):
                _pass(stream, padded(size))
            continue
        member = _Once(stream, size)
        yield _Member(name, member.content)
        member.end()


def _check_end(stream: "IO[bytes]") -> None:
    """Raises _Bad if there is more than zeros behind the end mark."""
    while True:
        try:
            rest = stream.read(1 << 16)
        except BROKEN as error:
            raise _broken(error) from None
        if not rest:
            return
        if rest.count(0) < len(rest):
            raise _Bad("there are bytes behind the end mark of the tar, as if several tars were joined by cat: give "
                       "the tars as files of their own", True, True)


def _extra(info: tarfile.TarInfo, data: bytes) -> Dict[str, str]:
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found: Dict[str, str] = {}
    if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        place = 0
        while place < len(data):            # "LENGTH NAME=VALUE\n"
            digits, space, _ = data[place:place + 20].partition(b" ")
            if not space or not digits.isdigit() or not 3 <= int(digits) <= len(data) - place:
                break
            name, _, value = data[place + len(digits) + 1:place + int(digits) - 1].partition(b"=")
            found[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
            place += int(digits)
    return found


class _Once:
    """The content of the member at which ``stream`` is."""

    def __init__(self, stream: "IO[bytes]", size: int) -> None:
        self._stream, self._size, self._left = stream, size, padded(size)

    def content(self) -> bytes:
        """All of it. Raises _Bad."""
        if self._size > MAX_PART_BYTES:
            raise _Bad("it has %s bytes, and a member has at most %s" % (
                format(self._size, ","), format(MAX_PART_BYTES, ",")))
        data = _next(self._stream, self._left)
        self._left = 0
        if len(data) < self._size:
            raise _Bad("it is cut: the file ends in it", True)
        return data[:self._size]

    def end(self) -> None:
        """Passes over what was not read. Raises _Bad."""
        _pass(self._stream, self._left)


def _next(stream: "IO[bytes]", size: int) -> bytes:
    try:
        data = read_exactly(stream, size)
    except BROKEN as error:
        raise _broken(error) from None
    if 0 < len(data) < min(size, BLOCK):
        raise _Bad("the file ends in it: it was cut", True)
    return data


def _pass(stream: "IO[bytes]", size: int) -> None:
    try:
        if skipped(stream, size) < size:
            raise _Bad("it is cut: the file ends in it", True)
    except BROKEN as error:
        raise _broken(error) from None


def _broken(error: Exception) -> _Bad:
    if is_of_disk(error):
        raise error
    return _Bad("the compressed data of the file is damaged or cut (%s)" % printable(str(error)[:100]), True)


# ------------------------------------------------------------------------------------------------------------- zip

def _zip_members(raw: Any) -> Iterator[_Member]:
    """The files of a zip, in the order of its directory. Raises DatasetError."""
    try:
        archive = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise DatasetError("the zip file %s is damaged: %s; copy it again" % (
            printable_path(getattr(raw, "name", "")), printable(str(error)[:100]))) from error
    for info in archive.infolist():
        if not info.filename.endswith("/"):
            yield _Member(_zip_name(info), lambda info=info: _zip_content(archive, info))   # type: ignore[misc]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Its name: UTF-8, also in zips that do not say so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise _Bad("it is encrypted")
    if info.file_size > MAX_PART_BYTES:
        raise _Bad("it has %s bytes, and a member has at most %s" % (
            format(info.file_size, ","), format(MAX_PART_BYTES, ",")))
    try:
        with archive.open(info) as file:
            data = read_exactly(file, info.file_size)
            if len(data) == info.file_size and not file.read(1):       # reading to its end compares its CRC
                return data
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if is_of_disk(error):
            raise
        raise _Bad("it is damaged (%s)" % printable(str(error)[:100])) from None
    raise _Bad("it has another size than the directory of the zip says")
