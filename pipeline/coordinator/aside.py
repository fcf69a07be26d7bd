"""SetAside: the workers that cannot do the job, each with its reason, for the log and for the error of a run without
workers. Pure; bounded, whatever peers send.

Such a worker is no failure of a step: its folder is not the data's, or it cannot import the user's function. It stays
connected, tries again now and then, and may do the job later.
"""

from collections import OrderedDict
from typing import Dict, Iterable, List, Set, Tuple

from stoker.pipeline.coordinator.effects import Effects, Log
from stoker.pipeline.text import printable

MAX_WORKERS = 256      # remembered
MAX_CHARS = 1000       # of a reason
MAX_LOST = 5           # in a row, of one supervisor
MAX_SHOWN = 4          # reasons in a sentence, and workers of each


class SetAside:
    """Names are those of ``Hello.worker``: 'host:4711/0'. Reasons of workers that have left are kept: the error should
    say them."""

    def __init__(self) -> None:
        self._reasons: "OrderedDict[str, str]" = OrderedDict()
        self._logged: Set[Tuple[str, str]] = set()      # (supervisor, reason)
        self._last_traceback = ""
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
        if line in self._logged or len(self._logged) >= MAX_WORKERS:
            return []
        self._logged.add(line)
        is_new = traceback not in ("", self._last_traceback)      # the same in all workers, in most cases
        self._last_traceback = traceback or self._last_traceback
        return [Log("%s is set aside, because it cannot do this job: %s%s" % (
            name, reason, "\n" + printable(traceback, True).rstrip() if is_new else ""), True)]

    def remove(self, name: str) -> bool:
        """The worker can do the job. Returns whether it was set aside."""
        self.lost.pop(name.rpartition("/")[0], None)
        reason = self._reasons.pop(name, None)
        self._logged.discard((name.rpartition("/")[0], reason or ""))
        return reason is not None

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
