"""The command line of ``stoker-train``: the start of a run, and the closing line."""

import argparse
import logging
import os
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Type, TypeVar

from stoker.pipeline.environment import warnings
from stoker.pipeline.errors import ConfigError, ContentError, DatasetError
from stoker.pipeline.functions import Declared, load_function
from stoker.pipeline.options import FORMER, JobOptions, StreamOptions
from stoker.pipeline.orders import balanced
from stoker.pipeline.sources.folder import OTHER
from stoker.pipeline.stream import BatchStream
from stoker.pipeline.text import printable_path
from stoker.trainer import current_folder, state
from stoker.trainer.command_log import start_log
from stoker.trainer.feed import LocalOptions, advice, start_stream
from stoker.trainer.fleet_options import FleetOptions
from stoker.trainer.data_options import label_remedy, name_of_data, opened
from stoker.trainer.parser import BALANCED, VALIDATION_SPLIT, train_parser
from stoker.trainer.program import EXIT_INTERRUPTED, Program
from stoker.trainer.record.arguments import described
from stoker.trainer.record.folder import BAD_SAMPLES, KILLERS
from stoker.trainer.record.known_samples import KEEP, KnownSamples, has_changed, lacking, recorded_hashes
from stoker.trainer.run import Run, prepare

if TYPE_CHECKING:
    from stoker.trainer.checkpoint_files import CheckpointFolder

Options = TypeVar("Options", JobOptions, StreamOptions, FleetOptions)


