"""The list of a run's samples, as it is kept beside a checkpoint: so that a refusal can say which samples are gone or
new, and a run can go on with the samples that its checkpoint knows though the data has changed.

The list has all that the data's hash depends on. It is gzip, whose checksum covers all of it:

    "stoker samples 1\\n", a line of JSON: [{kind, count ...} or null, ...], and of each source in it
    files     the paths, with NUL between them, and the labels (int32)
    rows      the lengths of the packed rows (int32), and the rows
    records   what ``records/listed.py`` makes of record files
    numbers   nothing
"""

import gzip
import io
import json
import os
import zlib
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from typing import IO, Any, Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.records.listed import PARTS as RECORD_PARTS
from stoker.pipeline.sources.records.listed import from_list, listed
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.table import Numbers, Table
from stoker.pipeline.storage.checked_json import MAX_RECORD_BYTES, loads
from stoker.pipeline.text import path_bytes, printable_path, quoted

MAGIC = b"stoker samples 1\n"
MAX_LIST_BYTES = 1 << 28       # before it is compressed; data with more has no list
_PARTS = {"files": 2, "rows": 2, "records": RECORD_PARTS, "numbers": 0}       # of each kind
_READ_BYTES = 1 << 20
_UNREADABLE = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError)


class ListError(Exception):
    """There is no list that can be used. The text says why, in a clause."""


# -------------------------------------------------------------------------------------------------- to and from bytes

def packed_list(*sources: Optional[Source], level: int = 1) -> Optional[bytes]:
    """The list of ``sources``. None if one of them is of a user's own class, or all are too large for a list.
    ``level``: of the compression; 0: none, which takes a fifth of the time."""
    heads: List[Optional[Dict[str, Any]]] = []
    parts: List[bytes] = []
    for source in sources:
        head: Optional[Dict[str, Any]] = None
        if isinstance(source, Dataset):
            body = [path_bytes("\0".join(source.paths)), np.array(source.labels, "<i4").tobytes()]
            head = {"kind": "files", "classes": list(source.classes), "bytes": [len(part) for part in body]}
        elif isinstance(source, Table):
            body = [source.lengths().astype("<i4").tobytes(), b"".join(source.pieces())]
            head = {"kind": "rows", "columns": list(source.columns), "types": list(source.types),
                    "bytes": [len(part) for part in body]}
        elif isinstance(source, RecordSource):
            body = listed(source)
            head = {"kind": "records", "classes": list(source.classes), "bytes": [len(part) for part in body]}
        elif isinstance(source, Numbers):
            head, body = {"kind": "numbers", "bytes": []}, []
        elif source is not None:
            return None
        if head is not None and source is not None:
            head["count"], head["hash"] = len(source), source.fingerprint()
            parts += body
        heads.append(head)
    parts.insert(0, b"%s%s\n" % (MAGIC, json.dumps(heads).encode("ascii")))
    if sum(map(len, parts)) > MAX_LIST_BYTES:
        return None
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", level, packed, mtime=0) as file:
        file.write(b"".join(parts))
    return packed.getvalue()


