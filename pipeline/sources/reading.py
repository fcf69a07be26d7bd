"""Sources from files and lists of files: ``stoker.csv``, ``jsonl``, ``lines`` and ``files``."""

import glob
import itertools
import json
import logging
import os
import re
from dataclasses import replace
from typing import Any, Callable, Collection, Iterable, Iterator, Optional, Sequence, Union

from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.sources.csv_file import CsvFile
from stoker.pipeline.sources.dataset import Dataset, reasons_of
from stoker.pipeline.sources.fields import fault_of
from stoker.pipeline.sources.file_names import SYSTEM_FOLDERS, FileNames, Texts
from stoker.pipeline.sources.table import MAX_PATH, Table
from stoker.pipeline.sources.folder_walk import matching
from stoker.pipeline.sources.roots import Path, contains, is_url
from stoker.pipeline.sources.text_file import TextFile, absolute_root
from stoker.pipeline.sources.url_list import matching_urls, url_list
from stoker.pipeline.storage.spelling import UNICODE_FORM, unicode_forms
from stoker.pipeline.text import name_list, path_bytes, printable_path, quoted
from stoker.pipeline.user_errors import sentence_of

log = logging.getLogger("stoker")

#: In an absolute path: an empty part, '.' or '..'.
_NOT_PLAIN = re.compile(r"/\.{0,2}(?:/|$)")


def csv(file: Path, root: Optional[Path] = None, delimiter: Optional[str] = None,
        columns: Optional[Sequence[str]] = None, encoding: str = "utf-8", na_values: Sequence[str] = (),
        decimal: str = ".") -> Table:
    """The rows of a CSV file, each a dict: ``stoker.csv("driving_log.csv").rows([0])``.

    ``columns``: their names, if the first row does not have them. ``delimiter``: ',', or a tab for a file .tsv.
    ``root``: the folder below which the files lie that rows name (default: that of ``file``).

    All cells of a column have one type. It is int if all of them are whole numbers as Python prints them; float if all
    are numbers; else str. Numbers with a needless 0 in front, such as '007', and whole numbers of 19 digits or more are
    taken for names, and stay str. So a column may have another type in another file: convert it where that matters, as
    in ``str(row["code"])``. An empty cell is None in a column of numbers, and so is one of ``na_values``, such as
    ``["NA", "k.A."]``; in a column of text both stay as they are. ``decimal=","`` reads 13,31 as a number. Blanks
    behind a delimiter are no part of a cell, unless it is quoted. Blank lines are left out.

    Reads the file twice. Raises ConfigError; DatasetError, with the line, for rows of another length, a quote that is
    not closed, or another encoding.
    """
    text = TextFile(file, encoding)
    usual = "\t" if text.path.lower().endswith(".tsv") else ","
    rows = CsvFile(text, usual if delimiter is None else delimiter, columns, na_values, decimal)
    if delimiter is None and columns is None and len(rows.columns) == 1:
        other = next((sign for sign in ";\t|," if sign in rows.columns[0] and sign != usual), None)
        if other is not None:
            raise DatasetError("%s names the single column %s: give delimiter=%r; or delimiter=%r, if that is its name"
                               % (text.at(1), quoted(rows.columns[0]), other, usual))
    table = Table.packed(*rows.packed(), text.root(root), rows.columns, text.name)
    table.types = rows.found
    table.path = text.path
    table.csv_options = {"delimiter": delimiter, "columns": None if columns is None else list(columns),
                         "encoding": encoding, "na_values": list(na_values), "decimal": decimal}
    return table


def jsonl(file: Path, root: Optional[Path] = None) -> Table:
    """The rows of a file with a JSON value in each line: ``stoker.jsonl("boxes.jsonl", root="images")``.

    Blank lines are left out. ``root``: the folder below which the files lie that rows name (default: that of ``file``).
    Raises ConfigError; DatasetError, with the line, for one that is not JSON or cannot travel, such as an int of more
    than 64 bits.
    """
    text = TextFile(file)
    table = Table.of(_json_values(text), text.root(root), text.name, lambda row: text.at(text.line))
    only, = table.rows([0]) if len(table) == 1 else [None]
    if isinstance(only, list) and only and all(isinstance(item, dict) for item in only):
        raise DatasetError("%s is a single JSON list: write each of its items on a line of its own" % text.name)
    return table


def _json_values(text: TextFile) -> Iterator[Any]:
    for line in text.lines():
        try:
            value = json.loads(line)
        except ValueError as error:
            reason = "%s, column %d" % (error.msg, error.colno) if isinstance(error, json.JSONDecodeError) else error
            goes_on = ": write each value on a line of its own, for this one goes on below" * (line.strip() in "[{")
            raise DatasetError("%s is not JSON (%s)%s" % (text.at(text.line), reason, goes_on)) from None
        except RecursionError:
            raise DatasetError("%s is nested too deep" % text.at(text.line)) from None
        yield value


