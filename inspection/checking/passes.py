"""The passes of ``stoker-check`` over the files: streams of Stoker's own, whose workers look at each file exactly once.

So a file that kills or starves the process that opens it costs some seconds and is reported, as in any run.
"""

import logging
from contextlib import suppress
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence

import numpy as np

from stoker.inspection.checking.collected import Collected
from stoker.inspection.checking.data import Data
from stoker.inspection.checking.fields import FIELDS, THUMBNAIL
from stoker.pipeline.cores import cores
from stoker.pipeline.options import SANDBOX_AUTO, SANDBOX_ON, TRUNCATED_USE
from stoker.pipeline.sources.dataset import Dataset
from stoker.trainer.feed import open_stream
from stoker.workers import landlock

FUNCTIONS = "stoker.inspection.checking.facts:"
FILES_PER_LEASE = 16


class Passes(NamedTuple):
    """How files are looked at. ``options``: arguments of ``open_stream`` about pictures."""
    options: Dict[str, Any]
    workers: Optional[int]          # None: one per core
    python: Optional[str]
    sandbox: str

    def look(self, data: Data, done: Callable[[int], Any]) -> Collected:
        """The facts of all files. ``done``: is told how many more were looked at. Raises StokerError."""
        collected = Collected(len(data.paths), data.training)
        with self._stream(data.source(), "facts", {"facts": ("int64", (len(FIELDS),))}, self.options) as stream:
            for batch in stream:
                collected.add(batch.used_indices, batch["facts"])
                for skip in batch.skipped:
                    collected.add_bad(skip.index, skip.reason)
                done(len(batch.indices))
        return collected

    def thumbnails(self, data: Data, indices: Sequence[int]) -> Dict[int, "np.ndarray"]:
        """uint8 [height, width, 3] of the files ``indices`` of which there is a picture. Raises StokerError."""
        found: Dict[int, np.ndarray] = {}
        if not indices:
            return found
        source = Dataset(data.root, (), tuple(data.paths[index] for index in indices), (-1,) * len(indices), ())
        arrays = {"thumbnail": ("uint8", (THUMBNAIL, THUMBNAIL, 3)), "size": ("int32", (2,))}
        # also of a file that ends too early: what there is of it
        options = dict(self.options, truncated=TRUNCATED_USE)
        with self._stream(source, "thumbnails", arrays, options) as stream:
            for batch in stream:
                for place, pixels, (height, width) in zip(batch.used_indices, batch["thumbnail"], batch["size"]):
                    found[indices[place]] = pixels[:height, :width].copy()
        return found

    def _stream(self, source: Dataset, function: str, arrays: Dict[str, Any], options: Dict[str, Any]) -> Any:
        workers = cores() if self.workers is None else self.workers
        workers = max(1, min(workers, -(-len(source) // 2)))
        return open_stream(source, FUNCTIONS + function, arrays=arrays, training=False,
                           batch_size=max(1, min(FILES_PER_LEASE, len(source) // (2 * workers))), workers=workers,
                           worker_python=self.python, sandbox=_sandbox(self.sandbox), **options)


def _sandbox(wanted: str) -> str:
    """'auto' leaves workers that run a function without a sandbox; but this function is Stoker's own."""
    if wanted == SANDBOX_AUTO:
        with suppress(OSError):
            if landlock.version() > 0:
                return SANDBOX_ON
    return wanted


class Quiet(logging.Filter):
    """Leaves lines out of the log that the report has: bad files as they are found."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("bad file ")
