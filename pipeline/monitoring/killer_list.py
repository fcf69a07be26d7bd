"""The list of killers in a file: a JSON object per line, for people too. Without its line, a sample is tried again."""

import json
import os
from contextlib import suppress
from typing import Any, Iterable, List, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.protocol.messages import MAX_REASON, MAX_TEXT
from stoker.pipeline.storage.checked_json import loads
from stoker.pipeline.storage.safe_files import new_file, read_whole, replace
from stoker.pipeline.text import printable_path

MAX_BYTES = 16 << 20
#: The keys of a line, with the values that they may have.
_TRAINING, _VALIDATION = "training", "validation"
_FIELDS = ("data", "number", "step", "cpu_s", "sample", "reason")
Row = Tuple[bool, int, int, float, str, str]        # as the fields of coordinator.killers.Killer


def read_list(path: str) -> List[Row]:
    """The rows in the file; [] if there is none. Raises ConfigError if it is no such list."""
    try:
        content = read_whole(path, MAX_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError("killers: %s cannot be used: %s" % (printable_path(path), error.strerror or error)) from error
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():        # an editor left it, when a line was removed
            continue
        try:
            rows.append(_row(loads(line)))
        except ValueError as error:
            raise ConfigError("killers: line %d of %s is no sample that kills: %s; remove the line, or the file"
                              % (number, printable_path(path), error)) from error
    return rows


def write_list(path: str, rows: Iterable[Row]) -> None:
    """Replaces the file as a whole. Raises OSError. What does not fit into MAX_BYTES is left out."""
    lines, size = [], 0
    for row in rows:
        values = (_TRAINING if row[0] else _VALIDATION, row[1], row[2] if row[2] >= 0 else None) + row[3:]
        lines.append(json.dumps(dict(zip(_FIELDS, values))).encode("ascii") + b"\n")
        size += len(lines[-1])
        if size > MAX_BYTES:
            lines.pop()
            break
    fd, new = new_file(path)
    try:
        with open(fd, "wb") as file:
            file.write(b"".join(lines))
            file.flush()
            replace(new, fd, path)
    except OSError:
        with suppress(OSError):
            os.remove(new)
        raise


def _row(value: Any) -> Row:
    if not isinstance(value, dict) or set(value) != set(_FIELDS):
        raise ValueError("it must have the keys " + ", ".join(_FIELDS))
    data, number, step, cpu_s, sample, reason = (value[name] for name in _FIELDS)
    _require(data in (_TRAINING, _VALIDATION), "data", "must be training or validation")
    _require(_is_whole(number), "number", "must be a whole number from 0")
    _require(step is None or _is_whole(step), "step", "must be a whole number from 0, or null")
    _require(type(cpu_s) in (int, float) and 0 <= cpu_s <= 1e6, "cpu_s", "must be a number of seconds")
    _require(type(sample) is str and len(sample) <= MAX_TEXT, "sample", "must be a text")
    _require(type(reason) is str and 0 < len(reason) <= MAX_REASON and reason.isprintable(), "reason",
             "must be a printable text of at most %d characters" % MAX_REASON)
    return data == _TRAINING, number, -1 if step is None else step, float(cpu_s), sample, reason


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _require(is_right: bool, name: str, rule: str) -> None:
    if not is_right:
        raise ValueError("%s %s" % (name, rule))
