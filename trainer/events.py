"""The files of events in a checkpoint folder, for TensorBoard."""

import os
import re
import struct
from collections import deque
from contextlib import suppress
from typing import Any, Deque, Iterator, List, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.plugins.custom_scalar import layout_pb2, metadata, summary

from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet
from stoker.pipeline.storage.safe_files import open_own
from stoker.trainer.checkpoint_files import CheckpointFolder

FIRST_EVENTS = 5                 # after the version of the format: graph, metagraph, the session's start, layout
MAX_EVENT_BYTES = 1 << 26        # of one that is read: a larger graph is written again by each run
MAX_BATCHES = 256                # in a histogram
BUCKETS = 30
CATEGORY = "training and validation"       # of TensorBoard's page "custom scalars"
_LENGTH = struct.Struct("<QI")   # of a record, and its checksum; the record and its checksum follow


def open_events(folder: CheckpointFolder, graph: Any, start_step: int, metrics: Sequence[str], unit: str) -> Any:
    """A tf.summary.FileWriter for a new file of a run from ``start_step`` on, whose means per batch are the loss and
    ``metrics``, and that counts ``unit``, such as images.

    It has ``graph`` if no other file in the folder has one: TensorBoard wants it once, and another run of the folder
    may have ended before its first checkpoint. It has a layout of the charts if no earlier run's is left."""
    known = [event for name in folder.names() if ".tfevents." in name for event in _first_events(folder.at(name))]
    has_graph = any(event.HasField("graph_def") or event.HasField("meta_graph_def") for event in known)
    # the file's name is not to be foreseen: TensorFlow would write through a link of that name
    writer = tf.summary.FileWriter(folder.tensorflow_path, None if has_graph else graph,
                                   filename_suffix="." + os.urandom(8).hex())
    # makes TensorBoard discard all from this step on, which an earlier run may have written after the checkpoint
    writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), start_step)
    if not any(value.tag == metadata.CONFIG_SUMMARY_TAG for event in known if event.step < start_step
               for value in event.summary.value):
        writer.add_summary(summary.pb(layout(metrics, unit)), start_step)
    return writer


def layout(metrics: Sequence[str], unit: str) -> Any:
    """Charts that have training and validation together: the loss, ``metrics``, the rate in ``unit``, and the share of
    time that was spent waiting for data."""
    charts = [(name, ["train/" + name, "validation/" + name]) for name in ["loss"] + sorted(metrics)]
    charts += [("%s per second" % unit, rates("%s_per_s" % unit)), ("share of time waiting", rates("waiting_share"))]
    return layout_pb2.Layout(category=[layout_pb2.Category(title=CATEGORY, chart=[
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[
            re.escape(tag) + "$" for tag in tags])) for title, tags in charts])])


def rates(name: str) -> List[str]:
    """The tags of a figure of the feed: in training, in an evaluation."""
    return ["feed/" + name, "feed/validation_" + name]


class StageTimes:
    """The stages of the last batches, for histograms. A ``BatchObserver``."""

    def __init__(self) -> None:
        self._recent: Deque[BatchTimings] = deque(maxlen=MAX_BATCHES)

    def taken(self, batch: Batch, timings: BatchTimings, fleet: Fleet, now: float) -> None:
        """See ``BatchObserver``."""
        self._recent.append(timings)

    def histograms(self) -> Any:
        """A tf.Summary with the times of each stage in ms, of the batches since the last call: MAX_BATCHES of them at
        most. A stage that none of them had, such as decoding where the data are no pictures, is left out."""
        rows = 1000 * np.array(self._recent).reshape(-1, len(BatchTimings._fields))
        self._recent.clear()
        of = dict(zip(BatchTimings._fields, rows.T))
        produced = of["storage_s"] + of["decode_s"] + of["augment_s"]
        stages = [("storage", of["storage_s"]), ("decode", of["decode_s"]), ("augment", of["augment_s"]),
                  ("generator", np.maximum(0, of["produce_s"] - produced)), ("wire", of["wire_s"]),
                  ("waiting", of["waited_s"])]
        return tf.Summary(value=[tf.Summary.Value(tag="stages/%s_ms" % name, histo=_histogram(values))
                                 for name, values in stages if values.any()])


def _histogram(values: "np.ndarray") -> Any:
    least, most = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, BUCKETS, (least, most if most > least else least + 1.0))
    return tf.HistogramProto(min=least, max=most, num=len(values), sum=float(values.sum()),
                             sum_squares=float(values.dot(values)), bucket=counts.tolist(),
                             bucket_limit=edges[1:].tolist())


def _first_events(path: str) -> Iterator[Any]:
    """The first events in the file; none if it is no regular file, and none after a damage. TensorFlow's own reader
    takes memory for any length that a file claims."""
    with suppress(OSError, DecodeError), open(open_own(path), "rb") as file:
        for _ in range(FIRST_EVENTS):
            head = file.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return
            length, _ = _LENGTH.unpack(head)
            if length > min(MAX_EVENT_BYTES, os.fstat(file.fileno()).st_size - file.tell()):
                return
            yield tf.Event.FromString(file.read(length))
            file.read(4)
