"""/details.json: all that the status page shows but the pictures. Made only while someone asks for it."""

import time
from typing import Any, Dict

from stoker.pipeline.coordinator.roster import Roster
from stoker.pipeline.insight import Insight
from stoker.pipeline.stream import BatchStream
from stoker.trainer.status.figures import Kept, json_bytes, moment, more_figures
from stoker.trainer.status.status import Page, Status

DETAILS = "/details.json"
INTERVAL_S = 0.5               # between two makings ...
LARGE_FLEET = 500              # ... and as many times longer for the table of workers as they are times so many
REST_S = 0.0005                # the reader of a large table rests now and then
MIN_NEXT_S, MAX_NEXT_S = 1.0, 30.0
ANSWERS_PER_S = 10.0           # for all who ask together
MAX_SHARE = 0.002              # of one core's time, for makings


class Details:
    """Makes the page. All methods are called in the server's thread."""

    def __init__(self, stream: BatchStream, insight: Insight, status: Status) -> None:
        self._stream, self._insight, self._status = stream, insight, status
        self._page, self._rhythm = Kept(self._make, INTERVAL_S, insight.now), Rhythm(insight.now())
        self._roster, self._roster_s = Roster({}, []), float("-inf")

    def page(self) -> Page:
        """The details as JSON."""
        self._rhythm.asked(self._insight.now())
        self._page.interval_s = max(INTERVAL_S, 0.5 * self._rhythm.least_s)
        made: Page = self._page.get(self._stream.is_over)
        return made

    def roster(self) -> Roster:
        """The table of workers, not older than some moments."""
        now, size = self._insight.now(), sum(self._roster.states.values())
        if now >= self._roster_s + INTERVAL_S * max(1.0, size / LARGE_FLEET):
            self._roster = self._insight.roster(rest)
            self._roster_s = now
        return self._roster

    def _make(self) -> Page:
        unix_s, cpu_s = time.time(), time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
        figures: Dict[str, Any] = self._status.figures()
        figures.update({"now_s": moment(unix_s), "next_s": self._rhythm.next_s})
        figures.update(more_figures(self._stream, self._insight, self.roster(), unix_s, rest))
        made = Page(200, "application/json", json_bytes(figures))
        self._rhythm.cost(time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - cpu_s)
        return made


def rest() -> None:
    """Lets the run have the interpreter."""
    time.sleep(REST_S)


class Rhythm:
    """Says after how long to ask again, so that all who ask get ANSWERS_PER_S answers together, and that what they get
    costs no more than MAX_SHARE of a core. Pure."""

    def __init__(self, now: float) -> None:
        self._begun_s, self._count = now, 0
        self.least_s = self.next_s = self._period_s = MIN_NEXT_S

    def cost(self, cpu_s: float) -> None:
        """A page was made in so much time of the processor."""
        seconds = self.least_s + 0.3 * (cpu_s / MAX_SHARE - self.least_s)       # the first making costs more
        self.least_s = min(MAX_NEXT_S, max(MIN_NEXT_S, seconds))

    def asked(self, now: float) -> None:
        """One asks."""
        self._count += 1
        passed_s = now - self._begun_s
        if passed_s < self._period_s:        # in it, each asks once: if they are many, that is seen before it is over
            self.next_s = max(self.next_s, self._for(self._count))
            return
        self._period_s = self.next_s = self._for(self._count * self._period_s / passed_s)
        self._begun_s, self._count = now, 0

    def _for(self, askers: float) -> float:
        return round(min(MAX_NEXT_S, max(self.least_s, askers / ANSWERS_PER_S)), 1)
