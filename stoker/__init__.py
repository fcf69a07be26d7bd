"""Stoker feeds TensorFlow 1.9 with batches that worker processes produce. This is its public name.

    import stoker

    with stoker.open_stream("photos", image_size=64, batch_size=32, epochs=2) as batches:
        for batch in batches:
            session.run(train_op, {images: batch.images, labels: batch.labels})

The code lies in ``stoker.pipeline`` (for both sides), ``stoker.workers``, ``stoker.trainer``, ``stoker.inspection`` and
``stoker.packing``. In the repository these five are links to the folders beside this one. Names that are not in
``__all__`` may change in any release.

``import stoker`` loads none of the five: each public name is loaded when it is first used. So a worker that imports
stoker does not load the trainer's code, and a trainer does not load PIL.
"""

import importlib
import os
import sys
import types
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:      # for mypy and editors; at run time, _Lazy does the same
    from stoker.pipeline.arrays import ArraySpec, UpTo
    from stoker.pipeline.batch import Batch
    from stoker.pipeline.errors import (CheckpointMismatch, ConfigError, DatasetError, ProtocolError, RunFailed,
                                        StokerError, VersionMismatch)
    from stoker.pipeline.functions import Skip, batch, generator, sample
    from stoker.pipeline.options import JobOptions, StreamOptions
    from stoker.pipeline.orders import balanced, weighted
    from stoker.pipeline.plan import sample_random
    from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped
    from stoker.pipeline.sources.dataset import Dataset
    from stoker.pipeline.sources.folder import scan_folder
    from stoker.pipeline.sources.reading import csv, files, jsonl, lines
    from stoker.pipeline.sources.records.public import hdf5, npy, tar, tfrecord, zip
    from stoker.pipeline.storage.folder import BadFile, check_root, resolve
    from stoker.pipeline.stream import BatchStream
    from stoker.trainer.dataset import dataset
    from stoker.trainer.estimator import input_fn
    from stoker.trainer.feed import feed_dict, open_stream
    from stoker.trainer.keras import keras
    from stoker.trainer.record.replay import replay
    from stoker.trainer.recovery import recover
    from stoker.workers.generators.output import Output, batch_of
    from stoker.workers.images import load

__all__ = [
    # a stream: open it, and what it takes and gives
    "open_stream", "feed_dict", "scan_folder", "Batch", "BatchStream", "Dataset", "JobOptions", "Skipped",
    "StreamOptions",
    # where rows come from, and their order
    "balanced", "csv", "files", "hdf5", "jsonl", "lines", "npy", "tar", "tfrecord", "weighted", "zip",
    # into Keras, tf.data and tf.estimator, and from checkpoints
    "dataset", "input_fn", "keras", "recover",
    # a batch of a recorded run, made again
    "replay",
    # a function of your own
    "Skip", "UpTo", "batch", "generator", "sample",
    # a generator of your own: stoker/workers/generators/example.py
    "ArraySpec", "BadFile", "Job", "Lease", "Output", "Sample", "batch_of", "check_root", "load", "resolve",
    "sample_random",
    # errors
    "CheckpointMismatch", "ConfigError", "DatasetError", "ProtocolError", "RunFailed", "StokerError", "VersionMismatch",
]

try:
    #: Before the program can change it: relative entries of sys.path, and the program's own file, are of this folder.
    started_in = os.getcwd()
except OSError:           # it was deleted
    started_in = ""

#: Where each public name is defined.
_HOMES = {
    "stoker.pipeline.arrays": ("ArraySpec", "UpTo"),
    "stoker.pipeline.batch": ("Batch",),
    "stoker.pipeline.errors": ("CheckpointMismatch", "ConfigError", "DatasetError", "ProtocolError", "RunFailed",
                               "StokerError", "VersionMismatch"),
    "stoker.pipeline.functions": ("Skip", "batch", "generator", "sample"),
    "stoker.pipeline.options": ("JobOptions", "StreamOptions"),
    "stoker.pipeline.orders": ("balanced", "weighted"),
    "stoker.pipeline.plan": ("sample_random",),
    "stoker.pipeline.protocol.messages": ("Job", "Lease", "Sample", "Skipped"),
    "stoker.pipeline.sources.dataset": ("Dataset",),
    "stoker.pipeline.sources.folder": ("scan_folder",),
    "stoker.pipeline.sources.reading": ("csv", "files", "jsonl", "lines"),
    "stoker.pipeline.sources.records.public": ("hdf5", "npy", "tar", "tfrecord", "zip"),
    "stoker.pipeline.storage.folder": ("BadFile", "check_root", "resolve"),
    "stoker.pipeline.stream": ("BatchStream",),
    "stoker.trainer.dataset": ("dataset",),
    "stoker.trainer.estimator": ("input_fn",),
    "stoker.trainer.feed": ("feed_dict", "open_stream"),
    "stoker.trainer.keras": ("keras",),
    "stoker.trainer.recovery": ("recover",),
    "stoker.trainer.record.replay": ("replay",),
    "stoker.workers.generators.output": ("Output", "batch_of"),
    "stoker.workers.images": ("load",),
}


class _Lazy(types.ModuleType):
    """This module's class. Python 3.6 does not call a ``__getattr__`` that a module defines (PEP 562, Python 3.7)."""

    def __getattr__(self, name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(importlib.import_module(home), name)
                setattr(self, name, value)        # from now on found without this method
                return value
        raise AttributeError("module 'stoker' has no attribute %r" % name)

    def __dir__(self) -> List[str]:
        return sorted(set(super().__dir__()) | set(__all__))


sys.modules[__name__].__class__ = _Lazy
