"""How two runs differ: in their options, in their data, in the plan of their samples, and else in their bytes. Pure:
plans, sources, checksums and batches come in."""

import json
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from stoker.inspection.showing.facts import cells_of, named
from stoker.inspection.showing.sheet import BAD, GOOD, PLAIN, Cell, Line
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.text import printable
from stoker.trainer.drawing.kinds import HEAT_MAP, figures
from stoker.trainer.drawing.pictures import View, own_part, png_of, shortened
from stoker.trainer.drawing.pixels import heat, number, thinned

OF_DATA = ("dataset", "validation")      # of a fingerprint: hashes, which say nothing to people
MAX_SHOWN = 100                          # letters of an option's value
MAX_ARRAYS = 300                         # of the arrays that are declared
MAX_NAMED = 6
OTHER = "other samples"
GROUP = 3                                # cells of a row: of both batches, and their difference


def options_that_differ(first: Mapping[str, Any], second: Mapping[str, Any], defaults: Mapping[str, Any]) -> List[str]:
    """``seed: 1 and 2``: of the fingerprints of two runs."""
    lines = []
    for name in sorted(set(first) | set(second)):
        if name not in OF_DATA and first.get(name) != second.get(name):
            values = [record.get(name, defaults.get(name)) for record in (first, second)]
            one, two = (_shown(name, value) for value in values)
            lines.append("%s: %s and %s" % (name.replace("_", " "), one, two))
    return lines


def _shown(name: str, value: Any) -> str:
    """An option's value for people; declared arrays as sheets name them: ``image uint8 (64, 64, 3)``."""
    if value is None:
        return "none"
    if name == "arrays" and isinstance(value, list) and all(
            isinstance(each, list) and all(isinstance(part, str) for part in each) for each in value):
        return shortened(printable(", ".join(map(" ".join, value))), MAX_ARRAYS)
    return shortened(printable(json.dumps(value, ensure_ascii=False)), MAX_SHOWN)


def data_that_differ(first: Source, second: Source) -> Optional[str]:
    """How the second data differs from the first; None if it does not."""
    return difference(identity(first), first.row_hashes(), second)


def first_other_samples(first: Plan, second: Plan, hashes: "Tuple[np.ndarray, np.ndarray]") -> Optional[int]:
    """The first step for which two plans have other samples, by their numbers or by the ``hashes`` of their rows; None
    if there is none among the steps that both have."""
    has_hashes = len(hashes[0]) > 0 and len(hashes[1]) > 0
    for step in range(min(first.steps, second.steps)):
        one, two = first.training_indices(step), second.training_indices(step)
        if one != two or has_hashes and not np.array_equal(hashes[0][list(one)], hashes[1][list(two)]):
            return step
    return None


class OtherBytes(NamedTuple):
    """``step``: the first whose bytes differ, None if there is none; ``compared``: steps that were looked at."""
    step: Optional[int]
    compared: int


def first_other_bytes(first: Iterator[Tuple[int, int]], second: Iterator[Tuple[int, int]]) -> OtherBytes:
    """Of two series of (step, checksum), each with ascending steps. Steps that only one has are passed over."""
    compared = 0
    one, two = next(first, None), next(second, None)
    while one is not None and two is not None:
        if one[0] < two[0]:
            one = next(first, None)
        elif two[0] < one[0]:
            two = next(second, None)
        else:
            compared += 1
            if one[1] != two[1]:
                return OtherBytes(one[0], compared)
            one, two = next(first, None), next(second, None)
    return OtherBytes(None, compared)


class Pair(NamedTuple):
    """The same row of two batches. ``facts``: how their arrays differ; none: they do not."""
    row: int
    facts: Tuple[str, ...]


def pairs_of(first: Batch, second: Batch) -> List[Pair]:
    """The rows that both batches have."""
    return [Pair(row, tuple(_facts(first, second, row))) for row in range(min(len(first), len(second)))]


def _facts(first: Batch, second: Batch, row: int) -> Iterator[str]:
    if first.used_indices[row:row + 1] != second.used_indices[row:row + 1]:
        yield OTHER
    others = {spec.name: spec for spec in second.specs}
    for spec in first.specs:
        if spec.name not in others:
            yield "only the first has %s" % spec.name
            continue
        # without what pads it, which depends on the other rows of its batch
        fact = array_fact(own_part(first, spec, row), own_part(second, others[spec.name], row))
        if fact:
            yield "%s %s" % (spec.name, fact)
    for name in sorted(set(others) - {spec.name for spec in first.specs}):
        yield "only the second has %s" % name