class SampleList(NamedTuple):
    """The samples of one source, from a list. ``fields``: those of Dataset, or packed rows and their lengths."""
    kind: str
    head: Dict[str, Any]
    parts: Tuple[bytes, ...]

    @property
    def hash(self) -> Any:
        """The fingerprint of the samples, as the list has it."""
        return self.head.get("hash")

    def source(self, root: str, name: str) -> Source:
        """The samples, below the folder ``root``. Raises ListError."""
        try:
            return self._made(root, name)
        except (DatasetError, ConfigError, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise ListError("it is damaged") from error

    def _made(self, root: str, name: str) -> Source:
        count = self.head["count"]
        if self.kind == "files":
            paths = self.parts[0].decode("utf-8", "surrogateescape").split("\0")
            return Dataset(root, tuple(self.head["classes"]), tuple(paths),
                           tuple(np.frombuffer(self.parts[1], "<i4").tolist()), ())
        if self.kind == "rows":
            lengths = np.frombuffer(self.parts[0], "<i4").astype(np.int64)
            ends = np.cumsum(lengths)
            columns, types = tuple(self.head["columns"]), tuple(self.head["types"])
            if (len(ends) != count or lengths.min() < 0 or ends[-1] != len(self.parts[1])
                    or not all(isinstance(each, str) for each in columns + types)):
                raise ValueError("it has other rows")
            table = Table(self.parts[1], ends - lengths, ends, root, columns, name)
            table.types = types
            return table
        if self.kind == "records":
            return from_list(self.parts, self.head["classes"], root)
        return Numbers(count, root)


def unpacked_list(packed: bytes) -> Tuple[Optional[SampleList], ...]:
    """The lists that ``packed_list`` packed, in its order. Raises ListError."""
    try:
        whole = _inflated(packed)
        heads, place = _heads(whole[:whole.find(b"\n", len(MAGIC)) + 1])
        lists: List[Optional[SampleList]] = []
        for head in heads:
            if head is None:
                lists.append(None)
                continue
            ends = list(accumulate([place] + head["bytes"]))
            lists.append(SampleList(head["kind"], head, tuple(
                whole[start:stop] for start, stop in zip(ends, ends[1:]))))
            place = ends[-1]
        if place != len(whole):
            raise ListError("it is torn")
        return tuple(lists)
    except _UNREADABLE as error:
        raise ListError("it is torn or damaged") from error


def listed_hashes(file: IO[bytes]) -> Tuple[Any, ...]:
    """The hashes of the sources of a list, None for none, from the beginning of its ``file`` and from the length at
    its end. Raises ListError, but not for each damage between them."""
    try:
        with gzip.GzipFile("", "rb", fileobj=file) as content:
            heads, place = _heads(content.readline(len(MAGIC)) + content.readline(MAX_RECORD_BYTES))
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") != place + sum(sum(head["bytes"]) for head in heads if head):
            raise ListError("it is torn")
        return tuple(head and head.get("hash") for head in heads)
    except _UNREADABLE as error:
        raise ListError("it is torn or damaged") from error


def _heads(beginning: bytes) -> Tuple[List[Optional[Dict[str, Any]]], int]:
    """What the first two lines say of each source, and where they end."""
    if not beginning.startswith(MAGIC):
        raise ListError("it is of another version" if beginning.startswith(MAGIC[:-2]) else "it is damaged")
    heads = loads(beginning[len(MAGIC):])
    for head in heads:
        if head is not None and not (len(head["bytes"]) == _PARTS[head["kind"]] and all(
                type(size) is int and size >= 0 for size in head["bytes"] + [head["count"]])):
            raise ValueError("it has other parts")
    return heads, len(beginning)


def _inflated(packed: bytes) -> bytes:
    """The content of the gzip file. A file that holds more than a list can have is not read to its end."""
    pieces, size = [], 0
    with gzip.GzipFile("", "rb", fileobj=io.BytesIO(packed)) as file:
        for piece in iter(lambda: file.read(_READ_BYTES), b""):
            size += len(piece)
            if size > MAX_LIST_BYTES:
                raise ListError("it is too large")
            pieces.append(piece)
    return b"".join(pieces)


# ------------------------------------------------------------------------------------------------------- what changed

class Changes(NamedTuple):
    """How the data differs from a list."""
    then: int                # samples
    now: int
    gone: Collection[int]    # numbers, in the list, of the samples that the data has no more
    first_gone: str          # for people; '' if there is none
    new: int
    first_new: str
    relabelled: int          # files of both that have another class
    first_relabelled: str
    others: str              # what else differs, in a clause: classes, columns

    @property
    def sentence(self) -> str:
        """For people, without the samples' fate: "120 -> 119 samples; 1 is gone: cat/005.jpg"."""
        facts = []
        if self.then != self.now:
            facts.append("%s -> %s samples" % (format(self.then, ","), format(self.now, ",")))
        for count, first, one, many in (
                (len(self.gone), self.first_gone, "1 is gone", "%s are gone, the first of them"),
                (self.new, self.first_new, "1 is new", "%s are new, the first of them"),
                (self.relabelled, self.first_relabelled, "1 has another class", "%s have another class, the first of "
                                                                               "them")):
            if count:
                facts.append("%s: %s" % (one if count == 1 else many % format(count, ","), first))
        if self.others:
            facts.append(self.others)
        return "; ".join(facts) or "the same samples are in another order"


def changes(known: Source, source: Source) -> Changes:
    """How ``source`` differs from ``known``, both of the same kind. Samples are the same if their paths, or their rows,
    are; of several equal ones, the first are the same."""
    others = []
    for what in ("classes", "columns"):
        then, now = (list(map(path_bytes, getattr(each, what))) for each in (known, source))
        if then != now:
            differ = ["%s is gone" % _name_of(name) for name in then if name not in now]
            differ += ["%s is new" % _name_of(name) for name in now if name not in then]
            others.append("other %s (%s)" % (what, ", ".join(differ[:4]) or "in another order"))
    relabelled: List[int] = []
    if isinstance(known, Dataset) and isinstance(source, Dataset):
        # their bytes: under LC_ALL=C, Python 3.6 has another str for the same name
        gone, new, pairs = _compared(list(map(path_bytes, known.paths)), list(map(path_bytes, source.paths)))
        relabelled = [mine for mine, other in pairs if _class_of(known, mine) != _class_of(source, other)]
    elif isinstance(known, RecordSource) and isinstance(source, RecordSource):
        gone, new, pairs = _compared(known.keys(), source.keys())
        ours, theirs = known.labels.tolist(), source.labels.tolist()
        relabelled = [mine for mine, other in pairs if known.classes and (
            known.classes[ours[mine]] != source.classes[theirs[other]] if source.classes else True)]
    elif isinstance(known, Table) and isinstance(source, Table):
        if known.columns == source.columns and known.types != source.types:      # 1 was an int and is 1.0 now
            gone, new, _ = _compared(_plain_rows(known), _plain_rows(source))
        else:
            gone, new, _ = _compared(known.all_packed(), source.all_packed())
    else:
        numbers = range(len(source), len(known)), range(len(known), len(source))     # perhaps too many for a set
        return Changes(len(known), len(source), numbers[0], _name(known, numbers[0]), len(numbers[1]),
                       _name(source, numbers[1]), 0, "", "")
    return Changes(len(known), len(source), frozenset(gone), _name(known, gone), len(new), _name(source, new),
                   len(relabelled), _name(known, relabelled), "; ".join(others))


def _compared(then: Sequence[Any], now: Sequence[Any]) -> Tuple[List[int], List[int], Iterator[Tuple[int, int]]]:
    """The places of ``then`` that ``now`` has no more, those of ``now`` that are new, and pairs of the others."""
    places = dict(zip(now, range(len(now))))
    if len(places) == len(now) and len(set(then)) == len(then):
        gone = [place for place, one in enumerate(then) if one not in places]
        had = set(then)
        new = [place for place, one in enumerate(now) if one not in had]
        return gone, new, ((place, places[one]) for place, one in enumerate(then) if one in places)
    left, had_left = Counter(now), Counter(then)
    gone, new = _more_than(then, left), _more_than(now, had_left)
    return gone, new, ((place, places[one]) for place, one in enumerate(then) if one in places)


def _more_than(ones: Sequence[Any], others: "Counter[Any]") -> List[int]:
    """The places of ``ones`` that are not among ``others``, which are used up."""
    found = []
    for place, one in enumerate(ones):
        if others[one] > 0:
            others[one] -= 1
        else:
            found.append(place)
    return found


def _class_of(dataset: Dataset, index: int) -> Optional[bytes]:
    return path_bytes(dataset.classes[dataset.labels[index]]) if dataset.classes else None


def _plain_rows(table: Table) -> List[Tuple[Any, ...]]:
    """The rows, with numbers that are texts, whole or not, as floats."""
    return [tuple(map(_as_float, row.values() if isinstance(row, dict) else row)) for row in
            table.rows(range(len(table)))]


def _as_float(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _name_of(name: bytes) -> str:
    return quoted(name.decode("utf-8", "surrogateescape"))


def _name(source: Source, places: Sequence[int]) -> str:
    if not places:
        return ""
    row = (source.samples([places[0]])[0].path if isinstance(source, RecordSource) else "") or (
        source.rows([places[0]])[0])
    return ("sample %d" % places[0] if row is None else printable_path(row) if isinstance(row, str)
            else "row %d, %.200s" % (places[0], quoted(row)))


def kept(known: SampleList, fingerprint: Optional[str], source: Source) -> Tuple[Source, Optional[Changes]]:
    """The samples that a checkpoint knows, in its order and with its classes, for the files below the root of
    ``source``; those that ``source`` has no more are marked as gone. ``source`` itself if it is the same.
    ``fingerprint``: of the checkpoint's data. Raises ListError if the list is not of it; DatasetError if no sample is
    left."""
    if source.fingerprint() == fingerprint:
        return source, None
    made = known.source(source.root, getattr(source, "name", "rows"))
    if made.fingerprint() != fingerprint:
        raise ListError("it is of other data")
    if type(made) is not type(source):
        raise DatasetError("the checkpoint's samples are %s, and those of the data are not" % known.kind)
    found = changes(made, source)
    if len(found.gone) == len(made):
        raise DatasetError("not one of the %s samples that the checkpoint knows is among the data (%s): give the data "
                           "that it was trained on" % (format(len(made), ","), found.sentence))
    if isinstance(made, Dataset):
        return replace(made, left_out=getattr(source, "left_out", ()), gone=frozenset(found.gone)), found
    if isinstance(made, RecordSource):
        made = made.with_gone(found.gone)
        made.opened_by, made.watched = getattr(source, "opened_by", None), getattr(source, "watched", None)
        return made, found
    assert isinstance(made, (Table, Numbers))
    made.gone = found.gone
    return made, found
