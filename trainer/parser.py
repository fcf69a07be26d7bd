"""The options of ``stoker-train`` and ``stoker-predict``, with their help."""

import argparse
from typing import Any, Callable, Optional, Tuple, Union

import configargparse

from stoker.pipeline.formats import FORMATS
from stoker.pipeline.checks import MAX_READ_AHEAD
from stoker.pipeline.options import (AUTO, BAD_IMAGE, DECODERS, DEFAULT_CACHE_GB, FORMER, GENERATORS, PICTURE_MEMORY_MB,
                                     PICTURE_PIXEL_BYTES, SANDBOX, SANDBOX_AUTO, TRUNCATED, JobOptions, StreamOptions)
from stoker.trainer.data_options import DATA, ROOT, add_csv, add_names, add_records, names
from stoker.trainer.fleet_options import FleetOptions
from stoker.trainer.record.known_samples import DATASET_CHANGED, REFUSE

VALIDATION_SPLIT = 0.2
BALANCED = "balanced"
ORDERS = ("shuffled", "sequential", BALANCED)

TRAIN = """Trains a TensorFlow 1.9 model on batches that worker processes produce. Every sample is used exactly once
per epoch, in an order that depends only on the data and the options below."""
EXAMPLES = """examples:
  stoker-train photos/ --image-size 48x64 --generator augmented --epochs 3
      a folder of images with one sub-folder per class, and the built-in model
  stoker-train log.csv --sample driving:drive --model driving_model:model
      your own rows, arrays and model. driving.py, imported by workers, has a function for one sample:
          @stoker.sample({"image": ("uint8", (66, 200, 3)), "steering": "float32"})
          def drive(sample, random):
              return {"image": sample.image(sample.row["center"], size=(66, 200)),
                      "steering": float(sample.row["steering"])}
      driving_model.py, imported by the trainer only, has the model. training is a tensor:
          def model(arrays, training):
              angle = tf.layers.dense(tf.layers.flatten(tf.to_float(arrays["image"]) / 255), 1)[:, 0]
              error = tf.abs(angle - arrays["steering"])
              return {"loss": tf.reduce_mean(error ** 2), "metrics": {"error": tf.reduce_mean(error)},
                      "predictions": angle}
  stoker-train 's3://bucket/train-*.tfrecord' --validation-data 's3://bucket/val-*.tfrecord'
      record files, here in a store: also .tar, .zip, .npy, .npz and .h5, and {000..099} for numbers
  stoker-train s3://bucket/photos/
      a folder of images in a store (s3://, gs://, az://), whose credentials are those of its client on each host
  stoker-train photos/ --workers 0 --bind tcp://0.0.0.0:5555 --keys keys   (workers on other hosts)
Run it again with the same options to resume from the last checkpoint. Ctrl-C or SIGTERM ends it after the step at hand,
with a checkpoint; a second Ctrl-C at once. It outlives its terminal. stoker-predict uses what it has trained."""
PREDICT = """Predicts with a model that stoker-train has trained: writes a CSV file with a line for each sample, in the
order of the data: path, class, a score for each class, and the error of a file that cannot be read."""
PREDICT_EXAMPLES = """examples:
  stoker-predict runs/photos unlabelled/ -o predictions.csv
  stoker-predict runs/photos one.jpg two.jpg
  stoker-predict runs/log new_log.csv --root recordings/ -o angles.csv
  stoker-predict runs/photos 'test-{00..09}.tar' -o predictions.csv
A model of your own (stoker-train --model) must return "predictions"; without classes, the columns are named prediction.
The CSV file replaces an older one when it is complete; Ctrl-C leaves no part of it behind."""


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


def order(text: str) -> str:
    """One of ORDERS, or 'balanced:COLUMN'."""
    if text in ORDERS or text.startswith(BALANCED + ":") and text != BALANCED + ":":
        return text
    raise argparse.ArgumentTypeError("must be one of %s, or balanced:COLUMN, not %r" % (", ".join(ORDERS), text))


def share_or_data(text: str) -> Union[float, str]:
    """'0.2' -> 0.2; anything else is the path of a folder or file."""
    try:
        return float(text)
    except ValueError:
        return text


