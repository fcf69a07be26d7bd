"""SetAside: the workers that cannot do the job, each with its reason, for the log and for the error of a run without
workers. Pure; bounded, whatever peers send.

Such a worker is no failure of a step: its folder is not the data's, or it cannot import the user's function. It stays
connected, tries again now and then, and may do the job later.
"""

from collections import Counter, OrderedDict
from typing import Dict, Iterable, List, Set, Tuple

from stoker.pipeline.coordinator.effects import Effects, Log
from stoker.pipeline.text import printable

MAX_WORKERS = 256      # remembered
MAX_CHARS = 1000       # of a reason
MAX_LINES = 3          # in the log, for one reason of one supervisor: its folder may come and go
MAX_TRACEBACKS = 16    # in the log
MAX_LOST = 5           # in a row, of one supervisor
MAX_SHOWN = 4          # reasons in a sentence, and workers of each


class SetAside:
    """Names are those of ``Hello.worker``: 'host:4711/0'. Reasons of workers that have left are kept: the error should
    say them."""

    def __init__(self) -> None:
        self._reasons: "OrderedDict[str, str]" = OrderedDict()
        self._lines: Dict[Tuple[str, str], int] = Counter()     # in the log, of each (supervisor, reason)
        self._waits_for: Set[Tuple[str, str]] = set()           # those of them that no worker has got over
        self._ends: Dict[str, int] = Counter()                  # in the log, of each worker
        self._tracebacks: Set[str] = set()                      # in the log
        self.lost: Dict[str, int] = {}      # supervisor -> its workers that were lost in a row before they were ready

    def add(self, name: str, reason: str, traceback: str) -> Effects:
        """The worker cannot do the job. The workers of one host have one line in the log for a reason, and the
        traceback of the user's code once."""
        reason = printable(reason)[:MAX_CHARS]
        self._reasons.pop(name, None)
        self._reasons[name] = reason
        if len(self._reasons) > MAX_WORKERS:
            self._reasons.popitem(last=False)
        line = name.rpartition("/")[0], reason
        if line in self._waits_for or self._lines[line] >= MAX_LINES or sum(self._lines.values()) >= MAX_WORKERS:
            return []
        self._waits_for.add(line)
        self._lines[line] += 1
        is_new = bool(traceback) and traceback not in self._tracebacks and len(self._tracebacks) < MAX_TRACEBACKS
        if is_new:                # the same in all workers, in most cases
            self._tracebacks.add(traceback)
        last = "" if self._lines[line] < MAX_LINES else " (the log does not say so again)"
        return [Log("%s is set aside, because it cannot do this job: %s%s%s" % (
            name, reason, last, "\n" + printable(traceback, True).rstrip() if is_new else ""), True,
            kind="set aside")]

    def remove(self, name: str) -> Effects:
        """The worker can do the job."""
        supervisor = name.rpartition("/")[0]
        self.lost.pop(supervisor, None)
        if name not in self._reasons:
            return []
        self._waits_for.discard((supervisor, self._reasons.pop(name)))
        if self._ends[name] >= MAX_LINES or sum(self._ends.values()) >= MAX_WORKERS:
            return []
        self._ends[name] += 1
        return [Log("%s can do this job now" % name, kind="joined")]

    def add_lost(self, name: str, function: str) -> Effects:
        """The worker's connection was lost before it said whether it can do the job."""
        supervisor = name.rpartition("/")[0]
        count = self.lost[supervisor] = self.lost.get(supervisor, 0) + 1
        if len(self.lost) > MAX_WORKERS:
            self.lost.clear()
        if count < MAX_LOST:
            return []
        return self.add(name, "its process was lost at least %d times before it could do the job: does importing %s "
                              "end it, or take all memory?" % (MAX_LOST, function), "")

    def reason_of(self, name: str) -> str:
        """Why this worker is set aside; '' if that is not known. Any thread may ask."""
        return self._reasons.get(name, "")

    def by_supervisor(self, names: Iterable[str]) -> Dict[str, List[str]]:
        """'host:pid' -> the reason of each of the workers ``names`` that is set aside."""
        found: Dict[str, List[str]] = {}
        for name in names:
            if name in self._reasons:
                found.setdefault(name.rpartition("/")[0], []).append(self._reasons[name])
        return found

    def report(self) -> str:
        """What is wrong with each, in one clause; '' if there are none."""
        names: "OrderedDict[str, List[str]]" = OrderedDict()
        for name, reason in self._reasons.items():
            names.setdefault(reason, []).append(name)
        shown = []
        for reason, workers in list(names.items())[:MAX_SHOWN]:
            more = " and %d more" % (len(workers) - MAX_SHOWN) if len(workers) > MAX_SHOWN else ""
            shown.append("%s%s (%s)" % (", ".join(workers[:MAX_SHOWN]), more, reason))
        if len(names) > MAX_SHOWN:
            shown.append("and others for %d more reasons" % (len(names) - MAX_SHOWN))
        return "set aside: " + "; ".join(shown) if shown else ""
