"""Names and texts as people get to see them: printable, short, and never thousands of them."""

import codecs
import os
import unicodedata
from contextlib import suppress
from typing import Any, Iterable, List, Sequence, Sized

MAX_NAMES = 8      # of samples, files, classes or fields in one sentence


def printable(text: str, lines: bool = False) -> str:
    """``text`` with all that is not printable escaped, such as a terminal's escape sequences in the name of a file;
    ``lines``: except ends of lines and tabs."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or (lines and one in "\n\t")
                   else one.encode("unicode_escape").decode("ascii") for one in text)


def path_bytes(path: str) -> bytes:
    """The bytes of a file name on every host, as ``storage.folder.resolve`` has them; os.fsencode depends on LANG."""
    return path.encode("utf-8", "surrogateescape")


def native(path: str) -> str:
    """``path`` as the functions of ``os`` take it. Under LC_ALL=C, Python 3.6 has no bytes for 'ü' of a program's text,
    and names the file by the surrogates of its bytes."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        with suppress(UnicodeEncodeError):      # a lone surrogate: no file name
            return os.fsdecode(path_bytes(path))
    return path


def own_letters(path: str) -> str:
    """``path`` with the letters that its bytes are in UTF-8, whatever the locale: what a file keeps of it."""
    try:
        return path_bytes(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return path


def locale_problem(encoding: str, names: Iterable[str]) -> str:
    """Why a Python that reads file names in ``encoding`` cannot use ``names``, in a sentence; '' if it can. Workers and
    TensorFlow take names for UTF-8."""
    if codecs.lookup(encoding).name in ("utf-8", "ascii"):
        return ""
    odd = next((name for name in names if any(ord(letter) > 127 for letter in name)), None)
    return "" if odd is None else (
        "the locale makes this Python read file names as %s, and there is %s: start it with LC_ALL=C.UTF-8 (or another "
        "locale of UTF-8, see locale -a)" % (encoding, ascii(odd)))


def printable_path(name: str) -> str:
    """A printable form of a file name, which may contain any byte."""
    try:
        # not os.fsencode: under LANG=C, Python 3.6 has no bytes for a name with other letters than ASCII
        text = path_bytes(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:      # a lone surrogate: no file name
        text = name
    return printable(text)


def quoted(value: Any) -> str:
    """A value or name in quotes, such as a column's, a feature's or a dataset's: printable as ``printable_path`` makes
    it, with the letters of every language."""
    return printable(repr(own_letters(value) if isinstance(value, str) else value), lines=True)


def name_list(names: Iterable[str], most: int = MAX_NAMES) -> str:
    """The first names, printable, and how many more there are: "a.jpg, b.jpg and 19,992 more"."""
    shown: List[str] = []
    count = 0
    for count, name in enumerate(names, 1):
        if count <= most:
            shown.append(printable_path(name))
        elif isinstance(names, Sized):
            count = len(names)
            break
    return ", ".join(shown) + (" and %s more" % format(count - most, ",") if count > most else "")


def normal_form(name: str) -> str:
    """``name``, a text of the user or a file name, in the one Unicode form in which names are compared."""
    return unicodedata.normalize("NFC", own_letters(name))


def same_name(name: str, names: Sequence[str]) -> str:
    """The one of ``names`` that is ``name``, if need be in another Unicode form; ``name`` itself if there is none."""
    if name in names:
        return name
    return next((other for other in names if normal_form(other) == normal_form(name)), name)
