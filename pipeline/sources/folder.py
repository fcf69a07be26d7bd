"""The dataset of a folder of pictures. The scan reads names only: workers find the files that cannot be decoded."""

import functools
import itertools
import logging
import os
import re
import sys
from collections import Counter
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.sources.content import other_suffixes, start_of_file
from stoker.pipeline.sources.data_files import RECORDS
from stoker.pipeline.sources.dataset import Dataset, LeftOut, reasons_of
from stoker.pipeline.sources.fields import checked_root
from stoker.pipeline.sources.file_names import (
    ANOTHER_NAME, EXCLUDED, FORMER_NAMES, HIDDEN, IMAGE_SUFFIXES, SAME_CLASS, SYSTEM, FileNames, Texts)
from stoker.pipeline.sources.folder_listing import Found, listed_files
from stoker.pipeline.sources.layout import Layout
from stoker.pipeline.sources.folder_walk import MAX_ENTRIES, UNREADABLE, EntryCount, Walk
from stoker.pipeline.sources.remote import MAX_TRIED, files_below, start_of_remote
from stoker.pipeline.sources.roots import absolute, is_url, joined
from stoker.pipeline.text import locale_problem, name_list, normal_form, path_bytes, printable_path

log = logging.getLogger("stoker")

FORMER_MAX_ENTRIES = 10000000      # of a scan by former rules, for a checkpoint: it may have no end

OTHER = "other"                    # the class of paths without the label word

#: Why a scan leaves something out.
NO_IMAGE = "not an image: its name has another suffix"
NO_CLASS = "image in no class folder"
NO_IMAGES = "folder without images"
NOT_NAMED = "folder of a class that is not among the given classes"
NO_FILE = "neither a file nor a folder"
DANGLING = "broken link"
LINK_OUT = "link that leads out of the dataset (follow_links=True or --follow-links follows it)"
#: Reasons that nearly every folder has, or that the user gave: no cause for a warning.
_PART = re.compile(r"-\d+(-of-\d+)\Z")      # of a file of TFRecords, by their usual names
_USUAL = (HIDDEN, NO_IMAGE, NOT_NAMED, NO_IMAGES, SYSTEM)


def scan_folder(root: str, label_word: Optional[str] = None, follow_links: bool = False,
                classes: Optional[Sequence[str]] = None, labels: bool = True, validation: bool = False,
                exclude: Texts = (), suffixes: Texts = (), former: int = 0) -> Dataset:
    """The images below ``root``, ordered by the bytes of their paths: ``scan_folder("photos/").summary()``. ``root``:
    a folder, or the URL of one in a store.

    Each folder directly below root is a class, which contains all images in it at any depth. Classes are numbered in
    the order of their names' bytes, or as ``classes`` lists them; then others are left out. With ``label_word``,
    folders have no meaning: a path below root that contains the word has label 1, any other label 0. With
    ``labels=False``, there are no classes: all images count. Links that lead out of root are followed only with
    ``follow_links``; workers have the same rule. A folder with several names counts once: see ``Walk``. ``exclude``,
    ``suffixes``: see ``FileNames``; a folder that ``classes`` names counts, whatever its name. ``former``: one of
    FORMER_RULES, or 0. Names are compared in one Unicode form. Raises DatasetError if the
    folder cannot be read, or has no image, or a single class, or no image of one of ``classes``, or if its classes are
    the parts of a dataset, such as train and val; for a ``validation`` folder, one image is enough.
    """
    if label_word == "":
        raise ConfigError("the label word is empty, so every path contains it: give the word that marks class 1")
    if sum((label_word is not None, classes is not None, not labels)) > 1:
        raise ConfigError("give only one of label_word=, classes= and labels=False: each says what the labels are")
    if not root:
        raise DatasetError("the name of the dataset's folder is empty: give the folder that holds the images")
    if label_word is not None and not isinstance(label_word, str):
        raise ConfigError("label_word must be a text, not %.80r" % (label_word,))
    named = None if classes is None else _checked(classes)
    given, root = root, checked_root(absolute(root))
    file_names = FileNames(exclude, suffixes, named=named or (), former=former >= FORMER_NAMES)
    paths, left_out = _scanned(root, _listed(root, file_names) if is_url(root) else
                               _walked(root, follow_links, file_names, former))
    problem = "" if is_url(root) else locale_problem(sys.getfilesystemencoding(), itertools.chain([root], paths))
    if problem:
        raise ConfigError(problem)
    if file_names.unused and not validation:
        log.warning("nothing in %s matches exclude %s", printable_path(root),
                    name_list(file_names.unused))
    paths.sort(key=path_bytes)
    if not labels:
        names: Tuple[str, ...] = ()
        numbers: Tuple[int, ...] = (-1,) * len(paths)
    elif label_word is None:
        left_out = [(path, SAME_CLASS if why == ANOTHER_NAME and "/" not in path else why) for path, why in left_out]
        left_out += [(path, NO_CLASS) for path in paths if "/" not in path]
        paths = [path for path in paths if "/" in path]
        folders = [path.split("/", 1)[0] for path in paths]
        names = tuple(sorted(set(folders), key=path_bytes)) if named is None else named
        if named is None:
            _warn_of_twins(root, names)
            layout = Layout(given, names, paths)
            refusal = None if validation else layout.refusal()
            if refusal:
                raise ContentError(refusal, True)
            if layout.doubt():
                log.warning("%s", layout.doubt())
        number_of = _numbers(names, set(folders))
        left_out += [(folder, NOT_NAMED) for folder in set(folders).difference(number_of)]
        paths = [path for path, folder in zip(paths, folders) if folder in number_of]
        numbers = tuple(number_of[folder] for folder in folders if folder in number_of)
    else:
        names, word = (OTHER, label_word), normal_form(label_word)
        mixture = Layout(given, sorted({path.split("/", 1)[0] for path in paths if "/" in path}), paths).mixture()
        if mixture:
            log.warning("%s", mixture)
        numbers = tuple(int(word in normal_form(path)) for path in paths)
    left_out.sort(key=lambda pair: path_bytes(pair[0]))
    dataset = Dataset(root, names, tuple(paths), numbers, tuple(left_out))
    if not paths and (validation or not labels):
        raise ContentError("folder %s has no image%s%s: give the folder that holds the images (%s)" % (
            printable_path(root), " of a class of the training data" * validation * labels, _reasons(dataset),
            " ".join(IMAGE_SUFFIXES)))
    if labels and not validation:
        if named is not None:
            used = set(numbers)
            missing = [name for number, name in enumerate(named) if number not in used]
            if missing:
                raise ContentError("dataset folder %s has no image of %s, which classes= names%s: check the names, or "
                                   "leave them out" % (printable_path(root), name_list(missing),
                                                       _reasons(dataset)), bool(paths))
        elif len(set(numbers)) < 2:
            raise ContentError(_too_few_classes(dataset, label_word, Layout(given, names, paths).hint()),
                               bool(paths))
    return dataset


