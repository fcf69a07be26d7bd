"""The audit: one JSON line for each training step handed out, from which anyone can check what a run consumed."""

import json
import zlib
from typing import Any, Callable, Dict, Optional, Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.step_log import StepLog

FIRST_BYTES = b'{"step": '  # of every line: one that was torn behind them is still an audit's


def crc32(*arrays: Any) -> int:
    """CRC-32 of the arrays' bytes, one after the other; the arrays are C-contiguous ndarrays."""
    value = 0
    for array in arrays:
        if array.size:  # an empty array exports no buffer on every numpy
            value = zlib.crc32(array.reshape(-1).view("u1").data, value)
    return value & 0xFFFFFFFF


class Audit(StepLog):
    """Writes the lines, after ``begin``."""

    name = "audit"

    def __init__(self, path: str, start_step: int, planned: Callable[[int], Sequence[int]]) -> None:
        """Lines of ``start_step`` and later, left by a run that got further than its last checkpoint, are removed:
        those steps count as never done, and will come again. ``planned(step)``: the indices that the lines before
        must hold. Raises ConfigError if the file is no audit, of another run, or in use by another trainer."""
        self._start_step, self._planned = start_step, planned
        super().__init__(path)

    def _kept(self) -> int:
        return _end_of_line_before(self._path, self._start_step, self._planned)

    def write(self, batch: Any) -> None:
        """``batch``: a training ``pipeline.stream.Batch``."""
        line = {"step": batch.step, "epoch": batch.epoch, "indices": list(batch.indices),
                "skipped": [skip.index for skip in batch.skipped], "crc32": crc32(*batch.arrays),
                "worker": batch.worker, "attempt": batch.attempt}
        if batch.used_indices != batch.indices:
            line["used"] = list(batch.used_indices)
        self._append(json.dumps(line).encode("utf-8") + b"\n")


def _end_of_line_before(path: str, start_step: int, planned: Callable[[int], Sequence[int]]) -> int:
    """How many bytes of the file to keep: the lines of the steps below ``start_step``, which come first."""
    keep, last = 0, None
    with open(path, "rb") as lines:
        for line in lines:
            entry = _parsed(line)
            torn = line.startswith(FIRST_BYTES) and not line.endswith(b"\n")
            if entry is None and keep == 0 and not torn:
                raise ConfigError("audit: %r exists and is no audit file: not overwritten" % path)
            if entry is None or entry["step"] >= start_step:
                break
            if entry["step"] != (entry["step"] if last is None else last + 1) or (
                    entry.get("indices") != list(planned(entry["step"]))):
                raise ConfigError("audit: %r is of another run, as its step %d shows: name another file"
                                  % (path, entry["step"]))
            keep, last = keep + len(line), entry["step"]
    return keep


def _parsed(line: bytes) -> Optional[Dict[str, Any]]:
    if not line.endswith(b"\n"):  # torn, even where what is there makes sense
        return None
    try:
        entry = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    # others log steps too
    ours = isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] >= 0 and "crc32" in entry
    return entry if ours else None
