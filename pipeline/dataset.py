"""Where samples come from: a folder of pictures, or records that a generator makes up.

A dataset is a list of (path, label) in an order that is the same on every host, because the plan of a run numbers
its samples by their place in it. Only the trainer has one: workers get the few samples of a step with its lease.
Scanning looks at names alone and opens no file; whether a picture can be decoded shows when a worker decodes it.
"""

import hashlib
import os
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

import numpy as np

from pipeline.errors import ConfigError, DatasetError
from pipeline.messages import Sample, samples_of
from pipeline.plan import random_state

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

HIDDEN = "hidden by a dot before its name"
NO_IMAGE = "no image by its suffix"
NO_CLASS = "image outside any class's folder"
NOTHING_IN_IT = "folder without any image"
LOOP = "link to a folder that it is in itself"
NO_FILE = "neither file nor folder"
DANGLING = "link to nothing"
LINK_OUT = "link that leads out of the folder (--follow-links follows it)"

LeftOut = Tuple[str, str]  # (path below the root, why)


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order; sample ``index`` is ``paths[index]`` of class ``classes[labels[index]]``."""

    root: str                              # absolute folder; '' for generated records
    classes: Tuple[str, ...]
    paths: Tuple[str, ...]                 # below root, '/' between parts; a generated record's number in decimal
    labels: Tuple[int, ...]
    left_out: Tuple[LeftOut, ...]          # whatever a scan passed over

    def __len__(self) -> int:
        return len(self.paths)

    def sample(self, index: int) -> Sample:
        """The sample with this number. Raises IndexError outside 0 .. len - 1."""
        if index < 0:
            raise IndexError("sample %d of %d" % (index, len(self)))
        return Sample(index, self.paths[index], self.labels[index])

    def samples(self, indices: Sequence[int]) -> Tuple[Sample, ...]:
        """The samples with these numbers. Raises IndexError as ``sample`` does."""
        if indices and min(indices) < 0:
            raise IndexError("sample %d of %d" % (min(indices), len(self)))
        return samples_of(zip(indices, map(self.paths.__getitem__, indices), map(self.labels.__getitem__, indices)))

    def split(self, fraction: float, seed: int) -> Tuple["Dataset", "Dataset"]:
        """(training, validation): disjoint, complete, in this order of paths, each numbered from 0.

        ``fraction`` of every class, rounded, goes to validation; with a fraction above 0 each class of two samples
        or more has at least one on either side. Which ones depends on paths, labels, fraction and seed alone.
        Raises ConfigError unless 0 <= fraction < 1.
        """
        if not 0.0 <= fraction < 1.0:
            raise ConfigError("the validation fraction must be at least 0 and below 1, not %r" % fraction)
        validates = np.zeros(len(self), bool)
        if fraction:
            labels = np.array(self.labels, np.int32)
            by_class = np.argsort(labels, kind="mergesort")  # stable: each class keeps the order of its paths
            ends = np.searchsorted(labels[by_class], np.arange(len(self.classes)), side="right")
            for number, members in enumerate(np.split(by_class, ends[:-1])):
                wanted = int(fraction * len(members) + 0.5)
                wanted = min(max(wanted, 1), len(members) - 1) if len(members) > 1 else 0
                order = random_state("split", seed, number).permutation(len(members))
                validates[members[order[:wanted]]] = True
        return self._only(np.flatnonzero(~validates)), self._only(np.flatnonzero(validates))

    def _only(self, indices: "np.ndarray") -> "Dataset":
        chosen = indices.tolist()
        return Dataset(self.root, self.classes, tuple(self.paths[i] for i in chosen),
                       tuple(self.labels[i] for i in chosen), ())

    def fingerprint(self) -> str:
        """16 hex digits over classes, paths and labels: the same data has the same ones wherever it lies."""
        digest = hashlib.blake2b(digest_size=8)
        for names in (self.classes, self.paths):
            # no name holds a NUL, so none can pass for two
            digest.update(os.fsencode("%d\0%s\0" % (len(names), "\0".join(names))))
        digest.update(np.array(self.labels, "<i4").tobytes())
        return digest.hexdigest()

    def summary(self) -> str:
        """What the user should see before training starts: a few lines, whatever the number of classes."""
        if not self.root:
            return "%s generated records" % format(len(self), ",")
        lines = ["%s: %s images in %s classes"
                 % (_shown(self.root), format(len(self), ","), format(len(self.classes), ","))]
        counts = Counter(self.labels)
        ranked = sorted(range(len(self.classes)), key=lambda number: -counts[number])
        rows = [(_shown(self.classes[number]), format(counts[number], ",")) for number in ranked]
        if len(rows) > 10:
            rows[5:-4] = [("...", "%s to %s in each of %d more" % (rows[-5][1], rows[5][1], len(rows) - 9))]
        width = max(len(name) for name, _ in rows)
        lines += ["  %-*s  %s" % (width, name, count) for name, count in rows]
        if self.left_out:
            lines.append("left out: %s" % format(len(self.left_out), ","))
            lines += ["  %s" % line for line in _reasons(self.left_out)]
        return "\n".join(lines)


def generated(size: int) -> Dataset:
    """``size`` records of two classes that the generator makes up from their number, labels included."""
    if size < 1:
        raise ConfigError("a generated dataset needs at least 1 record, not %r" % size)
    return Dataset("", ("0", "1"), tuple(map(str, range(size))), (0,) * size, ())


def scan_folder(root: str, label_word: Optional[str] = None, follow_links: bool = False) -> Dataset:
    """The images below ``root``, ordered by the bytes of their paths.

    Each folder directly below root is a class, with all that is in it at any depth; classes are numbered in order
    of their names' bytes. With ``label_word`` the folders mean nothing: label 1 is any path below root with the
    word in it, be it in the file's own name, and label 0 any other. Links are followed within root, those
    that lead out of it with ``follow_links``: workers have the same rule. Raises DatasetError if there is no folder to
    read, no image in it, or one class only.
    """
    if label_word == "":
        raise ConfigError("the label word is empty, so it is in every path: give the word that marks class 1")
    if not root:
        raise DatasetError("the name of the dataset's folder is empty: give the folder that holds the images")
    root = os.path.abspath(root)
    paths, left_out = _walk(root, follow_links)
    if label_word is None:
        left_out += [(path, NO_CLASS) for path in paths if "/" not in path]
        paths = [path for path in paths if "/" in path]
    left_out.sort(key=lambda pair: os.fsencode(pair[0]))
    if not paths:
        raise DatasetError("dataset folder %s %s" % (_shown(root), _no_image(left_out)))
    paths.sort(key=os.fsencode)
    if label_word is None:
        names = [path.split("/", 1)[0] for path in paths]
        classes = tuple(sorted(set(names), key=os.fsencode))
        numbers = {name: number for number, name in enumerate(classes)}
        labels = tuple(numbers[name] for name in names)
    else:
        classes = ("other", label_word)
        labels = tuple(int(label_word in path) for path in paths)
    dataset = Dataset(root, classes, tuple(paths), labels, tuple(left_out))
    _check_classes(dataset, label_word)
    return dataset


def _walk(root: str, follow_links: bool) -> Tuple[List[str], List[LeftOut]]:
    """Paths below ``root`` of all that looks like an image, and (path, why) of all that does not; in no order."""
    real_root = os.path.join(os.path.realpath(root), "")
    images: List[str] = []
    left_out: List[LeftOut] = []
    empty: List[str] = []
    holding = {""}  # folders with an image at any depth, and the root
    # Folders to look into, as paths with a final '/', each with the identities of those above it: a link that
    # leads to one of them is a loop. What two links lead to counts twice, as the user asked for it.
    folders: List[Tuple[str, FrozenSet[Tuple[int, int]]]] = [("", frozenset())]
    while folders:
        folder, above = folders.pop()
        here = os.path.join(root, folder)
        try:
            status = os.stat(here)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                left_out.append((folder[:-1], LOOP))
                continue
            with os.scandir(here) as entries:
                found = list(entries)
        except OSError as error:
            if not folder:
                raise DatasetError("dataset folder %s %s" % (_shown(root), _unreadable(root, error))) from error
            left_out.append((folder[:-1], "cannot be read: %s" % error.strerror))
            continue
        inside = above | {identity}
        before = len(images)
        for entry in found:
            path = folder + entry.name
            try:
                if entry.name.startswith("."):
                    left_out.append((path, HIDDEN))
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    left_out.append((path, DANGLING))
                elif entry.is_symlink() and not follow_links and not os.path.join(
                        os.path.realpath(entry.path), "").startswith(real_root):
                    left_out.append((path, LINK_OUT))
                elif entry.is_dir():
                    folders.append((path + "/", inside))
                elif not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    left_out.append((path, NO_IMAGE))
                elif entry.is_file():
                    images.append(path)
                else:
                    left_out.append((path, NO_FILE))
            except OSError as error:  # only a link needs a look beyond its name, and that can fail
                left_out.append((path, "cannot be read: %s" % error.strerror))
        if len(images) == before:
            empty.append(folder)
        else:
            while folder not in holding:
                holding.add(folder)
                folder = _parent(folder)
    # of folders within each other, the outermost says it all
    left_out += [(folder[:-1], NOTHING_IN_IT) for folder in empty
                 if folder not in holding and _parent(folder) in holding]
    return images, left_out


def _parent(folder: str) -> str:
    return folder[:folder.rfind("/", 0, -1) + 1]


def _check_classes(dataset: Dataset, label_word: Optional[str]) -> None:
    counts = Counter(dataset.labels)
    if len(counts) > 1:
        return
    root, images, apart = _shown(dataset.root), format(len(dataset), ","), _besides(dataset.left_out)
    if label_word is not None:
        raise DatasetError("the label word '%s' is in %s of the %s paths below %s: training needs images of both "
                           "kinds, so give a word that only some paths have"
                           % (_shown(label_word), "all" if counts[1] else "none", images, root))
    raise DatasetError("dataset folder %s has a single class, '%s' with %s images, and training needs two%s: put "
                       "the images of each class into a folder of their own directly below it, or label them by a "
                       "word in their paths (--label-word WORD)"
                       % (root, _shown(dataset.classes[0]), images, apart))


def _no_image(left_out: Sequence[LeftOut]) -> str:
    """The rest of the sentence that starts with the folder's name."""
    if any(why == NO_CLASS for _, why in left_out):
        return ("has its images directly in it%s: put those of each class into a folder of their own, or label "
                "them by a word in their paths (--label-word WORD)" % _besides(left_out))
    if not left_out:
        return "is empty: it should hold a folder of images for each class"
    return ("has no image in it%s: it should hold a folder for each class, of files whose names end in %s"
            % (_besides(left_out), " ".join(IMAGE_SUFFIXES)))


def _unreadable(root: str, error: OSError) -> str:
    """The rest of the sentence that starts with the folder's name."""
    if isinstance(error, FileNotFoundError):
        above = root
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        return "does not exist (%s does): check its name, or whether its disk is mounted" % _shown(above)
    if isinstance(error, NotADirectoryError):
        return "is no folder: give the folder that holds a folder of images for each class"
    return "cannot be read (%s): give this user the right to read and to enter it" % error.strerror


def _besides(left_out: Sequence[LeftOut]) -> str:
    return " (left out: %s)" % "; ".join(_reasons(left_out)) if left_out else ""


def _reasons(left_out: Sequence[LeftOut]) -> List[str]:
    """A line for each reason, the most frequent first: how often it was met, and where first."""
    first: Dict[str, str] = {}
    for path, why in left_out:
        first.setdefault(why, path)
    return ["%s: %s%s" % (why, "" if count == 1 else format(count, ",") + ", such as ", _shown(first[why]))
            for why, count in Counter(why for _, why in left_out).most_common()]


def _shown(name: str) -> str:
    """A name as it can be printed: file names may hold any byte."""
    text = os.fsencode(name).decode(sys.getfilesystemencoding(), "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]
