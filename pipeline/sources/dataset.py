"""Dataset: samples in a fixed order that is the same on every host, because the plan of a run numbers them.

Only the trainer has the dataset: workers get the samples of a step with its lease.
"""

import hashlib
import itertools
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from itertools import repeat
from typing import Any, FrozenSet, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.plan import random_state
from stoker.pipeline.protocol.messages import Sample, samples_of
from stoker.pipeline.sources.fields import checked_classes, checked_labels, checked_paths, checked_root, names_of
from stoker.pipeline.sources.roots import relative
from stoker.pipeline.storage.place import MARK
from stoker.pipeline.text import path_bytes, printable_path

LeftOut = Tuple[str, str]  # (path below the root, reason)


class RecordsLeftOut(str):
    """The reason why so many ``records`` of a file are left out, and not the file."""

    def __new__(cls, why: str, records: int) -> "RecordsLeftOut":
        """The text ``why``, with their number."""
        made = super().__new__(cls, why)
        made.records = records
        return made

    records: int


@dataclass(frozen=True, repr=False)
class Dataset:
    """Samples in a fixed order; sample ``index`` is ``paths[index]`` of class ``classes[labels[index]]``."""
    root: str                              # absolute folder, or URL; '' for generated records
    classes: Tuple[str, ...]               # (): the samples have no labels
    paths: Tuple[str, ...]                 # below root, '/' between parts; a generated record's number in decimal
    labels: Tuple[int, ...]                # -1 without classes
    left_out: Tuple[LeftOut, ...]          # files and folders that a scan did not take
    gone: FrozenSet[int] = frozenset()     # numbers of samples that a checkpoint knows and the data has no more

    def __post_init__(self) -> None:
        """Raises DatasetError, which names the sample and its field, for what cannot be sent to workers. Numbers of
        numpy, arrays and lists are taken."""
        root, classes = checked_root(self.root), checked_classes(self.classes)
        paths = checked_paths(self.paths, bool(root), names_of(()))
        labels = checked_labels(self.labels, len(classes), names_of(paths))
        if len(labels) != len(paths):
            raise DatasetError("the data has %s paths and %s labels: give one label for each path"
                               % (format(len(paths), ","), format(len(labels), ",")))
        self._set(root, classes, paths, labels, self.left_out, self.gone)

    def _set(self, *values: Any) -> None:
        for field, value in zip(fields_of(Dataset), values):
            object.__setattr__(self, field.name, value)      # the way to set a field of a frozen dataclass

    @property
    def columns(self) -> Tuple[str, ...]:
        """None: a sample's row is its path."""
        return ()

    @property
    def has_paths(self) -> bool:
        """Whether the samples are files."""
        return bool(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return "<Dataset: %s>" % self._head()

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError if one is outside 0 .. len - 1."""
        check_indices(indices, len(self))
        return samples_of(zip(indices, map(self.paths.__getitem__, indices), map(self.labels.__getitem__, indices),
                              repeat(b""), repeat(0), repeat(())))

    def rows(self, indices: Sequence[int]) -> List[Any]:
        """Their paths. Raises IndexError."""
        check_indices(indices, len(self))
        return [self.paths[index] for index in indices]

    def probes(self, count: int) -> Tuple[str, ...]:
        """At most ``count`` of the paths, spread over all; of records, the files that hold them."""
        if not self.root or not self.paths:
            return ()
        there = self.paths if not self.gone else [path for number, path in enumerate(self.paths)
                                                  if number not in self.gone]
        return tuple(path.partition(MARK)[0] for path in there[::-(-len(there) // count)])

    def split(self, fraction: float, seed: int) -> "Splits":
        """Two datasets, each in the same order of paths and numbered from 0: ``scan_folder("photos/").split(0.2, 0)``.

        ``fraction`` of every class, rounded, goes to validation. With a fraction above 0, a class of two samples or
        more has at least one in each part. The choice depends only on the labels in order, the fraction and the seed.
        Raises ConfigError unless 0 <= fraction < 1.
        """
        validates = held_out(np.array(self.labels, np.int32), max(1, len(self.classes)), fraction, seed)
        return Splits(*(self._part(tuple(itertools.compress(self.paths, part)),
                                   tuple(itertools.compress(self.labels, part)), renumbered_gone(self.gone, part))
                        for part in (~validates, validates)))

    def _part(self, paths: Tuple[str, ...], labels: Tuple[int, ...], gone: FrozenSet[int]) -> "Dataset":
        """Some of the samples, which are not checked again."""
        part: Dataset = object.__new__(Dataset)
        part._set(self.root, self.classes, paths, labels, (), gone)
        return part

    def below(self, root: str) -> "Dataset":
        """The same files with their paths from ``root``, a folder that contains this one's."""
        if root == self.root:
            return self
        start = relative(self.root, root)
        return replace(self, root=root, paths=tuple(start + path for path in self.paths))

    def fingerprint(self) -> str:
        """16 hex digits, a hash of classes, paths and labels. The dataset's folder has no influence."""
        if "_hash" not in vars(self):
            object.__setattr__(self, "_hash", self._fingerprint())
        found: str = vars(self)["_hash"]
        return found

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for names in (self.classes, self.paths):
            digest.update(path_bytes("%d\0%s\0" % (len(names), "\0".join(names))))     # no name contains a NUL
        digest.update(np.array(self.labels, "<i4").tobytes())
        return digest.hexdigest()

    def row_hashes(self) -> "np.ndarray":
        """uint32 [n], the CRC-32 of each path; it begins with the label."""
        return np.fromiter(map(zlib.crc32, map(path_bytes, self.paths), (label & 0xffffffff for label in self.labels)),
                           np.uint32, len(self))

    def summary(self) -> str:
        """A few lines for the user, to be shown before training starts."""
        lines = [self._head()]
        if not self.root:
            return lines[0]
        lines += class_lines(self.labels if self.classes else (), self.classes)
        if self.left_out:
            lines += left_out_lines(self.left_out)
        return "\n".join(lines)

    def _head(self) -> str:
        if not self.root:
            return "%s generated records" % format(len(self), ",")
        if self.classes:
            return "{}: {:,} images in {:,} classes".format(printable_path(self.root), len(self), len(self.classes))
        return "{}: {:,} files".format(printable_path(self.root), len(self))


class Splits(NamedTuple):
    """The data of a run: what it trains on, and what it evaluates on after each epoch (by default nothing)."""
    training: Source
    validation: Source = Dataset("", (), (), (), ())

    def of(self, training: bool) -> Source:
        """The source whose samples a training batch, or an evaluation batch, is made of."""
        return self.training if training else self.validation


def renumbered(dataset: Any, classes: Tuple[str, ...]) -> Any:
    """The same samples with the numbers of ``classes``, which has all classes of ``dataset``, by their names. A source
    of a user's own that cannot do this stays as it is."""
    if not isinstance(dataset, Dataset):
        return dataset.with_classes(classes) if hasattr(dataset, "with_classes") else dataset
    numbers = [classes.index(name) for name in dataset.classes]
    return replace(dataset, classes=classes, labels=tuple(numbers[label] for label in dataset.labels))


def held_out(labels: "np.ndarray", classes: int, fraction: float, seed: int) -> "np.ndarray":
    """bool [n], the samples for validation. ``labels``: int32 [n], class numbers. See ``Dataset.split``."""
    if not 0.0 <= fraction < 1.0:
        raise ConfigError("the validation fraction must be at least 0 and below 1, not %r" % fraction)
    validates = np.zeros(len(labels), bool)
    if fraction:
        by_class = np.argsort(labels, kind="mergesort")  # stable: each class keeps the order of its samples
        ends = np.searchsorted(labels[by_class], np.arange(classes), side="right")
        for number, members in enumerate(np.split(by_class, ends[:-1])):
            wanted = int(fraction * len(members) + 0.5)
            wanted = min(max(wanted, 1), len(members) - 1) if len(members) > 1 else 0
            order = random_state("split", seed, number).permutation(len(members))
            validates[members[order[:wanted]]] = True
    return validates


def renumbered_gone(gone: FrozenSet[int], part: "np.ndarray") -> FrozenSet[int]:
    """The numbers that the samples ``gone`` have among those of ``part``, bool [n]."""
    if not gone:
        return gone
    numbers = np.cumsum(part) - 1
    return frozenset(int(numbers[index]) for index in gone if part[index])


def check_indices(indices: Sequence[int], size: int) -> None:
    """Raises IndexError if one of them is outside 0 .. size - 1."""
    for index in (min(indices), max(indices)) if len(indices) else ():
        if not 0 <= index < size:
            raise IndexError("sample %d of %d: they have the numbers 0 to %d" % (index, size, size - 1))


def class_lines(labels: "Union[Sequence[int], np.ndarray]", classes: Sequence[str]) -> List[str]:
    """The lines of a summary on how many samples each class has; of many classes, the largest and the smallest ones."""
    counts = Counter(labels.tolist() if isinstance(labels, np.ndarray) else labels)
    rows = [("%*d  %s" % (len(str(len(classes) - 1)), number, printable_path(classes[number])), format(count, ","))
            for number, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    if len(rows) > 10:
        rows[5:-4] = [("...", "%s to %s in each of %d more" % (rows[-5][1], rows[5][1], len(rows) - 9))]
    width = max((len(name) for name, _ in rows), default=0)
    return ["  %-*s  %s" % (width, name, count) for name, count in rows]


def left_out_lines(left_out: Sequence[LeftOut]) -> List[str]:
    """The lines of a summary on what a scan left out, or on records that are left out."""
    counts = [why.records for _, why in left_out if isinstance(why, RecordsLeftOut)]
    what = "{:,} record{}".format(sum(counts), "s" * (sum(counts) != 1)) if counts else "{:,}".format(len(left_out))
    return ["left out: " + what, *map("  {}".format, reasons_of(left_out))]


def reasons_of(left_out: Sequence[LeftOut]) -> List[str]:
    """A line for each reason, the most frequent first, with its number and an example."""
    first = {why: path for path, why in reversed(left_out)}
    records: "Counter[str]" = Counter()
    for _, why in left_out:
        records[why] += getattr(why, "records", 0)
    return ["%s: %s%s%s" % (
        why, format(records[why], ",") + " in " if records[why] else "",
        "" if count == 1 else format(count, ",") + " files" * (records[why] > 0) + ", such as ",
        printable_path(first[why])) for why, count in Counter(why for _, why in left_out).most_common()]
