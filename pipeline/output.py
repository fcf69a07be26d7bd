"""What Stoker prints and logs never ends a run. A line that cannot be written is lost, and the run goes on.

Standard output or standard error may be a pipe whose reader has gone (EPIPE), a terminal that was closed (EIO), a file
on a full disk (ENOSPC), or closed from the start (``2>&-``). Its encoding may have no sign for a letter. And a user's
program may have a log handler that raises.
"""

import codecs
import io
import logging
import os
import select
import signal
import sys
from contextlib import suppress
from typing import Any, List, Optional, Tuple, Union

BUSY_S = 1.0                 # how long a line waits for a reader that does not wait for it (O_NONBLOCK)
CLOSED: List[int] = []       # the standard descriptors that were closed when this process began
RAW_NAMES = "stoker-raw-names"      # an error handler of codecs: bytes of file names as they are, all else escaped


def protect() -> None:
    """Makes this process's standard output and standard error ones that do not fail. For Stoker's own programs, at
    their start. A stream that was replaced before, such as a test's or a notebook's, stays."""
    keep_descriptors()
    codecs.register_error(RAW_NAMES, _raw_names)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and (stream is not getattr(sys, "__%s__" % name) or _descriptor(stream) != fd):
            continue
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
        encoding, errors = encoding_of(stream and stream.encoding, "PYTHONIOENCODING" in os.environ)
        setattr(sys, name, io.TextIOWrapper(_Steady(fd), encoding, errors, line_buffering=True))


def keep_descriptors() -> None:
    """Opens /dev/null in the place of each of the descriptors 0, 1 and 2 that is closed. A file that is opened later
    would get its number, and then what the process prints."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)      # the lowest number that is free
                if opened == fd:
                    os.set_inheritable(fd, True)
                    CLOSED.append(fd)
                else:                                        # another thread took it just now
                    os.close(opened)


def encoding_of(encoding: Optional[str], is_asked_for: bool) -> Tuple[str, str]:
    """The encoding and the error handler of a stream that has ``encoding``, which the user may have asked for. Never
    fails. Where the locale is C, and nothing is known of the terminal, it is UTF-8, as in Python 3.7 and later."""
    if encoding is None or not is_asked_for and codecs.lookup(encoding).name == "ascii":
        return "utf-8", RAW_NAMES
    return encoding, "backslashreplace"


def say_now(text: str) -> None:
    """Writes ``text`` to standard error, past all buffers and locks, and without a wait: for handlers of signals, and
    for a process that ends at once."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode("utf-8", "backslashreplace"))


def survive_hangup(sentence: str) -> None:
    """Lets this process outlive its terminal, whose end is SIGHUP; ``sentence`` is printed then. For the main thread.
    A user's own handler stays."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda signum, frame: say_now(sentence))


def steady(logger: logging.Logger) -> None:
    """Makes an exception of a handler or filter of ``logger`` no exception of the code that logs. It is printed, as
    Python prints those of its own handlers. A second call changes nothing."""
    handle = logger.handle
    if getattr(handle, "is_steady", False):
        return

    def handle_steadily(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception:
            with suppress(Exception):       # standard error may be a broken one
                logging.Handler().handleError(record)

    handle_steadily.is_steady = True        # type: ignore[attr-defined]
    logger.handle = handle_steadily         # type: ignore[method-assign]


class _Steady(io.RawIOBase):
    """The descriptor ``fd``. Writing loses what cannot be written."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                left = left[os.write(self._fd, left):]
            except BlockingIOError:
                if not select.select([], [self._fd], [], BUSY_S)[1]:
                    break
            except OSError:
                break
        return size


def _raw_names(error: UnicodeError) -> Tuple[Union[str, bytes], int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xdc80 <= code <= 0xdcff:            # a byte of a file name, as PEP 383 has it
        return bytes([code - 0xdc00]), error.start + 1
    return error.object[error.start].encode("ascii", "backslashreplace").decode("ascii"), error.start + 1


def _descriptor(stream: Any) -> Optional[int]:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
