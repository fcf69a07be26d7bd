"""Files in stores that a user names one by one, or by a pattern: URLs, and paths below the URL of a root."""

import fnmatch
import glob
import os
import posixpath
import re
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.remote import files_below
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.storage import urls
from stoker.pipeline.text import printable_path

#: In a path in a store: what ``urls.problem_of`` may call a problem.
_ODD = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|[\x00-\x1f\x7f]")


def url_list(paths: Iterable[Any], root: Optional[str], name: str) -> Dataset:
    """The dataset of ``paths``: URLs; and paths below ``root``, a URL in its normal form. None: the root is the folder
    that all URLs have in common. Raises ConfigError, DatasetError."""
    top = None if root is None else _top(root)
    start = "" if root is None else urls.split(root).path
    before = start + "/" if start else ""
    found: List[str] = []
    for row, given in enumerate(paths):
        text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
        if not isinstance(text, str) or not text:
            raise DatasetError("row %d is %.80r, which is no path: a list of paths has only paths" % (row, given))
        if not is_url(text):
            if root is None or text.startswith("/"):
                raise DatasetError("row %d is the path %s, and other rows are URLs: all files of a run lie below one "
                                   "root, so give URLs%s" % (row, printable_path(text), " only, or root=" if root is
                                                             None else " and paths that start from it"))
            path = before + (posixpath.normpath(text) if _ODD.search(text) else text)
        else:
            this, path = _split(text, top)
            if top is None:
                top = this
            if this != top:
                raise DatasetError("row %d, %s, is not in %s as the others are, and workers have one root: copy the "
                                   "files into one store, or train on those of one"
                                   % (row, printable_path(text), top.rstrip("/")))
        problem = urls.problem_of(path) if _ODD.search(path) else ""
        if problem:
            raise DatasetError("row %d, %s, is no file of a store: its path %s" % (row, printable_path(text), problem))
        if not path.startswith(before):
            raise DatasetError("row %d, %s, is not below the root %s: give a root= that contains all files"
                               % (row, printable_path(text), printable_path(str(root))))
        found.append(path)
    if not found or top is None:
        raise ContentError("%s is empty, so there is nothing to train on" % name)
    if root is None:
        common = os.path.commonprefix(found)
        before = common[:common.rfind("/") + 1]
        root = urls.joined(top.rstrip("/"), before[:-1])
    skip = len(before)
    return Dataset(root, (), tuple(path[skip:] for path in found), (-1,) * len(found), ())


def _top(url: str) -> str:
    """The URL's store, with '/' at its end."""
    parts = urls.split(url)
    return urls.text_of(parts._replace(path="")) + "/"


def _split(url: str, top: Optional[str]) -> Tuple[str, str]:
    """The store of ``url``, and the plain path in it. ``top``: the store that it probably has."""
    if top is not None and url.startswith(top) and ("%" not in url or not top.startswith("http")):
        return top, url[len(top):]
    return _top(url), urls.split(url).path


def matching_urls(pattern: str, start: str) -> Tuple[str, List[str]]:
    """The URL before the first wildcard of ``pattern``, and the paths below it that match, in the order of their bytes.
    ``start``: the URL from which a pattern starts that is none itself. Raises ConfigError, DatasetError."""
    whole = pattern if is_url(pattern) else "%s/%s" % (start, pattern)
    end = whole.index("://") + 3
    parts = whole[end:].split("/")
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), None)
    if fixed is None:
        raise ConfigError("files needs a pattern with * or ?, such as %r, or a list of paths, not the single path %r"
                          % (pattern.rstrip("/") + "/**/*.jpg", pattern))
    root = urls.normal(whole[:end] + "/".join(parts[:fixed]))
    wanted = [part for part in parts[fixed:] if part]
    found = [path for path in files_below(root) if not path.endswith("/") and _is_match(path.split("/"), wanted)]
    if not found:
        raise DatasetError("no file matches %s in %s: check the pattern" % (
            printable_path("/".join(wanted)), printable_path(root)))
    return root, sorted(found, key=lambda path: path.encode("utf-8", "surrogateescape"))


def _is_match(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the path of these names matches the parts of a pattern, as ``folder_walk.matching`` does: no wildcard
    stands for a name that begins with a dot."""
    states = {0}                # so many parts of the pattern are used up
    for number, name in enumerate(names):
        following = set()
        is_last = number == len(names) - 1
        for state in _entered(states, parts):
            part = parts[state] if state < len(parts) else None
            if part == "**":
                if not name.startswith("."):
                    following.add(state)
                    if is_last and state == len(parts) - 1:
                        following.add(len(parts))
            elif part is not None and fnmatch.fnmatchcase(name, part) and (
                    not name.startswith(".") or part.startswith(".")):
                following.add(state + 1)
        states = following
    return len(parts) in states


def _entered(states: Iterable[int], parts: Sequence[str]) -> Iterator[int]:
    """``states``, and those behind each '**', which may stand for no folder."""
    seen = set()
    for state in states:
        while state not in seen:
            seen.add(state)
            yield state
            if state < len(parts) - 1 and parts[state] == "**":
                state += 1