def array_fact(one: "np.ndarray", two: "np.ndarray") -> str:
    """How two arrays differ: a part of a sentence; '' if they do not, to the bit."""
    one, two = np.asarray(one), np.asarray(two)
    if one.dtype != two.dtype or one.shape != two.shape:
        return "is %s %s and %s %s" % (one.dtype, one.shape, two.dtype, two.shape)
    if one.tobytes() == two.tobytes():
        return ""
    with np.errstate(all="ignore"):
        other = one != two
        if one.dtype.kind == "f":
            other &= ~(np.isnan(one) & np.isnan(two))
        apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
        count = int(np.count_nonzero(other))
        largest = float(np.nanmax(np.where(np.isfinite(apart), apart, 0))) if apart.size else 0.0
    if not count:
        return "differs only in the bits of zeros or NaN"
    return "differs in %s of %s values, by at most %s" % (
        format(count, ","), format(one.size, ","), number(largest))


def lines_of(first: Batch, second: Batch, pairs: Sequence[Pair]) -> List[Line]:
    """What is to be said of two batches of one step."""
    lines = []
    bad = [", ".join("#%d (%s)" % (skip.index, printable(skip.reason)) for skip in batch.skipped[:MAX_NAMED])
           for batch in (first, second)]
    for which, text in (("either", bad[0]),) if bad[0] == bad[1] else (("the first", bad[0]), ("the second", bad[1])):
        if text:
            lines.append(Line("not in %s: %s" % (which, text)))
    if len(first) != len(second):
        lines.append(Line("the first has %d rows, the second %d" % (len(first), len(second)), BAD))
    other = [pair for pair in pairs if pair.facts]
    if not other:
        return lines + [Line("made again now, all %d rows are the same to the bit" % len(pairs), GOOD)]
    names = [row_name(first, pair.row) for pair in other[:MAX_NAMED]]
    return lines + [Line("%d of %d rows differ: %s%s" % (
        len(other), len(pairs), ", ".join(names), " ..." if len(other) > len(names) else ""), BAD)]


def row_name(batch: Batch, row: int) -> str:
    """The sample of a row, as far as it is known."""
    is_known = batch.source is not None and row < len(batch.used_indices)
    return named(batch.source, batch.used_indices[row]) if is_known else "row %d" % row


def _difference(first: Batch, second: Batch, row: int, side: int) -> Cell:
    """The distance of both in each place of the arrays that can be shown as planes, from none to the largest."""
    seen, others = [], {spec.name: spec for spec in second.specs}
    for spec in first.specs:
        if spec.name not in others:
            continue
        one, two = own_part(first, spec, row), own_part(second, others[spec.name], row)
        if one.shape != two.shape or one.ndim not in (2, 3) or not one.size or one.ndim == 3 and one.shape[2] > 4:
            continue
        with np.errstate(all="ignore"):
            apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
        apart = apart.max(axis=2) if apart.ndim == 3 else apart
        most = figures(apart).high
        seen.append(View(spec.name, HEAT_MAP, png_of(heat(thinned(apart, 4 * side), 0, most), side, smooth=False),
                         "yellow is %s apart" % number(most) if most else "no difference"))
    return Cell("difference", seen)


def paired_cells(first: Batch, second: Batch, pairs: Sequence[Pair], most: int, side: int) -> List[Cell]:
    """The rows of both batches and their difference side by side, at most ``most`` rows: before others, those that
    differ."""
    shown = sorted(sorted(pairs, key=lambda pair: not pair.facts)[:most])
    cells: List[Cell] = []
    ours, theirs = (cells_of(batch, [pair.row for pair in shown], side) for batch in (first, second))
    for pair, one, two in zip(shown, ours, theirs):
        mood = BAD if pair.facts else PLAIN
        cells.append(one._replace(mood=mood))
        facts = tuple(Line(fact, BAD) for fact in pair.facts) or (Line("the same", GOOD),)
        cells.append(two._replace(mood=mood, lines=two.lines + facts))
        apart = Cell(OTHER) if OTHER in pair.facts else _difference(first, second, pair.row, side)
        cells.append(apart._replace(mood=mood))
    return cells
