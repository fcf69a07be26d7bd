"""The object ``sample`` that a user's function gets: its row, its files, its partners."""

from __future__ import generator_stop

import builtins
from typing import Any, BinaryIO, Callable, Optional, Tuple, TypeVar, Union

import numpy as np
from PIL import Image

from stoker.pipeline.protocol.messages import Job, Sample
from stoker.pipeline.storage.folder import BadFile
from stoker.pipeline.storage.place import MARK, place_of
from stoker.workers.generators.rows import FunctionError
from stoker.workers.readers import Readers

Read = TypeVar("Read")


def name_of(sample: Sample) -> str:
    """The sample in a sentence for people."""
    return "sample %r" % sample.path if sample.path else sample.name


class UserSample:
    """A sample, as the user's function gets it. Attributes:

    index: its number in the data. epoch: from 0. training: False in an evaluation or a prediction.
    shared: the result of the function's ``setup``; None without one.
    """
    __slots__ = ("index", "epoch", "training", "shared", "_sample", "_job", "_readers", "_owner", "_row")

    def __init__(self, sample: Sample, epoch: int, training: bool, shared: Any, job: Job, readers: Readers,
                 owner: Optional[int] = None) -> None:
        self.index, self.epoch, self.training, self.shared = sample.index, epoch, training, shared
        self._sample, self._job, self._readers = sample, job, readers
        self._owner = sample.index if owner is None else owner      # of a partner: the sample whose partner it is

    @property
    def row(self) -> Any:
        """The sample's row, as the data has it: a dict for a table; the path for a folder or a list of files; None for
        a number of samples."""
        try:
            return self._row        # type: ignore[has-type]    # unpacked only if it is used
        except AttributeError:
            self._row = self._job.row(self._sample)
            return self._row

    @property
    def path(self) -> str:
        """The sample's file, relative to the data's root, '/' between its parts. Raises FunctionError if it has none.
        """
        return self._sample.path or self._fail(
            "has no path: its source has rows, not files; give the reader one, as in sample.image(sample.row['file'])")

    @property
    def label(self) -> int:
        """Its class number. Of data without classes: -1 if ``training`` is False, so that one function serves training
        and prediction; raises FunctionError in training."""
        return self._sample.label if self._sample.label >= 0 or not self.training else self._fail(
            "has no label: its source has no classes; take it from sample.row, or from sample.path")

    @property
    def partners(self) -> "Tuple[UserSample, ...]":
        """Other samples, which open_stream's ``partners`` chose."""
        return tuple(UserSample(partner, self.epoch, self.training, self.shared, self._job, self._readers, self._owner)
                     for partner in self._sample.partners)

    @property
    def file(self) -> str:
        """The absolute path of the sample's file on this host, for code that opens files itself. Of a sample in a
        record file or in a store, it is that of a temporary copy, with the suffix of its kind (an array becomes a npy
        file), which is removed when the batch is done: so code for a folder of files works unchanged. Raises BadFile if
        it cannot be read."""
        row = self.row if MARK in self._sample.path else None
        name = next((str(key) for key, value in row.items() if value == self._sample.path), "") if isinstance(
            row, dict) else ""
        return self._read(self._readers.file, None, name)

    def image(self, path: Optional[str] = None, size: Union[int, Tuple[int, int], None] = None,
              mode: Optional[str] = "RGB", resample: Any = None) -> Image.Image:
        """The picture in ``path``, below the data's root (None: the sample's own file), or in the part of its record
        that has this name: ``sample.image("jpg")``. Numbers of uint8, [height, width] or with 1, 3 or 4 channels, are
        a picture, too. ``size``: (height, width), to which it is resized, or None. ``mode``: PIL's, or None for the
        one that the file has. Raises BadFile."""
        return self._read(self._readers.image, path, size, mode, resample)

    def numpy(self, path: Optional[str] = None, key: Optional[str] = None) -> np.ndarray:
        """The array in a npy file, or the array ``key`` in a npz file, or the numbers that a record has in this part:
        ``sample.numpy("x")``. Never unpickles. Raises BadFile."""
        return self._read(self._readers.numpy, path, key)

    def bytes(self, path: Optional[str] = None) -> builtins.bytes:
        """The content of a file, or of a part of the record: ``sample.bytes("json")``. Raises BadFile."""
        return self._read(self._readers.bytes, path)

    def open(self, path: Optional[str] = None) -> BinaryIO:
        """The file, or a part of the record, open for reading bytes. Raises BadFile."""
        return self._read(self._readers.open, path)

    def _read(self, reader: Callable[..., Read], path: Optional[str], *arguments: Any) -> Read:
        try:
            return reader(self._found(path), *arguments)
        except BadFile as error:
            error.owner = self._owner   # type: ignore[attr-defined]    # a batch function does not say whose file it is
            raise
        except OSError as error:        # perhaps a bad sector: see workers/unreadable.py
            error.owner, error.path = self._owner, self._readers.relative(  # type: ignore[attr-defined]
                self._found(path))
            raise

    def _found(self, path: Optional[str]) -> str:
        """The path that a reader's argument means: a part of the record by its name, or a path."""
        if path is None:
            return self.path
        if isinstance(path, str) and (self._sample.packed or self._job.columns):
            row = self.row
            if isinstance(row, dict) and path in row:
                value = row[path]
                if isinstance(value, str) and place_of(value) is not None:
                    return value
                if value is None and MARK in self._sample.path:
                    raise BadFile("the record has no %r" % path)
        return path

    def _fail(self, sentence: str) -> Any:
        raise FunctionError("function %r: %s %s" % (self._job.generator, name_of(self._sample), sentence))

    def __repr__(self) -> str:
        return "<%s, epoch %d>" % (name_of(self._sample), self.epoch)
