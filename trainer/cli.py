"""The trainer's command line: the options, the start of a run, and the closing line."""

import argparse
import logging
import os
import signal
import sys
import threading
from dataclasses import fields, replace
from typing import Any, Optional, Sequence, Tuple, Type, TypeVar, Union

import configargparse

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import AUTO, BAD_IMAGE, DECODERS, DEFAULT_CACHE_GB, GENERATORS, JobOptions, StreamOptions
from stoker.pipeline.plan import Plan, fingerprint
from stoker.pipeline.stream import BatchStream
from stoker.trainer.feed import LocalOptions, open_dataset, start_stream

Options = TypeVar("Options", JobOptions, StreamOptions)

EXIT_TERMINATED = 128 + signal.SIGTERM
TERMINATE_WITHIN_S = 10.0


def image_size(text: str) -> Tuple[int, int]:
    """'64' or '48x64' (height x width) -> (height, width)."""
    height, x, width = text.lower().partition("x")
    try:
        return int(height), int(width if x else height)
    except ValueError:
        raise argparse.ArgumentTypeError("needs pixels like 64, or height x width like 48x64, not %r" % text) from None


def number_of_workers(text: str) -> Union[int, str]:
    """'auto' or a number."""
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError("needs a number, or %s, not %r" % (AUTO, text)) from None


