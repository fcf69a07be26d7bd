"""Which record files a user means: a path, a pattern, braces, a list of these, or URLs. Sorted by the paths' bytes."""

import glob
import itertools
import os
import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.fields import checked_root, fault_of
from stoker.pipeline.sources.file_names import SYSTEM_FOLDERS
from stoker.pipeline.sources.folder_walk import matching
from stoker.pipeline.sources.records.unfinished_pack import refuse_unfinished
from stoker.pipeline.storage.folder import version_of
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.spelling import other_spelling
from stoker.pipeline.storage.store import Entry, Gone, StoreError
from stoker.pipeline.storage.threads import Threads
from stoker.pipeline.storage.urls import WEB, Url, is_url, normal, problem_of, split, text_of
from stoker.pipeline.text import path_bytes, printable_path

Pattern = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]

MAX_FILES = 1000000
ASKED_AT_ONCE = 16          # files of a store whose sizes are asked for at once
#: Files, in any case, that systems and programs leave beside the user's; hidden ones begin with a dot anyway.
SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini", "_success", "_common_metadata", "_metadata"))
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})\Z")
_HELP = "a path, a pattern such as 'data/train-*.tfrecord' or 'data/train-{000..099}.tar', or a list of these"


class Found(NamedTuple):
    """The record files that a pattern means."""
    root: str                    # absolute folder or URL
    files: Tuple[Entry, ...]     # their paths below it, in the order of their bytes, and their versions now


def find_files(pattern: Any, root: Optional[Any] = None) -> Found:
    """The files of ``pattern``. ``root``: the folder or URL from which relative patterns start, and below which all
    files are; by default, relative patterns start from the current folder, and the root is the folder before the first
    wildcard, or the one that all have in common. Raises ConfigError; DatasetError, also for shards of an unfinished
    pack in a folder."""
    texts = list(_texts(pattern))
    start = None if root is None else _start(root)
    are_urls = [is_url(text) or start is not None and is_url(start) for text in texts]
    if len(set(are_urls)) > 1:
        raise ConfigError("some of the record files are URLs and others are not: give files of one place")
    if are_urls[0]:
        return _in_store(texts, start if start is None or is_url(start) else _no_url(start))
    found = _in_folder([os.path.abspath(text if start is None else os.path.join(start, text)) for text in texts], start)
    refuse_unfinished(found.root, [entry.path for entry in found.files])
    return found


def _texts(pattern: Any) -> Iterator[str]:
    listed = [pattern] if isinstance(pattern, (str, os.PathLike)) else pattern
    if not isinstance(listed, (list, tuple)) or not listed:
        raise ConfigError("record files must be given as %s, not %.80r" % (_HELP, pattern))
    for each in listed:
        text = os.fspath(each) if isinstance(each, os.PathLike) else each
        if not isinstance(text, str) or not text or fault_of(text):
            raise ConfigError("record files must be given as %s, not %.80r" % (_HELP, each))
        yield from expanded(text)


def expanded(text: str) -> Iterator[str]:
    """``text`` with its braces replaced by each of what is in them: {000..099} are numbers, {a,b} are texts. Braces
    with neither stay. Raises ConfigError if these are too many."""
    pieces: List[List[str]] = [[]]
    count, place = 1, 0
    for match in _BRACES.finditer(text):
        choices = _choices(match.group(1))
        if choices is not None:
            count *= len(choices)
            if count > MAX_FILES:
                raise ConfigError("%.200r stands for more than %s files: give fewer"
                                  % (text, format(MAX_FILES, ",")))
            pieces += [[text[place:match.start()]], choices]
            place = match.end()
    for parts in itertools.product(*pieces[1:], [text[place:]]):
        yield "".join(parts)


def _choices(inner: str) -> Optional[List[str]]:
    numbers = _RANGE.match(inner)
    if numbers is not None:
        first, last = numbers.groups()
        if int(last) < int(first) or int(last) - int(first) >= MAX_FILES:
            raise ConfigError("{%s} must be a range of at most %s numbers, the smaller one first"
                              % (inner, format(MAX_FILES, ",")))
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        return ["%0*d" % (width, number) for number in range(int(first), int(last) + 1)]
    return inner.split(",") if "," in inner else None


