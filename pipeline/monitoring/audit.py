"""The audit: one JSON line for each training step handed out, so that anyone can check which data a run consumed."""

import json
import zlib
from typing import Any, Callable, Dict, Iterable, Optional, Sequence

import numpy as np

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.step_log import StepLog
from stoker.pipeline.storage.checked_json import loads


def crc32(*arrays: np.ndarray) -> int:
    """CRC-32 of the bytes of the arrays, one after the other; the arrays are C-contiguous."""
    value = 0
    for array in arrays:
        if array.size:  # an empty array exports no buffer on every numpy
            value = zlib.crc32(array.reshape(-1).view("u1").data, value)
    return value


class Audit(StepLog):
    """Writes the lines, after ``begin``."""
    name = "audit"

    def __init__(self, path: str, start_step: int, planned: Callable[[int], Sequence[int]]) -> None:
        """``begin`` removes the lines of ``start_step`` and later steps, which are done again. ``planned(step)``: the
        indices that earlier lines must hold. Raises ConfigError if the file is no audit, or of another run, or in use
        by another trainer."""
        self._start_step, self._planned = start_step, planned
        super().__init__(path)

    def _bytes_to_keep(self, lines: Iterable[bytes]) -> int:
        keep, last = 0, None
        for line in lines:
            entry = _parsed(line)
            incomplete = line.startswith(b'{"step": ') and not line.endswith(b"\n")
            if entry is None and keep == 0 and not incomplete:
                raise ConfigError("audit: %r exists and is no audit file: not overwritten" % self._path)
            if entry is None or entry["step"] >= self._start_step:
                break
            step = entry["step"]
            if last not in (None, step - 1) or entry.get("indices") != list(self._planned(step)):
                raise ConfigError("audit: %r is of another run, as its step %d shows: name another file"
                                  % (self._path, step))
            keep, last = keep + len(line), step
        return keep

    def write(self, batch: Batch) -> None:
        """Appends the line of a training batch."""
        line: Dict[str, Any] = {
            "step": batch.step, "epoch": batch.epoch, "indices": list(batch.indices),
            "skipped": [skip.index for skip in batch.skipped], "crc32": crc32(*batch.arrays, *batch.sizes.values()),
            "worker": batch.worker, "attempt": batch.attempt}
        if batch.used_indices != batch.indices:
            line["used"] = list(batch.used_indices)
        if batch.missing:
            line["missing"] = batch.missing
        self._append(json.dumps(line).encode("utf-8") + b"\n")


def _parsed(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        entry = loads(line)
    except ValueError:
        return None
    # an incomplete line counts for nothing, even if it can be parsed; logs of other programs may have steps too
    is_whole = line.endswith(b"\n") and isinstance(entry, dict) and isinstance(entry.get("step"), int)
    return entry if is_whole and entry["step"] >= 0 and "crc32" in entry else None
