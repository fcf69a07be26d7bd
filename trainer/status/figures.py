"""The figures of a run for its status address, as JSON: the names and units are those of docs/STATUS.md.

Times inside Stoker are of the monotonic clock; here they become unix times or durations. What is not a finite number is
null, texts are printable and bounded: names of files and reasons are hostile.
"""

import json
import math
import os
from typing import Any, Callable, Dict, List, Optional, Sequence

from stoker.pipeline.coordinator.roster import Roster
from stoker.pipeline.insight import Insight
from stoker.pipeline.monitoring.events import short
from stoker.pipeline.monitoring.history import INTERVAL_S
from stoker.pipeline.monitoring.observation import MAX_SENTENCE, Observation
from stoker.pipeline.monitoring.worker_rates import STAGES, host_of
from stoker.pipeline.stream import BatchStream

MAX_NUMBER = 1e15      # larger ones are no true figures
PART = 100             # rows between two rests
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def seen_s(stream: BatchStream, insight: Insight) -> float:
    """The moment that the figures are about: after the end of the run, that of its last batch."""
    return insight.observation.taken_s if stream.is_over else insight.now()


def run_figures(stream: BatchStream, insight: Insight) -> Dict[str, Any]:
    """What /status.json says of the run beyond its workers: no name of a file, nothing of the data."""
    seen, plan, now, judged = insight.observation, stream.plan, seen_s(stream, insight), insight.judged
    recent, in_flight = seen.history.recent(now, waits_since_s(stream, insight)), insight.in_flight
    return {
        "unit": stream.unit, "samples_per_s": rounded(recent.samples_per_s),
        "waiting_share": rounded(recent.waiting_share),
        "bottleneck": judged and {"name": judged.verdict.name,
                                  "sentence": short(judged.verdict.sentence, MAX_SENTENCE)},
        "workers_needed": judged and judged.window.workers_needed,
        "window": {"size": in_flight.size, "ready": in_flight.ready, "leased": in_flight.leased},
        "memory_mb": rounded(memory_bytes() / (1 << 20)), "bad_files": stream.bad_files,
        "epoch": seen.epoch or min(plan.epochs, stream.step // plan.steps_per_epoch + 1), "epochs": plan.epochs,
        "elapsed_s": rounded(now - seen.begun_s), "since_last_batch_s": rounded(now - seen.taken_s)}


def waits_since_s(stream: BatchStream, insight: Insight) -> Optional[float]:
    """Since when the consumer waits; None: it does not, or the run is over."""
    return None if stream.is_over else insight.waits_since_s


def more_figures(stream: BatchStream, insight: Insight, roster: Roster, unix_s: float,
                 rest: Callable[[], None] = lambda: None) -> Dict[str, Any]:
    """What /details.json adds, ``unix_s`` being the present time. ``rest`` is called now and then."""
    seen, now, judged = insight.observation, seen_s(stream, insight), insight.judged
    unix_s -= insight.now()           # from here on: what makes unix times of those of the other clock
    lines = seen.history.lines(now, waits_since_s(stream, insight))
    window = judged and judged.window
    working_s = sum(window.stages) if window else 0.0
    return {
        "speed": {"step_ms": window and rounded(1000 * window.step_s),
                  "produce_ms": window and rounded(1000 * window.produce_s),
                  "wire_ms": window and rounded(1000 * window.wire_s / max(1, window.batches)),
                  "read_ms": (rounded(1000 * window.read_s / max(1, window.batches))
                              if window and window.read_s else None)},
        "stages": {name: rounded(window.stages[number] / working_s) if window and working_s > 0 else None
                   for number, name in enumerate(STAGES)},
        "history": {"interval_s": INTERVAL_S, "samples_per_s": [rounded(value) for value in lines.samples_per_s],
                    "waiting_share": [rounded(value) for value in lines.waiting_share]},
        "bottlenecks": [{"s": moment(unix_s + each.when_s), "name": each.name, "sentence": each.sentence}
                        for each in list(seen.bottlenecks)],
        "states": roster.states, "worker_table": worker_table(roster, seen, now, rest),
        "bad": {"count": stream.bad_files, "newest": [
            {"s": moment(unix_s + bad.when_s), "path": bad.path, "why": bad.why, "step": bad.step}
            for bad in list(seen.bad_files)]},
        "events": [{"s": moment(unix_s + event.when_s), "kind": event.kind, "text": event.text}
                   for event in seen.events.newest()]}


def worker_table(roster: Roster, seen: Observation, now: float, rest: Callable[[], None]) -> List[Dict[str, Any]]:
    """A row for each worker."""
    rows: List[Dict[str, Any]] = []
    for row in roster.rows:
        if len(rows) % PART == PART - 1:
            rest()
        rate = seen.workers.rate(row.name, now)
        stages_s: Sequence[Optional[float]] = rate.stages_s or (None,) * len(STAGES)
        rows.append({"name": short(row.name), "host": short(host_of(row.name)), "pid": row.pid, "state": row.state,
                     "versions": short(row.versions), "joined_s": rounded(row.joined_s),
                     "silent_s": rounded(row.silent_s), "batches": rate.batches,
                     "samples_per_s": rounded(rate.samples_per_s),
                     "stages_ms": {name: None if each_s is None else rounded(1000 * each_s)
                                   for name, each_s in zip(STAGES, stages_s)},
                     "restarts": row.restarts, "why": short(row.why)})
    return rows


def rounded(value: Optional[float]) -> Optional[float]:
    """``value`` with some digits; None for what is no finite number."""
    if value is None or not -MAX_NUMBER < value < MAX_NUMBER:       # NaN is not, either
        return None
    return round(value, 2 if value >= 100 else 5)


def moment(unix_s: float) -> float:
    """A unix time with milliseconds."""
    return round(unix_s, 3)


def json_bytes(document: Any) -> bytes:
    """``document``, whose numbers are finite, as JSON in ASCII. Without "<", it is no HTML for any
    program that guesses types."""
    return json.dumps(document, allow_nan=False).encode("ascii").replace(b"<", b"\\u003c") + b"\n"


def memory_bytes() -> int:
    """The memory of this process, as the kernel counts it; 0 if it does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


class Kept:
    """What ``make`` gives, made again after ``interval_s`` at the earliest; or if ``key`` has changed."""

    def __init__(self, make: Callable[[], Any], interval_s: float, now: Callable[[], float]) -> None:
        self._make, self.interval_s, self._now = make, interval_s, now
        self._made_s, self._key, self._value = -math.inf, None, None     # type: float, Any, Any

    def get(self, key: Any = None) -> Any:
        """See above."""
        now = self._now()
        if now >= self._made_s + self.interval_s or key != self._key:
            self._value = self._make()
            self._made_s, self._key = now, key
        return self._value
