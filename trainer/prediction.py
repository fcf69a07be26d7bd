"""The command line of ``stoker-predict``: a line of CSV for each sample, in the order of the data."""

import argparse
import csv
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from typing import Any, Dict, IO, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.options import GENERATORS, StreamOptions
from stoker.trainer.cli import (import_tensorflow, local_options, make_current_folder_importable, model_function,
                                options_of)
from stoker.trainer.feed import start_stream
from stoker.trainer.parser import predict_parser
from stoker.trainer.run import Run, prepare

EXIT_INCOMPLETE = 1       # with --strict: a sample could not be predicted
EXIT_PIPE = 128 + signal.SIGPIPE
ROW_FILES = (".csv", ".tsv", ".jsonl", ".txt")
MAX_VALUES = 10000        # of the predictions of a sample


def run(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    args = predict_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="stoker: %(message)s")
    try:
        return _predict(args)
    except BrokenPipeError:        # of standard output: its reader, such as head, has enough
        return EXIT_PIPE


def _predict(args: argparse.Namespace) -> int:
    options, local = options_of(StreamOptions, args), local_options(args)
    if not os.path.isdir(args.run):
        raise ConfigError("there is no folder %r: RUN must be the checkpoint folder of a stoker-train" % args.run)
    make_current_folder_importable()
    import_tensorflow()
    from stoker.trainer import checkpoint
    path = checkpoint.newest(args.run)
    if path is None:
        raise ConfigError("%s holds no checkpoint: RUN must be the checkpoint folder of a stoker-train" % args.run)
    recorded = checkpoint.recorded_run(args.run)
    prepared = _prepared(args, recorded)
    function, name = model_function(recorded.model, recorded.arrays, recorded.classes)
    counts = Counts()
    with _output(args.output) as file:
        model = Restored(path, recorded.arrays, function, name, [spec.name for spec in prepared.job.arrays])
        signal.signal(signal.SIGINT, signal.default_int_handler)     # from here on, Ctrl-C closes the stream
        from tqdm.contrib.logging import logging_redirect_tqdm
        from stoker.trainer.progress import open_bar
        unit = "images" if prepared.job.generator in GENERATORS else "samples"
        with start_stream(prepared.plan, prepared.datasets, prepared.job, options, 0, local) as stream:
            if args.workers == 0:
                print("waiting for workers: %s" % stream.worker_command, file=sys.stderr, flush=True)
            lines = Lines(file, prepared, recorded.classes)
            with logging_redirect_tqdm(), open_bar(len(prepared.source), unit, "predict") as bar:
                for batch in stream:
                    counts = lines.write(batch, model.predict(batch) if len(batch) else None)
                    bar.update(len(batch.indices))
            verdict = stream.verdict()
        if not counts.predicted:
            raise RunFailed("not one sample of %s could be used; the first error: %s" % (
                " ".join(args.data), counts.first_error))
    print("predicted %d of %d %s by the checkpoint %s%s%s%s" % (
        counts.predicted, len(prepared.source), unit, path, "" if args.output == "-" else ", in " + args.output,
        "; %d without a prediction, the first: %s" % (counts.failed, counts.first_error) if counts.failed else "",
        "; bottleneck: " + verdict.sentence if verdict else ""), file=sys.stderr, flush=True)
    return EXIT_INCOMPLETE if args.strict and counts.failed else 0


def _prepared(args: argparse.Namespace, recorded: Any) -> Run:
    """The pass over the data, in order. Raises ConfigError, DatasetError."""
    data, root = _data(args, recorded.generator)
    options = dict(recorded.options, follow_links=args.follow_links)
    if args.batch_size is not None:
        options["batch_size"] = args.batch_size
    if recorded.generator not in GENERATORS:
        # also if the function declares none: a generator of one's own makes images and labels
        options["arrays"] = {spec.name: (spec.dtype, spec.shape) for spec in recorded.arrays}
    return prepare(data, recorded.generator, root=root, labels=recorded.generator == "numerical", training=False,
                   **options)


def _data(args: argparse.Namespace, generator: str) -> Tuple[Any, Optional[str]]:
    """The data for ``prepare``, and its root."""
    first = args.data[0]
    if generator == "numerical":
        try:
            return int(first), None
        except ValueError:
            raise ConfigError("the generator numerical makes records: DATA is their number, not %r" % first) from None
    if len(args.data) == 1 and (not os.path.isfile(first) or first.lower().endswith(ROW_FILES)):
        return first, args.root
    missing = [path for path in args.data if not os.path.isfile(path)]
    if missing:
        raise ConfigError("%r is no file: give one folder, one file of rows, or image files" % missing[0])
    paths = [os.path.abspath(path) for path in args.data]
    root = os.path.abspath(args.root) if args.root else os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, root) for path in paths], root


class Restored:
    """A trained model, which predicts. Raises ConfigError if it has no predictions, or the checkpoint is not of it."""

    def __init__(self, checkpoint: str, arrays: Tuple[ArraySpec, ...], function: Any, name: str,
                 fed: Sequence[str]) -> None:
        """``fed``: the names of the arrays that batches have; ``arrays`` may be more."""
        import tensorflow as tf
        from stoker.trainer import model
        self._built, self._name, self._errors = model.build(arrays, function, name), name, tf.errors.OpError
        if self._built.predictions is None:
            raise ConfigError('the model %s returns no predictions: add "predictions": tensor to its dict; it needs no '
                              "new training" % name)
        try:
            creator = tf.train.ChiefSessionCreator(checkpoint_filename_with_path=checkpoint)
            self._session = tf.train.MonitoredSession(creator)
        except (tf.errors.OpError, ValueError) as error:
            raise ConfigError("the checkpoint %s does not fit the model %s: %s" % (
                checkpoint, name, str(error).splitlines()[0])) from error

    def predict(self, batch: Batch) -> "np.ndarray":
        """[n, ...]: the predictions for the rows of the batch. Raises RunFailed."""
        fed = {tensor: batch[name] for name, tensor in self._built.arrays.items() if name in batch.names}
        try:
            predictions = np.asarray(self._session.run(self._built.predictions, fed))
        except self._errors as error:
            raise RunFailed("the model %s cannot predict from %s: %s" % (
                self._name, ", ".join(batch.names), str(error).splitlines()[0])) from error
        if len(predictions) != len(batch):
            raise RunFailed("the model %s returned %d predictions for a batch of %d rows" % (
                self._name, len(predictions), len(batch)))
        return predictions


