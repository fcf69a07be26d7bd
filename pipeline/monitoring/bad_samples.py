"""The list of bad files: a line for each, with what is wrong, written as the consumer meets it.

Tab-separated, with a header line. Like the audit it depends on nothing but the run: lines of steps that a resumed
run does again are removed when it starts, and come again. What a line cannot hold is written out: ``\\t``, ``\\n``,
``\\\\``, ``\\xff`` for a byte of a file name that is no UTF-8, ``\\u0085`` for other unprintable characters.
"""

import re
from typing import Set, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.step_log import StepLog

HEADER = b"path\tclass\treason\tstep\n"
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


def escaped(text: str) -> str:
    """``text`` as one field of one line of UTF-8; no two texts become the same."""
    return re.sub("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", _escape, text)


def _escape(match: "re.Match[str]") -> str:
    number = ord(match.group())
    if 0xdc80 <= number <= 0xdcff:      # a byte of a file name (PEP 383)
        return "\\x%02x" % (number - 0xdc00)
    return _NAMED.get(match.group(), "\\u%04x" % number)


class BadSamples(StepLog):
    """Writes the lines, after ``begin``. A file stands in the list once, with the step where it was first met."""

    name = "bad samples"

    def __init__(self, path: str, start_step: int) -> None:
        """Lines of ``start_step`` and later are removed. Raises ConfigError if the file is no such list, or in use by
        another trainer."""
        self._start_step = start_step
        self._known: Set[bytes] = set()
        super().__init__(path)

    def _kept(self) -> int:
        keep, self._known = _lines_before(self._path, self._start_step)
        return keep

    def begin(self) -> None:
        super().begin()
        if not self._keep:
            self._append(HEADER)

    def __len__(self) -> int:
        return len(self._known)

    def add(self, path: str, name: str, reason: str, step: int) -> None:
        """``name``: the class. ``step``: the training step, or that after the evaluation, in which the file was met."""
        fields = [escaped(field).encode("utf-8") for field in (path, name, reason)]
        if fields[0] not in self._known:
            self._append(b"\t".join(fields) + b"\t%d\n" % step)
            self._known.add(fields[0])


def _lines_before(path: str, start_step: int) -> Tuple[int, Set[bytes]]:
    """How many bytes of the file to keep, and the paths in them: the lines of steps below ``start_step`` come first."""
    keep, known = 0, set()
    with open(path, "rb") as lines:
        for line in lines:
            if not keep:
                if not HEADER.startswith(line):             # a part of it: torn
                    raise ConfigError("bad samples: %r exists and is no list of bad samples: not overwritten" % path)
                keep = len(line) if line == HEADER else 0
                continue
            fields = line.rstrip(b"\n").split(b"\t")
            if not line.endswith(b"\n") or len(fields) != 4 or not fields[3].isdigit() or int(fields[3]) >= start_step:
                break
            keep += len(line)
            known.add(fields[0])
    return keep, known
