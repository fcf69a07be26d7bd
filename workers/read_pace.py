"""Pace: whether files are read ahead, and with how many threads. Pure: durations and times come in.

With "auto", it begins without, and reads ahead once half of the recent reads took long. Now and then it lets the
generator read a sample itself; if that is fast, more of them, and if all are fast, it stops.
"""

from collections import deque
from statistics import median
from typing import Deque, List, Union

from stoker.pipeline.checks import AUTO, MAX_READ_AHEAD as MAX_READS

SLOW_S, LEAST_SLOW_S = 1e-3, 2e-4       # a read that takes longer is slow: or a tenth of a sample's time, if that lies
SLOW_SHARE = 0.1                        # between the two
FEW_SLOW, FEW_SLOW_S = 4, 0.1           # so many slow ones that took so long together are enough
REMEMBERED = 32                         # reads
COMPUTED_EVERY = 16                     # fetches, the number of threads
RESERVE = 1.25                          # more threads than the times say
PROBE_INTERVAL_S = 5.0
PROBES = 16                             # in a row, as fast as from a local disk, end reading ahead


class Pace:
    """Whether to read ahead, and with how many threads. ``setting``: so many; 0: never; "auto". Times in seconds."""

    def __init__(self, setting: Union[int, str]) -> None:
        self.is_auto = setting == AUTO
        self.is_on = not self.is_auto and bool(setting)
        self._fixed = 0 if self.is_auto else int(setting)
        self._direct: Deque[float] = deque(maxlen=REMEMBERED // 2)
        self._fetched: Deque[float] = deque(maxlen=REMEMBERED)
        self._between: Deque[float] = deque(maxlen=REMEMBERED)     # the generator's time from one read to the next
        self._wanted = 0                # threads; 0: to be computed
        self._count = 0                 # of fetches
        self._probe_s = 0.0             # when the next probe is due
        self._fast: List[float] = []    # what the last probes took, which were fast

    @property
    def threads(self) -> int:
        """So many fetches may be under way."""
        if not self.is_on or self._fixed:
            return self._fixed if self.is_on else 0
        if not self._wanted:
            between_s = max(1e-4, median(self._between) if self._between else 0.0)
            times = self._fetched or self._direct
            self._wanted = min(MAX_READS, 2 + int(RESERVE * sum(times) / max(1, len(times)) / between_s))
        return self._wanted

    def read(self, took_s: float, between_s: float, now: float, is_probe: bool = False) -> None:
        """The generator has read a file itself, ``between_s`` after the read before."""
        self._direct.append(took_s)
        self._between.append(between_s)
        if not self.is_auto:
            return
        if self.is_on:
            if is_probe:
                self._probed(took_s, now)
        elif took_s > LEAST_SLOW_S and took_s > self._slow_s():
            slow_s = self._slow_s()
            slow = [each for each in self._direct if each > slow_s]
            if 2 * len(slow) >= REMEMBERED // 2 or len(slow) >= FEW_SLOW and sum(slow) >= FEW_SLOW_S:
                self.is_on, self._probe_s, self._fast = True, now + PROBE_INTERVAL_S, []

    def took(self, between_s: float) -> None:
        """The generator got what was fetched."""
        self._between.append(between_s)

    def fetched(self, took_s: float) -> None:
        """A fetch was made."""
        self._fetched.append(took_s)
        self._count += 1
        if self._count % COMPUTED_EVERY == 0 or self._count < COMPUTED_EVERY:
            self._wanted = 0

    def wants_probe(self, now: float) -> bool:
        """The generator is to read the next sample itself. To be asked before each fetch: it says so once for each."""
        is_due = self.is_auto and self.is_on and now >= self._probe_s
        if is_due:
            self._probe_s = now + PROBE_INTERVAL_S
        return is_due

    def _probed(self, took_s: float, now: float) -> None:
        self._probe_s = now
        self._fast.append(took_s)
        if took_s <= SLOW_S and len(self._fast) < PROBES:
            return
        self._probe_s = now + PROBE_INTERVAL_S
        if took_s <= SLOW_S and median(self._fast) <= self._slow_s():
            self.is_on = False
            self._direct.clear()
            self._fetched.clear()
            self._wanted = self._count = 0
        self._fast = []

    def _slow_s(self) -> float:
        sample_s = median(self._between) if self._between else 0.0
        return min(SLOW_S, max(LEAST_SLOW_S, SLOW_SHARE * sample_s))