def _parser() -> configargparse.ArgumentParser:
    parser = configargparse.ArgumentParser(
        prog="stoker-train", auto_env_var_prefix="STOKER_", formatter_class=_Formatter,
        description="Trains TensorFlow 1.9 on images that worker processes decode. Every sample is used exactly once\n"
                    "per epoch, in an order that depends only on the data and the options below.",
        epilog="examples:\n"
               "  stoker-train photos/ --image-size 48x64 --generator augmented --epochs 3\n"
               "  stoker-train photos/ --workers 0 --bind tcp://0.0.0.0:5555 --keys keys   (workers on other hosts)\n"
               "Run it again with the same options to resume from the last checkpoint. Ctrl-C stops it at once,\n"
               "SIGTERM after a checkpoint.")
    add = parser.add_argument_group("data").add_argument
    add("data", nargs="?", metavar="DATA", help="folder of images, one sub-folder per class")
    add("--label-word", metavar="WORD",
        help="instead of classes by folder: label 1 if WORD is in the path below DATA, else 0")
    add("--generator", default=JobOptions.generator, metavar="NAME",
        help="one of %s, or your own as module:function" % ", ".join(GENERATORS))
    add("--image-size", type=image_size, default=JobOptions.image_size, metavar="H[xW]",
        help="pixels to which images are resized (default: %d)" % JobOptions.image_size[0])
    add("--decode", choices=DECODERS, default=JobOptions.decode,
        help="exact: bit for bit Image.open(f).resize(size).convert('RGB'). The others decode JPEGs at reduced scale: "
             "fast at least at twice the size, then bicubic; fastest at the size, then bilinear; sampled at 0.7 of it, "
             "without antialiasing")
    add("--exif-rotate", action="store_true", help="turn pictures upright according to their EXIF data")
    add("--on-bad-image", choices=BAD_IMAGE, default=JobOptions.on_bad_image,
        help="a file that is no picture: skip makes its batch smaller; replace trains on another sample of the epoch "
             "instead; raise ends the run")
    add("--samples", type=int, default=10000, metavar="N", help="number of records that the generator numerical makes")
    add("--validation-split", type=float, default=0.2, metavar="SHARE",
        help="share of each class that is held out for the evaluation after each epoch")
    add = parser.add_argument_group("training").add_argument
    add("--batch-size", type=int, default=JobOptions.batch_size, metavar="N", help="samples per step")
    add("--epochs", type=int, default=5, metavar="N", help="total number, including those before a checkpoint")
    add("--feed", choices=("direct", "staged"), default="direct",
        help="staged copies the next batch to the GPU while a step is computed, and needs memory for one more batch "
             "there; results are the same bit for bit")
    add("--seed", type=int, default=JobOptions.seed, metavar="N", help="for shuffling, augmentation, initial weights")
    add = parser.add_argument_group("workers").add_argument
    add("--workers", type=number_of_workers, default=AUTO, metavar="N",
        help="number of worker processes on this host. auto: Stoker chooses it, at most one per core, such that "
             "training waits at most 1%% of its time. 0: only workers that you start elsewhere. The closing line tells "
             "how many are needed")
    add("--worker-python", metavar="FILE",
        help="interpreter that runs them; a newer Python has a faster Pillow (default: the trainer's own)")
    add("--follow-links", action="store_true",
        help="also use files outside of DATA that links in it lead to; workers elsewhere need their own --follow-links")
    add("--cache", metavar="DIR",
        help="folder on a local disk in which local workers keep decoded images for later epochs and runs. For the "
             "generators image and augmented, and your own that call them; needs the package lmdb where they run")
    add("--cache-gb", type=float, default=DEFAULT_CACHE_GB, metavar="N", help="its size limit, in 2**30 bytes")
    add("--bind", default=StreamOptions.bind, metavar="tcp://HOST:PORT",
        help="address to which workers connect; port * is a free one. If other hosts can reach it, use --keys")
    add("--keys", metavar="DIR",
        help="folder that stoker-keys made: only workers with one of its keys can connect, and traffic is encrypted")
    add("--insecure", action="store_true",
        help="permit an address that other hosts can reach, without keys: each of them can be a worker and see the "
             "pictures. Only for a network that you trust")
    add("--prefetch", type=int, default=StreamOptions.prefetch, metavar="N",
        help="most steps that are leased or buffered at once; at least two per worker process")
    add("--prefetch-mb", type=float, default=StreamOptions.prefetch_mb, metavar="MB",
        help="most memory for these steps, in 2**20 bytes; for large batches it lowers --prefetch")
    add("--lease-s", type=float, default=StreamOptions.lease_s, metavar="S",
        help="seconds without a sign of life after which a worker loses its steps to others")
    add("--worker-timeout-s", type=float, default=StreamOptions.worker_timeout_s, metavar="S",
        help="seconds without any worker after which the run ends")
    add("--batch-timeout-s", type=float, default=StreamOptions.batch_timeout_s, metavar="S",
        help="seconds of waiting for the next batch after which the run ends")
    add = parser.add_argument_group("output").add_argument
    add("--checkpoint-dir", metavar="DIR",
        help="folder of checkpoints and TensorBoard events (default: runs/ and the name of DATA)")
    add("--checkpoint-secs", type=float, default=30.0, metavar="S",
        help="seconds between checkpoints; each epoch ends with one as well")
    add("--audit", metavar="FILE",
        help="file that gets one JSON line per training step: step, epoch, indices, skipped, crc32, worker, attempt, "
             "and used (the samples in the batch, if not all of indices)")
    add("--health-file", metavar="FILE",
        help="file to touch once a second while the stream lives: python -m stoker.pipeline.monitoring.health FILE "
             "fails if it is old, for the health check of a container")
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = "default:" in text or action.default in (None, argparse.SUPPRESS) or not action.option_strings
        return text if hidden else text + " (default: %(default)s)"


