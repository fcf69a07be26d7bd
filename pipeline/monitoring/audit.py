"""The audit: one JSON line for each training step handed out, so that anyone can check which data a run consumed.

Each of several ranks writes a file of its own, about its part of each step; ``audits.py`` puts them together.
"""

import json
import os
import zlib
from functools import lru_cache
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.step_log import StepLog
from stoker.pipeline.plan import MAX_RANKS
from stoker.pipeline.storage.checked_json import loads

_CRC_POLYNOMIAL = 0xedb88320


def crc32(*arrays: np.ndarray) -> int:
    """CRC-32 of the bytes of the arrays, one after the other; the arrays are C-contiguous."""
    value = 0
    for array in arrays:
        if array.size:  # an empty array exports no buffer on every numpy
            value = zlib.crc32(array.reshape(-1).view("u1").data, value)
    return value


def crc32_of_all(pieces: Iterable[Tuple[int, int]]) -> int:
    """The CRC-32 of strings of bytes, one after the other, from the CRC-32 and the length of each. As zlib's
    ``crc32_combine``: to append a zero bit is a linear map of the 32 bits."""
    whole = 0
    for crc, size in pieces:
        power = 3                        # a byte has 2**3 bits
        while size:
            if size & 1:
                whole = _times(_zero_bits(power), whole)
            size, power = size >> 1, power + 1
        whole ^= crc
    return whole


def _times(columns: List[int], vector: int) -> int:
    product, bit = 0, 0
    while vector >> bit:
        if vector >> bit & 1:
            product ^= columns[bit]
        bit += 1
    return product


@lru_cache(maxsize=None)
def _zero_bits(power: int) -> List[int]:
    """The columns of the map that appends ``2**power`` zero bits."""
    if power == 0:
        return [_CRC_POLYNOMIAL] + [1 << bit for bit in range(31)]
    half = _zero_bits(power - 1)
    return [_times(half, column) for column in half]


def batch_crc(batch: Batch) -> int:
    """The checksum of a batch, as its audit line has it."""
    return crc32(*batch.arrays, *batch.sizes.values())


class Audit(StepLog):
    """Writes the lines, after ``begin``."""
    name = "audit"

    def __init__(self, path: str, start_step: int, planned: Callable[[int, int, int], Sequence[int]],
                 rank: int = 0, ranks: int = 1) -> None:
        """``begin`` removes the lines of ``start_step`` and later steps, which are done again. ``planned(step, rank,
        ranks)``: the indices that an earlier line of that rank must hold, when there were ``ranks`` ones. Raises
        ConfigError if the file is no audit, or of another run, or in use by another trainer."""
        self._start_step, self._planned, self._rank, self._ranks = start_step, planned, rank, ranks
        self._begun = (-1, 0)            # the step whose line was written last, and where that line begins
        super().__init__(path)

    def _bytes_to_keep(self, lines: Iterable[bytes]) -> int:
        keep, last, several = 0, None, False
        for line in lines:
            entry = parsed(line)
            incomplete = line.startswith(b'{"step": ') and not line.endswith(b"\n")
            if entry is None and keep == 0 and not incomplete:
                raise ConfigError("audit: %r exists and is no audit file: not overwritten" % self._path)
            if entry is None or entry["step"] >= self._start_step:
                break
            step = entry["step"]
            if not self._is_ours(entry, last, several):
                raise ConfigError("audit: %r is of another run, as its step %d shows: name another file"
                                  % (self._path, step))
            keep, last, several = keep + len(line), step, "ranks" in entry
        return keep

    def _is_ours(self, entry: Dict[str, Any], last: Optional[int], after_several: bool) -> bool:
        """Whether the line is what the plan says, and follows step ``last``. A rank has no lines of the time when there
        were too few ranks for it to be at work."""
        step = entry["step"]
        may_be_gap = last is not None and step > last and (after_several or "ranks" in entry)
        try:
            rank, ranks = place_of(entry)
        except ValueError:
            return False
        return (last in (None, step - 1) or may_be_gap) and entry.get("indices") == list(
            self._planned(step, rank, ranks))

    def write(self, batch: Batch) -> None:
        """Appends the line of a training batch."""
        own = None                      # of a rank: CRC-32 and bytes of each array
        if self._ranks > 1 and not batch.sizes:         # with sizes, each part is padded in its own way
            own = [(crc32(array), array.nbytes) for array in batch.arrays]
        line: Dict[str, Any] = {
            "step": batch.step, "epoch": batch.epoch, "indices": list(batch.indices),
            "skipped": [skip.index for skip in batch.skipped], "crc32": (
                batch_crc(batch) if own is None else crc32_of_all(own)),
            "worker": batch.worker, "attempt": batch.attempt}
        if batch.used_indices != batch.indices:
            line["used"] = list(batch.used_indices)
        if batch.missing:
            line["missing"] = batch.missing
        if self._ranks > 1:
            line.update(rank=self._rank, ranks=self._ranks)
            if own is not None:
                line["arrays"] = own
        if self._begun[0] == batch.step:      # a Ctrl-C came before the step was handed out, and its line may be there
            self._file.truncate(self._begun[1])
        self._begun = batch.step, self._file.seek(0, os.SEEK_END)     # after ``begin``, it may be elsewhere
        self._append(json.dumps(line).encode("utf-8") + b"\n")


def place_of(entry: Dict[str, Any]) -> Tuple[int, int]:
    """The rank that wrote the line, and how many there were. Raises ValueError if those are no such numbers."""
    rank, ranks = entry.get("rank", 0), entry.get("ranks", 1)
    if type(rank) is not int or type(ranks) is not int or not 0 <= rank < ranks <= MAX_RANKS:
        raise ValueError("it is of rank %.20r of %.20r" % (rank, ranks))
    return rank, ranks


def parsed(line: bytes) -> Optional[Dict[str, Any]]:
    """The line of an audit; None if it is incomplete, or none."""
    try:
        entry = loads(line)
    except ValueError:
        return None
    # an incomplete line counts for nothing, even if it can be parsed; logs of other programs may have steps too
    is_whole = line.endswith(b"\n") and isinstance(entry, dict) and isinstance(entry.get("step"), int)
    return entry if is_whole and entry["step"] >= 0 and "crc32" in entry else None
