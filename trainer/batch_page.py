"""/batch.json: pictures of a recent batch. Made only if someone has asked.

The consumer's thread hands over the next batch that it takes; the server's thread draws some of its samples and lets go
of the batch, so that its memory is used again. At most one batch is kept so.
"""

import base64
import logging
import time
from typing import Any, Dict, List, Optional

from stoker.pipeline.batch import Batch
from stoker.pipeline.insight import Insight
from stoker.pipeline.monitoring.events import short
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import printable_path
from stoker.trainer.figures import json_bytes, moment
from stoker.trainer.status import Page

log = logging.getLogger("stoker")

BATCH = "/batch.json"
MAX_SAMPLES = 16
INTERVAL_S = 2.0            # between two batches that are shown
STALE_S = 10.0              # an older one is not shown while a newer one may come
MAX_PICTURE_BYTES = 2 << 20     # of all together; further samples are left out
MAX_TEXT = 300
MAX_VIEWS = 16              # of a sample
REST_S = 0.002              # between two samples: the run needs the interpreter, too


class BatchPage:
    """Makes the page. All methods are called in the server's thread."""

    def __init__(self, stream: BatchStream, insight: Insight) -> None:
        self._stream, self._insight = stream, insight
        self._page: Optional[Page] = None
        self._made_s = float("-inf")
        self._has_failed = False
        self._waiting = Page(200, "application/json", json_bytes(
            {"step": None, "epoch": None, "training": None, "made_s": None, "size": None, "samples": []}))

    def page(self) -> Page:
        """The pictures that are there; a newer batch is asked for if they are old."""
        age_s, seen = self._insight.now() - self._made_s, self._insight.observation
        if age_s >= INTERVAL_S and not self._stream.is_over and seen.batch is None:
            seen.is_batch_wanted = True
        if self._page is None or age_s > STALE_S and not self._stream.is_over:
            return self._waiting
        return self._page

    def draw(self) -> None:
        """Draws the batch that was handed over, if there is one."""
        seen = self._insight.observation
        batch, seen.batch = seen.batch, None
        if batch is None:
            return
        try:
            from stoker.trainer import pictures
        except ImportError as error:
            sentence = "the trainer cannot draw pictures: %s; pip install pillow\n" % short(str(error))
            self._page = Page(501, "text/plain; charset=utf-8", sentence.encode("ascii", "replace"))
        else:
            self._page = Page(200, "application/json", json_bytes(self._document(batch, pictures.views)))
        self._made_s = self._insight.now()

    def _document(self, batch: Batch, views: Any) -> Dict[str, Any]:
        samples: List[Dict[str, Any]] = []
        room = MAX_PICTURE_BYTES
        for row in range(min(MAX_SAMPLES, len(batch))):
            sample = self._sample(batch, row, views)
            room -= sum(len(view["png"]) + len(view["text"]) for view in sample["views"])
            if room < 0 and samples:
                break
            samples.append(sample)
            time.sleep(REST_S)
        return {"step": batch.step, "epoch": batch.epoch + 1, "training": batch.training,
                "made_s": moment(time.time()), "size": len(batch), "samples": samples}

    def _sample(self, batch: Batch, row: int, views: Any) -> Dict[str, Any]:
        index, name, label = None, "", ""
        if batch.source is not None and row < len(batch.used_indices):
            index = batch.used_indices[row]
            sample = batch.source.samples([index])[0]
            name, classes = short(printable_path(sample.name)), batch.source.classes
            label = short(printable_path(classes[sample.label])) if classes and sample.label >= 0 else ""
        try:
            shown = [{"name": short(view.name), "kind": view.kind, "text": short(view.text, MAX_TEXT),
                      "png": base64.b64encode(view.png).decode("ascii")} for view in views(batch, row)[:MAX_VIEWS]]
        except Exception:
            if not self._has_failed:
                log.warning("status: a sample of step %d cannot be shown (a bug in Stoker)", batch.step, exc_info=True)
            self._has_failed = True
            shown = [{"name": "", "kind": "text", "text": "cannot be shown: the trainer's log says more", "png": ""}]
        return {"index": index, "name": name, "label": label, "views": shown}