def _warn_of_twins(root: str, names: Sequence[str]) -> None:
    """Warns of classes that a reader takes for one."""
    twins = [name for name, count in Counter(map(normal_form, names)).items() if count > 1]
    if twins:
        log.warning("the class %s has two folders in %s, whose names differ in their Unicode form (NFC, NFD), and they "
                    "count as two classes: move the files into one of them", printable_path(twins[0]),
                    printable_path(root))


def is_usual(why: str) -> bool:
    """Whether what was left out for the reason ``why`` is hardly a loss."""
    return why in _USUAL or why.startswith(EXCLUDED)


def _numbers(names: Sequence[str], folders: Set[str]) -> Dict[str, int]:
    """The number of each of ``folders`` that is one of ``names``, be it in another Unicode form."""
    exact = {name: number for number, name in enumerate(names)}
    normal = {normal_form(name): number for number, name in reversed(list(enumerate(names)))}
    found = {folder: exact.get(folder, normal.get(normal_form(folder))) for folder in folders}
    return {folder: number for folder, number in found.items() if number is not None}


def _checked(classes: Sequence[str]) -> Tuple[str, ...]:
    """The names of ``classes``. Raises ConfigError."""
    if isinstance(classes, (set, frozenset)):
        raise ConfigError("classes must be a list of folder names, and a set has no order: give sorted(...)")
    named = tuple(classes) if isinstance(classes, Iterable) else ()       # an iterator is used up by it
    if not isinstance(classes, Iterable) or isinstance(classes, (str, bytes)) or not all(
            isinstance(name, str) for name in named):
        raise ConfigError("classes must be a list of folder names, such as ['cat', 'dog'], not %.80r" % (classes,))
    if not named or len(set(named)) < len(named):
        raise ConfigError("classes must name each class folder once, and at least one, not %.80r" % (classes,))
    odd = [name for name in named if not name or "/" in name or "\0" in name or name.startswith(".")]
    if odd:
        raise ConfigError("classes must be names of folders directly below the data folder, not %.80r" % odd[0])
    return named