def run(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="stoker: %(message)s")
    job, options = _options(JobOptions, args), _options(StreamOptions, args)
    local = LocalOptions(args.workers, args.worker_python, args.cache or None, args.cache_gb)
    if not args.checkpoint_secs > 0:
        raise ConfigError("--checkpoint-secs must be more than 0, not %g" % args.checkpoint_secs)
    dataset = open_dataset(_data(args), args.generator, args.label_word, args.follow_links)
    print(dataset.summary(), flush=True)
    datasets = dataset.split(args.validation_split, args.seed)
    plan = Plan(len(datasets.training), args.batch_size, args.epochs, args.seed, len(datasets.validation))
    print("%d samples to train on, %d held out; %d steps in %d epoch%s" % (
        plan.train_size, plan.validation_size, plan.steps, plan.epochs, "s" * (plan.epochs > 1)), flush=True)
    checkpoint_dir = args.checkpoint_dir or os.path.join("runs", os.path.basename(dataset.root) or args.generator)
    _import_tensorflow().set_random_seed(args.seed)
    from stoker.trainer import checkpoint, model, train
    lock = checkpoint.lock(checkpoint_dir)
    start_step = checkpoint.resume_step(checkpoint_dir, fingerprint(job, dataset.fingerprint(), args.validation_split))
    options = replace(options, bad_samples=os.path.join(checkpoint_dir, "bad-samples.tsv"))
    if start_step > plan.steps:
        raise ConfigError("the checkpoint in %s is at step %d, beyond the %d steps of %d epochs: raise --epochs" % (
            checkpoint_dir, start_step, plan.steps, args.epochs))
    if start_step == plan.steps:
        print("%s has all %d steps: nothing left to train. Raise --epochs to continue, or use another "
              "--checkpoint-dir to start again" % (checkpoint_dir, plan.steps), flush=True)
    elif start_step:
        print("going on from step %d of %d (%s)" % (start_step, plan.steps, checkpoint_dir), flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)     # from here on, Ctrl-C closes the stream
    with start_stream(plan, datasets, job, options, start_step, local) as stream:
        _on_sigterm(stream)
        if args.workers == 0:
            print("waiting for workers: %s" % stream.worker_command, flush=True)
        built = model.build(job.arrays, len(dataset.classes), args.feed == "staged")
        from tqdm.contrib.logging import logging_redirect_tqdm
        with logging_redirect_tqdm():
            result = train.Loop(stream, built, start_step, checkpoint_dir, args.checkpoint_secs).run()
        bad, verdict = stream.bad_files, stream.verdict()
    bad_files = "%d bad file%s (listed in %s)" % (bad, "s" * (bad > 1), options.bad_samples) if bad else "no bad file"
    print("%s after step %d: %s, %.0f images/s, %.0f%% of the time waiting for data, %.2f ms of a worker's time per "
          "image, %s; checkpoint in %s; %s" % (
              "stopped" if result.stopped else "done", start_step + result.steps,
              "no evaluation" if result.accuracy is None else "validation accuracy %.4f" % result.accuracy,
              result.images_per_s, 100 * result.waiting_share, 1000 * stream.produced_s / max(1, result.images),
              bad_files, checkpoint_dir, "bottleneck: " + verdict.sentence if verdict else
              "the run was too short to name its bottleneck"), flush=True)
    lock.close()
    return EXIT_TERMINATED if result.stopped else 0


def _options(cls: Type[Options], args: argparse.Namespace) -> Options:
    """The options of ``cls`` that the command line has; the others keep their defaults."""
    return cls(**{field.name: getattr(args, field.name) for field in fields(cls) if hasattr(args, field.name)})


def _data(args: Any) -> Union[str, int]:
    if args.generator == "numerical":
        if args.data is not None:
            raise ConfigError("the generator numerical makes its records: set --samples, and omit DATA %r" % args.data)
        return args.samples
    if args.data is None:
        raise ConfigError("DATA is missing: the folder with the images, one sub-folder per class")
    return args.data


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")    # its start-up messages would hide the summary
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ConfigError("TensorFlow 1.9 is missing in %s (%s): pip install 'stoker[trainer]' on Python 3.6" % (
            sys.executable, error)) from error
    tf.logging.set_verbosity(tf.logging.WARN)
    return tf


def _on_sigterm(stream: BatchStream) -> None:
    """Makes SIGTERM end the stream after the current step. The training loop then writes a checkpoint."""
    def stop(signum: int, frame: object) -> None:
        stream.interrupt()
        timer = threading.Timer(TERMINATE_WITHIN_S, os._exit, [EXIT_TERMINATED])
        timer.daemon = True
        timer.start()
    signal.signal(signal.SIGTERM, stop)
