"""The options of ``stoker-show``, with their help."""

import argparse
from typing import Callable, List

DESCRIPTION = """Shows batches of a recorded run as the model saw them: makes them again, compares them with the run's
audit, and draws them. The run may be over, or go on meanwhile; it is not disturbed, and its folder only read."""
EXAMPLES = """examples:
  stoker-show runs/photos --step 1234
      what the step was, in the terminal, and its pictures in step-1234.png
  stoker-show runs/photos --step 0:3 --step 1234 -o steps.html
      several steps (0, 1, 2 and 1234), as one HTML file
  stoker-show runs/photos --sample 17 --epochs 0:8
      one sample as it is stored, and as it was in the epochs 0 to 7; --sample cat/003.jpg names it by its file
  stoker-show runs/photos --validation 0
      the evaluation after epoch 0
  stoker-show --diff runs/first runs/second -o difference.png
      the first step at which two runs differ, and how: options, data, order, or bytes
RUN is the --checkpoint-dir of stoker-train, or the folder that open_stream(record=) had. Steps, epochs and samples
count from 0. Exit code 1: a batch is not what the audit says, or the two runs differ; 2: it cannot be shown."""
MAX_STEPS, SAMPLES, SIDE, DIFF_STEPS = 1000, 64, 128, 32
SUFFIXES = (".png", ".html")


def numbers(text: str) -> List[int]:
    """'3' -> [3]; '0:3' -> [0, 1, 2]; '0:2,7' -> [0, 1, 7]."""
    found: List[int] = []
    try:
        for part in text.split(","):
            first, colon, end = part.partition(":")
            start, stop = int(first or 0), int(end) if colon else int(first) + 1
            if start < 0 or stop <= start or stop - start > MAX_STEPS:
                raise ValueError
            found += range(start, stop)
    except ValueError:
        raise argparse.ArgumentTypeError("needs a number, or a range such as 0:8 (the numbers 0 to 7) of at most %d "
                                         "numbers, or several such as 3,5, not %r" % (MAX_STEPS, text)) from None
    if len(found) > MAX_STEPS:
        raise argparse.ArgumentTypeError("names %d numbers, and %d at most are shown at once" % (len(found), MAX_STEPS))
    return found


def output(text: str) -> str:
    """The path of a PNG or HTML file."""
    if text.lower().endswith(SUFFIXES):
        return text
    raise argparse.ArgumentTypeError("must be a file .png or .html, not %r" % text)


def within(low: int, high: int) -> Callable[[str], int]:
    """A type of argparse: a whole number from ``low`` to ``high``."""
    def checked(text: str) -> int:
        try:
            if low <= int(text) <= high:
                return int(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError("must be a whole number from %d to %d, not %r" % (low, high, text))
    return checked


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``stoker-show``."""
    parser = argparse.ArgumentParser("stoker-show", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("what is shown").add_argument
    add("run", nargs="?", metavar="RUN", help="folder of the run")
    add("--step", type=numbers, action="append", metavar="N|A:B",
        help="training step, or steps A to B - 1. Repeat it for several")
    add("--sample", metavar="N|PATH",
        help="a sample of the training data, by its number or by the path of its file: its variations in --epochs")
    add("--epochs", type=numbers, metavar="A:B",
        help="for --sample: epochs A to B - 1, of which the first is 0 (default: the first 8)")
    add("--validation", type=numbers, metavar="EPOCH", help="the evaluation batches after this epoch; the first is 0")
    add("--diff", nargs=2, metavar=("A", "B"),
        help="two runs: the first step at which they differ, and how. Without audits, their first --steps steps are "
             "made again and compared")
    add("--steps", type=within(1, 1 << 40), default=DIFF_STEPS, metavar="N",
        help="for --diff: steps that are made again if an audit is missing (default: %d)" % DIFF_STEPS)
    add("--samples", type=within(1, 4096), default=SAMPLES, metavar="N",
        help="samples of a batch that are shown at most (default: %d)" % SAMPLES)
    add("--side", type=within(16, 1024), default=SIDE, metavar="PIXELS",
        help="to which pictures are made smaller, or larger by a whole factor (default: %d)" % SIDE)
    add("-o", "--output", type=output, metavar="FILE",
        help="file .png or .html to write; it is replaced if it is there (default: a .png in the current folder, named "
             "for what it shows; with --diff, no file)")
    add = parser.add_argument_group("where things are now, if not where they were").add_argument
    add("--root", metavar="DIR|URL",
        help="the folder or URL that now has the run's files: of its training data, or the one with both its data and "
             "its validation data, if those are two")
    add("--data", metavar="DIR|FILE|URL", help="the data themselves: the folder, the file of rows, or record files")
    add("--validation-data", metavar="DIR|FILE|URL|none",
        help="validation data of their own. none: do without them, for what is not --validation")
    add("--path", action="append", metavar="DIR",
        help="a folder in which the module of your function is searched. Repeat it for several")
    add("--audit", metavar="FILE", help="the audit to compare with; for --diff, that of A")
    add = parser.add_argument_group("workers").add_argument
    add("--workers", type=within(1, 1000), metavar="N",
        help="processes that make the batches (default: one per core, and no more than there are batches)")
    add("--worker-python", metavar="FILE",
        help="interpreter that runs them. One with the Pillow of the run's workers gives the same bytes (default: this "
             "one)")
    return parser
