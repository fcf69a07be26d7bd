"""Names that a person takes for the same: one in two Unicode forms ('é' as one sign, or as 'e' and an accent), or with
the suffix in upper or lower case. File systems hold them apart, and macOS, zip files and rsync change the form."""

import os
import unicodedata
from typing import Iterator, List, Tuple

UNICODE_FORM = "in another Unicode form (NFC or NFD)"


def unicode_forms(name: bytes) -> List[bytes]:
    """``name`` in the Unicode forms that it does not have."""
    text = name.decode("utf-8", "surrogateescape")
    forms = [unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)]
    return [form.encode("utf-8", "surrogateescape") for form in forms if form != text]


def other_spelling(path: bytes) -> str:
    """What is there instead of the missing file ``path``: part of a sentence; '' if nothing like it is there."""
    there = path
    while there not in (b"", b"/") and not os.path.isdir(there):
        there = os.path.dirname(there)
    rest = path[len(there):] if there else path
    for how, name in _spellings(rest):
        if name != rest and os.path.lexists(there + name):
            return "a file of this name is there %s" % how
    return ""


def _spellings(rest: bytes) -> Iterator[Tuple[str, bytes]]:
    for form in unicode_forms(rest):
        yield UNICODE_FORM, form
    stem, suffix = os.path.splitext(rest)
    for changed in (suffix.lower(), suffix.upper()):
        yield "with the suffix " + changed.decode("ascii", "backslashreplace"), stem + changed
