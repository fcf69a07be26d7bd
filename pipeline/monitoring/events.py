"""Events: what happened to a run, for people: the newest of each kind. Pure: times come in; bounded.

Each kind has a ring of its own, so that workers that come and go do not push out the one bad file.
"""

from collections import deque
from itertools import count
from typing import Deque, Dict, List, NamedTuple, Tuple

from stoker.pipeline.text import printable

MAX_EVENTS = 200       # of all kinds
MAX_OF_A_KIND = 100    # that are kept
MAX_CHARS = 300        # of a text
#: "left": a worker that left in good order.
KINDS = ("joined", "lost", "left", "silent", "reassigned", "set aside", "refused", "bad file", "bottleneck", "run")


class Event(NamedTuple):
    """``when_s``: of a monotonic clock; ``kind``: one of KINDS; ``text``: printable."""
    when_s: float
    kind: str
    text: str


class Events:
    """Two threads may add, and others ask at any moment."""

    def __init__(self) -> None:
        self._rings: Dict[str, Deque[Tuple[int, Event]]] = {kind: deque(maxlen=MAX_OF_A_KIND) for kind in KINDS}
        self._numbers = count()
        self.counts: Dict[str, int] = dict.fromkeys(KINDS, 0)     # of all so far

    def add(self, kind: str, text: str, now: float) -> None:
        """Something happened. The kinds of one thread are no other thread's."""
        self.counts[kind] += 1
        self._rings[kind].append((next(self._numbers), Event(now, kind, short(text))))

    def newest(self) -> List[Event]:
        """At most MAX_EVENTS, the newest last."""
        every = sorted(entry for ring in self._rings.values() for entry in list(ring))
        return [event for _, event in every[-MAX_EVENTS:]]


def short(text: str, most: int = MAX_CHARS) -> str:
    """``text`` printable, in one line, and not longer than ``most``."""
    text = printable(text[:most + 1])
    return text if len(text) <= most else text[:most - 3] + "..."
