"""Pace: whether files are read ahead, and with how many threads. Pure: durations and times come in.

With "auto", it begins without, and reads ahead once half of the recent reads took long, because they waited for
something: one that only lost the core to another thread did not, and to read ahead would make that worse. Now and then
it lets the generator read a sample itself; if that is fast, it tries to go on without, and more rarely after each try
that did not last.
"""

from collections import deque
from statistics import median
from typing import Deque, Union

from stoker.pipeline.checks import AUTO, MAX_READ_AHEAD as MAX_READS

SLOW_S, LEAST_SLOW_S = 1e-3, 2e-4       # a read that takes longer is slow: or a tenth of a sample's time, if that lies
SLOW_SHARE = 0.1                        # between the two
FEW_SLOW, FEW_SLOW_S = 4, 0.1           # so many slow ones that took so long together are enough
REMEMBERED = 32                         # reads
COMPUTED_EVERY = 16                     # fetches, the number of threads
RESERVE = 1.25                          # more threads than the times say
PROBE_INTERVAL_S = 5.0
MAX_PROBE_INTERVAL_S = 80.0             # it doubles when reading ahead begins again that soon after it ended


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
        self._probe_interval_s = PROBE_INTERVAL_S
        self._ended_s = float("-inf")   # when it last stopped to read ahead

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

    def read(self, took_s: float, between_s: float, now: float, is_probe: bool = False, waited: bool = True) -> None:
        """The generator has read a file itself, ``between_s`` after the read before. ``waited``: not only for a core.
        """
        self._between.append(between_s)
        if self.is_on:
            if is_probe and self.is_auto:
                self._probed(took_s, now)
            return
        self._direct.append(took_s if waited else 0.0)
        if self.is_auto and waited and took_s > LEAST_SLOW_S and took_s > self._slow_s():
            slow_s = self._slow_s()
            slow = [each for each in self._direct if each > slow_s]
            if 2 * len(slow) >= REMEMBERED // 2 or len(slow) >= FEW_SLOW and sum(slow) >= FEW_SLOW_S:
                self._begin(now)

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
            self._probe_s = now + self._probe_interval_s
        return is_due

    def _begin(self, now: float) -> None:
        soon = now - self._ended_s < PROBE_INTERVAL_S
        self._probe_interval_s = min(2 * self._probe_interval_s, MAX_PROBE_INTERVAL_S) if soon else PROBE_INTERVAL_S
        self.is_on, self._probe_s = True, now + self._probe_interval_s

    def _probed(self, took_s: float, now: float) -> None:
        """One is enough: if files are slow all the same, it is back after a few reads."""
        self._probe_s = now + self._probe_interval_s
        if took_s <= SLOW_S:
            self.is_on, self._ended_s = False, now
            self._direct.clear()
            self._fetched.clear()
            self._wanted = self._count = 0

    def _slow_s(self) -> float:
        sample_s = median(self._between) if self._between else 0.0
        return min(SLOW_S, max(LEAST_SLOW_S, SLOW_SHARE * sample_s))
