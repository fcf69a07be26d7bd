"""The figures of a run that anything on the network may ask for: its step, its workers, how many are wanted, its rate.

They hold no name of a file and nothing of the data.
"""

import math
import time
from collections import OrderedDict
from typing import Any, Dict, NamedTuple, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.insight import Insight
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet
from stoker.pipeline.stream import BatchStream
from stoker.trainer.demand import Demand
from stoker.trainer.status.figures import Kept, json_bytes, run_figures

VERSION = "0.1.0"      # of Stoker; a test compares it with setup.cfg
STATUS = "/status.json"
INTERVAL_S = 0.2       # between two makings of the page, in one step
OVER_SEEN_S = 1.2      # so long, the end of a run is to be had if one client at least has asked within ...
ASKED_WITHIN_S = 5.0   # ... so long before it, ...
LAST_SEEN_S = 2.5      # ... and at most so long if such a client has not asked again
MAX_CLIENTS = 64       # that are remembered


class Page(NamedTuple):
    """An answer of the server: HTTP's status code, the content's type, and the content."""
    code: int
    content_type: str
    body: bytes


def text_page(code: int, text: str) -> Page:
    """A sentence, in ASCII."""
    return Page(code, "text/plain; charset=utf-8", text.encode("ascii", "replace") + b"\n")


class Status:
    """The figures of ``stream``. Other threads may ask for them at any moment.

    ``least`` and ``most``: limits of the number that is wanted; ``window``: the most steps that are leased or buffered
    at once; ``local``: the most workers that the trainer starts itself; ``insight``: None without a status address."""

    def __init__(self, stream: BatchStream, least: int, most: int, window: int, local: int,
                 insight: Optional[Insight] = None) -> None:
        self._stream, self._least, self._most, self._local_most, self._insight = stream, least, most, local, insight
        self._demand = Demand(window, stream.plan.training)
        self._taken_s = math.inf                  # when the last batch was taken
        self._asked_s = -math.inf                 # when one last asked before the end
        self._clients: "OrderedDict[str, float]" = OrderedDict()    # those to be told of the end -> when they asked
        self._page = Kept(self._make, INTERVAL_S, time.monotonic)
        self.local_supervisor = ""                # 'host:pid' of the local workers, as in ``Fleet``

    def taken(self, batch: Batch, timings: BatchTimings, fleet: Fleet, now: float) -> None:
        """See ``BatchObserver``."""
        plan = self._stream.plan
        remaining = plan.steps - self._stream.step + plan.evaluations_per_epoch      # in the last epoch, at most
        self._demand.taken(batch.training, timings, fleet.worth, remaining, now)
        self._taken_s = now

    def wanted(self) -> int:
        """The number of workers beyond the local ones that the run can use now."""
        if self._stream.is_over:
            return 0
        total = self._demand.workers
        if total is None:              # nothing is known yet: one has to begin
            return max(self._least, 0 if self._local_most else 1)
        return max(self._least, min(self._most, total - self._local_most))

    def why(self) -> str:
        """The reason for that number, in a sentence."""
        if self._stream.is_over:
            return "the run is over"
        total = self._demand.workers
        if total is None:
            return self._demand.why
        reason, beyond = self._demand.why, total - self._local_most
        if self._local_most:
            reason += ", %d of them local" % self._local_most if beyond > 0 else ", and the local ones are enough"
        if beyond > self._most:
            return reason + "; max_workers allows %d elsewhere" % self._most
        return reason + "; min_workers asks for %d elsewhere in any case" % self._least * (max(0, beyond) < self._least)

    def figures(self) -> Dict[str, Any]:
        """What /status.json says."""
        stream, fleet = self._stream, self._stream.fleet
        local = fleet.by_supervisor.get(self.local_supervisor, 0)
        local_ready = max(0, local - len(fleet.set_aside.get(self.local_supervisor, ())))
        alive = sum(fleet.by_supervisor.values()) - local
        return {"stoker": VERSION, "run": stream.run_id, "connect": stream.connect_address, "step": stream.step,
                "steps": stream.plan.steps, "over": stream.is_over,
                "workers": {"wanted": self.wanted(), "min": self._least, "max": self._most, "alive": alive,
                            "ready": min(alive, max(0, fleet.ready - local_ready)), "why": self.why()},
                **(run_figures(stream, self._insight) if self._insight is not None else {})}

    def asked(self, client: str) -> None:
        """``client`` has asked for the figures, and gets them."""
        self._clients.pop(client, None)
        if not self._stream.is_over:
            self._clients[client] = self._asked_s = time.monotonic()
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)

    def page(self) -> Page:
        """The figures as JSON. They are not older than the last step."""
        made: Page = self._page.get((self._stream.step, self._stream.is_over))
        return made

    def _make(self) -> Page:
        return Page(200, "application/json", json_bytes(self.figures()))

    def lingers(self) -> bool:
        """Whether they should still be to be had, so that clients that ask again and again see the end of the run."""
        passed_s, begun_s = time.monotonic() - self._taken_s, self._taken_s - ASKED_WITHIN_S
        if not self._stream.is_over or passed_s > LAST_SEEN_S or self._asked_s <= begun_s:
            return False
        # two clients of one host, with one program, look like one
        return passed_s <= OVER_SEEN_S or any(asked_s > begun_s for asked_s in list(self._clients.values()))