def train_parser() -> configargparse.ArgumentParser:
    """The parser of ``stoker-train``."""
    parser = make_parser("stoker-train", TRAIN, EXAMPLES)
    add = parser.add_argument_group("data").add_argument
    add("data", nargs="?", metavar="DATA", help=DATA)
    add("--root", metavar="DIR|URL", help=ROOT)
    add_csv(add)
    add_records(add)
    add("--columns", type=names, metavar="A,B,C",
        help="of record files: further fields of each record, for sample.row")
    add("--classes", type=names, metavar="A,B,C",
        help="the class folders to use, in the order of their numbers (default: all, by name)")
    add("--label-word", metavar="WORD",
        help="instead of classes by folder: label 1 if WORD is in the path below DATA, else 0")
    add("--no-labels", action="store_true", help="DATA is a folder without classes; for --sample and --model")
    add_names(add)
    add("--validation-split", type=float, metavar="SHARE",
        help="share of each class that is held out for the evaluation after each epoch (default: %g)"
             % VALIDATION_SPLIT)
    add("--validation-data", metavar="DIR|FILE|URL",
        help="instead of a share of DATA: a folder, a file or record files of other samples for the evaluation. Their "
             "classes have the numbers that they have in DATA; some may be missing")
    add("--validation", type=share_or_data, metavar="SHARE|DATA",
        help="another name of --validation-split, or of --validation-data")
    add("--order", type=order, default=ORDERS[0], metavar="|".join(ORDERS),
        help="of the samples in an epoch. balanced: every class equally often; balanced:COLUMN takes the class from a "
             "column of the rows")
    add("--drop-last", action="store_true", help="leave out batches with fewer samples than --batch-size")
    add = parser.add_argument_group("samples").add_argument
    add("--generator", default=JobOptions.generator, metavar="NAME",
        help="what makes the batches: one of %s, or your own generator over leases as module:function"
             % ", ".join(GENERATORS))
    add("--sample", metavar="MODULE:FUNCTION",
        help="instead of --generator: your function that makes a sample, or a whole batch, and declares its arrays "
             "with @stoker.sample or @stoker.batch. Its module is searched among the installed packages, then in the "
             "current folder, by the trainer and by each worker: it must not import TensorFlow")
    add("--augment", metavar="MODULE:FUNCTION",
        help="your function f(picture, random), which returns a picture; for the generator image, in training only")
    add("--partners", type=int, default=0, metavar="N",
        help="number of other samples that each sample gets for its function, as sample.partners")
    add_pictures(add)
    add("--on-bad-image", choices=BAD_IMAGE, default=JobOptions.on_bad_image,
        help="a file that is no picture: skip makes its batch smaller; replace trains on another sample of the epoch "
             "instead; raise ends the run")
    add("--samples", type=int, default=10000, metavar="N", help="number of records that the generator numerical makes")
    add = parser.add_argument_group("training").add_argument
    add("--model", metavar="MODULE:FUNCTION",
        help="your model instead of the built-in one: model(arrays, training) gets the arrays of a batch as tensors by "
             "name, and returns a dict: loss (a scalar); optional: metrics (scalars by name), train (an op; default: "
             "Adam), predictions (a tensor, for stoker-predict)")
    add("--batch-size", type=int, default=JobOptions.batch_size, metavar="N", help="samples per step")
    add("--epochs", type=int, default=5, metavar="N", help="total number, including those before a checkpoint")
    add("--feed", choices=("direct", "staged"), default="direct",
        help="staged copies the next batch to the GPU while a step is computed, and needs memory for one more batch "
             "there; results are the same bit for bit")
    add("--seed", type=int, default=JobOptions.seed, metavar="N", help="for shuffling, augmentation, initial weights")
    _add_workers(parser.add_argument_group("workers").add_argument, "training waits at most 1%% of its time", "DATA")
    add = parser.add_argument_group("output").add_argument
    add("--checkpoint-dir", metavar="DIR",
        help="folder of checkpoints and TensorBoard events (default: runs/ and the name of DATA)")
    add("--checkpoint-secs", type=float, default=30.0, metavar="S",
        help="seconds between checkpoints; each epoch ends with one as well")
    add("--keep-checkpoints", type=int, default=2, metavar="N",
        help="how many checkpoints stay, the newest ones; if one is damaged, the run goes on from the one before it")
    add("--dataset-changed", choices=DATASET_CHANGED, default=REFUSE,
        help="if the data is not that of the checkpoint: refuse to go on, or keep to the samples that the checkpoint "
             "knows, in its order and with its classes: those that are gone count as bad, new ones are not used "
             "(default: refuse)")
    add("--audit", metavar="FILE",
        help="file that gets one JSON line per training step: step, epoch, indices, skipped, crc32, worker, attempt, "
             "and used (the samples in the batch, if not all of indices)")
    _add_health(add)
    return parser


