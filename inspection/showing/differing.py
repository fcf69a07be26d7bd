"""Compares two recorded runs: ``difference`` knows how, this module asks the runs."""

from __future__ import generator_stop

from typing import Any, Callable, ContextManager, Iterable, Iterator, List, Optional, Tuple

from stoker.inspection.showing import difference
from stoker.inspection.showing.difference import MAX_NAMED
from stoker.inspection.showing.facts import Sight, named
from stoker.inspection.showing.sheet import BAD, GOOD, PLAIN, Line, Section
from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring.audit_lines import lines_of
from stoker.trainer.record.files import DEFAULTS
from stoker.trainer.record.replay import Replay

BY_AUDITS = "by the checksums of both audits"
Progress = Callable[[Iterable[Batch], int, str], ContextManager[Iterator[Batch]]]


def compared(one: Replay, two: Replay, steps: int, sight: Sight, progress: Progress) -> Section:
    """How two runs differ. The last line has the mood GOOD if they do not. ``steps``: that are made again at most."""
    lines = _of_options_and_data(one, two)
    plans = one.run.plan, two.run.plan
    common = min(plan.steps for plan in plans)
    hashes = one.run.datasets.training.row_hashes(), two.run.datasets.training.row_hashes()
    step = difference.first_other_samples(plans[0], plans[1], hashes)
    alike = common if step is None else step            # so many steps have the same samples
    if step is not None:
        lines += _of_samples(one, two, step)
    else:
        lines.append(Line("the same samples in all %s steps that both have, in the same order" % format(common, ",")))
    found, how = difference.OtherBytes(None, 0), ""
    if alike:
        found, how = _other_bytes(one, two, alike, steps, progress)
    if found.step is not None:
        lines.append(Line("the first step with other bytes is %d, %s" % (found.step, how), BAD))
        return _side_by_side(one, two, found.step, lines, sight)
    if found.compared < alike and step is not None:
        lines.append(Line("%s earlier steps were not compared%s" % (
            format(alike - found.compared, ","), "" if how == BY_AUDITS else " (--steps)")))
    if step is not None:
        return _side_by_side(one, two, step, lines, sight)
    if not found.compared:
        return Section("", lines + [Line("no step of both could be compared", BAD)], [])
    is_all = not any(line.mood == BAD for line in lines)
    compared_steps = "%s steps" % format(found.compared, ",")
    if found.compared < alike and how == BY_AUDITS:
        compared_steps = "the %s of %s steps that both audits have" % (
            format(found.compared, ","), format(alike, ","))
    elif found.compared < alike:
        compared_steps = "the first %s of %s steps" % (format(found.compared, ","), format(alike, ","))
        how += "; --steps N compares more"
    return Section("", lines + [Line("no difference in %s, %s" % (compared_steps, how), GOOD if is_all else PLAIN)], [])


def _of_options_and_data(one: Replay, two: Replay) -> List[Line]:
    lines = [Line(text, BAD) for text in difference.options_that_differ(
        one.run.fingerprint(), two.run.fingerprint(), DEFAULTS)]
    for what, first, second in (("data", one.run.source, two.run.source),
                                ("validation data", one.run.datasets.validation, two.run.datasets.validation)):
        fact = difference.data_that_differ(first, second)
        if fact and (what == "data" or one.run.more["validation"] != two.run.more["validation"]):
            lines.append(Line("other %s in the second run: %s" % (what, fact), BAD))
    plans = one.run.plan, two.run.plan
    if plans[0].steps != plans[1].steps:
        lines.append(Line("the first run has %d steps, the second %d (%d and %d epochs)" % (
            plans[0].steps, plans[1].steps, plans[0].epochs, plans[1].epochs)))
    return lines or [Line("the same options and data")]


def _of_samples(one: Replay, two: Replay, step: int) -> List[Line]:
    lines = [Line("the first step with other samples is %d, epoch %d (the first is 0)" % (
        step, step // one.run.plan.steps_per_epoch), BAD)]
    for which, replay in (("first", one), ("second", two)):
        indices = replay.run.plan.training_indices(step)
        names = [named(replay.run.datasets.training, index) for index in indices[:MAX_NAMED]]
        lines.append(Line("the %s has %s%s" % (which, ", ".join(names), " ..." if len(indices) > MAX_NAMED else "")))
    return lines


def _side_by_side(one: Replay, two: Replay, step: int, lines: List[Line], sight: Sight) -> Section:
    first, second = next(one.batches([step])), next(two.batches([step]))
    pairs = difference.pairs_of(first, second)
    lines += difference.lines_of(first, second, pairs)
    more = "" if len(pairs) <= sight.samples else "; %d of its %d rows are shown" % (sight.samples, len(pairs))
    lines.append(Line("the runs differ from step %d on%s" % (step, more), BAD))
    return Section("step %d: of the first run at the left, of the second beside it" % step, lines,
                   difference.paired_cells(first, second, pairs, sight.samples, sight.side), group=difference.GROUP)


def _other_bytes(one: Replay, two: Replay, common: int, most: int, progress: Progress
                 ) -> Tuple[difference.OtherBytes, str]:
    """The first step with other bytes, and how it was found: by both audits, or else by making steps again."""
    if one.audit is not None and two.audit is not None:
        found = difference.first_other_bytes(_audited(one, common), _audited(two, common))
        if found.compared:
            return found, BY_AUDITS
    steps = range(min(common, most))
    with progress(one.batches(steps), len(steps), "steps") as ours, progress(
            two.batches(steps), len(steps), "steps") as theirs:
        how = "made again now"
        return difference.first_other_bytes(_checksums(one, ours), _checksums(two, theirs)), how


def _checksums(replay: Replay, batches: Iterator[Batch]) -> Iterator[Tuple[int, int]]:
    """Of each batch: as the audit has it, if it has it, and else as it is now."""
    for batch in batches:
        entry: Any = replay.audited(batch.step)
        then: Optional[int] = entry["crc32"] if entry is not None else None
        yield batch.step, replay.crc(batch) if then is None else then


def _audited(replay: Replay, end: int) -> Iterator[Tuple[int, int]]:
    """(step, checksum) of the lines of its audit, of steps before ``end``. Raises ConfigError."""
    assert replay.audit is not None
    for entry in lines_of(replay.audit):
        if entry["step"] >= end:
            return
        if entry.get("ranks", 1) != 1:                # its checksum is that of a part: the parts are put together
            whole = replay.audited(entry["step"])
            if whole is None or whole["crc32"] is None:
                continue
            entry = whole
        yield entry["step"], entry["crc32"]
