"""The options of ``stoker-check``, with their help."""

import argparse
from typing import Any, Tuple

import configargparse

from stoker.inspection.checking.kinds import ERRORS, KINDS
from stoker.pipeline.options import AUTO, SANDBOX, SANDBOX_AUTO, JobOptions, StreamOptions
from stoker.trainer.data_options import DATA, ROOT, add_csv, add_names, add_records, names
from stoker.trainer.parser import add_pictures, make_parser, number_of_workers

CHECK = """Looks at a dataset before a long run. Decodes every picture once on all cores, and reports what a run would
skip and what looks wrong: bad files, equal pictures with different labels or in training and validation, pictures that
are turned, of one colour, tiny, or in unusual formats; the classes, the mean and deviation of the pixels, and how many
workers a step needs. It changes nothing."""
EXAMPLES = """examples:
  stoker-check photos/
      a folder with one sub-folder per class
  stoker-check photos/train --validation photos/val --html report.html
      also finds pictures that are in both; the report shows the suspicious ones
  stoker-check log.csv --column center --label steering_class --root recordings/
      the files that the rows of a table name
  stoker-check 'train-*.tfrecord' --validation 'val-*.tfrecord'
      record files, as for stoker-train
  stoker-check photos/ --image-size 224 --batch-size 128 --step-ms 180 --worker-python .venv/workers/bin/python
      how many workers keep a GPU busy that takes 180 ms for a step
  stoker-check photos/ --strict --json - > report.json
      for a script: exit code 1 if a run would skip a file or learn something wrong
Exit codes: 0; 1 with --strict if one of its kinds was found; 2 for a wrong option or data that cannot be read. Ctrl-C
ends it at once.

kinds of findings:
"""


def check_parser() -> configargparse.ArgumentParser:
    """The parser of ``stoker-check``."""
    parser = make_parser("stoker-check", CHECK, EXAMPLES + "".join(
        "  %-15s %-8s %s\n" % (kind, level, what) for kind, (level, what) in KINDS.items()), None)
    add = parser.add_argument_group("data").add_argument
    add("data", metavar="DATA", help=DATA)
    add("--validation", metavar="DIR|FILE", help="the validation data, of the same kinds: classes, labels and pictures "
        "of both are compared")
    add("--root", metavar="DIR|URL", help=ROOT)
    add("--column", metavar="NAME",
        help="of a file of rows: the column with the path of the picture (default: the only one that names files)")
    add("--label", metavar="NAME", help="of a file of rows: the column with the class, whatever its type")
    add_csv(add)
    add_records(add)
    add("--classes", type=names, metavar="A,B,C", help="the class folders to use (default: all)")
    add("--label-word", metavar="WORD",
        help="instead of classes by folder: label 1 if WORD is in the path below DATA, else 0")
    add("--no-labels", action="store_true", help="DATA is a folder without classes, and so is the validation folder")
    add_names(add)
    add("--follow-links", action="store_true", help="also use files outside of DATA that links in it lead to")
    add = parser.add_argument_group("pictures").add_argument
    add_pictures(add)
    add("--picture-cpu-s", type=float, default=StreamOptions.picture_cpu_s, metavar="S",
        help="CPU time for decoding one picture, in seconds; one that takes longer counts as a bad file. 0: none")
    add("--picture-memory-mb", type=int, default=StreamOptions.picture_memory_mb, metavar="MB",
        help="memory for decoding one picture, in 2**20 bytes; one that takes more counts as a bad file. 0: any "
             "(default: as stoker-train)")
    add = parser.add_argument_group("workers").add_argument
    add("--workers", type=number_of_workers, default=AUTO, metavar="N",
        help="number of processes that decode; auto: one per core")
    add("--worker-python", metavar="FILE",
        help="interpreter that runs them, as for stoker-train: its Pillow decides what is bad and how fast it is "
             "(default: this one)")
    add("--sandbox", choices=SANDBOX, default=SANDBOX_AUTO,
        help="they give up all rights but to read the data and Python. auto: where the kernel has Landlock")
    add("--batch-size", type=int, default=JobOptions.batch_size, metavar="N",
        help="samples of a step, by which workers are counted")
    add("--step-ms", type=step_ms, metavar="MS",
        help="time that the model takes for a step, in ms: how many workers keep up with it (default: of some steps)")
    add = parser.add_argument_group("output").add_argument
    add("--html", metavar="FILE", help="a report with the suspicious pictures, one file, to keep or to mail")
    add("--json", metavar="FILE", help="the report for programs, see docs/CHECK.md; -: to standard output, instead of "
        "the text")
    add("--strict", action="store_true",
        help="exit with code 1 if anything of these kinds was found: " + ", ".join(ERRORS))
    add("--strict-kinds", type=kinds, metavar="A,B,C",
        help="the same for these kinds, of the list below; all: any of them")
    return parser


def step_ms(text: str) -> float:
    """Milliseconds, more than 0."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("needs milliseconds, such as 180, not %r" % text)
    return value


def kinds(text: str) -> Tuple[str, ...]:
    """'bad,leaks' -> ('bad', 'leaks'); 'all' -> all."""
    found = tuple(KINDS) if text.strip() == "all" else tuple(names(text))
    unknown = [name for name in found if name not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError("needs kinds among %s, or all, not %r" % (", ".join(KINDS), unknown[0]))
    return found


def strict_kinds(args: Any) -> Tuple[str, ...]:
    """The kinds of findings for which the exit code is 1."""
    return tuple(args.strict_kinds or ()) + (ERRORS if args.strict else ())
