"""The command line of ``stoker-show``: opens the run, makes batches again, prints what they are, writes the sheet."""

import argparse
import logging
import os
import signal
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence

from stoker.inspection.showing import drawn as drawn_sheet
from stoker.inspection.showing import html_sheet
from stoker.inspection.showing import facts as show_facts
from stoker.inspection.showing import variations as show_variations
from stoker.inspection.showing.facts import Recorded, Sight
from stoker.inspection.showing.options import make_parser
from stoker.inspection.showing.sheet import GOOD, Sheet
from stoker.pipeline.progress import open_bar
from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import own_letters, printable_path
from stoker.trainer.command_log import start_log
from stoker.trainer.files import check_writable, reason, replace_file
from stoker.trainer.program import EXIT_TERMINATED, Program
from stoker.trainer.record.replay import Replay

EXIT_DIFFERENT = 1       # a batch is not what the audit says, or two runs differ
MAX_CELLS = 20000        # of one sheet
PRINTED_SAMPLES = 8      # of a batch, in the terminal
EPOCHS = 8               # of a sample, if none are named


def run(program: Program, argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Raises StokerError."""
    start_log(logging.WARNING)
    parser = make_parser()
    args = parser.parse_args(argv)
    wanted = [name for name in ("step", "sample", "validation", "diff") if getattr(args, name) is not None]
    if len(wanted) != 1:
        parser.error("say what to show: one of --step, --sample, --validation, --diff")
    if (args.run is None) != (args.diff is not None):
        parser.error("name the folder of the run" if args.run is None else "--diff names both runs: A and B")
    if args.epochs is not None and args.sample is None:
        parser.error("--epochs is for --sample")
    if args.output is not None or args.diff is None:
        _check_output(args.output or "a.png")
    program.raise_on_ctrl_c()
    signal.signal(signal.SIGTERM, _end)
    if args.diff is not None:
        return _compare(args)
    with _opened(args.run, args, args.audit) as replay:
        show = {"step": _show_steps, "sample": _show_sample, "validation": _show_evaluation}[wanted[0]]
        return show(replay, args)


def _check_output(path: str) -> None:
    """Raises ConfigError if no file can be written there: before all the work is done."""
    try:
        check_writable(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> ConfigError:
    return ConfigError("cannot write %r: %s; name another file with -o" % (path, reason(error)))


def _end(signum: int, frame: object) -> None:
    """Ends this process in good order: without its workers and temporary files."""
    raise SystemExit(EXIT_TERMINATED)


def _opened(folder: str, args: argparse.Namespace, audit: Optional[str]) -> Replay:
    if not os.path.isdir(folder):
        raise ConfigError("there is no folder %r: name the --checkpoint-dir of a stoker-train, or the folder that "
                          "open_stream(record=) had" % folder)
    given: Dict[str, Any] = {}
    if args.data is not None:
        given["data"] = args.data
    if args.validation_data is not None:
        given["validation"] = None if args.validation_data == "none" else args.validation_data
    replay = Replay(folder, root=args.root, path=args.path or (), audit=audit, workers=args.workers,
                    worker_python=args.worker_python, **given)
    for note in replay.notes:
        print("stoker-show: %s" % note, file=sys.stderr, flush=True)
    return replay


def _show_steps(replay: Replay, args: argparse.Namespace) -> int:
    steps = [step for several in args.step for step in several]
    steps = list(dict.fromkeys(steps))
    _check_steps(replay, steps)
    _check_size(len(steps), args)
    sections, other = [], []
    with _progress(replay.batches(steps), len(steps), "steps") as batches:
        for batch in batches:
            recorded = _recorded(replay, batch, replay.audited(batch.step))
            if show_facts.is_as_audited(recorded) is False:
                other.append(batch.step)
            sections.append(show_facts.section_of(batch, recorded, _sight(args), replay.run.datasets.training))
    name = "step-%d" % steps[0] if len(steps) == 1 else "steps-%d-%d" % (steps[0], steps[-1])
    _finish(Sheet(_title(replay), sections), args, name)
    if other:
        print("stoker-show: %s" % (
            "the batch of step %d is not the one that the run had; see above" % other[0] if len(steps) == 1 else
            "%d of %d batches are not those that the run had: step %s" % (
                len(other), len(steps), ", ".join(map(str, other[:10])) + (" ..." if len(other) > 10 else ""))),
            file=sys.stderr, flush=True)
    return EXIT_DIFFERENT if other else 0


def _show_evaluation(replay: Replay, args: argparse.Namespace) -> int:
    plan, sections = replay.run.plan, []
    if not plan.evaluations_per_epoch:
        raise ConfigError("the run has no validation data: it has only training steps, 0 to %d (--step)" % (
            plan.steps - 1))
    for epoch in args.validation:
        _check_epoch(replay, epoch)
    _check_size(len(args.validation) * plan.evaluations_per_epoch, args)
    for epoch in args.validation:
        with _progress(replay.evaluation(epoch), plan.evaluations_per_epoch, "batches") as batches:
            for number, batch in enumerate(batches):
                sections.append(show_facts.section_of(batch, _recorded(replay, batch, None), _sight(args),
                                                      replay.run.datasets.validation, number))
    _finish(Sheet(_title(replay), sections), args, "evaluation-%d" % args.validation[0])
    return 0


def _show_sample(replay: Replay, args: argparse.Namespace) -> int:
    source, plan = replay.run.datasets.training, replay.run.plan
    index = show_variations.index_of(args.sample, source,
                                     replay.run.datasets.validation if plan.evaluations_per_epoch else None)
    epochs = list(range(min(EPOCHS, plan.epochs))) if args.epochs is None else args.epochs
    for epoch in epochs:
        _check_epoch(replay, epoch)
    found = show_variations.steps_of(index, epochs, replay.step_of)
    steps = [step for _, step in found if step is not None]
    with _progress(replay.batches(steps), len(steps), "steps") as batches:
        section = show_variations.section_of(index, source, replay.run.job, found, batches, args.side)
    _finish(Sheet(_title(replay), [section]), args, "sample-%d" % index)
    return 0


# ------------------------------------------------------------------------------------------------------------ two runs

def _compare(args: argparse.Namespace) -> int:
    from stoker.inspection.showing.differing import compared
    first, second = args.diff
    with _opened(first, args, args.audit) as one, _opened(second, args, None) as two:
        section = compared(one, two, args.steps, _sight(args), _progress)
    _finish(Sheet("%s and %s" % (printable_path(first), printable_path(second)), [section]), args, None)
    return 0 if section.lines[-1].mood == GOOD else EXIT_DIFFERENT


# --------------------------------------------------------------------------------------------------------------- parts

def _recorded(replay: Replay, batch: Batch, entry: Any) -> Recorded:
    return Recorded(entry, replay.audit, replay.crc(batch), replay.run.job.generator, replay.recorded_decoders,
                    replay.decoders)


def _sight(args: argparse.Namespace) -> Sight:
    return Sight(args.samples, args.side)


def _title(replay: Replay) -> str:
    return printable_path(own_letters(replay.folder))


def _check_steps(replay: Replay, steps: Sequence[int]) -> None:
    last = replay.run.plan.steps - 1
    if max(steps) > last:
        raise ConfigError("the run has no step %d: its last one is %d" % (max(steps), last))


def _check_epoch(replay: Replay, epoch: int) -> None:
    if epoch >= replay.run.plan.epochs:
        raise ConfigError("the run has no epoch %d: it has %d, and the first is 0" % (epoch, replay.run.plan.epochs))


def _check_size(batches: int, args: argparse.Namespace) -> None:
    if batches * args.samples > MAX_CELLS:
        raise ConfigError("%d batches of up to %d samples each are more than a sheet can have (%s samples): name "
                          "fewer, or a smaller --samples" % (batches, args.samples, format(MAX_CELLS, ",")))


def _finish(sheet: Sheet, args: argparse.Namespace, name: Optional[str]) -> None:
    """Prints the sections, and writes the file."""
    for section in sheet.sections:
        print(*show_facts.summary(section, PRINTED_SAMPLES), sep="\n", flush=True)
    path = args.output or (name and name + ".png")
    if path is None:
        return
    if path.lower().endswith(".html"):
        content = html_sheet.html_of(sheet, args.side)
    else:
        try:
            content = drawn_sheet.png_of(sheet, args.side)
        except drawn_sheet.TooLarge as error:
            raise ConfigError("no PNG file can show all of it: %s; name fewer steps, a smaller --samples or --side, or "
                              "a file .html" % error) from error
    try:
        replace_file(path, lambda file: file.write(content), synced=False)
    except OSError as error:
        raise _unwritable(path, error) from error
    print("in %s" % printable_path(path), flush=True)


@contextmanager
def _progress(batches: Iterable[Batch], count: int, unit: str) -> Iterator[Iterator[Batch]]:
    """``batches``, with a bar on standard error if there are many."""
    if count < 2:
        yield iter(batches)
        return
    with open_bar(count, unit, "made again") as bar:
        def counted() -> Iterator[Batch]:
            for batch in batches:
                bar.update(1)
                yield batch
        yield counted()