def predict_parser() -> configargparse.ArgumentParser:
    """The parser of ``stoker-predict``."""
    parser = make_parser("stoker-predict", PREDICT, PREDICT_EXAMPLES, "STOKER_PREDICT_")
    add = parser.add_argument_group("data").add_argument
    add("run", metavar="RUN", help="checkpoint folder of a run of stoker-train")
    add("data", nargs="+", metavar="DATA",
        help="folder of images, of any depth and without classes; a file of rows (.csv, .jsonl), a list of files "
             "(.txt) or record files, as for stoker-train; or the image files themselves")
    add("--root", metavar="DIR|URL", help=ROOT)
    add_csv(add)
    add_records(add)
    add_names(add)
    add("--columns", type=names, metavar="A,B,C",
        help="fields of the rows or records that come first in each line of the output (default: all of a CSV file; of "
             "record files the place of each record; otherwise the number of the row)")
    add("-o", "--output", default="-", metavar="FILE", help="CSV file to write; -: standard output")
    add("--strict", action="store_true", help="exit with code 1 if a sample could not be predicted")
    add("--batch-size", type=int, metavar="N", help="samples that are predicted at once (default: as in training)")
    _add_workers(parser.add_argument_group("workers").add_argument, "prediction waits at most 1%% of its time", "DATA")
    _add_health(parser.add_argument_group("output").add_argument)
    return parser


def add_pictures(add: Callable[..., Any]) -> None:
    """The options of pictures: their size, how they are decoded, and which files are bad."""
    add("--image-size", type=image_size, default=JobOptions.image_size, metavar="H[xW]",
        help="pixels to which images are resized (default: %d)" % JobOptions.image_size[0])
    add("--decode", choices=DECODERS, default=JobOptions.decode,
        help="exact: bit for bit Image.open(f).resize(size).convert('RGB'). The others decode JPEGs at reduced scale: "
             "fast at least at twice the size, then bicubic; fastest at the size, then bilinear; sampled at 0.7 of it, "
             "without antialiasing")
    add("--exif-rotate", action="store_true", help="turn pictures upright according to their EXIF data")
    add("--formats", type=names, metavar="A,B,C",
        help="of pictures: the ones that are opened, of %s; a file of another one is bad. A WebP is never opened by a "
             "worker whose libwebp is older than 1.3.2 (default: all, but TIFF only by workers whose libtiff is 4.5.1 "
             "or newer; a checkpoint of an older release keeps all)" % ", ".join(FORMATS))
    add("--max-pixels", type=int, metavar="N",
        help="pixels of the largest picture that is read; a larger one counts as a bad file, for a small file can "
             "claim to be so large that it takes all memory (default: %d; a checkpoint of a release with another "
             "default keeps that one)" % JobOptions.max_pixels)
    add("--max-file-mb", type=int, metavar="MB",
        help="size of the largest file of a picture, in 2**20 bytes; a larger one is bad (default: %d; a checkpoint of "
             "an older release keeps its %d)" % (JobOptions.max_file_mb, FORMER["max_file_mb"]))
    add("--max-text-mb", type=int, default=JobOptions.max_text_mb, metavar="MB",
        help="size of the longest text in a PNG, in 2**20 bytes; a file with a longer one is bad")
    add("--truncated", choices=TRUNCATED, default=JobOptions.truncated,
        help="a picture whose file ends too early: bad, or use the part that is there")


