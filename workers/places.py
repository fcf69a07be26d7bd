"""The places of workers on a cluster whose scheduler puts them where there is room: start, drain, replace, end.

``Places`` decides and is pure: what the trainers want, what became of the places and the time come in, effects go out.
A place holds one worker with its supervisor. ``workers/ray_launcher.py`` carries the effects out on Ray.

    PENDING ──started──> RUNNING ──too many──> DRAINING ──ended, or after ``drain_s``──> gone
       │ ^                 │ │
       │ └──lost, its node─┘ └──ended, exit code 2 or 3: all is over; another one: gone, replaced after a back-off
       └──too many, or failed: gone
"""

import enum
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from stoker.workers.effects import EXIT_CONFIG, EXIT_ENDED, EXIT_FAILED, EXIT_REFUSED, Note
from stoker.workers.supervisor import explain_exit

BACKOFF_S = 1.0        # pause after a place has failed; doubles up to MAX_BACKOFF_S
MAX_BACKOFF_S = 30.0
EARLY_S = 10.0         # a worker that has run for so long can do its work
MAX_FAILURES = 8       # failures in a row, while no worker has run for EARLY_S, after which all is given up

Need = NamedTuple("Need", [("wanted", int), ("connect", Tuple[str, ...]), ("over", bool), ("why", str)])
Need.__doc__ = """How many places the trainers want, at which addresses they are, whether their runs are over."""

Start = NamedTuple("Start", [("place", int), ("connect", Tuple[str, ...])])   # ask the scheduler for a place
Drain = NamedTuple("Drain", [("place", int)])                       # its worker finishes the step in work and leaves
Kill = NamedTuple("Kill", [("place", int)])                         # the place is not needed any more, nor its worker
Effect = Union[Start, Drain, Kill, Note]
PlaceState = enum.Enum("PlaceState", "PENDING RUNNING DRAINING")


class _Place:
    def __init__(self, connect: Tuple[str, ...]) -> None:
        self.state, self.connect, self.where = PlaceState.PENDING, connect, ""
        self.since_s = 0.0        # RUNNING: when that began
        self.kill_at = 0.0        # DRAINING: when its patience ends