class Counts(NamedTuple):
    """Samples with a prediction and without one."""
    predicted: int = 0
    failed: int = 0
    first_error: str = "none"


class Lines:
    """Writes the lines to ``file``: a sample's path, or its number from 0 if it has none; then its prediction; then the
    error, if there is no prediction. The first batch with a prediction decides on the columns."""

    def __init__(self, file: IO[str], prepared: Run, classes: Tuple[str, ...]) -> None:
        self._writer, self._file = csv.writer(file, lineterminator="\n"), file
        self._source, self._classes = prepared.source, classes
        self._values: Optional[int] = None         # columns of predictions; None: not known yet
        self._waiting: List[List[Any]] = []        # lines of samples before the first prediction
        self._counts = Counts()

    def write(self, batch: Batch, predictions: "Optional[np.ndarray]") -> Counts:
        """Writes the lines of a batch; ``predictions``: one for each of its rows, None if it has none. Returns the
        counts so far. Raises ConfigError if it is unknown which sample a row is of."""
        if batch.missing:
            raise ConfigError("the batch function returned %d rows less than it got samples and does not say which: use "
                              "stoker.sample with stoker.Skip" % batch.missing)
        if predictions is not None and self._values is None:
            self._head(predictions)
        predicted: Dict[int, List[List[Any]]] = {}
        for index, values in zip(batch.used_indices, [] if predictions is None else self._cells(predictions)):
            predicted.setdefault(index, []).append(values)
        errors = {skip.index: ("%s: " % skip.path if skip.path else "") + skip.reason for skip in batch.skipped}
        names: Sequence[Any] = batch.indices
        if self._source.has_paths:
            names = [sample.path for sample in self._source.samples(batch.indices)]
        for index, name in zip(batch.indices, names):
            if index in predicted:
                self._lines([[name] + values + [""] for values in predicted[index]])
            else:
                self._lines([[name, errors.get(index, "the function returned no row for it")]])
                counts = self._counts
                self._counts = Counts(counts.predicted, counts.failed + 1, counts.first_error if counts.failed else
                                      "%s, %s" % (name, errors.get(index)))
        self._counts = self._counts._replace(predicted=self._counts.predicted + len(predicted))
        self._file.flush()
        return self._counts

    def _lines(self, lines: List[List[Any]]) -> None:
        if self._values is None:
            self._waiting += lines
            return
        for line in lines:
            if len(line) == 2:                 # name and error
                line[1:1] = [""] * self._values
            self._writer.writerow(line)

    def _head(self, predictions: "np.ndarray") -> None:
        flat = predictions.reshape(len(predictions), -1)
        if flat.shape[1] > MAX_VALUES:
            raise ConfigError("the predictions have %d values for a sample, and a line has at most %d: let the model "
                              "reduce them, or predict in a program of your own" % (flat.shape[1], MAX_VALUES))
        self._scores = bool(self._classes) and flat.dtype.kind == "f" and flat.shape[1] == len(self._classes)
        self._numbers = bool(self._classes) and flat.dtype.kind in "iu" and flat.shape[1] == 1
        if self._scores:
            columns = ["class"] + ["score_" + name for name in self._classes]
        elif self._numbers:
            columns = ["class"]
        else:
            columns = ["prediction"] if flat.shape[1] == 1 else ["prediction_%d" % i for i in range(flat.shape[1])]
        self._values = len(columns)
        self._writer.writerow(["path" if self._source.has_paths else "sample"] + columns + ["error"])
        waiting, self._waiting = self._waiting, []
        self._lines(waiting)

    def _cells(self, predictions: "np.ndarray") -> Iterator[List[Any]]:
        flat = predictions.reshape(len(predictions), -1)
        for values in flat:
            # str of numpy's floats has as many digits as needed to tell them apart
            cells = [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
                     for value in values]
            if self._scores:
                cells.insert(0, self._classes[int(np.argmax(values))])
            elif self._numbers and 0 <= values[0] < len(self._classes):
                cells = [self._classes[values[0]]]
            yield cells


@contextmanager
def _output(path: str) -> Iterator[IO[str]]:
    """A text file that becomes ``path`` at the end, if there is no exception; "-" is standard output. Until then it has
    no name, so nothing is left behind if this process is killed. Raises ConfigError if it cannot be written."""
    how: Dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    if path == "-":
        with open(1, "w", closefd=False, **how) as file:
            yield file
        return
    path = os.path.realpath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):     # a pipe or a device; a folder is an error
            with open(path, "w", **how) as file:
                yield file
            return
        file = io.TextIOWrapper(tempfile.TemporaryFile(dir=os.path.dirname(path)), write_through=True, **how)
    except OSError as error:
        raise ConfigError("cannot write %r: %s" % (path, error.strerror)) from error
    with file:
        yield file
        file.seek(0)
        try:
            with open(path + ".new", "wb") as new:
                shutil.copyfileobj(file.buffer, new)
            os.replace(path + ".new", path)
        except OSError as error:
            raise ConfigError("cannot write %r: %s" % (path, error.strerror)) from error
