"""SetAside: the workers that cannot do the job, each with its reason, for the log and for the error of a run without
workers. Pure; bounded, whatever peers send.

Such a worker is no failure of a step: its folder is not the data's, or it cannot import the user's function. It stays
connected, tries again now and then, and may do the job later.
"""

from collections import OrderedDict
from typing import Dict, Iterable, List, Set, Tuple

from stoker.pipeline.coordinator.effects import Effects, Fail, Log
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.protocol.messages import printable

MAX_WORKERS = 256      # remembered
MAX_CHARS = 1000       # of a reason
MAX_LOST = 10          # in a row, while they import the user's module
MAX_SHOWN = 4          # reasons in a sentence, and workers of each


class SetAside:
    """Names are those of ``Hello.worker``: 'host:4711/0'. Reasons of workers that have left are kept: the error should
    say them."""

    def __init__(self) -> None:
        self._reasons: "OrderedDict[str, str]" = OrderedDict()
        self._logged: Set[Tuple[str, str]] = set()      # (supervisor, reason)
        self._last_traceback = ""
        self._lost = 0

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
        self._lost = 0
        reason = self._reasons.pop(name, None)
        self._logged.discard((name.rpartition("/")[0], reason or ""))
        return reason is not None

    def lost(self, name: str, function: str) -> Effects:
        """The worker's connection was lost before it said whether it can do the job, and no other worker can."""
        self._lost += 1
        if self._lost < MAX_LOST:
            return []
        return [Fail(RunFailed("%d workers in a row were lost before they could do this job, the last of them %s: does "
                               "importing %s end their process, or take all memory?" % (self._lost, name, function)))]

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
        shown = ["%s%s (%s)" % (", ".join(workers[:MAX_SHOWN]),
                                " and %d more" % (len(workers) - MAX_SHOWN) if len(workers) > MAX_SHOWN else "", reason)
                 for reason, workers in list(names.items())[:MAX_SHOWN]]
        if len(names) > MAX_SHOWN:
            shown.append("and others for %d more reasons" % (len(names) - MAX_SHOWN))
        return "set aside: " + "; ".join(shown) if shown else ""
