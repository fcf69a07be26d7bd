"""What names of files and folders say to a scan: which are pictures, and which are not of the user's data."""

import fnmatch
import re
from typing import Any, Collection, List, Optional, Sequence, Tuple, Union

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import normal_form, printable_path

Texts = Union[str, Sequence[str]]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm",
                  ".pgm")
#: Those that releases without a list of SYSTEM_FOLDERS did not know.
LATER_SUFFIXES = (".jpe", ".jfif", ".jif")
#: Folders, in any case, that operating systems, archives and network storage make beside the user's files: thumbnails
#: of pictures, deleted files, snapshots. Those whose names begin with a dot are hidden anyway.
SYSTEM_FOLDERS = frozenset((
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot",       # network storage
    "$recycle.bin", "$extend", "system volume information", "found.000",                            # Windows
    "__macosx", "network trash folder", "temporary items",                                          # macOS
    "lost+found", "__pycache__"))


class FileNames:
    """Which names a scan takes: ``FileNames(exclude=["*_old", "cat/raw"], suffixes=[".JPG_"])``.

    ``exclude``: patterns as of ``fnmatch``; a file or folder whose path below the data folder matches one, or whose
    name does, is left out with all in it. ``suffixes``: of pictures, in any case, beside IMAGE_SUFFIXES; '' stands for
    names without one. ``system``: names, in lower case, of folders that are left out, except those whose paths are
    ``named``. ``former``: the rules of earlier releases: no system folders, no LATER_SUFFIXES. Raises ConfigError.
    """

    def __init__(self, exclude: Texts = (), suffixes: Texts = (), system: Collection[str] = SYSTEM_FOLDERS,
                 named: Collection[str] = (), former: bool = False) -> None:
        self._system: Collection[str] = () if former else system
        self._named = named
        self._patterns: List[Tuple[str, Any]] = []
        for pattern in _listed("exclude", exclude):
            plain = normal_form(pattern)
            while plain.startswith("./"):
                plain = plain[2:]
            plain = plain.rstrip("/")
            if not plain or plain.startswith("/") or ".." in plain.split("/"):
                raise ConfigError("exclude must be a pattern for paths below the data folder or for names, such as "
                                  "'cat/old' or '*_copy.*', not %.80r" % pattern)
            self._patterns.append((pattern, re.compile(fnmatch.translate(plain))))
        more = _listed("suffixes", suffixes)
        for suffix in more:
            if "/" in suffix or suffix == ".":
                raise ConfigError("suffixes must be ends of file names, such as '.JPG_', not %.80r" % suffix)
        known = tuple(suffix for suffix in IMAGE_SUFFIXES if not (former and suffix in LATER_SUFFIXES))
        self.are_given = bool(self._patterns or more)
        self._suffixes = known + tuple("." + suffix.lower().lstrip(".") for suffix in more if suffix)
        self._without_suffix = "" in more
        self.unused = [pattern for pattern, _ in self._patterns]      # those that matched nothing so far

    def why_not(self, path: str, name: str) -> Optional[str]:
        """Why the file or folder ``path``, called ``name``, is left out; None if its name is no reason."""
        if name.lower() in self._system and path not in self._named:
            return SYSTEM
        if self._patterns:
            whole, last = normal_form(path), normal_form(name)
            for pattern, matches in self._patterns:
                if matches.match(whole) or matches.match(last):
                    if pattern in self.unused:
                        self.unused.remove(pattern)
                    return EXCLUDED + printable_path(pattern)
        return None

    def why_not_below(self, path: str) -> Optional[str]:
        """Why the file ``path`` is left out: for its name, or one of the folders it lies in. None if it is not."""
        for end in [place for place, sign in enumerate(path) if sign == "/"] + [len(path)]:
            why = self.why_not(path[:end], path[:end].rpartition("/")[2])
            if why is not None:
                return why
        return None

    def is_image(self, name: str) -> bool:
        """Whether a file of this name is taken for a picture."""
        return name.lower().endswith(self._suffixes) or self._without_suffix and "." not in name


#: Why a scan leaves something out.
HIDDEN = "hidden: its name begins with a dot"
SYSTEM = "folder of the system, not of your data"
EXCLUDED = "excluded by "
ANOTHER_NAME = "another name of a folder whose files count already"
SAME_CLASS = "link to the folder of another class, and so no class of its own"


#: Rules of former releases, for ``scan_folder``: a folder counts under each of its names; and the former ``FileNames``.
EVERY_NAME, FORMER_NAMES = FORMER_RULES = (1, 2)


def former_rules(paths: Sequence[str], left_out: Sequence[Tuple[str, str]]) -> List[int]:
    """Those of FORMER_RULES by which a scan with these results may have other ones."""
    has_names = any(why in (ANOTHER_NAME, SAME_CLASS) for _, why in left_out)
    if any(why == SYSTEM for _, why in left_out) or any(path.lower().endswith(LATER_SUFFIXES) for path in paths):
        return [EVERY_NAME] * has_names + [FORMER_NAMES]
    return [EVERY_NAME] * has_names


def _listed(what: str, texts: Any) -> List[str]:
    """``texts``, or the single one, as a list; None is none. Raises ConfigError."""
    if texts is None:
        return []
    listed: List[Any] = [None]
    if isinstance(texts, (str, list, tuple)):
        listed = [texts] if isinstance(texts, str) else list(texts)
    if not all(isinstance(text, str) for text in listed):
        raise ConfigError("%s must be a list of texts, not %.80r" % (what, texts))
    return listed
