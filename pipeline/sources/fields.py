"""The fields of samples as they travel to workers: paths, labels, names of classes, rows. All are checked when their
source is made, or when the stream of a user's own source is opened: what a worker refuses to read is never sent."""

import operator
import os
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import DatasetError, ProtocolError, RunFailed, StokerError
from stoker.pipeline.protocol.columns import MAX_LABEL, MAX_ROW_BYTES
from stoker.pipeline.protocol.messages import MAX_TEXT, Sample, unpacked_row
from stoker.pipeline.storage.folder import is_relative
from stoker.pipeline.storage.urls import is_url
from stoker.pipeline.user_errors import a_type, sentence_of

AT_ONCE = 1 << 16        # samples that are checked together
Name = Callable[[int], str]      # of the sample with this number, in a sentence


def checked_root(root: Any) -> str:
    """The absolute folder or the URL of a source's files, or ''. Raises DatasetError."""
    text = _fspath(root)
    if not isinstance(text, str) or (text and not text.startswith("/") and not is_url(text)) or (
            len(text) > MAX_TEXT or fault_of(text)):
        raise DatasetError("the root of the data must be the absolute path of a folder, or a URL, not %.200r" % (root,))
    return text


def checked_classes(classes: Any) -> Tuple[str, ...]:
    """The names of classes. Raises DatasetError."""
    names = tuple(classes)
    for number, name in enumerate(names):
        if not isinstance(name, str) or len(name) > MAX_TEXT or fault_of(name):
            raise DatasetError("the name of class %d is %.200r, and must be a text of at most %d characters in valid "
                               "Unicode and without NUL" % (number, name, MAX_TEXT))
    return names


def checked_labels(labels: Any, classes: int, name: Name) -> Tuple[int, ...]:
    """The labels of samples, as ints; they may be numpy's. ``classes``: so many there are. Raises DatasetError."""
    numbers = tuple(labels.tolist() if isinstance(labels, np.ndarray) else labels)
    low, high = (0, classes - 1) if classes else (-1, MAX_LABEL)
    if set(map(type, numbers)) != {int}:
        numbers = tuple(_whole(label) for label in numbers)
    if numbers and not (set(map(type, numbers)) == {int} and low <= min(numbers) and max(numbers) <= high):
        place = next(place for place, each in enumerate(numbers) if type(each) is not int or not low <= each <= high)
        raise DatasetError("%s: its label is %.80r, and must be a whole number from %d to %d, %s; put other values, "
                           "such as those of a regression, into rows" % (
                               name(place), numbers[place], low, high, "the number of one of its %d classes" % classes
                               if classes else "where -1 is none"))
    return numbers


def checked_paths(paths: Any, are_files: bool, name: Name) -> Tuple[str, ...]:
    """The paths of samples. ``are_files``: below a root, else any text. Raises DatasetError."""
    texts = tuple(paths)
    if set(map(type, texts)) != {str}:
        texts = tuple(_text(path) for path in texts)
    for start in range(0, len(texts), AT_ONCE):
        part = texts[start:start + AT_ONCE]
        if not _travel(part, are_files):
            for place, path in enumerate(part, start):
                fault = _fault_of_path(path, are_files)
                if fault:
                    raise DatasetError("%s: its path is %s" % (name(place), fault))
    return texts


def _travel(paths: Sequence[str], are_files: bool) -> bool:
    """Whether none of ``paths`` has a fault; much faster than one by one."""
    if set(map(type, paths)) != {str} or max(map(len, paths)) > MAX_TEXT:
        return False
    joined = "\0" + "\0".join(paths) + "\0"
    try:
        joined.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return joined.count("\0") == len(paths) + 1 and not (are_files and (
        "\0\0" in joined or "\0/" in joined or ".." in joined))


def _fault_of_path(path: Any, is_file: bool) -> str:
    """What is wrong with the path, in a clause; '' if nothing is."""
    if not isinstance(path, str):
        return "%s (%.80r), and must be a text" % (a_type(path), path)
    if len(path) > MAX_TEXT:
        return "a text of %s characters (%.40r...), and has at most %s" % (
            format(len(path), ","), path, format(MAX_TEXT, ","))
    fault = fault_of(path)
    if fault:
        return "%.200r, which %s" % (path, fault)
    if is_file and not is_relative(path.encode("utf-8", "surrogateescape")):
        return "%.200r, and must be that of a file below the root: relative, without '..', and not empty" % path
    return ""


