"""Watches the record files of a run: an index says where each record is, and in a file that was replaced meanwhile,
there may be another one. Then the run ends with a sentence, before it trains on more of them. Imports no TensorFlow."""

import logging
import math
import threading
from contextlib import suppress
from typing import Any, Callable, Iterable, List, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet, Window
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.sources.roots import is_url

log = logging.getLogger("stoker")

LOCAL_INTERVAL_S = 30.0         # between two looks at files of this host
REMOTE_INTERVAL_S = 300.0       # at those of a store, of which each costs a request
STOPPED_WITHIN_S = 1.0          # for a look that is under way when the stream ends


class DataWatch:
    """A worker group without workers, and an observer of batches, of a stream with ``positions`` left. Looks in a
    thread of its own, at a bad sample too unless it has just done so, and again before the last batch is handed out.

    ``changed``: functions that return a sentence if files have changed, else None; they may take long.
    """

    def __init__(self, changed: Iterable[Callable[[], Optional[str]]], positions: int, interval_s: float,
                 is_remote: bool) -> None:
        self._changed = list(changed)
        self._left, self._interval_s, self._is_remote = positions, interval_s, is_remote
        self._found: Optional[str] = None
        self._next_look_s = -math.inf           # at a bad sample: each batch may have one
        self._wake, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="stoker-data-watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over and self._found is None:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if not self._is_over:
                self._look()

    def _look(self) -> None:
        for changed in self._changed:
            with suppress(Exception):       # a store may be away: then those who read it say so
                self._found = self._found or changed()

    def taken(self, batch: Batch, timings: BatchTimings, fleet: Fleet, now: float) -> None:
        """Raises RunFailed instead of handing out a batch once a change is known."""
        if batch.skipped and now >= self._next_look_s:
            self._next_look_s = now + self._interval_s
            self._wake.set()
        self._left -= 1
        if not self._left and self._found is None:
            self._look()
        if self._found is not None:
            raise RunFailed(self._found)

    def trouble(self, fleet: Fleet) -> Optional[str]:
        """The change, if there is one."""
        return self._found

    def adjust(self, window: Window, fleet: Fleet) -> bool:
        """There are no workers to adjust."""
        return False

    def stop(self) -> None:
        """Ends the thread. A stream that ends early is not worth requests to a store."""
        was_over, self._is_over = self._is_over, True
        self._wake.set()
        self._thread.join(STOPPED_WITHIN_S)
        if not was_over and self._left > 0 and self._found is None and not self._is_remote:
            self._look()
            if self._found is not None:
                log.warning("%s", self._found)


def watched(datasets: Splits, positions: int) -> Optional[DataWatch]:
    """The watch of the record files of ``datasets``; None if there are none."""
    sources: List[Any] = [source for source in datasets if getattr(source, "watched", None) is not None]
    if not sources:
        return None
    is_remote = any(is_url(source.root) for source in sources)
    changed = {id(source.watched): source.changed for source in sources}         # parts of the same files count once
    return DataWatch(changed.values(), positions, REMOTE_INTERVAL_S if is_remote else LOCAL_INTERVAL_S, is_remote)
