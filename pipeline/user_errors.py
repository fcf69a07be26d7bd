"""What a user's code raised, for its author: a sentence with the line at fault, a traceback without Stoker's frames."""

import os
import traceback
from typing import Any, Optional

from stoker.pipeline.errors import StokerError
from stoker.pipeline.text import printable

MAX_TEXT = 1000        # characters of an exception's text; some show the whole array that they are about
MAX_LINES = 40         # at the beginning of a traceback, and at its end; an endless recursion has thousands
#: How errors begin, or go on after the function's name, that say nothing about samples.
CANNOT_LOAD, IN_SETUP = "cannot load the ", ", its setup "
_HERE = os.path.dirname(os.path.abspath(__file__))
_STOKERS = tuple(os.path.join(os.path.dirname(_HERE), name, "")
                 for name in ("pipeline", "workers", "trainer", "inspection"))
_STANDARD = os.path.join(os.path.dirname(os.path.abspath(os.__file__)), "")
_INSTALLED = tuple(os.path.join(os.sep, name, "") for name in ("site-packages", "dist-packages"))


def sentence_of(error: BaseException, hint: str = "") -> str:
    """What ``error`` is and where the user's code raised it, in one printable line: ``KeyError: 'nope' (bad.py, line
    49)``. ``hint``: a remedy, which stands in front of the place."""
    if isinstance(error, SystemExit):
        status = "" if error.code is None else "%.100r" % (error.code,)
        text = "it called sys.exit(%s): let it raise an error" % status
    elif isinstance(error, StopIteration):
        text = "a StopIteration came out of it: a generator on which it calls next() had ended"
    else:
        text = _text_of(error)
        if not isinstance(error, StokerError):       # its sentence says all
            text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
            text = ": ".join(filter(None, (type(error).__name__, text)))
    return printable(text + hint) + _place_of(error)


def is_about_samples(sentence: str) -> bool:
    """Whether samples may be the cause of a worker's error: not before its function got the first of them."""
    return not sentence.startswith(CANNOT_LOAD) and IN_SETUP not in sentence


def a_type(value: Any) -> str:
    """The type of any object, in a sentence."""
    name = type(value).__name__
    return "%s %s" % ("an" if name[:1].lower() in "aeio" else "a", name)


def traceback_of(error: BaseException) -> str:
    """Its traceback, from the first frame on that is not Stoker's; all of it if there is no such frame."""
    begin = error.__traceback__
    while begin is not None and _is_stokers(begin.tb_frame.f_code.co_filename):
        begin = begin.tb_next
    lines = "".join(traceback.format_exception(type(error), error, begin or error.__traceback__)).splitlines()
    if len(lines) > 2 * MAX_LINES:
        lines[MAX_LINES:-MAX_LINES] = ["  ... %d lines" % (len(lines) - 2 * MAX_LINES)]
    return "".join(line[:MAX_TEXT] + "..." * (len(line) > MAX_TEXT) + "\n" for line in lines)


def line_of(error: BaseException) -> "Optional[traceback.FrameSummary]":
    """The deepest frame of the user's own code; of a function in an installed package, its own; None without one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not _is_stokers(frame.filename) and (_is_installed(frame.filename) or not _is_pythons(frame.filename))]
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    return own[-1] if own else frames[0] if frames else None


def _place_of(error: BaseException) -> str:
    frame = line_of(error)
    return "" if frame is None else " (%s, line %d)" % (printable(os.path.basename(frame.filename)), frame.lineno or 0)


def _text_of(error: BaseException) -> str:
    try:
        return " ".join(filter(None, map(str.strip, str(error).splitlines())))
    except Exception as other:       # a user's __str__
        return "its text raises %s" % type(other).__name__


def _is_stokers(file: str) -> bool:
    return file.startswith(_STOKERS)


def _is_installed(file: str) -> bool:
    return any(name in file for name in _INSTALLED)


def _is_pythons(file: str) -> bool:
    return file.startswith(("<", _STANDARD))        # or no file, as <frozen importlib._bootstrap>