def fault_of(text: str) -> str:
    """Why ``text`` can be no name of a file or class, in a clause; '' if it can."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "has a NUL in it" if "\0" in text else ""


def _fspath(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text(path: Any) -> Any:
    """A path object or a text of a subclass as str; anything else as it is."""
    path = _fspath(path)
    return str.__str__(path) if isinstance(path, str) else path


def _whole(label: Any) -> Any:
    """A whole number or truth value of any kind as an int; anything else as it is."""
    if isinstance(label, (bool, np.bool_)):
        return int(label)
    try:
        return operator.index(label)
    except TypeError:
        return label


# ------------------------------------------------------------------------------------------------- sources of a user

class CheckedSource:
    """A source of the user's own class, whose samples are checked whenever they are asked for. It has all attributes of
    the source itself."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._classes, self._columns = checked_classes(source.classes), tuple(source.columns)
        self._sound: Set[bytes] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError, DatasetError; RunFailed for what the source raises."""
        try:
            samples = tuple(self._source.samples(indices))
        except (StokerError, IndexError):
            raise
        except Exception as error:
            raise RunFailed("the data, %s, raised an error for its samples: %s" % (
                a_type(self._source), sentence_of(error))) from error
        if len(samples) != len(indices):
            raise DatasetError("the data, %s, gave %d samples where %d were asked for" % (
                a_type(self._source), len(samples), len(indices)))
        numbers = [int(index) for index in indices]
        for index, sample in zip(numbers, samples):
            if not isinstance(sample, Sample):
                raise DatasetError("sample %d: it is %s, and must be a stoker.Sample" % (index, a_type(sample)))
            if _whole(sample.index) != index:
                raise DatasetError("sample %d: its index is %.80r, and must be its number" % (index, sample.index))
            if sample.repeat or sample.partners:
                raise DatasetError("sample %d: its repeat and its partners are Stoker's to set, and must be 0 and ()"
                                   % index)
            self._check_row(index, sample.packed)

        def name(place: int) -> str:
            return "sample %d" % numbers[place]
        has_paths = bool(self._source.has_paths)
        paths = checked_paths([sample.path for sample in samples], has_paths, name)
        labels = checked_labels([sample.label for sample in samples], len(self._classes), name)
        return tuple(Sample(*fields) for fields in zip(numbers, paths, labels, (each.packed for each in samples)))

    def _check_row(self, index: int, packed: Any) -> None:
        if type(packed) is not bytes or len(packed) > MAX_ROW_BYTES:
            raise DatasetError("sample %d: its packed row is %s, and must be at most %d bytes of msgpack" % (
                index, "of %d bytes" % len(packed) if isinstance(packed, bytes) else a_type(packed), MAX_ROW_BYTES))
        if packed:
            try:
                unpacked_row(packed, self._columns)
            except ProtocolError as error:
                raise DatasetError("sample %d: its packed row cannot be read: %s" % (index, error)) from error


def checked(source: Source, own: Tuple[type, ...]) -> Any:
    """``source``, with all samples checked: those of Stoker's ``own`` classes were when it was made. Raises
    DatasetError, which names the sample and its field."""
    if isinstance(source, own + (CheckedSource,)):
        return source
    outer = CheckedSource(source)
    for start in range(0, len(outer), AT_ONCE):
        outer.samples(range(start, min(start + AT_ONCE, len(outer))))
    return outer


def names_of(paths: Sequence[Any]) -> Name:
    """How an error names a sample that may have a path: "sample 3 ('cat/3.jpg')"."""

    def name(place: int) -> str:
        path: Optional[Any] = paths[place] if place < len(paths) else None
        return "sample %d%s" % (place, " (%.80r)" % path if isinstance(path, str) and path else "")
    return name

_unused: List[str] = []
