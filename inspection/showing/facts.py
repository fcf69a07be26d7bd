"""What is to be said of a batch: its samples, what was skipped or replaced and why, and whether its bytes are those of
the audit. Pure: batches and lines of an audit in, parts of a sheet out."""

from itertools import islice
from typing import AbstractSet, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from stoker.inspection.showing.sheet import BAD, GOOD, NOTE, PLAIN, Cell, Line, Section
from stoker.pipeline.arrays import listed
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.text import printable, printable_path
from stoker.trainer import decoders
from stoker.trainer.drawing import kinds
from stoker.trainer.drawing.pictures import View, shortened, views_of

MAX_NAME = 200           # letters of the name of a sample
MAX_PART = 24            # of a list in its row, such as boxes
MAX_LISTED = 12          # samples that the lines above the cells name


class Sight(NamedTuple):
    """How much of a batch is shown."""
    samples: int             # rows, at most
    side: int                # of a picture, in pixels


class Recorded(NamedTuple):
    """What is known of a batch beside itself. ``entry``: the audit's line of the step; None if there is none."""
    entry: Optional[Mapping[str, Any]]
    audit: Optional[str]                     # the file; None: the run has none
    crc: int                                 # of the batch
    function: str                            # that made it
    decoders_then: AbstractSet[str] = frozenset()
    decoders_now: AbstractSet[str] = frozenset()


def named(source: Optional[Source], index: int) -> str:
    """``#17 cats/003.jpg``: a sample as people see it, in printable letters."""
    if source is None:
        return "#%d" % index
    if source.has_paths:
        return "#%d %s" % (index, shortened(printable_path(source.samples([index])[0].path), MAX_NAME))
    row = source.rows([index])[0]
    return "#%d" % index + ("" if row == index else " " + row_text(row))


def row_text(row: Any) -> str:
    """A row in a line."""
    if isinstance(row, dict):
        text = ", ".join("%s=%s" % (key, shortened(str(value), MAX_PART) if isinstance(value, (list, dict)) else value)
                         for key, value in row.items())
    elif isinstance(row, (list, tuple)):
        text = ", ".join(map(str, row[:50]))
    else:
        text = str(row)
    return shortened(printable_path(text[:4 * MAX_NAME]), MAX_NAME)


def class_of(source: Optional[Source], index: int) -> str:
    """The name of its class; '' if it has none."""
    if source is None or not source.classes:
        return ""
    label = source.samples([index])[0].label
    return printable_path(source.classes[label]) if 0 <= label < len(source.classes) else ""


def heading(batch: Batch, number: Optional[int] = None) -> str:
    """``step 1234, epoch 3``. ``number``: of a batch of an evaluation, which has no step."""
    if number is None:
        return "step %d, epoch %d (the first is 0)" % (batch.step, batch.epoch)
    return "evaluation after epoch %d (the first is 0), batch %d" % (batch.epoch, number)


def section_of(batch: Batch, recorded: Recorded, sight: Sight, planned_from: Source,
               number: Optional[int] = None) -> Section:
    """The batch. ``planned_from``: the source of its planned samples, also where no row is known to be of one.
    ``number``: see ``heading``."""
    lines = [Line("%d sample%s: %s" % (len(batch), "s" * (len(batch) != 1), listed(batch.specs)))]
    lines += audit_lines(batch, recorded)
    lines += absent_lines(batch, planned_from)
    shown = min(len(batch), sight.samples)
    if batch.source is None and len(batch):
        lines.append(Line("a function declared by stoker.batch made it, so it is unknown which row is of which sample; "
                          "it got %s" % _several([named(planned_from, index) for index in batch.used_indices[
                              :MAX_LISTED]], len(batch.used_indices))))
    if shown < len(batch):
        lines.append(Line("the first %d of %s samples are shown (--samples)" % (shown, format(len(batch), ",")), NOTE))
    return Section(heading(batch, number), lines, cells_of(batch, range(shown), sight.side))


def cells_of(batch: Batch, rows: Sequence[int], side: int) -> List[Cell]:
    """Those rows of the batch."""
    instead = {new: old for old, several in replacements(batch).items() for new in several}
    return [_cell(batch, row, seen, instead) for row, seen in zip(rows, views_of(batch, rows, side))]


def _cell(batch: Batch, row: int, seen: Sequence[View], instead: Mapping[int, int]) -> Cell:
    if batch.source is None or row >= len(batch.used_indices):
        return Cell("row %d" % row, seen)
    index = batch.used_indices[row]
    title, lines, mood = named(batch.source, index), [], PLAIN
    count = batch.used_indices.count(index)
    if count > 1:
        title += ", %d of %d" % (batch.used_indices[:row].count(index) + 1, count)
    name = class_of(batch.source, index)
    if name and not any(view.kind == kinds.CLASS for view in seen):
        lines.append(Line("class %s" % name))
    if index in instead:
        mood = NOTE
        lines.append(Line("in place of #%d" % instead[index], NOTE))
    return Cell(title, seen, tuple(lines), mood)