def run(program: Program, argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    start_log(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)      # it says where it found credentials
    for sentence in warnings(os.environ):
        logging.getLogger("stoker").warning("%s", sentence)
    args = train_parser().parse_args(argv)
    options, local, fleet = options_of(StreamOptions, args), local_options(args), options_of(FleetOptions, args)
    if not args.checkpoint_secs > 0:
        raise ConfigError("--checkpoint-secs must be more than 0, not %g" % args.checkpoint_secs)
    if args.keep_checkpoints < 1:
        raise ConfigError("--keep-checkpoints must be at least 1, not %d" % args.keep_checkpoints)
    current_folder.search_for(args.model, args.generator, args.sample, args.augment)
    directory = args.checkpoint_dir or os.path.join("runs", _name_of_data(args))
    prepared = _prepared(args, directory)
    print("\n".join((prepared.summary(),) + prepared.notes), flush=True)
    plan = prepared.plan
    print("%d sample%s to train on, %d held out; %d step%s in %d epoch%s" % (
        plan.train_size, "s" * (plan.train_size != 1), plan.validation_size, plan.steps, "s" * (plan.steps != 1),
        plan.epochs, "s" * (plan.epochs != 1)), *advice(prepared.job, local), sep="\n", flush=True)
    tf = import_tensorflow()
    function, model_name = model_function(args.model, prepared.job.arrays, prepared.source.classes,
                                          "" if prepared.job.declared else label_remedy(prepared.source))
    from stoker.trainer.checkpoint_files import CheckpointFolder
    with CheckpointFolder(directory, make=True) as folder:
        return _train(program, args, options, local, fleet, prepared, folder, tf, function, model_name)


def _train(program: Program, args: argparse.Namespace, options: StreamOptions, local: LocalOptions, fleet: FleetOptions,
           prepared: Run, folder: "CheckpointFolder", tf: Any, function: Any, model_name: str) -> int:
    from stoker.trainer import checkpoint, model, train
    from stoker.trainer.decoders import Decoders
    from stoker.trainer.saving import Saver
    plan, directory = prepared.plan, folder.path
    lock = folder.lock()
    start = checkpoint.resume(folder, prepared)
    start_step = start.step
    options = replace(options, bad_samples=os.path.join(directory, BAD_SAMPLES),
                      killers=os.path.join(directory, KILLERS))
    if start_step > plan.steps:
        raise ConfigError("the checkpoint in %s is at step %d, beyond the %d steps of %d epochs: raise --epochs" % (
            directory, start_step, plan.steps, args.epochs))
    if start_step == plan.steps:
        print("%s has all %d steps: nothing left to train. Raise --epochs to continue, or use another "
              "--checkpoint-dir to start again" % (printable_path(directory), plan.steps), flush=True)
    elif start_step:
        print("going on from step %d of %d (%s)" % (start_step, plan.steps, printable_path(directory)), flush=True)
    if start.damaged:
        logging.getLogger("stoker").warning("%s", start.notice(printable_path(directory)))
    tf.set_random_seed(args.seed)
    built = model.build(prepared.job.arrays, function, model_name, args.feed == "staged")
    decoders = Decoders(folder)
    saver = Saver(folder, start, args.keep_checkpoints, args.checkpoint_secs)
    from tqdm.contrib.logging import logging_redirect_tqdm
    unit = "samples" if prepared.job.declared else "images"
    with start_stream(plan, prepared.datasets, prepared.job, options, start_step, local, fleet) as stream:
        checkpoint.record(folder, prepared, start, args.model, described(prepared, options))
        loop = train.Loop(stream, built, saver, unit, lambda: decoders.note(stream.decoders))
        program.on_stop(stream.interrupt, loop.lost)
        if args.workers == 0:
            print("waiting for workers: %s" % stream.worker_command, flush=True)
        with logging_redirect_tqdm():
            result = loop.run()
    _print_closing_lines(result, stream, directory)
    lock.close()
    if not result.stopped:
        return 0
    if program.exit_code == EXIT_INTERRUPTED:
        print("%s: stopped by Ctrl-C after step %d; run it again to %s" % (
            program.name, result.step, "go on from there" if result.step else "begin"), file=sys.stderr, flush=True)
    return program.exit_code


def _print_closing_lines(result: Any, stream: BatchStream, directory: str) -> None:
    """Three lines: the result, the speed, and the bottleneck."""
    from stoker.trainer.train import listed
    evaluation = {name: value for name, value in result.evaluation.items() if name != "loss"} or result.evaluation
    print("%s after step %d: %s; %s%s" % (
        "stopped" if result.stopped else "done", result.step,
        "validation " + listed(evaluation) if evaluation else "no evaluation", stream.left_out(),
        "; checkpoint in " + printable_path(directory) if result.step else ""),
        *stream.report().splitlines()[1:], sep="\n", flush=True)


def options_of(cls: Type[Options], args: argparse.Namespace) -> Options:
    """The options of ``cls`` that the command line has; the others keep their defaults."""
    return cls(**{field.name: getattr(args, field.name) for field in fields(cls) if hasattr(args, field.name)})


def local_options(args: argparse.Namespace) -> LocalOptions:
    """The options of local workers."""
    return LocalOptions(args.workers, args.worker_python, args.cache or None, args.cache_gb, args.sandbox,
                        args.allow_read or (), read_ahead=args.read_ahead)


def import_tensorflow() -> Any:
    """TensorFlow, with few of its messages. Raises ConfigError if it is missing."""
    if sys.flags.optimize > 1:
        raise ConfigError("TensorFlow 1.9 needs the docstrings that Python removes here: unset PYTHONOPTIMIZE, or "
                          "start Python without -OO")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")    # its start-up messages would hide the summary
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ConfigError("TensorFlow 1.9 is missing in %s (%s): pip install 'stoker[trainer]' on Python 3.6" % (
            sys.executable, error)) from error
    tf.logging.set_verbosity(tf.logging.WARN)
    return tf


def _data(args: argparse.Namespace) -> Any:
    if args.generator == "numerical" and args.sample is None:
        if args.data is not None:
            raise ConfigError("the generator numerical makes its records: set --samples, and omit DATA %r" % args.data)
        return int(args.samples)
    if args.data is None:
        raise ConfigError("DATA is missing: the folder with the images, one sub-folder per class%s" % (
            ", or a file of rows such as log.csv" * (args.sample is not None)))
    data = opened(args.data, args, True, args.classes, not args.no_labels)
    if args.columns and not hasattr(data, "opened_by"):
        raise ConfigError("--columns is for record files, and DATA is %s: say which kind it is with --records, if it "
                          "is one" % args.data)
    return data


def _own_sample(args: argparse.Namespace) -> Optional[str]:
    """The name of the user's sample or batch function, if there is one. Raises ConfigError if it declares nothing."""
    if args.sample is None:
        return None
    if args.generator != JobOptions.generator:
        raise ConfigError("--sample %s and --generator %s exclude each other" % (args.sample, args.generator))
    if not isinstance(load_function(args.sample), Declared):
        raise ConfigError("--sample %s declares no arrays: decorate it with @stoker.sample({...}), or with "
                          "@stoker.batch({...}) if it makes a whole batch" % args.sample)
    return str(args.sample)


def _arguments(args: argparse.Namespace, data: Any) -> Dict[str, Any]:
    """The arguments of ``prepare`` that the command line has, beside ``data``."""
    given = ["--" + name.replace("_", "-") for name in ("validation", "validation_split", "validation_data")
             if getattr(args, name) is not None]
    if len(given) > 1:
        raise ConfigError("%s exclude each other: give one of them for the evaluation" % " and ".join(given))
    validation = args.validation if args.validation_data is None else args.validation_data
    split = args.validation_split if given else VALIDATION_SPLIT
    order = args.order
    if order.startswith(BALANCED):
        order = balanced(order[len(BALANCED) + 1:] or None)
    same = ("image_size", "batch_size", "epochs", "seed", "decode", "label_word", "classes", "root", "drop_last",
            "partners", "augment", "on_bad_image", "exif_rotate", "follow_links", "max_text_mb", "truncated")
    arguments = dict({name: getattr(args, name) for name in same}, labels=not args.no_labels, order=order,
                     exclude=args.exclude or (), suffixes=args.suffix or (), validation_split=split or 0.0)
    of_data = getattr(data, "classes", None)
    if hasattr(data, "opened_by"):                # record files, which have their classes already
        arguments["classes"] = None
    arguments["validation"] = opened(validation, args, False, of_data or args.classes, of_data != ())
    return arguments


def _prepared(args: argparse.Namespace, directory: str) -> Run:
    """The run. Raises ConfigError, DatasetError; a ContentError says so if there is a checkpoint: other data was there
    then."""
    try:
        data = _data(args)
        return prepare(data, _own_sample(args) or args.generator, known=_known_samples(args, directory),
                       recorded=recorded_hashes(directory) if _has_checkpoint(directory) else {},
                       **_arguments(args, data), **_judgement(args, directory))
    except ContentError as error:
        named = args.classes if args.label_word is None else (OTHER, args.label_word)
        raise DatasetError(str(error) + has_changed(
            directory, error.are_left and args.dataset_changed != KEEP, named)) from error


def _judgement(args: argparse.Namespace, directory: str) -> Dict[str, Any]:
    """The arguments of ``prepare`` that say which files are bad, and whose defaults have changed. A checkpoint that
    does not have one is of a release with the former default, which then holds unless the user says otherwise."""
    given = {name: getattr(args, name) for name in FORMER if getattr(args, name) is not None}
    former = lacking(directory, FORMER) if _has_checkpoint(directory) else ()
    return dict({name: FORMER[name] for name in former}, **given)


def _has_checkpoint(directory: str) -> bool:
    try:
        return bool(state.traces(os.listdir(directory)))
    except OSError:
        return False


def _known_samples(args: argparse.Namespace, directory: str) -> Optional[KnownSamples]:
    """The samples that the checkpoint in ``directory`` knows, if the run is to go on with them."""
    if args.dataset_changed != KEEP or not os.path.isdir(directory):
        return None
    import_tensorflow()
    from stoker.trainer import checkpoint
    from stoker.trainer.checkpoint_files import CheckpointFolder
    folder = CheckpointFolder(directory)
    try:
        return checkpoint.known(folder)
    finally:
        folder.close()


def _name_of_data(args: argparse.Namespace) -> str:
    if args.data is None:
        return str(args.generator)
    return name_of_data(args.data) or str(args.generator)


def model_function(name: Optional[str], arrays: Sequence[Any], classes: Sequence[str], remedy: str = ""
                   ) -> Tuple[Any, str]:
    """The user's model function called ``name``, or without one the built-in model, and its name in sentences. Raises
    ConfigError if the built-in model does not fit ``arrays`` and ``classes``;
    ``remedy``: why not, and what to do, if that is known."""
    from stoker.trainer import classifier, model
    if name is not None:
        return model.load(name), name
    if not classifier.serves(arrays, len(classes)):
        described: List[str] = ["%s %s %s" % (spec.name, spec.dtype, spec.shape) for spec in arrays]
        problem = "%s; or" % remedy if remedy else (
            "the built-in model trains on images uint8 (height, width, 3) and labels int32 (1,) of two classes or "
            "more, and here are %s of %d classes:" % (", ".join(described), len(classes)))
        raise ConfigError("%s add --model module:function, your model(arrays, training), which returns "
                          "{\"loss\": ...}; see --help" % problem)
    return classifier.classifier(len(classes)), "built-in"
