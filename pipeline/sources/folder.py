"""The dataset of a folder of pictures.

The scan reads names only and opens no file. A file that cannot be decoded is found later, when a worker decodes it.
"""

import os
from collections import Counter
from typing import FrozenSet, List, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.dataset import Dataset, LeftOut, reasons_of, printable_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

HIDDEN = "hidden: its name begins with a dot"
NO_IMAGE = "not an image: its name has another suffix"
NO_CLASS = "image in no class folder"
NO_IMAGES = "folder without images"
LOOP = "link to a folder that contains it"
NO_FILE = "neither a file nor a folder"
DANGLING = "broken link"
LINK_OUT = "link that leads out of the dataset (--follow-links follows it)"


def scan_folder(root: str, label_word: Optional[str] = None, follow_links: bool = False) -> Dataset:
    """The images below ``root``, ordered by the bytes of their paths: ``scan_folder("photos/").summary()``.

    Each folder directly below root is a class, which contains all images in it at any depth. Classes are numbered in
    the order of their names' bytes. With ``label_word``, folders have no meaning: a path below root that contains the
    word (in a folder's or in the file's name) has label 1, any other label 0. Links within root are followed, links
    that lead out of it only with ``follow_links``; workers have the same rule. Raises DatasetError if the folder cannot
    be read, or has no image, or a single class.
    """
    if label_word == "":
        raise ConfigError("the label word is empty, so every path contains it: give the word that marks class 1")
    if not root:
        raise DatasetError("the name of the dataset's folder is empty: give the folder that holds the images")
    root = os.path.abspath(root)
    paths, left_out = _walk(root, follow_links)
    if label_word is None:
        left_out += [(path, NO_CLASS) for path in paths if "/" not in path]
        paths = [path for path in paths if "/" in path]
    left_out.sort(key=lambda pair: os.fsencode(pair[0]))
    if not paths:
        raise DatasetError("dataset folder %s %s" % (printable_path(root), _no_image(left_out)))
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
    """The paths below ``root`` of images, and (path, reason) of everything else, in no particular order."""
    real_root = os.path.join(os.path.realpath(root), "")
    images: List[str] = []
    left_out: List[LeftOut] = []
    empty: List[str] = []
    with_images = {""}  # folders with an image at any depth, and the root
    # Folders to scan, as paths with a final '/', each with the identities of the folders above it: a link to one of
    # those is a loop. A folder to which two links lead counts twice, because the user asked for it.
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
                raise DatasetError("dataset folder %s %s" % (printable_path(root), _unreadable(root, error))) from error
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
            except OSError as error:  # only links need more than the directory entry, which may fail
                left_out.append((path, "cannot be read: %s" % error.strerror))
        if len(images) == before:
            empty.append(folder)
        else:
            while folder not in with_images:
                with_images.add(folder)
                folder = _parent(folder)
    # of empty folders within each other, only the outermost is reported
    left_out += [(folder[:-1], NO_IMAGES) for folder in empty
                 if folder not in with_images and _parent(folder) in with_images]
    return images, left_out


def _parent(folder: str) -> str:
    return folder[:folder.rfind("/", 0, -1) + 1]


def _check_classes(dataset: Dataset, label_word: Optional[str]) -> None:
    counts = Counter(dataset.labels)
    if len(counts) > 1:
        return
    root, images, left_out = printable_path(dataset.root), format(len(dataset), ","), _left_out(dataset.left_out)
    if label_word is not None:
        raise DatasetError("the label word '%s' is in %s of the %s paths below %s: training needs images of both "
                           "classes, so give a word that only some paths contain"
                           % (printable_path(label_word), "all" if counts[1] else "none", images, root))
    raise DatasetError("dataset folder %s has a single class, '%s' with %s images, and training needs two%s: put "
                       "the images of each class into a folder of their own directly below it, or label them by a "
                       "word in their paths (--label-word WORD)"
                       % (root, printable_path(dataset.classes[0]), images, left_out))


def _no_image(left_out: Sequence[LeftOut]) -> str:
    """The rest of a sentence that begins with the folder's name."""
    if any(why == NO_CLASS for _, why in left_out):
        return ("has its images directly in it%s: put those of each class into a folder of their own, or label "
                "them by a word in their paths (--label-word WORD)" % _left_out(left_out))
    if not left_out:
        return "is empty: it should contain a folder of images for each class"
    return ("has no image in it%s: it should contain a folder for each class, with files whose names end in %s"
            % (_left_out(left_out), " ".join(IMAGE_SUFFIXES)))


def _unreadable(root: str, error: OSError) -> str:
    """The rest of a sentence that begins with the folder's name."""
    if isinstance(error, FileNotFoundError):
        above = root
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        return "does not exist (%s does): check its name, and whether its disk is mounted" % printable_path(above)
    if isinstance(error, NotADirectoryError):
        return "is no folder: give the folder that contains a folder of images for each class"
    return "cannot be read (%s): give this user the permission to read and enter it" % error.strerror


def _left_out(left_out: Sequence[LeftOut]) -> str:
    return " (left out: %s)" % "; ".join(reasons_of(left_out)) if left_out else ""
