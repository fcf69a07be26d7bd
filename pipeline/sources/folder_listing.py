"""The files of a folder in a store, by its listing, as a walk over the same folder of a disk finds them.

A store knows files only: its folders are what the names of files have in front of a '/'. So what a scan says of
folders, that they are hidden, excluded or without images, is found here from the names of the files in them.
"""

import re
from typing import Dict, Iterable, List, NamedTuple, Optional

from stoker.pipeline.sources.dataset import LeftOut
from stoker.pipeline.sources.file_names import HIDDEN, FileNames
from stoker.pipeline.sources.folder_walk import ENTRIES_AT_ONCE, EntryCount
from stoker.pipeline.text import printable_path

_ODD = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|\0")
ODD_NAME = "its name is no path: it has '//', '.', '..' or a NUL in it"


class Found(NamedTuple):
    """What a scan finds below a root, in no particular order."""
    images: List[str]
    left_out: List[LeftOut]
    folders: List[str]          # that were entered, '' for the root
    others: List[str]           # files with other suffixes


def listed_files(paths: Iterable[str], file_names: FileNames, count: EntryCount) -> Found:
    """What there is, by the ``paths`` of all files. A path with '/' at its end is that of a folder, as some programs
    put it into a store. Raises DatasetError if there are too many."""
    found = Found([], [], [""], [])
    why_not: Dict[str, Optional[str]] = {"": None}      # of each folder: why it is left out, or one above it
    number = 0
    for number, path in enumerate(paths, 1):
        if not number % ENTRIES_AT_ONCE:
            count.add(ENTRIES_AT_ONCE, printable_path(path.rpartition("/")[0]))
        plain = path[:-1] if path.endswith("/") else path
        if not plain or _ODD.search(plain):
            if plain:
                found.left_out.append((path, ODD_NAME))
            continue
        folder, _, name = plain.rpartition("/")
        if folder not in why_not:
            _enter(folder, file_names, found, why_not)
        if why_not[folder] is not None:
            continue
        if plain is not path:
            if plain not in why_not:
                _enter(plain, file_names, found, why_not)
            continue
        why = _why_not(path, name, file_names)
        if why is not None:
            found.left_out.append((path, why))
        elif file_names.is_image(name):
            found.images.append(path)
        else:
            found.others.append(path)
    count.add(number % ENTRIES_AT_ONCE, "")
    return found


def _enter(folder: str, file_names: FileNames, found: Found, why_not: Dict[str, Optional[str]]) -> None:
    """Decides on ``folder`` and on those above it."""
    ends = [place for place, sign in enumerate(folder) if sign == "/"] + [len(folder)]
    above = ""
    for end in ends:
        path = folder[:end]
        if path not in why_not:
            why = why_not[above]
            if why is None:
                why = _why_not(path, path.rpartition("/")[2], file_names)
                if why is None:
                    found.folders.append(path)
                else:
                    found.left_out.append((path, why))
            why_not[path] = why
        above = path


def _why_not(path: str, name: str, file_names: FileNames) -> Optional[str]:
    return HIDDEN if name.startswith(".") else file_names.why_not(path, name)