def _reasons(dataset: Dataset) -> str:
    """What was left out, for the error of a folder without enough images; and if these are record files, what to do."""
    if not dataset.left_out:
        return ""
    others = [path for path, why in dataset.left_out if why == NO_IMAGE]
    records = next((path for path in others if _suffix(path) in RECORDS), None)
    part = next(filter(_PART.search, others), None)
    what = ""
    if records is not None:
        what = "; these are record files: give %r" % joined(
            dataset.root, joined(os.path.dirname(records), "*" + _suffix(records)))
    elif part is not None:
        what = "; if these are TFRecord files, give stoker.tfrecord(%r), or %r --records tfrecord" % (
            (joined(dataset.root, _PART.sub(r"-*\1", part)),) * 2)
    return " (left out: %s%s)" % ("; ".join(reasons_of(dataset.left_out)), what)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _walked(root: str, follow_links: bool, file_names: FileNames, former: int) -> Found:
    """What there is in the folder ``root`` of this host."""
    real_root = os.path.join(os.path.realpath(root), "")
    found = images, left_out, scanned, others = Found([], [], [], [])
    walk = Walk(root, former > 0, FORMER_MAX_ENTRIES if former else MAX_ENTRIES)
    try:
        for folder, entries in walk:
            scanned.append(folder)
            for entry in entries:
                path = os.path.join(folder, entry.name)
                try:
                    is_link = entry.is_symlink()
                    why_not = HIDDEN if entry.name.startswith(".") else file_names.why_not(path, entry.name)
                    if why_not is not None:
                        left_out.append((path, why_not))
                    elif is_link and not os.path.exists(entry.path):
                        left_out.append((path, DANGLING))
                    elif is_link and not follow_links and not os.path.join(
                            os.path.realpath(entry.path), "").startswith(real_root):
                        left_out.append((path, LINK_OUT))
                    elif entry.is_dir():
                        walk.add(path, is_link)
                    elif not file_names.is_image(entry.name):
                        others.append(path)
                    elif entry.is_file():
                        images.append(path)
                    else:
                        left_out.append((path, NO_FILE))
                except OSError as error:  # only links need more than the directory entry, which may fail
                    left_out.append((path, UNREADABLE + str(error.strerror)))
    except NotADirectoryError as error:
        raise DatasetError("dataset folder %s is not a folder: give the folder that holds one folder of images for "
                           "each class" % printable_path(root)) from error
    except OSError as error:
        raise DatasetError("dataset folder %s cannot be read (%s): check its name, whether its disk is mounted and "
                           "whether this user may read and enter it" % (printable_path(root), error.strerror)
                           ) from error
    left_out += walk.left_out
    return found


def _listed(root: str, file_names: FileNames) -> Found:
    """What there is below the URL ``root``."""
    return listed_files(files_below(root), file_names, EntryCount(printable_path(root)))


def _scanned(root: str, found: Found) -> Tuple[List[str], List[LeftOut]]:
    """The paths below ``root`` of images, and (path, reason) of everything else, in no particular order."""
    images, left_out, folders, others = found
    if is_url(root):
        pictures = other_suffixes(sorted(others), functools.partial(start_of_remote, root), MAX_TRIED)
    else:
        pictures = other_suffixes(sorted(others), lambda path: start_of_file(os.path.join(root, path)))
    left_out += [(path, pictures.get(path, NO_IMAGE)) for path in others]
    with_images = {""}  # folders with an image at any depth, and the root
    for folder in set(map(os.path.dirname, images)):
        while folder not in with_images:
            with_images.add(folder)
            folder = os.path.dirname(folder)
    # of empty folders within each other, only the outermost is reported
    left_out += [(folder, NO_IMAGES) for folder in folders
                 if folder not in with_images and os.path.dirname(folder) in with_images]
    return images, left_out


def _too_few_classes(data: Dataset, label_word: Optional[str], hint: str) -> str:
    """The error of a dataset with one class or none."""
    folder, count = printable_path(data.root), format(len(data), ",")
    if data.paths and label_word is not None:
        folded = normal_form(label_word).lower()
        alike = 0 if data.labels[0] else sum(folded in normal_form(path).lower() for path in data.paths)
        return ("the label word '%s' is in %s of the %s paths below %s%s: training needs images of both classes, so "
                "give a word that only some paths contain"
                % (printable_path(label_word), "all" if data.labels[0] else "none", count, folder,
                   " (in %s in other upper and lower case)" % format(alike, ",") if alike else ""))
    found = "no image of a class"
    if data.paths:
        found = "a single class, '%s' with %s image%s" % (
            printable_path(data.classes[0]), count, "s" * (len(data) != 1))
    return ("dataset folder %s has %s%s: training needs at least two classes; put the images of each (%s) into a "
            "folder of their own directly below it, or label them by a word in their paths (label_word= or "
            "--label-word WORD)%s"
            % (folder, found, _reasons(data), " ".join(IMAGE_SUFFIXES), hint))