def lines(file: Path, parse: Callable[[str], Any], root: Optional[Path] = None, encoding: str = "utf-8") -> Table:
    """A row for each line of a text file: ``stoker.lines("attributes.txt", lambda line: line.split())``.

    ``parse`` gets the line without its end, and returns the row, or None to leave the line out. Blank lines are left
    out. ``root``: the folder below which the files lie that rows name (default: that of ``file``). Raises ConfigError;
    DatasetError, with the line, if ``parse`` raises or the row cannot travel.
    """
    if not callable(parse):
        raise ConfigError("parse must be a function that makes a row of a line, not %.80r" % (parse,))
    text = TextFile(file, encoding)
    return Table.of(_parsed(text, parse), text.root(root), text.name, lambda row: text.at(text.line))


def _parsed(text: TextFile, parse: Callable[[str], Any]) -> Iterator[Any]:
    for line in text.lines():
        try:
            row = parse(line)
        except (Exception, SystemExit) as error:
            raise DatasetError("%s: %s: %s" % (text.at(text.line), getattr(parse, "__name__", "parse"),
                                               sentence_of(error))) from error
        if row is not None:
            yield row


def files(pattern: Union[Path, Iterable[Path]], root: Optional[Path] = None, exclude: Texts = ()) -> Dataset:
    """Files without labels: all that match a pattern, or a list of paths. ``stoker.files("gan/**/*.jpg")``.

    The files of a pattern (see Python's ``glob``; ``**`` stands for folders of any depth) are in the order of their
    bytes, those of a list in its order. ``root``: the folder below which they lie, from which relative paths and
    patterns start. By default they start from the current folder, and the root is the pattern's part before the first
    wildcard, or the folder that all listed files have in common. ``exclude``: patterns for paths below the root, and
    for names, that are left out: see ``--exclude``. A pattern does not find hidden files, nor those in folders of
    systems, such as @eaDir, that it does not name. URLs, and patterns of them such as "s3://bucket/gan/**/*.jpg", name
    files in stores, all of one; a web server lists nothing, and so takes no pattern. Nothing is opened: workers find
    the files that are missing. Raises ConfigError; DatasetError if there is no file, or one that is not below the root.
    """
    start = os.path.abspath(os.curdir) if root is None else absolute_root(root)
    if isinstance(pattern, (str, os.PathLike)):
        if isinstance(pattern, str) and fault_of(pattern):
            raise ConfigError("the pattern of files is %.80r, which %s" % (pattern, fault_of(pattern)))
        named = {part.lower() for part in os.fspath(pattern).split("/")}
        if is_url(pattern) or is_url(start):
            folder, found = matching_urls(os.fspath(pattern), start)
            dataset = Dataset(folder, (), tuple(found), (-1,) * len(found), ())
            if root is not None:
                dataset = moved(dataset, start)
        else:
            folder, found = _matching(os.fspath(pattern), start)
            dataset = _below(found, start if root is not None else folder)
        return _without(dataset, exclude, SYSTEM_FOLDERS - named)
    if isinstance(pattern, (bytes, int, float, dict)):
        raise ConfigError("files needs a pattern such as 'photos/**/*.jpg', or a list of paths, not %.80r" % (pattern,))
    return _without(path_list(pattern, start, root is None), exclude, ())


def _without(dataset: Dataset, exclude: Texts, system: Collection[str]) -> Dataset:
    """The files of ``dataset`` that are not left out: see ``FileNames``. Raises ConfigError, DatasetError."""
    names = FileNames(exclude, (), system)
    reasons = {path: names.why_not_below(path) for path in dataset.paths} if len(exclude) or system else {}
    left_out = tuple((path, why) for path, why in reasons.items() if why is not None)
    if names.unused:
        log.warning("no file below %s matches exclude %s", printable_path(dataset.root),
                    name_list(names.unused))
    if not left_out:
        return dataset
    paths = tuple(path for path in dataset.paths if reasons[path] is None)
    if not paths:
        raise ContentError("all %s files below %s are left out: %s"
                           % (format(len(dataset), ","), printable_path(dataset.root), "; ".join(reasons_of(left_out))))
    return replace(dataset, paths=paths, labels=(-1,) * len(paths), left_out=left_out)