def _add_workers(add: Callable[..., Any], purpose: str, data: str) -> None:
    add("--workers", type=number_of_workers, default=AUTO, metavar="N",
        help="number of worker processes on this host. auto: Stoker chooses it, at most one per core, such that "
             "%s. 0: only workers that you start elsewhere. The last line of a run tells how many are needed" % purpose)
    add("--worker-python", metavar="FILE",
        help="interpreter that runs them; a newer Python has a faster Pillow (default: the trainer's own)")
    add("--follow-links", action="store_true",
        help="also use files outside of %s that links in it lead to; workers elsewhere need their own --follow-links"
             % data)
    add("--sandbox", choices=SANDBOX, default=SANDBOX_AUTO,
        help="a local worker gives up all rights but to read %s and Python, to write its cache, and to connect to the "
             "trainer, where the kernel has Landlock. auto: unless it runs a function of yours; on: always, and a "
             "kernel without it is an error; off: never" % data)
    add("--allow-read", action="append", metavar="DIR",
        help="a further folder that a local worker in its sandbox may read. Repeat it for several")
    add("--cache", metavar="DIR",
        help="folder on a local disk in which local workers keep decoded images for later epochs and runs. For the "
             "generators image and augmented, sample.image, and your own that call them. Of what is read from a bucket "
             "or a web server and cannot be kept decoded, it keeps the bytes. Needs the package lmdb where they run")
    add("--cache-gb", type=float, default=DEFAULT_CACHE_GB, metavar="N", help="its size limit, in 2**30 bytes")
    add("--read-ahead", default=AUTO, metavar="N|auto",
        help="while a local worker decodes, so many threads of it fetch the files of its next samples. auto: none "
             "where files are read fast, else as many as the reads take (at most %d). 0: never. No batch depends on it"
             % MAX_READ_AHEAD)
    add("--bind", default=StreamOptions.bind, metavar="tcp://HOST:PORT",
        help="address to which workers connect; port * is a free one. If other hosts can reach it, use --keys")
    add("--keys", metavar="DIR",
        help="folder that stoker-keys made: only workers with one of its keys can connect, and traffic is encrypted")
    add("--insecure", action="store_true",
        help="let in workers without keys, also from other hosts and of other users of this host: each of them can "
             "see the pictures, and send wrong ones. Only for a network and hosts that you trust")
    add("--status", metavar="HOST:PORT",
        help="address of a small HTTP server that shows the run: a page for browsers, /status.json for what starts "
             "and stops workers, and /metrics for Prometheus. Port 0 is a free one, which the log names. If other "
             "hosts can reach it, use --status-token-file. See docs/STATUS.md and docs/WORKERS_WANTED.md")
    add("--status-token-file", metavar="FILE",
        help="file with a token without which --status tells nothing of the run: Authorization: Bearer TOKEN. The page "
             "asks for it")
    add("--min-workers", type=int, default=FleetOptions.min_workers, metavar="N",
        help="least number of workers elsewhere that are wanted, as --status or --scale-deployment say")
    add("--max-workers", type=int, default=FleetOptions.max_workers, metavar="N",
        help="greatest such number. With --status or --scale-deployment, it raises the default of --prefetch to two "
             "steps for each")
    add("--scale-deployment", metavar="[NAMESPACE/]NAME",
        help="Deployment of workers that a trainer in a Pod of Kubernetes keeps at the number that is wanted, by the "
             "Pod's service account: --min-workers at first, 0 when all steps are done. See docs/WORKERS_WANTED.md")
    add("--prefetch", type=int, default=StreamOptions.prefetch, metavar="N",
        help="most steps that are leased or buffered at once; at least two per worker process")
    add("--prefetch-mb", type=float, default=StreamOptions.prefetch_mb, metavar="MB",
        help="most memory for these steps, in 2**20 bytes; for large batches it lowers --prefetch")
    add("--no-shared-memory", dest="shared_memory", action="store_false",
        help="get the batches of workers on this host over their connections, too. By default they write batches into "
             "memory that this process shares with each of them, if it is of the same user")
    add("--shared-memory-folder", metavar="DIR",
        help="for workers on this host in other containers: a folder that both have, where they meet this process to "
             "share memory; they have the same option, with their own path of the folder")
    add("--picture-cpu-s", type=float, default=StreamOptions.picture_cpu_s, metavar="S",
        help="CPU time for decoding one picture, in seconds; one that takes longer counts as a bad file, for a small "
             "file can take hours. A protection: no usual picture comes near it. 0: none")
    add("--picture-memory-mb", type=int, default=StreamOptions.picture_memory_mb, metavar="MB",
        help="memory for decoding one picture, in 2**20 bytes; one that takes more counts as a bad file. 0: any "
             "(default: %d and --max-file-mb, and %d bytes for each of --max-pixels)" % (
                 PICTURE_MEMORY_MB, PICTURE_PIXEL_BYTES))
    add("--lease-s", type=float, default=StreamOptions.lease_s, metavar="S",
        help="seconds without a sign of life after which a worker loses its steps to others")
    add("--worker-timeout-s", type=float, default=StreamOptions.worker_timeout_s, metavar="S",
        help="seconds without any worker after which the run ends")
    add("--batch-timeout-s", type=float, default=StreamOptions.batch_timeout_s, metavar="S",
        help="seconds of waiting for the next batch after which the run ends")
    add("--verify", type=float, default=StreamOptions.verify, metavar="SHARE",
        help="share of the steps, such as 0.01, that are produced a second time, by another host if there is one, and "
             "compared; if the two differ, the run ends and names both workers. A wrong batch may have been trained on "
             "by then. All workers need the same version of Pillow, and your functions must be deterministic. It costs "
             "this share of the workers' time")


def _add_health(add: Callable[..., Any]) -> None:
    add("--health-file", metavar="FILE",
        help="file to touch once a second while the stream lives: python -m stoker.pipeline.monitoring.health FILE "
             "fails if it is old, for the health check of a container")


def make_parser(program: str, description: str, examples: str, prefix: Optional[str] = "STOKER_"
                ) -> configargparse.ArgumentParser:
    """A parser whose options are environment variables too, which begin with ``prefix``; None: they are none."""
    return configargparse.ArgumentParser(prog=program, auto_env_var_prefix=prefix, formatter_class=_Formatter,
                                         description=description, epilog=examples)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        hidden = ("default:" in text or action.default is None or isinstance(action.default, bool)
                  or action.default == argparse.SUPPRESS or not action.option_strings)
        return text if hidden else text + " (default: %(default)s)"
