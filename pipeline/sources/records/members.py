"""The index of an archive (tar, zip) from its members: which belong together, which is the picture, where the label is.
What the names of members mean is in ``member_names``."""

from array import array
from collections import Counter
from typing import Any, BinaryIO, Dict, List, Optional, Set, Tuple

import numpy as np

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.protocol.columns import MAX_ROW_BYTES
from stoker.pipeline.sources.packing import Blob, pack_rows, packer
from stoker.pipeline.sources.records.file_index import MISSING, FileIndex, Part
from stoker.pipeline.sources.records.member_names import (
    AUTO, FOLDER, KEY, NUMBER, PICTURES, TEXTS, Member, Wanted, extension_of, shown)
from stoker.pipeline.storage.checked_json import loads
from stoker.pipeline.text import name_list, quoted

MAX_EXTENSIONS = 64             # of one file: more come of names with dots in them
MAX_SMALL_BYTES = 1 << 20       # of a member that is read while a file is indexed
MAX_LABEL_BYTES = 1000

class Members:
    """Takes the members of one archive in its order, and makes its index. ``file``: open, to read small members."""

    def __init__(self, file: BinaryIO, options: Dict[str, Any]) -> None:
        self._file, self._wanted = file, Wanted.of(options)
        self._label_extension = "cls" if self._wanted.label == AUTO else self._wanted.label
        self._to_read = {self._label_extension, *map(extension_of, self._wanted.columns)}
        if set(self._wanted.columns) - {KEY}:
            self._to_read.add("json")
        self._places: "Dict[str, Tuple[array[int], array[int], array[int]]]" = {}      # samples, offsets, lengths
        self._keys: Dict[str, int] = {}
        self._labels = array("q")
        self._texts: Dict[bytes, int] = {}
        self._rows, self._pack = Blob(), packer()
        self._used_columns: Set[str] = set()
        self._left_out: "Counter[str]" = Counter()
        # the sample whose members come now
        self._key: Optional[str] = None
        self._members: Dict[str, Member] = {}
        self._small: Dict[str, bytes] = {}

    def leave_out(self, kind: str) -> None:
        """Counts something that is no sample, such as ``links``; '': what no user misses."""
        if kind:
            self._left_out[kind] += 1

    def is_wanted(self, name: str) -> bool:
        """Whether a member of this name is a part of a sample. If not, and a user may miss it, it is counted."""
        why_not = self._wanted.why_not(name)
        if why_not is not None:
            self.leave_out(why_not)
        return why_not is None

    def add(self, member: Member) -> None:
        """The next member, which ``is_wanted``. Raises DatasetError."""
        if member.length >= MISSING:
            raise DatasetError("the member %s has %d bytes, and a part of a sample has less than 4 GiB: leave it "
                               "out of the file" % (shown(member.name), member.length))
        key, extension = self._wanted.key_of(member.name)
        if key != self._key:
            self._close()
            if key in self._keys:
                raise DatasetError(self._twice(member, key, extension))
            self._key = key
        elif extension in self._members:
            raise DatasetError(self._twice(member, key, extension))
        self._members[extension] = member
        if extension in self._to_read:
            self._small[extension] = self._content(member)

    def _twice(self, member: Member, key: str, extension: str) -> str:
        if self._wanted.label == FOLDER:
            return ("the member %s is there twice, the second time at byte %d: write the file again without the older "
                    "one" % (shown(member.name), member.offset))
        if extension in self._members:
            return ("the sample %s has two members .%s, the second of which is %s at byte %d: write the file again "
                    "with one of them" % (shown(key), extension, shown(member.name), member.offset))
        return ("the members of the sample %s lie in two places, the second of which begins with %s at byte %d, or are "
                "there twice: write the file again with the members of a sample side by side (tar --sort=name), and "
                "each once; if each picture is a sample, give label='folder'" % (
                    shown(key), shown(member.name), member.offset))

    def _content(self, member: Member) -> bytes:
        if member.length > MAX_SMALL_BYTES:
            raise DatasetError("the member %s has %d bytes, and labels and columns have at most %d: leave it out of "
                               "columns=, and read it with sample.bytes" % (
                                   shown(member.name), member.length, MAX_SMALL_BYTES))
        self._file.seek(member.offset)
        content = self._file.read(member.length)
        if len(content) != member.length:
            raise DatasetError("the member %s at byte %d is cut: write or copy the file again"
                               % (shown(member.name), member.offset))
        return content

    def _close(self) -> None:
        """The members of the current sample are complete."""
        key, wanted = self._key, self._wanted
        if key is None:
            return
        number = self._keys[key] = len(self._keys)
        for extension, member in self._members.items():
            if extension not in self._places:
                if len(self._places) == MAX_EXTENSIONS:
                    raise DatasetError(
                        "its members have more than %d extensions, which begin at the first dot of a name (%s): write "
                        "names without other dots, or, if it is a tree of class folders, give label='folder'"
                        % (MAX_EXTENSIONS, name_list(sorted(self._places), 3)))
                self._places[extension] = array("q"), array("q"), array("q")
            for values, value in zip(self._places[extension], (number, member.offset, member.length)):
                values.append(value)
        if wanted.label == FOLDER:
            self._labels.append(self._number_of(key.partition("/")[0].encode("utf-8", "surrogateescape")))
        elif wanted.label:
            own = self._members.get(self._label_extension)
            self._labels.append(self._label(own) if own else -1)
        if wanted.columns:
            self._rows.append(self._packed(key))
        self._key, self._members, self._small = None, {}, {}

    def _number_of(self, text: bytes) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _label(self, member: Member) -> int:
        text = self._small[self._label_extension].strip()
        try:
            text.decode("utf-8")
            is_text = 0 < len(text) <= MAX_LABEL_BYTES
        except UnicodeDecodeError:
            is_text = False
        if not is_text:
            raise DatasetError("the label in the member %s at byte %d is neither a whole number nor a short text: %s"
                               % (shown(member.name), member.offset, quoted(text[:40])))
        return self._number_of(text)

    def _packed(self, key: str) -> bytes:
        row: List[Any] = []
        of_json: Any = None
        for name in self._wanted.columns:
            extension = extension_of(name)
            if name == KEY:
                row.append(key)
            elif extension in self._small:
                row.append(self._value(extension))
                self._used_columns.add(name)
            elif "json" in self._small:
                of_json = self._value("json") if of_json is None else of_json
                is_there = isinstance(of_json, dict) and name in of_json
                row.append(of_json[name] if is_there else None)
                if is_there:
                    self._used_columns |= {name, "json"}
            else:
                row.append(None)
        try:
            packed = self._pack(row)
        except (OverflowError, UnicodeEncodeError, ValueError):
            packed = b""
        if not packed or len(packed) > MAX_ROW_BYTES:
            pack_rows([dict(zip(self._wanted.columns, row))], lambda _: "the sample %s" % shown(key))
            raise DatasetError("the columns of the sample %s cannot be packed" % shown(key))
        return packed

    def _value(self, extension: str) -> Any:
        content, member = self._small[extension], self._members[extension]
        kind = extension.rpartition(".")[2]
        try:
            if kind == "json":
                return loads(content)
            if kind in TEXTS:
                text = content.decode("utf-8")
                return int(text) if NUMBER.fullmatch(content.strip()) and kind not in ("txt", "text") else text
            return content
        except ValueError as error:
            raise DatasetError("the member %s at byte %d is no %s that can be read: %s"
                               % (shown(member.name), member.offset, "JSON" if kind == "json" else "text in UTF-8",
                                  error)) from error

    def index(self) -> FileIndex:
        """The index, after the last member. Raises DatasetError."""
        self._close()
        count, wanted = len(self._keys), self._wanted
        if not count:
            where = ("it has no samples in the folder %s" % shown(wanted.folder),) if wanted.folder else ()
            return FileIndex((), np.empty((0, 0), np.int64), np.empty((0, 0), np.uint32),
                             remarks=self._remarks(0) + where)
        order = wanted.image or tuple(name for name in PICTURES if name in self._places) or (self._first_other(),)
        offsets, lengths, used = np.zeros(count, np.int64), np.full(count, MISSING, np.uint32), []
        for extension in order:
            if extension in self._places:
                numbers, its_offsets, its_lengths = self._arrays(extension)
                free = lengths[numbers] == MISSING
                if free.any():
                    offsets[numbers[free]], lengths[numbers[free]] = its_offsets[free], its_lengths[free]
                    used.append(extension)
        if not used:
            raise DatasetError("no sample has a member with the extension %s: there are %s; name one with image=" % (
                " or ".join(map(shown, order)), name_list(sorted(self._places))))
        kept = np.flatnonzero(lengths != MISSING)
        parts, columns = [(used[0] if len(used) == 1 else "image", offsets, lengths)], [*wanted.columns]
        for extension in self._places:
            others = None if self._is_no_part(extension) else self._others(extension, offsets)
            if others is not None:
                parts.append((extension if extension != parts[0][0] else extension + "-2",) + others)
        label, names = self._numbers(kept)
        rows, ends = self._kept_rows(kept) if columns else (b"", None)
        return FileIndex(tuple(Part(name) for name, _, _ in parts),
                         np.stack([values[kept] for _, values, _ in parts], 1),
                         np.stack([values[kept] for _, _, values in parts], 1),
                         label, names, tuple(columns), rows, ends, self._remarks(count - len(kept)),
                         absent=tuple(name for name in columns if name not in self._used_columns and name != KEY),
                         there=tuple(sorted(self._places)))

    def _is_no_part(self, extension: str) -> bool:
        return (extension in map(extension_of, self._wanted.columns) or extension == self._label_extension
                or extension == "json" and "json" in self._used_columns)

    def _first_other(self) -> str:
        """The extension of what is a sample's own file where no sample has a picture."""
        return next((name for name in self._places if not self._is_no_part(name)), next(iter(self._places)))

    def _arrays(self, extension: str) -> Tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
        numbers, offsets, lengths = (np.frombuffer(values, np.int64) for values in self._places[extension])
        return numbers, offsets, lengths

    def _others(self, extension: str, own: "np.ndarray") -> Optional[Tuple["np.ndarray", "np.ndarray"]]:
        """Offsets and lengths of the members that are not their samples' own files; None if all are."""
        numbers, its_offsets, its_lengths = self._arrays(extension)
        other = own[numbers] != its_offsets
        if not other.any():
            return None
        offsets, lengths = np.zeros(len(own), np.int64), np.full(len(own), MISSING, np.uint32)
        offsets[numbers[other]], lengths[numbers[other]] = its_offsets[other], its_lengths[other]
        return offsets, lengths

    def _numbers(self, kept: "np.ndarray") -> Tuple[Optional["np.ndarray"], Tuple[str, ...]]:
        """The labels of the samples that count, and the labels' names."""
        label = self._wanted.label
        if not label or label == AUTO and "cls" not in self._places:
            return None, ()
        given = np.frombuffer(self._labels, np.int64)[kept]
        missing = np.flatnonzero(given < 0)
        if len(missing):
            key = next(key for key, number in self._keys.items() if number == kept[missing[0]])
            raise DatasetError("%s of its %s samples have no label, such as %s: it has no member .%s (label=None: no "
                               "sample has one)" % (format(len(missing), ","), format(len(kept), ","), shown(key),
                                                    self._label_extension))
        texts = list(self._texts)
        if label != FOLDER and all(map(NUMBER.fullmatch, texts)):
            values = np.array([int(text) for text in texts], np.int64)
            if (values < 0).any():
                raise DatasetError("the label %d is below 0, and labels are the numbers of classes from 0 on; to get "
                                   "such a number in sample.row, name it in columns=, with label=None" % values.min())
            return values[given], ()
        order = sorted(texts)
        place = {text: number for number, text in enumerate(order)}
        return (np.array([place[text] for text in texts], np.int64)[given],
                tuple(text.decode("utf-8", "surrogateescape") for text in order))

    def _kept_rows(self, kept: "np.ndarray") -> Tuple[bytes, "np.ndarray"]:
        rows, offsets = self._rows.finished()
        ends = np.frombuffer(offsets, np.int64)
        if len(kept) == len(ends) - 1:
            return rows, ends[1:]
        pieces = [rows[ends[number]:ends[number + 1]] for number in kept]
        return b"".join(pieces), np.cumsum([len(piece) for piece in pieces], dtype=np.int64)

    def _remarks(self, without: int) -> Tuple[str, ...]:
        if without:
            self._left_out["samples without %s" % (" or ".join("." + name for name in self._wanted.image)
                                                   or "a picture")] += without
        return tuple("%s are left out (%s)" % (kind, format(number, ","))
                     for kind, number in sorted(self._left_out.items()))