class Places:
    """Decides for all places. Times in seconds of one monotonic clock. ``drain_s``: how long a worker may take to
    finish its step."""

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._places: Dict[int, _Place] = {}      # by number, the oldest first
        self._last = 0                            # the number of the newest place
        self._need: Optional[Need] = None         # None: not known yet
        self._stops = 0                           # how often all was told to stop
        self._end_with = EXIT_ENDED               # the exit code when all places are gone
        self._failures, self._failed_s, self._not_before_s = 0, 0.0, 0.0    # in a row; the last; the next start
        self._told: Tuple[int, ...] = ()          # what the last line of the state said

    @property
    def exit_code(self) -> Optional[int]:
        """None until the last place is gone."""
        return self._end_with if self._stops and not self._places else None

    @property
    def is_stopping(self) -> bool:
        """All was told to stop."""
        return self._stops > 0

    @property
    def numbers(self) -> List[int]:
        """The numbers of the places, the oldest first."""
        return list(self._places)

    def want(self, need: Need, now: float) -> List[Effect]:
        """The newest wish of the trainers; ``tick`` then starts what is missing."""
        if self._stops:
            return []
        if need.over:
            return [Note("the run is over"), *self.stop(now)]
        self._need = need
        return []

    def started(self, number: int, where: str, now: float) -> List[Effect]:
        """The worker of this place runs on the host ``where``."""
        place = self._places.get(number)
        if place is not None:
            place.where = where
            if place.state is PlaceState.PENDING:
                place.state, place.since_s = PlaceState.RUNNING, now
        return []

    def lost(self, number: int) -> List[Effect]:
        """The place ended with its node or its process, and the scheduler starts it again where there is room."""
        place = self._places.get(number)
        if place is None or place.state is PlaceState.PENDING:
            return []
        if place.state is PlaceState.DRAINING:
            return self._remove(number)
        place.state = PlaceState.PENDING
        return [Note("%s was lost: it starts again where there is room" % self._name(number))]

    def failed(self, number: int, why: str, now: float) -> List[Effect]:
        """The scheduler gave this place up."""
        if number not in self._places:
            return []
        name, is_expected = self._name(number), self._places[number].state is PlaceState.DRAINING
        effects = self._remove(number)
        return effects if is_expected else effects + self._count_failure("%s failed: %s" % (name, why), now)

    def ended(self, number: int, code: int, lines: Sequence[str], now: float) -> List[Effect]:
        """The worker's supervisor ended with this exit code; ``lines``: the last that it wrote."""
        if number not in self._places:
            return []
        place, name = self._places[number], self._name(number)
        effects = self._remove(number)
        if place.state is PlaceState.DRAINING:
            return effects
        said = ("; the last lines that it wrote:" + "".join("\n    " + line for line in lines)) if lines else ""
        text = "%s: the worker ended with %s%s" % (name, explain_exit(code), said)
        if code in (EXIT_CONFIG, EXIT_REFUSED):
            cause = "its options are wrong" if code == EXIT_CONFIG else "the trainer refuses it for good"
            return [*effects, Note("error: %s: %s" % (cause, text)), *self.stop(now, code)]
        return effects + self._count_failure(text, now)

    def stop(self, now: float, exit_code: int = EXIT_ENDED) -> List[Effect]:
        """Ends all places: the first call drains them, a second one kills them."""
        self._stops += 1
        if self._stops > 1:
            return [effect for number in self.numbers for effect in self._remove(number)]
        self._end_with = exit_code
        return [effect for number in self.numbers for effect in self._dismiss(number, now)]

    def tick(self, now: float) -> List[Effect]:
        """Starts places that are missing, dismisses those that are too many or have another address, kills those that
        drain for too long, and says what has changed."""
        effects: List[Effect] = []
        for number, place in list(self._places.items()):
            if place.state is PlaceState.DRAINING and now >= place.kill_at:
                effects += [Note("%s is still busy after %.0f s of draining: killed" % (
                    self._name(number), self._drain_s)), *self._remove(number)]
            elif self._has_run(place, now) and place.since_s >= self._failed_s:
                self._failures = 0
        if self._need is None or self._stops:
            return effects
        for number in self._numbers(PlaceState.PENDING, PlaceState.RUNNING):
            if self._places[number].connect != self._need.connect:       # the trainer has moved
                effects += self._dismiss(number, now)
        wanted = self._need.wanted
        while len(self._numbers(PlaceState.PENDING, PlaceState.RUNNING)) > wanted:
            waiting = self._numbers(PlaceState.PENDING) or self._numbers(PlaceState.RUNNING)
            effects += self._dismiss(waiting[-1], now)
        while len(self._numbers(PlaceState.PENDING, PlaceState.RUNNING)) < wanted and now >= self._not_before_s:
            self._last += 1
            self._places[self._last] = _Place(self._need.connect)
            effects.append(Start(self._last, self._need.connect))
        return effects + self._report()

    def _report(self) -> List[Effect]:
        assert self._need is not None
        counts = tuple(len(self._numbers(state)) for state in PlaceState)
        before, self._told = self._told, (self._need.wanted, *counts)
        if self._told == before:
            return []
        pending, running, draining = counts
        why = " (%s)" % self._need.why if self._need.why and before[:1] != self._told[:1] else ""
        parts = ["%d running" % running] + ["%d wait%s for room" % (pending, "s" * (pending == 1))] * bool(pending)
        parts += ["%d finish%s the step in work" % (draining, "es" * (draining == 1))] * bool(draining)
        return [Note("%d place%s wanted%s: %s" % (self._need.wanted, "s" * (self._need.wanted != 1), why,
                                                 ", ".join(parts)))]

    def _numbers(self, *states: PlaceState) -> List[int]:
        return [number for number, place in self._places.items() if place.state in states]

    def _name(self, number: int) -> str:
        where = self._places[number].where
        return "place %d%s" % (number, " on " + where if where else "")

    @staticmethod
    def _has_run(place: _Place, now: float) -> bool:
        return place.state is PlaceState.RUNNING and now - place.since_s > EARLY_S

    def _dismiss(self, number: int, now: float) -> List[Effect]:
        place = self._places[number]
        if place.state is PlaceState.PENDING:
            return self._remove(number)
        if place.state is PlaceState.DRAINING:
            return []
        place.state, place.kill_at = PlaceState.DRAINING, now + self._drain_s
        return [Drain(number)]

    def _remove(self, number: int) -> List[Effect]:
        del self._places[number]
        return [Kill(number)]

    def _count_failure(self, text: str, now: float) -> List[Effect]:
        if self._stops:
            return [Note(text)]
        self._failures, self._failed_s = self._failures + 1, now
        if self._failures >= MAX_FAILURES and not any(self._has_run(one, now) for one in self._places.values()):
            return [Note("error: %d workers in a row ended before one had run for %.0f s, giving up; %s" % (
                self._failures, EARLY_S, text)), *self.stop(now, EXIT_FAILED)]
        pause_s = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (self._failures - 1))
        self._not_before_s = max(self._not_before_s, now + pause_s)
        return [Note("%s\nthe next place starts in %.0f s" % (text, pause_s))]