def replacements(batch: Batch) -> Dict[int, Tuple[int, ...]]:
    """Of each planned sample that is not in the batch: the samples that took its places; none if it was left out. As
    ``plan.produced_indices``."""
    planned, bad = set(batch.indices), {skip.index for skip in batch.skipped}
    used = (index for index in batch.used_indices if index not in planned)
    found: Dict[int, Tuple[int, ...]] = {}
    for index in batch.indices:
        if index in bad:            # an order may repeat it: each of its places gets another one
            found[index] = found.get(index, ()) + tuple(islice(used, 1))
    return found


def absent_lines(batch: Batch, source: Source) -> List[Line]:
    """A line for each sample that is not in the batch, or that an attempt to replace one found bad."""
    replaced, lines = replacements(batch), []
    for skip in batch.skipped[:MAX_LISTED]:
        name = named(source, skip.index)
        if skip.path and source.has_paths and skip.path != source.samples([skip.index])[0].path:
            name += " (its file %s)" % shortened(printable_path(skip.path), MAX_NAME)
        if skip.index not in replaced:
            fate = "would have been a replacement"
        elif not replaced[skip.index]:
            fate = "left out by the function" if skip.chosen else "skipped"
        else:
            fate = "replaced by %s" % _numbers(replaced[skip.index])
        lines.append(Line("%s: %s: %s" % (fate, name, printable(skip.reason)), NOTE if skip.chosen else BAD))
    if len(batch.skipped) > MAX_LISTED:
        lines.append(Line("and %d more that are not in the batch" % (len(batch.skipped) - MAX_LISTED), BAD))
    if batch.missing:
        lines.append(Line("%d samples that the batch function did not return" % batch.missing, NOTE))
    return lines


def is_as_audited(recorded: Recorded) -> Optional[bool]:
    """Whether the batch has the checksum of its line in the audit; None if there is none to compare with."""
    if recorded.entry is None or recorded.entry.get("crc32") is None:
        return None
    return recorded.entry["crc32"] == recorded.crc


def audit_lines(batch: Batch, recorded: Recorded) -> List[Line]:
    """The checksum, and whether it is that of the audit; if not, the likely reasons."""
    crc, same = "CRC-32 %d" % recorded.crc, is_as_audited(recorded)
    where = printable_path(recorded.audit or "")
    if same:
        return [Line("%s, as in the audit %s" % (crc, where), GOOD)]
    if recorded.entry is not None and same is not None:
        return [Line("%s, but the audit %s has %d: these are not the bytes that the run had. Likely because %s" % (
            crc, where, recorded.entry["crc32"], reason_of_difference(batch, recorded)), BAD)]
    if not batch.training:
        return [Line("%s (an audit has only batches of training)" % crc)]
    if recorded.audit is None:
        return [Line("%s; the run has no audit to compare it with" % crc)]
    return [Line("%s; the audit %s has no checksum of this step" % (crc, where))]


def reason_of_difference(batch: Batch, recorded: Recorded) -> str:
    """Why the bytes may be others than the audit's line says: a clause."""
    entry = recorded.entry or {}
    if list(entry.get("indices", batch.indices)) != list(batch.indices):
        return ("other samples were planned then (%s ...): is it the audit of this run?"
                % _numbers(list(entry["indices"])[:4]))
    then, now = set(entry.get("skipped", ())), {skip.index for skip in batch.skipped}
    if then != now:
        parts = ["%s bad then and good now" % _were(then - now)] * bool(then - now)
        parts += ["%s good then and bad now" % _were(now - then)] * bool(now - then)
        return " and ".join(parts) + ": files were repaired, removed or damaged, or another library decodes them"
    if decoders.others(recorded.decoders_then, recorded.decoders_now):
        return "its pictures were decoded by %s, and are now by %s (--worker-python: a Python with the former ones)" % (
            decoders.listed(recorded.decoders_then), decoders.listed(recorded.decoders_now))
    return ("a file or row of it has changed, or %s has%s" % (
        printable(recorded.function) + " or a library that it calls" if ":" in recorded.function else "Stoker itself",
        "" if recorded.decoders_then else ", or other versions of Pillow's libraries decoded its pictures"))


def _were(indices: AbstractSet[int]) -> str:
    return "%s %s" % (_numbers(sorted(indices)[:6]) + (" and more" if len(indices) > 6 else ""),
                      "was" if len(indices) == 1 else "were")


def _numbers(indices: Sequence[int]) -> str:
    return ", ".join("#%s" % index for index in indices)


def _several(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (" and %d more" % (count - len(names)) if count > len(names) else "")


def summary(section: Section, most: int) -> List[str]:
    """The section for a terminal: its lines, and a line for each of its first ``most`` samples; of cells that are
    compared, the second says how they differ."""
    lines: List[Tuple[str, str]] = [("", section.title)] * bool(section.title)
    lines += [("  ", line.text) for line in section.lines]
    cells = section.cells if section.group == 1 else section.cells[1::section.group]
    for cell in cells[:most]:
        facts = ["%s %s" % (view.name, view.text) for view in cell.views if view.text] + [
            line.text for line in cell.lines]
        lines.append(("    ", shortened("; ".join([cell.title] + facts), MAX_NAME)))
    if len(cells) > most:
        lines.append(("    ", "and %d more" % (len(cells) - most)))
    return [indent + text for indent, text in lines]
