"""The lines of an audit, and that of one step, found without reading the whole file: its steps ascend.

While a trainer writes the file, its last line may be incomplete; it counts for nothing.
"""

from __future__ import generator_stop

import os
from contextlib import contextmanager
from typing import IO, Any, Dict, Iterator, List, Optional, Sequence, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.audit import parsed, place_of
from stoker.pipeline.monitoring.audits import Incomplete, part_of_line, together
from stoker.pipeline.monitoring.step_log import MAX_LINE_BYTES
from stoker.pipeline.storage.safe_files import open_own
from stoker.pipeline.text import printable_path

NEAR_BYTES = 1 << 14          # so near to a line, the lines before it are read one by one


def line_of(path: str, step: int) -> Optional[Dict[str, Any]]:
    """The line of ``step``; None if the audit has none. Raises ConfigError if it cannot be read, or is none."""
    with _opened(path) as file:
        return _found(file, step, path)


def lines_of(path: str) -> Iterator[Dict[str, Any]]:
    """All lines of the audit. Raises ConfigError if it cannot be read, or is none."""
    with _opened(path) as file:
        yield from _lines(file, path)


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    try:
        with open(open_own(path, links=True), "rb") as file:
            yield file
    except OSError as error:
        raise ConfigError("the audit %s cannot be read: %s" % (
            printable_path(path), error.strerror or error)) from error


def _found(file: IO[bytes], step: int, path: str) -> Optional[Dict[str, Any]]:
    """Narrows [low, high) down: each step below ``low`` is lower than ``step``, and ``low`` is where a line begins."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > NEAR_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        start = middle + len(file.readline(MAX_LINE_BYTES))        # the rest of a line
        entry = parsed(file.readline(MAX_LINE_BYTES)) if start < high else None
        if entry is None or entry["step"] > step:
            high = middle            # a line of ``step`` may begin there and end behind it: it is read below
        elif entry["step"] == step:
            return entry
        else:
            low = start
    file.seek(low)
    entry = next((entry for entry in _lines(file, path) if entry["step"] >= step), None)
    return entry if entry is not None and entry["step"] == step else None


def _lines(file: IO[bytes], path: str) -> Iterator[Dict[str, Any]]:
    """The lines from where ``file`` is."""
    for line in iter(lambda: file.readline(MAX_LINE_BYTES), b""):
        entry = parsed(line)
        if entry is None:
            if line.endswith(b"\n"):
                raise ConfigError("%s is no audit, or damaged: %.80s" % (printable_path(path), ascii(line)))
            return
        yield entry


def audited(paths: Sequence[str], step: int) -> Optional[Dict[str, Any]]:
    """What the audits of all ranks, or that of the one trainer, say of ``step``, as that of one trainer says it; None
    if one of them lacks it. "crc32" is None if the bytes of all together are not known. Raises ConfigError."""
    lines: List[Dict[str, Any]] = []
    for path in paths:
        line = line_of(path, step)
        if line is not None:
            lines.append(line)
    if len(lines) == 1 and place_of_line(lines[0], paths[0])[1] == 1:
        return lines[0]
    try:
        whole = next(together([[part_of_line(line)] for line in lines]), None)
    except (Incomplete, KeyError, TypeError, ValueError):
        return None
    if whole is None:
        return None
    return dict(step=whole.step, epoch=whole.epoch, indices=list(whole.samples), used=list(whole.used),
                skipped=list(whole.skipped), crc32=whole.crc32, ranks=len(lines))


def place_of_line(line: Dict[str, Any], path: str) -> Tuple[int, int]:
    """The rank that wrote the line, and how many there were. Raises ConfigError."""
    try:
        return place_of(line)
    except ValueError as error:
        raise ConfigError("the audit %s has a line that is damaged: %s" % (printable_path(path), error)) from error
