"""The CSV file of predictions: its columns and its lines."""

import csv
import json
from typing import Any, Dict, IO, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import normal_form, printable

ROWS_AT_ONCE = 1000
MAX_VALUES = 10000        # of the prediction of a sample


class Counts(NamedTuple):
    """Samples with a prediction and without one."""
    predicted: int = 0
    failed: int = 0
    first_error: str = "none"


class _Line(NamedTuple):
    sample: List[Any]               # the cells that tell which sample it is
    prediction: Optional[List[str]]
    error: str = ""


class PredictionLines:
    """Writes the lines to ``file``: a sample's path, or the columns of its row, or else its number from 0; then its
    prediction; then the error, if there is no prediction. The first batch with a prediction decides on the columns.

    ``fields``: instead of the path, columns or number, these fields of rows that are dicts: see ``check_columns``. The
    path of a record has its place in the file behind it: train.tar//512+40213.
    ``classes``: those of the model. Predictions of as many floats get a column for the class and one for each score, a
    whole number a column for the class, and all others the columns "prediction" or "prediction_0" and so on. A column
    of the rows that has one of these names is called "row_class", and so on."""

    def __init__(self, file: IO[str], source: Source, classes: Tuple[str, ...],
                 fields: Optional[Sequence[str]] = None) -> None:
        self._writer, self._file = csv.writer(file, lineterminator="\n"), file
        self._source, self._classes = source, classes
        self._has_paths = source.has_paths and not fields
        self._fields = () if self._has_paths else fields or source.columns
        self._columns: List[str] = []              # of predictions; [] before the first one
        self._waiting: List[_Line] = []            # lines of samples before the first prediction
        self._counts = Counts()

    def write(self, batch: Batch, predictions: "Optional[np.ndarray]") -> Counts:
        """Writes the lines of a batch; ``predictions``: [n, ...] for its n rows, None if it has none. Returns the
        counts so far. Raises ConfigError if it is unknown which sample a row is of, or a prediction is too long."""
        if batch.source is None:
            raise ConfigError("a function declared by stoker.batch may return its samples in any order, so it is "
                              "unknown which sample a prediction is of: predict with one declared by stoker.sample")
        predicted: Dict[int, List[List[str]]] = {}
        if predictions is not None:
            flat = predictions.reshape(len(predictions), -1)
            if not self._columns:
                self._begin(flat)
            for index, values in zip(batch.used_indices, flat):
                predicted.setdefault(index, []).append(self._cells(values))
        errors = {skip.index: ("%s: " % skip.path if skip.path else "") + skip.reason for skip in batch.skipped}
        for sample, cells in zip(self._source.samples(batch.indices), self._sample_cells(batch.indices)):
            for prediction in predicted.get(sample.index, ()):
                self._write(_Line(cells, prediction))
            if sample.index not in predicted:
                error = errors.get(sample.index, "the function returned no row for it")
                self._write(_Line(cells, None, error))
                first = self._counts.first_error if self._counts.failed else printable("%s: %s" % (sample.name, error))
                self._counts = Counts(self._counts.predicted, self._counts.failed + 1, first)
        self._counts = self._counts._replace(predicted=self._counts.predicted + len(predicted))
        self._file.flush()
        return self._counts

    def _sample_cells(self, indices: Sequence[int]) -> List[List[Any]]:
        source = self._source
        if self._has_paths:
            return [[sample.path] for sample in source.samples(indices)]
        if self._fields:
            return [[_cell(row.get(field)) for field in self._fields] for row in source.rows(indices)]
        return [[index] for index in indices]

    def _begin(self, flat: "np.ndarray") -> None:
        """Decides on the columns and writes them, and the lines that wait for them."""
        count, kind = flat.shape[1], flat.dtype.kind
        if count > MAX_VALUES:
            raise ConfigError("a prediction has %d values, and a line at most %d: let the model reduce them, or "
                              "predict in a program of your own" % (count, MAX_VALUES))
        if self._classes and kind == "f" and count == len(self._classes):
            self._columns = ["class"] + ["score_" + name for name in self._classes]
        elif self._classes and kind in "iu" and count == 1:
            self._columns = ["class"]
        else:
            self._columns = ["prediction"] if count == 1 else ["prediction_%d" % number for number in range(count)]
        samples = ["path"] if self._has_paths else list(self._fields) or ["sample"]
        made = self._columns + ["error"]
        self._writer.writerow(["row_" * (name in made) + name for name in samples] + made)
        for line in self._waiting:
            self._write(line)
        self._waiting = []

    def _write(self, line: _Line) -> None:
        if not self._columns:
            self._waiting.append(line)
            return
        prediction = [""] * len(self._columns) if line.prediction is None else line.prediction
        self._writer.writerow(line.sample + prediction + [line.error])

    def _cells(self, values: "np.ndarray") -> List[str]:
        # str of one of numpy's floats has as many digits as it needs to be told apart from all others
        cells = [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
                 for value in values]
        if self._columns[0] != "class":
            return cells
        if len(self._columns) > 1:
            return [self._classes[int(np.argmax(values))]] + cells
        return [self._classes[values[0]]] if 0 <= values[0] < len(self._classes) else cells


def check_columns(source: Source, fields: Optional[Sequence[str]]) -> None:
    """Raises ConfigError unless some row of ``source`` has each of ``fields``."""
    missing = set(fields or ())
    for start in range(0, len(source), ROWS_AT_ONCE) if missing else ():
        rows = source.rows(range(start, min(start + ROWS_AT_ONCE, len(source))))
        if not all(isinstance(row, dict) for row in rows):
            raise ConfigError("--columns names fields of rows that are dicts, and the samples here are %s"
                              % ("files" if source.has_paths else "other rows"))
        missing.difference_update(*rows)
    if missing:
        first, *_ = source.rows([0])
        twin = normal_form(min(missing)) in map(normal_form, filter(lambda name: isinstance(name, str), first))
        raise ConfigError("--columns names %s, and no row has such a field%s" % (
            printable(min(missing)), ", but one in another Unicode form (NFC or NFD)" if twin else ""))


def _cell(value: Any) -> Any:
    """``value`` as the csv module writes it; a list or dict as JSON, bytes, as TFRecords have for texts, as a text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return json.dumps(value, default=_cell) if isinstance(value, (list, dict)) else value
