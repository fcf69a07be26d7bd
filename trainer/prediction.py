"""The command line of ``stoker-predict``: a line of CSV for each sample, in the order of the data."""

import argparse
import logging
import os
import signal
import sys
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.batch import Batch
from stoker.pipeline.environment import warnings
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.options import GENERATORS, StreamOptions
from stoker.pipeline.sources.data_files import RECORDS, open_records, suffix_of
from stoker.pipeline.sources.file_names import FileNames
from stoker.pipeline.sources.roots import is_url
from stoker.pipeline.text import name_list, printable_path
from stoker.trainer import current_folder
from stoker.trainer.cli import import_tensorflow, local_options, model_function, options_of
from stoker.trainer.command_log import start_log
from stoker.trainer.data_options import opened, record_options
from stoker.trainer.feed import log_left_out, start_stream
from stoker.trainer.files import output_file
from stoker.trainer.fleet_options import FleetOptions
from stoker.trainer.parser import predict_parser
from stoker.trainer.prediction_csv import Counts, PredictionLines, check_columns
from stoker.trainer.program import Program
from stoker.trainer.run import Run, prepare

EXIT_INCOMPLETE = 1       # with --strict: a sample could not be predicted
EXIT_PIPE = 128 + signal.SIGPIPE


def run(program: Program, argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    start_log(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)      # it says where it found credentials
    for sentence in warnings(os.environ):
        logging.getLogger("stoker").warning("%s", sentence)
    args = predict_parser().parse_args(argv)
    try:
        return _predict(program, args)
    except BrokenPipeError:        # of standard output: its reader, such as head, has enough
        return EXIT_PIPE


def _predict(program: Program, args: argparse.Namespace) -> int:
    options, local, fleet = options_of(StreamOptions, args), local_options(args), options_of(FleetOptions, args)
    if not os.path.isdir(args.run):
        raise ConfigError("there is no folder %r: RUN must be the checkpoint folder of a stoker-train" % args.run)
    import_tensorflow()
    from stoker.trainer import decoders
    from stoker.trainer.checkpoint_files import CheckpointFolder, require_whole
    from stoker.trainer.record import files as records
    folder = CheckpointFolder(args.run)
    start = folder.newest()
    require_whole(folder, start, "train again")
    if start.checkpoint is None:
        raise ConfigError("%s holds no checkpoint: RUN must be the checkpoint folder of a stoker-train" % args.run)
    if start.damaged:
        logging.getLogger("stoker").warning("%s", start.notice(printable_path(args.run)))
    path = os.path.join(args.run, start.checkpoint)
    recorded = records.recorded_run(folder)
    current_folder.search_for(recorded.model, recorded.generator)
    prepared = _prepared(args, recorded)
    check_columns(prepared.source, args.columns)
    function, name = model_function(recorded.model, recorded.arrays, recorded.classes)
    counts = Counts()
    with output_file(args.output) as file:
        model = Restored(folder, start.checkpoint, recorded.arrays, function, name,
                         [spec.name for spec in prepared.job.arrays])
        program.raise_on_ctrl_c()
        from tqdm.contrib.logging import logging_redirect_tqdm
        from stoker.pipeline.progress import open_bar
        unit = "images" if recorded.generator in GENERATORS else "samples"
        with start_stream(prepared.plan, prepared.datasets, prepared.job, options, 0, local, fleet) as stream:
            if args.workers == 0:
                print("waiting for workers: %s" % stream.worker_command, file=sys.stderr, flush=True)
            lines = PredictionLines(file, prepared.source, recorded.classes, args.columns)
            with logging_redirect_tqdm(), open_bar(len(prepared.source), unit, "predict") as bar:
                for batch in stream:
                    predictions = model.predict(batch) if len(batch) else None
                    try:
                        counts = lines.write(batch, predictions)
                    except BrokenPipeError:
                        raise
                    except OSError as error:
                        raise RunFailed("cannot write the predictions to %s: %s" % (
                            "standard output" if args.output == "-" else args.output, error.strerror)) from error
                    bar.update(len(batch.indices))
        other = decoders.warning(records.recorded_decoders(folder), stream.decoders)
        if other:
            logging.getLogger("stoker").warning("%s", other)
        if not counts.predicted:
            raise RunFailed("not one sample of %s could be used; the first error: %s" % (
                name_list(args.data), counts.first_error))
    print("predicted %d of %d %s by the checkpoint %s%s%s" % (
        counts.predicted, len(prepared.source), unit, printable_path(path),
        "" if args.output == "-" else ", in " + printable_path(args.output),
        "; %d without a prediction, the first: %s" % (counts.failed, counts.first_error) if counts.failed else ""),
          *stream.report().splitlines()[1:], sep="\n", file=sys.stderr, flush=True)
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
    run = prepare(data, recorded.generator, root=root, labels=recorded.generator == "numerical", training=False,
                  exclude=args.exclude or (), suffixes=args.suffix or (), **options)
    log_left_out(data, run.source)
    return run


def _data(args: argparse.Namespace, generator: str) -> Tuple[Any, Optional[str]]:
    """The data for ``prepare``, and its root."""
    first = args.data[0]
    if generator == "numerical":
        try:
            return int(first), None
        except ValueError:
            raise ConfigError("the generator numerical makes records: DATA is their number, not %r" % first) from None
    if len(args.data) == 1 and (args.records or suffix_of(first) or not os.path.isfile(first) and not _is_one(first)):
        return opened(first, args, True, None, False), args.root
    kinds = {RECORDS.get(suffix_of(path)) for path in args.data}
    if len(kinds) == 1 and None not in kinds:          # a shell has replaced a pattern by the files
        return open_records(str(kinds.pop()), args.data, args.root, None, dict(record_options(args), label=None)), None
    if any(map(is_url, args.data)):
        return list(args.data), args.root
    missing = [path for path in args.data if not os.path.isfile(path)]
    if missing:
        raise ConfigError("%r is no file: give one folder, one file of rows, one pattern of record files, or image "
                          "files" % missing[0])
    paths = [os.path.abspath(path) for path in args.data]
    root = os.path.abspath(args.root) if args.root else os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, root) for path in paths], root