def _start(root: Any) -> str:
    text = os.fspath(root) if isinstance(root, os.PathLike) else root
    if isinstance(text, str) and is_url(text):
        return normal(text)
    return os.path.abspath(checked_root(os.path.abspath(text) if isinstance(text, str) and text else text))


def _no_url(root: str) -> str:
    raise ConfigError("the record files are URLs, and the root %s is none: give the URL above the files, or no root"
                      % printable_path(root))


def _fixed(path: str, scheme: str = "") -> Tuple[str, List[str]]:
    """The folder before the first wildcard of a path, and the parts from there on."""
    parts = path.split("/")
    number = next((number for number, part in enumerate(parts[:-1]) if _is_pattern(part, scheme)), len(parts) - 1)
    return "/".join(parts[:number]), parts[number:]


# ------------------------------------------------------------------------------------------------------- local files

def _in_folder(absolute: Sequence[str], start: Optional[str]) -> Found:
    found = set()
    folders = []
    for path in absolute:
        exists = os.path.lexists(path_bytes(path))             # it may have a '[' in its name
        folder, parts = _fixed(path) if not exists else (os.path.dirname(path), [os.path.basename(path)])
        folder = folder or "/"
        folders.append(folder)
        if exists or not any(map(glob.has_magic, parts)):
            found.add(path_bytes(path))
            continue
        named = {part.lower() for part in parts}
        matches = [each for each in matching(path_bytes(folder), [path_bytes(part) for part in parts if part])
                   if os.path.isfile(each) and not _is_of_system(each[len(path_bytes(folder)):], named)]
        if not matches:
            raise DatasetError("no file matches %s in %s: check the pattern, and where the program was started"
                               % (printable_path("/".join(parts)), printable_path(folder)))
        found.update(matches)
    root = start
    if root is None:
        root = os.path.commonpath(folders)
        if root == "/" and set(folders) != {"/"}:
            raise DatasetError("the record files have no folder in common but /, and workers may read any file below "
                               "the root: link them into one folder, or give root=\"/\" if workers may read all files "
                               "of their hosts")
    before = path_bytes(os.path.join(root, ""))
    entries = []
    for path_in_bytes in sorted(found):
        if not path_in_bytes.startswith(before):
            raise DatasetError("%s is not below the root %s: give a root= that contains all files" % (
                printable_path(os.fsdecode(path_in_bytes)), printable_path(root)))
        entries.append(_entry(path_in_bytes, path_in_bytes[len(before):]))
    return Found(root, tuple(entries))


def _entry(path: bytes, below: bytes) -> Entry:
    name = printable_path(path.decode("utf-8", "surrogateescape"))
    try:
        status = os.stat(path)
    except OSError as error:
        alike = other_spelling(path) if isinstance(error, FileNotFoundError) else ""
        raise DatasetError("the record file %s cannot be read (%s%s): check its name, and where the program was started"
                           % (name, error.strerror, "; " + alike if alike else "")) from error
    if os.path.isdir(path):
        raise DatasetError("%s is a folder, where a record file was expected: give its files, as in %r" % (
            name, os.path.join(name, "*")))
    if not os.path.isfile(path):
        raise DatasetError("%s is no regular file: give record files" % name)
    return Entry(below.decode("utf-8", "surrogateescape"), version_of(status))


def _is_of_system(path: bytes, named: Iterable[str]) -> bool:
    """Whether a file of a pattern is none of the user's, or lies in such a folder, that the pattern does not name."""
    parts = [part.lower() for part in path.decode("utf-8", "surrogateescape").split("/")]
    return any(part in SYSTEM_FOLDERS and part not in named for part in parts[:-1]) or (
        parts[-1] in SYSTEM_FILES and parts[-1] not in named)


# ------------------------------------------------------------------------------------------------------------- stores

