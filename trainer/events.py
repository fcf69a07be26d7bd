"""The files of events in a checkpoint folder, for TensorBoard."""

import os
import struct
from contextlib import suppress
from typing import Any, Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

from stoker.pipeline.storage.safe_files import open_own
from stoker.trainer.checkpoint_files import CheckpointFolder

FIRST_EVENTS = 3                 # a graph is among them, after the version of the format
MAX_EVENT_BYTES = 1 << 26        # of one that is read: a larger graph is written again by each run
_LENGTH = struct.Struct("<QI")   # of a record, and its checksum; the record and its checksum follow


def open_events(folder: CheckpointFolder, graph: Any) -> Any:
    """A tf.summary.FileWriter for a new file, with ``graph`` if no other file in the folder has one: TensorBoard wants
    it once, and another run of the folder may have ended before its first checkpoint."""
    # the file's name is not to be foreseen: TensorFlow would write through a link of that name
    return tf.summary.FileWriter(folder.tensorflow_path, None if has_graph(folder) else graph,
                                 filename_suffix="." + os.urandom(8).hex())


def has_graph(folder: CheckpointFolder) -> bool:
    """Whether a file of events in the folder has a graph."""
    return any(event.HasField("graph_def") or event.HasField("meta_graph_def")
               for name in folder.names() if ".tfevents." in name for event in _first_events(folder.at(name)))


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
