"""The audit: one JSON line for each training step handed out, from which anyone can check what a run consumed."""

import json
import os
import zlib
from typing import Any, Dict, Optional

from pipeline.errors import ConfigError

FIRST_BYTES = b'{"step": '  # of every line: one that was torn behind them is still an audit's


def crc32(*arrays: Any) -> int:
    """CRC-32 of the arrays' bytes, one after the other; the arrays are C-contiguous ndarrays."""
    value = 0
    for array in arrays:
        if array.size:  # an empty array exports no buffer on every numpy
            value = zlib.crc32(array.reshape(-1).view("u1").data, value)
    return value & 0xFFFFFFFF


class Audit:
    """Writes the lines. Every line is with the operating system before its step is trained on."""

    def __init__(self, path: str, start_step: int) -> None:
        """Lines of ``start_step`` and later, left by a run that got further than its last checkpoint, are removed:
        those steps count as never done, and will come again. Raises ConfigError if the file is no audit."""
        try:
            keep = _end_of_line_before(path, start_step) if os.path.exists(path) else 0
            self._file = open(path, "ab", 0)
            self._file.truncate(keep)
        except OSError as error:
            raise ConfigError("audit: cannot write %r: %s" % (path, error.strerror)) from error

    def write(self, batch: Any) -> None:
        """``batch``: a training ``pipeline.stream.Batch``."""
        line = {"step": batch.step, "epoch": batch.epoch, "indices": list(batch.indices),
                "skipped": [skip.index for skip in batch.skipped], "crc32": crc32(*batch.arrays),
                "worker": batch.worker, "attempt": batch.attempt}
        self._file.write(json.dumps(line).encode("utf-8") + b"\n")

    def close(self) -> None:
        """Once more does no harm."""
        self._file.close()


def _end_of_line_before(path: str, start_step: int) -> int:
    """How many bytes of the file to keep: the lines of the steps below ``start_step``, which come first."""
    keep = 0
    with open(path, "rb") as lines:
        for line in lines:
            entry = _parsed(line)
            torn = line.startswith(FIRST_BYTES) and not line.endswith(b"\n")
            if entry is None and keep == 0 and not torn:
                raise ConfigError("audit: %r exists and is no audit file: not overwritten" % path)
            if entry is None or entry["step"] >= start_step:
                break
            keep += len(line)
    return keep


def _parsed(line: bytes) -> Optional[Dict[str, Any]]:
    if not line.endswith(b"\n"):  # torn, even where what is there makes sense
        return None
    try:
        entry = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    ours = isinstance(entry, dict) and isinstance(entry.get("step"), int) and "crc32" in entry  # others log steps too
    return entry if ours else None
