"""What is kept of each file during a check: 60 bytes, beside its path. Pure: batches of numbers in, tables out."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.inspection.checking.fields import CHANNELS, FIELDS, PLACE
from stoker.pipeline.options import DECODERS

_KEPT = np.dtype([("width", "u4"), ("height", "u4"), ("bytes", "i8"), ("format", "u1"), ("mode", "u1"),
                  ("orientation", "u1"), ("flags", "u1"), ("file", "i8", 2), ("pixels", "i8", 2)])
MAX_REASONS = 200           # different ones, of bad files; further ones are counted together
OTHER_REASONS = "other reasons"
_LEAST_S = 1e-5             # that a picture takes: a system whose CPU clock has coarse ticks says 0 for a few pictures


class Statistics(NamedTuple):
    """Of the values 0..1 of each channel, over all pixels of all good training pictures at the wanted size."""
    mean: Tuple[float, ...]
    deviation: Tuple[float, ...]
    pictures: int


class Collected:
    """The facts of all files. Attributes:

    good: bool [n], the files that a run uses. table: structured [n], zero for others; see ``FIELDS``.
    reasons: why files are bad; reason_of: int16 [n], into it; -1: good, or not looked at.
    """

    def __init__(self, count: int, training: int) -> None:
        """``training``: the first so many files are trained on."""
        self.good = np.zeros(count, bool)
        self.table = np.zeros(count, _KEPT)
        self.reasons: List[str] = []
        self.reason_of = np.full(count, -1, np.int16)
        self._training = training
        self._numbers: Dict[str, int] = {}
        self._sums, self._squares = [0] * len(CHANNELS), [0] * len(CHANNELS)      # exact: Python's whole numbers
        self._ns: List[List[int]] = []      # of each measured file: for each way to decode

    def add(self, indices: Sequence[int], facts: "np.ndarray") -> None:
        """``facts``: int64 [n, len(FIELDS)] of the files ``indices``."""
        if not len(indices):
            return
        places = np.array(indices, np.int64)
        self.good[places] = True
        for name in ("width", "height", "bytes", "format", "mode", "orientation", "flags"):
            self.table[name][places] = facts[:, PLACE[name]]
        for name in ("file", "pixels"):
            self.table[name][places] = facts[:, PLACE[name + "_1"]:PLACE[name + "_2"] + 1]
        trained = facts[places < self._training]
        for channel, name in enumerate(CHANNELS):
            self._sums[channel] += int(trained[:, PLACE["sum_" + name]].sum())
            self._squares[channel] += int(trained[:, PLACE["square_" + name]].sum())
        ns = facts[:, PLACE["ns_" + DECODERS[0]]:len(FIELDS)]
        self._ns += ns[ns[:, 0] > 0].tolist()

    def add_bad(self, index: int, reason: str) -> None:
        """A run would skip the file."""
        if reason not in self._numbers and len(self.reasons) >= MAX_REASONS:
            reason = OTHER_REASONS
        number = self._numbers.setdefault(reason, len(self.reasons))
        if number == len(self.reasons):
            self.reasons.append(reason)
        self.reason_of[index] = number

    def statistics(self, pixels: int) -> Optional[Statistics]:
        """``pixels``: of a picture at the wanted size. None without a good one for training."""
        pictures = int(self.good[:self._training].sum())
        count = pictures * pixels
        if not count:
            return None
        means = [total / count / 255 for total in self._sums]
        # exact up to the division: count * squares - sum ** 2 loses nothing
        variances = [(count * square - total * total) / (count * count) / 255 ** 2
                     for total, square in zip(self._sums, self._squares)]
        return Statistics(tuple(means), tuple(max(0.0, each) ** 0.5 for each in variances), pictures)

    def seconds(self) -> Dict[str, Tuple[float, int]]:
        """decode -> (CPU seconds per picture, number of pictures measured), of those ways that were measured."""
        if not self._ns:
            return {}
        totals = np.array(self._ns, np.float64).sum(axis=0) / 1e9 / len(self._ns)
        return {name: (float(total), len(self._ns)) for name, total in zip(DECODERS, totals) if total >= _LEAST_S}