def _in_store(texts: Sequence[str], start: Optional[str]) -> Found:
    """Paths are plain text here: percent signs stand in URLs alone."""
    urls = [_url_of(text, start) for text in texts]
    first = urls[0] if start is None else split(start)
    odd = next((url for url in urls if url[:2] != first[:2]), None)
    if odd is not None:
        raise ConfigError("the record files are in different places, %s and %s: give files of one bucket or host"
                          % (printable_path(text_of(first._replace(path=""))), printable_path(text_of(
                              odd._replace(path="")))))
    folder = first.path if start is not None else _common([_fixed(url.path, url.scheme)[0] for url in urls])
    root = text_of(first._replace(path=folder))
    store = open_store(root)
    found: Dict[str, Entry] = {}
    plain = []
    try:
        for url in urls:
            if folder and not url.path.startswith(folder + "/"):
                raise ConfigError("%s is not below the root %s: give a root= that contains all files" % (
                    printable_path(text_of(url)), printable_path(root)))
            below = url.path[len(folder) + 1 if folder else 0:]
            if not below:
                example = root + ("/{000..099}.tar" if url.scheme in WEB else "/*.tar")
                raise ConfigError("%s is all of a store and no record file: give a file, or a pattern such as %s" % (
                    printable_path(root), printable_path(example)))
            if not _is_pattern(below, url.scheme):
                plain.append(below)
                continue
            matches = list(_listed(store, below))
            if not matches:
                raise DatasetError("no file in %s matches %s: check the pattern" % (
                    printable_path(root), printable_path(below)))
            found.update((entry.path, entry) for entry in matches)
        missing = [path for path in plain if path not in found]
        with Threads(ASKED_AT_ONCE) as threads:
            found.update((entry.path, entry) for entry in threads.map(store.size, missing))
    except Gone as error:
        raise DatasetError("%s: check its name%s" % (error, "" if first.scheme in WEB else (
            "; if it is a folder, give its files, as in FOLDER/*"))) from error
    except StoreError as error:
        raise DatasetError("%s" % error) from error
    return Found(root, tuple(found[path] for path in sorted(found, key=path_bytes)))


def _url_of(text: str, start: Optional[str]) -> Url:
    if is_url(text):
        return split(text)
    assert start is not None
    if problem_of(text):
        raise ConfigError("%s is no path below the root %s, for it %s" % (
            printable_path(text), printable_path(start), problem_of(text)))
    url = split(start)
    return url._replace(path="/".join(filter(None, (url.path, text))))


def _is_pattern(path: str, scheme: str) -> bool:
    """Whether it has wildcards. A web server has no list of its files, and '?' and '[' may stand in their names."""
    return "*" in path if scheme in WEB else glob.has_magic(path)


def _listed(store: Any, below: str) -> Iterator[Entry]:
    """The files of a store that match a pattern."""
    parts = below.split("/")
    fixed = "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    first = parts[fixed.count("/") + 1 if fixed else 0]
    prefix = (fixed + "/" if fixed else "") + re.split(r"[*?[]", first, maxsplit=1)[0]
    matches = re.compile(pattern_of(parts)).match
    named = {part.lower() for part in parts}
    for entry in store.listed(prefix):
        if matches(entry.path) and not _is_of_system(path_bytes(entry.path), named):
            yield entry


def pattern_of(parts: Sequence[str]) -> str:
    """A regular expression for the paths that match a pattern, as ``glob`` has them: hidden ones only by name."""
    text = ""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            text += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if is_last else "")
        else:
            text += ("" if part.startswith(".") or not glob.has_magic(part) else r"(?!\.)") + _part(part)
            text += "" if is_last else "/"
    return text + r"\Z"


def _part(part: str) -> str:
    found, place = "", 0
    while place < len(part):
        sign = part[place]
        end = part.find("]", place + 2) if sign == "[" else -1
        if end > 0:
            inner = part[place + 1:end].replace("\\", "\\\\")
            found += "(?!/)[%s]" % ("^" + inner[1:] if inner[0] == "!" else "\\" + inner if inner[0] == "^" else inner)
            place = end
        else:
            found += "[^/]*" if sign == "*" else "[^/]" if sign == "?" else re.escape(sign)
        place += 1
    return found


def _common(folders: Sequence[str]) -> str:
    """The folder that all of ``folders`` are in, or are."""
    parts = [folder.split("/") for folder in folders]
    return "/".join(each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, zip(*parts)))
