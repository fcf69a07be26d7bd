"""History: the rate and the waiting share of a run over time, in equal intervals. Pure: times come in; bounded.

The time that the consumer waited for a batch, or used one, counts in each interval that it covers, so that a step of a
minute is seen as a minute without waiting and not as one point.
"""

from collections import deque
from typing import Deque, List, NamedTuple, Optional

INTERVAL_S = 2.0
MAX_INTERVALS = 300
RECENT_INTERVALS = 5      # the present one is added; and older ones ...
RECENT_BATCHES = 4        # ... until there are so many batches, if these are slow


class Recent(NamedTuple):
    """The figures of the last seconds; None: not yet known."""
    samples_per_s: Optional[float]
    waiting_share: Optional[float]     # 0..1


class Lines(NamedTuple):
    """One value for each whole interval, the oldest first; None: not known."""
    samples_per_s: List[Optional[float]]
    waiting_share: List[Optional[float]]


class _Row:
    __slots__ = ("number", "batches", "samples", "waited_s", "used_s")

    def __init__(self, number: int) -> None:
        self.number = number          # of the interval
        self.batches, self.samples, self.waited_s, self.used_s = 0, 0, 0.0, 0.0

    def share(self) -> Optional[float]:
        seconds = self.waited_s + self.used_s
        return min(1.0, self.waited_s / seconds) if seconds > 0 else None


class History:
    """Begins at ``now``. One thread calls ``add``; others may ask at any moment."""

    def __init__(self, now: float) -> None:
        self._begun_s = now
        self._rows: Deque[_Row] = deque([_Row(0)], MAX_INTERVALS + 1)     # the last one is of the present interval
        self._row = self._rows[-1]
        self._index = 0                    # of the present interval
        self._row_s = now                  # when it began ...
        self._ends_s = now + INTERVAL_S    # ... and ends
        self._first: Optional[int] = None  # the interval of the first batch

    def add(self, samples: int, waited_s: float, used_s: float, now: float) -> None:
        """The consumer used the batch before for ``used_s``, then waited, and got ``samples`` samples ``now``."""
        row = self._row
        if now < self._ends_s and now - waited_s - used_s >= self._row_s and self._first is not None:
            row.batches += 1
            row.samples += samples
            row.waited_s += waited_s
            row.used_s += used_s
            return
        self._go_on(now)
        if self._first is None:
            self._first = self._index
        self._row.batches += 1
        self._row.samples += samples
        self._spread("waited_s", now - waited_s, now)
        self._spread("used_s", now - waited_s - used_s, now - waited_s)

    def recent(self, now: float, waits_since_s: Optional[float] = None) -> Recent:
        """The last RECENT_INTERVALS and the present one. ``waits_since_s``: since when the consumer waits, if it does:
        that counts, though its batch has not come."""
        if self._first is None:
            return Recent(None, None)
        index = self._index_of(now)
        first = max(self._first, index - RECENT_INTERVALS)
        rows = list(self._rows)
        batches = sum(row.batches for row in rows if row.number >= first)
        for row in reversed(rows):                # a run with slow steps; one that has just stopped had many in each
            if row.number < first:
                if batches >= RECENT_BATCHES or row.batches >= RECENT_BATCHES or row.number < self._first:
                    break
                first, batches = row.number, batches + row.batches
        begun_s, recent = self._begun_s + first * INTERVAL_S, [row for row in rows if row.number >= first]
        waited_s, used_s = sum(row.waited_s for row in recent), sum(row.used_s for row in recent)
        if waits_since_s is not None:
            waited_s += max(0.0, now - max(begun_s, waits_since_s))
        seconds = waited_s + used_s
        return Recent(sum(row.samples for row in recent) / max(0.1, now - begun_s),
                      min(1.0, waited_s / seconds) if seconds > 0 else None)

    def lines(self, now: float, waits_since_s: Optional[float] = None) -> Lines:
        """All whole intervals that are kept."""
        index, rates, shares = self._index_of(now), [], []
        rows = {row.number: row for row in list(self._rows)}
        for number in range(max(0, index - MAX_INTERVALS), index):
            row = rows.get(number)
            is_known = self._first is not None and number >= self._first
            rates.append((row.samples if row is not None else 0) / INTERVAL_S if is_known else None)
            share = row.share() if row is not None else None
            if share is None and waits_since_s is not None and self._begun_s + number * INTERVAL_S >= waits_since_s:
                share = 1.0
            shares.append(share)
        return Lines(rates, shares)

    def _index_of(self, now: float) -> int:
        return max(self._index, int((now - self._begun_s) / INTERVAL_S))

    def _go_on(self, now: float) -> None:
        """The present interval becomes that of ``now``."""
        index = self._index_of(now)
        for number in range(max(self._index, index - MAX_INTERVALS - 1) + 1, index + 1):
            self._rows.append(_Row(number))
        self._row, self._index = self._rows[-1], index
        self._row_s = self._begun_s + index * INTERVAL_S
        self._ends_s = self._row_s + INTERVAL_S

    def _spread(self, name: str, begun_s: float, ended_s: float) -> None:
        """Adds the time from ``begun_s`` to ``ended_s`` to the intervals that it covers."""
        for row in self._rows:
            row_s = self._begun_s + row.number * INTERVAL_S
            seconds = min(ended_s, row_s + INTERVAL_S) - max(begun_s, row_s)
            if seconds > 0:
                setattr(row, name, getattr(row, name) + seconds)