#: Workers read any file below the root, whatever a row names.
NOTHING_IN_COMMON = ("the files of %s have no folder in common but /, and workers may read any file below the root: "
                     "link them into one folder, or give root=\"/\" if workers may read all files of their hosts")


def moved(dataset: Any, root: str) -> Any:
    """``dataset``, or records, with the absolute root ``root``. Raises ConfigError if it does not contain the files."""
    if not contains(root, dataset.root):
        raise ConfigError("root %s does not contain %s, where the samples' files are: give a folder that does, or none"
                          % (printable_path(root), printable_path(dataset.root)))
    return dataset.below(root)


def path_list(paths: Iterable[Path], start: str, is_free: bool, name: str = "the list of paths",
              takes_urls: bool = False) -> Dataset:
    """The dataset of ``paths``; relative ones start from the absolute folder ``start``, which is the root unless
    ``is_free``: then the root is the folder that all files have in common. That is also so for URLs, if it
    ``takes_urls`` that are not below ``start``."""
    if is_url(start):
        return url_list(paths, start, name)
    if is_free or takes_urls:
        paths = iter(paths)
        first = list(itertools.islice(paths, 1))
        paths = itertools.chain(first, paths)
        if first and is_url(first[0]):
            return url_list(paths, None, name)
    before = start.rstrip("/") + "/"
    found = []
    for row, path in enumerate(paths):
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        if not isinstance(text, str) or not text or "\0" in text:
            raise DatasetError("row %d is %.80r, which is no path: a list of paths has only paths, and a list of rows "
                               "begins with none" % (row, path))
        if len(text) > MAX_PATH:
            raise DatasetError("row %d is a text of %s characters, %.40r..., and a path has at most %s: a list of "
                               "paths has only paths, and a list of rows begins with none"
                               % (row, format(len(text), ","), text, format(MAX_PATH, ",")))
        if not text.startswith("/"):
            if is_url(text):
                raise DatasetError("row %d is the URL %s, and all files of a run lie below one root, here %s: give "
                                   "URLs only, and if there is a root=, the URL of a folder in their store"
                                   % (row, printable_path(text), printable_path(start)))
            text = before + text
        found.append(os.path.normpath(text) if _NOT_PLAIN.search(text, 1) else text)
        if not text.isprintable() and _not_encodable(text):
            raise DatasetError("row %d is the path %s, which is no file name: it is not valid Unicode"
                               % (row, quoted(path)))
    if not found:
        raise ContentError("%s is empty, so there is nothing to train on" % name)
    if is_free:
        common = os.path.commonprefix(found)
        start = common[:common.rindex("/")] or "/"
        if start == "/":
            raise DatasetError(NOTHING_IN_COMMON % name)
    return _below(found, start)


def _below(paths: Sequence[str], root: str) -> Dataset:
    """The dataset of absolute ``paths``. Raises DatasetError if one is not below ``root``."""
    before = root.rstrip("/") + "/"
    for row, path in enumerate(paths):
        if not path.startswith(before) or path == before:
            raise DatasetError("row %d, %s, is not below the root %s: give a root= that contains all files"
                               % (row, printable_path(path), printable_path(root)))
    skip = len(before)
    return Dataset(root, (), tuple(path[skip:] for path in paths), (-1,) * len(paths), ())


def _matching(pattern: str, start: str) -> Any:
    """The absolute folder before the first wildcard of ``pattern``, and the files that match it, sorted."""
    parts = pattern.split("/")
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), None)
    if fixed is None:
        raise ConfigError("files needs a pattern with * or ?, such as %r, or a list of paths, not the single path %r"
                          % (os.path.join(pattern, "**", "*.jpg"), pattern))
    folder = os.path.normpath(os.path.join(start, "/".join(parts[:fixed]) or ("/" if parts[0] == "" else "")))
    # bytes: under LANG=C, Python 3.6 has no str for names with other letters than ASCII
    whole = os.path.join(glob.escape(path_bytes(folder)), *map(path_bytes, parts[fixed:]))
    found = sorted({path for path in matching(path_bytes(folder), [path_bytes(part) for part in parts[fixed:] if part])
                    if os.path.isfile(path)})
    if not found:
        alike = any(next(matching(b"/", list(filter(None, form.split(b"/")))), None) for form in unicode_forms(whole))
        raise DatasetError("no file matches %s in %s%s: check the pattern, and where the program was started"
                           % (printable_path("/".join(parts[fixed:])), printable_path(folder),
                              ", but one does whose name is " + UNICODE_FORM if alike else ""))
    return folder, [path.decode("utf-8", "surrogateescape") for path in found]


def _not_encodable(path: str) -> bool:
    try:
        path_bytes(path)
    except UnicodeEncodeError:
        return True
    return False
