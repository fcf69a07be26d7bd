"""A walk over the folders below a root that enters each real folder once.

Links make trees endless: 35 folders with two links each to the next have 2^35 paths. A folder that has several names
counts under its own one, without links, if that is below the root; else under the first in the order of their bytes. So
the names are the same on every host, and a tree without links has all its names.
"""

import fnmatch
import glob
import heapq
import logging
import os
import time
from typing import Any, AnyStr, Callable, Generic, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.file_names import ANOTHER_NAME
from stoker.pipeline.text import printable_path

log = logging.getLogger("stoker")

#: Why the walk does not enter a folder.
LOOP = "link to a folder that contains it"
UNREADABLE = "cannot be read: "
MAX_ENTRIES = 50000000        # files and folders; a dataset of so many takes 10 GB of memory
PROGRESS_S = 10.0             # between two lines of progress
ENTRIES_AT_ONCE = 10000      # without a look at the clock


class _Folder(NamedTuple):
    """A folder that the walk may enter. ``above``: the one that contains it; ``identity``: once it is entered."""
    path: Any
    above: Optional[Any]
    is_link: bool
    has_link: bool            # in its path
    identity: List[Tuple[int, int]]


class Walk(Generic[AnyStr]):
    """Iterating gives the path of each folder below ``root``, '' for itself, and a list of its entries. For those among
    them that are folders, the caller calls ``add`` before it goes on.

    ``left_out``: (path, reason) of folders that are not entered. ``every_name``: as former releases did, a folder
    counts under each of its names. Raises OSError if the root cannot be read; DatasetError if there are more than
    ``limit`` entries.
    """

    def __init__(self, root: AnyStr, every_name: bool = False, limit: int = MAX_ENTRIES,
                 now: Callable[[], float] = time.monotonic) -> None:
        self._root: AnyStr = root
        self._every_name = every_name
        self.left_out: List[Tuple[AnyStr, str]] = []
        self._count = EntryCount(_shown(root), limit, now)
        self._seen: Set[Tuple[int, int]] = set()             # device and inode of each folder that was entered
        self._here: Optional[_Folder] = None
        self._plain = [_Folder(root[:0], None, False, False, [])]            # to be entered before the links
        self._links: List[Tuple[bytes, _Folder]] = []

    def add(self, path: AnyStr, is_link: bool) -> None:
        """``path`` below the root is a folder, or a link to one, in the folder that the iteration gave last."""
        assert self._here is not None
        found = _Folder(path, self._here, is_link, is_link or self._here.has_link, [])
        if found.has_link and not self._every_name:
            heapq.heappush(self._links, (os.fsencode(path), found))
        else:
            self._plain.append(found)

    def __iter__(self) -> Iterator[Tuple[AnyStr, List[Any]]]:
        while self._plain or self._links:
            folder = self._here = self._plain.pop() if self._plain else heapq.heappop(self._links)[1]
            here = os.path.join(self._root, folder.path)
            try:
                status = os.stat(here)
                why_not = self._why_not(folder, (status.st_dev, status.st_ino))
                entries = [] if why_not else self._read(folder.path, here)
            except OSError as error:
                if folder.above is None:
                    raise
                why_not = UNREADABLE + str(error.strerror)
            if why_not:
                self.left_out.append((folder.path, why_not))
            else:
                yield folder.path, entries

    def _why_not(self, folder: _Folder, identity: Tuple[int, int]) -> Optional[str]:
        if folder.is_link:
            above = folder.above
            while above is not None:
                if identity in above.identity:
                    return LOOP
                above = above.above
        # not asked of a path without links: some file systems give several folders one number
        if folder.has_link and not self._every_name and identity in self._seen:
            return ANOTHER_NAME
        self._seen.add(identity)
        folder.identity.append(identity)
        return None

    def _read(self, path: AnyStr, here: AnyStr) -> List[Any]:
        found = []
        with os.scandir(here) as entries:
            for entry in entries:
                found.append(entry)
                if not len(found) % ENTRIES_AT_ONCE:
                    self._count.add(ENTRIES_AT_ONCE, _shown(path))
        self._count.add(len(found) % ENTRIES_AT_ONCE, _shown(path))
        return found


class EntryCount:
    """Counts the files and folders of a scan of ``root``, a printable name, and logs how far it is."""

    def __init__(self, root: str, limit: int = MAX_ENTRIES, now: Callable[[], float] = time.monotonic) -> None:
        self._root, self._limit, self._now = root, limit, now
        self._entries = 0                                    # so far
        self._next_line_s = now() + PROGRESS_S

    def add(self, more: int, path: str) -> None:
        """There are ``more``, the last ones in the folder ``path``. Raises DatasetError if there are too many."""
        self._entries += more
        if self._entries > self._limit:
            raise DatasetError("%s has more than %s files and folders, which no scan takes; it stopped in %s: give a "
                               "smaller folder, or leave folders out (exclude= or --exclude PATTERN)" % (
                                   self._root, format(self._limit, ","), path or self._root))
        if self._now() >= self._next_line_s:
            self._next_line_s = self._now() + PROGRESS_S
            log.warning("scanning %s: %s files and folders so far, now in %s", self._root, format(self._entries, ","),
                        path or self._root)


def _shown(path: AnyStr) -> str:
    return printable_path(os.fsdecode(path))


def matching(folder: bytes, parts: Sequence[bytes]) -> Iterator[bytes]:
    """The paths below ``folder`` that match the parts of a pattern, as ``glob.iglob`` finds them; but for ``**``, a
    folder with several names counts once, and a warning tells how many names do not count."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], list(parts[1:])
    if part == b"**":
        while rest and rest[0] == part:
            rest = rest[1:]
        walk = Walk(folder)
        try:
            for below, entries in walk:
                here = os.path.join(folder, below) if below else folder
                yield from matching(here, rest) if rest else (here,)
                for entry in entries:
                    if not entry.name.startswith(b"."):
                        if _is_folder(entry):
                            walk.add(os.path.join(below, entry.name), entry.is_symlink())
                        elif not rest:
                            yield entry.path
        except OSError:                    # as of a folder that cannot be read
            return
        names = [path for path, why in walk.left_out if why == ANOTHER_NAME]
        if names:
            log.warning("%s name%s of folders below %s, such as %s, %s left out, for their files count already",
                        format(len(names), ","), "s" * (len(names) > 1), _shown(folder), _shown(min(names)),
                        "are" if len(names) > 1 else "is")
    elif glob.has_magic(part):
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in fnmatch.filter(names, part):
            if not name.startswith(b".") or part.startswith(b"."):
                yield from matching(os.path.join(folder, name), rest)
    elif os.path.lexists(os.path.join(folder, part)):
        yield from matching(os.path.join(folder, part), rest)


def _is_folder(entry: Any) -> bool:
    try:
        return bool(entry.is_dir())
    except OSError:
        return False