def _is_one(url: str) -> bool:
    """Whether it is the URL of a picture, by its suffix."""
    return is_url(url) and FileNames().is_image(url.rpartition("/")[2])


class Restored:
    """A trained model, which predicts. Raises ConfigError if it has no predictions, or the checkpoint is not of it."""

    def __init__(self, folder: Any, checkpoint: str, arrays: Tuple[ArraySpec, ...], function: Any, name: str,
                 fed: Sequence[str]) -> None:
        """``folder``: a CheckpointFolder; ``checkpoint``: the name of one in it. ``fed``: the names of the arrays that
        batches have; ``arrays`` may be more."""
        import tensorflow as tf
        from stoker.trainer import model
        self._built, self._name = model.build(arrays, function, name), name
        self._errors, self._failure = tf.errors.OpError, model.failure
        if self._built.predictions is None:
            raise ConfigError('the model %s returns no predictions: add "predictions": tensor to its dict; it needs no '
                              "new training" % name)
        try:
            creator = tf.train.ChiefSessionCreator(checkpoint_filename_with_path=folder.at(checkpoint))
            self._session = tf.train.MonitoredSession(creator)
        except (tf.errors.OpError, ValueError) as error:
            raise ConfigError("the checkpoint %s does not fit the model %s: %s" % (
                os.path.join(folder.path, checkpoint), name, folder.text_of(error))) from error

    def predict(self, batch: Batch) -> "np.ndarray":
        """[n, ...]: the predictions for the rows of the batch. Raises RunFailed."""
        fed = {tensor: batch[name] for name, tensor in self._built.arrays.items() if name in batch.names}
        try:
            predictions = np.asarray(self._session.run(self._built.predictions, fed))
        except self._errors as error:
            raise RunFailed("%s; the batch has the arrays %s" % (
                self._failure(self._name, error), ", ".join(batch.names))) from error
        if len(predictions) != len(batch):
            raise RunFailed("the model %s returned %d predictions for a batch of %d rows" % (
                self._name, len(predictions), len(batch)))
        return predictions
