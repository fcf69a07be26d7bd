"""/batch.json: pictures of a recent batch. Made only if someone has asked.

The consumer's thread hands over the next batch that it takes; the server's thread draws some of its samples and lets go
of the batch, so that its memory is used again. At most one batch is kept so.
"""

import base64
import logging
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence

from stoker.pipeline.batch import Batch
from stoker.pipeline.insight import Insight
from stoker.pipeline.monitoring.events import short
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import printable_path
from stoker.trainer.status.figures import json_bytes, moment
from stoker.trainer.status.status import Page, text_page

log = logging.getLogger("stoker")

BATCH = "/batch.json"
MAX_SAMPLES = 16
INTERVAL_S = 2.0            # between two batches that are shown
STALE_S = 10.0              # an older one is not shown while a newer one may come
MAX_SIDE = 112              # of a picture, in pixels: they are not compressed, which would cost far more time
MAX_PICTURE_BYTES = 2 << 20     # of all together, as base64; further samples are left out
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
        self._page = self._made(batch)
        self._made_s = self._insight.now()

    def _made(self, batch: Batch) -> Page:
        try:
            from stoker.trainer.drawing.pictures import views_of
            return Page(200, "application/json", json_bytes(document(batch, views_of(
                batch, _slowly(min(MAX_SAMPLES, len(batch))), MAX_SIDE, level=0))))
        except ImportError as error:
            return text_page(501, "the trainer cannot draw pictures: %s; pip install pillow" % short(str(error)))
        except Exception as error:
            if not self._has_failed:
                log.warning("status: step %d cannot be shown (a bug in Stoker)", batch.step, exc_info=True)
            self._has_failed = True
            return text_page(500, "the batch of step %d cannot be shown: %s; the trainer's log says more" % (
                batch.step, type(error).__name__))


def _slowly(count: int) -> Iterator[int]:
    """0 .. count - 1, with pauses."""
    for number in range(count):
        yield number
        time.sleep(REST_S)


def document(batch: Batch, views: Sequence[Sequence[Any]]) -> Dict[str, Any]:
    """What the page says of ``batch``, of whose first samples these are the views."""
    samples: List[Dict[str, Any]] = []
    room = MAX_PICTURE_BYTES
    for row, of_sample in enumerate(views):
        shown = [{"name": short(view.name), "kind": view.kind, "text": short(view.text),
                  "png": base64.b64encode(view.png).decode("ascii")} for view in of_sample[:MAX_VIEWS]]
        room -= sum(len(view["png"]) for view in shown)
        if room < 0 and samples:
            break
        samples.append(dict(_names(batch, row), views=shown))
    return {"step": batch.step, "epoch": batch.epoch + 1, "training": batch.training, "made_s": moment(time.time()),
            "size": len(batch), "samples": samples}


def _names(batch: Batch, row: int) -> Dict[str, Any]:
    """The sample of a row, its name, and its class. A batch function may mix its samples: then they are not known."""
    if batch.source is None or row >= len(batch.used_indices):
        return {"index": None, "name": "", "label": ""}
    index, classes = batch.used_indices[row], batch.source.classes
    sample = batch.source.samples([index])[0]
    label = printable_path(classes[sample.label]) if 0 <= sample.label < len(classes) else ""
    return {"index": index, "name": short(printable_path(sample.name)), "label": short(label)}
