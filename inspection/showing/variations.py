"""One sample in several epochs, beside its file as it is stored."""

import os
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

import numpy as np

from stoker.inspection.showing.facts import class_of, named
from stoker.inspection.showing.sheet import BAD, NOTE, Cell, Line, Section
from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, StokerError
from stoker.pipeline.options import JobOptions
from stoker.pipeline.storage.folder import BadFile, resolve
from stoker.pipeline.text import native, own_letters, printable, printable_path
from stoker.trainer.drawing import pixels
from stoker.trainer.drawing.kinds import PICTURE
from stoker.trainer.drawing.pictures import View, png_of, shortened, views
from stoker.workers import formats, headers, images, limits
from stoker.workers.raw import Content, Pixels

ROWS_AT_ONCE = 10000
MAX_FILES = 4            # that are shown of the files that a row names
MAX_FIELDS = 40          # of a row, that are looked at for names of files
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def index_of(text: str, source: Source, validation: Optional[Source] = None) -> int:
    """The number of the sample that ``text`` names: by its number, or by its path. ``validation``: None if the run has
    no evaluations. Raises ConfigError."""
    if text.isdecimal():
        index = int(text)
        if index >= len(source):
            raise ConfigError("there is no sample %d: the training data has %s samples, and the first is 0%s" % (
                index, format(len(source), ","), "" if validation is None else
                "; those of the validation data are in --validation EPOCH, such as --validation 0"))
        return index
    if source.has_paths:
        found = _at_path(text, source)
        if found is not None:
            return found
        if validation is not None and validation.has_paths and _at_path(text, validation) is not None:
            raise ConfigError("%r is in the validation data, and --sample shows samples of the training data: "
                              "--validation EPOCH, such as --validation 0, shows the evaluation after an epoch" % text)
        raise ConfigError("no training sample has the path %r below %s" % (text, printable_path(source.root)))
    raise ConfigError("--sample needs the number of a sample, which stoker-show shows as #17, not %r" % text)


def _at_path(path: str, source: Source) -> Optional[int]:
    """The number of the sample that has this path; None if none has it."""
    wanted = own_letters(path)
    for start in range(0, len(source), ROWS_AT_ONCE):
        for sample in source.samples(range(start, min(start + ROWS_AT_ONCE, len(source)))):
            if own_letters(sample.path) == wanted:
                return sample.index
    return None


class Appearance(NamedTuple):
    """Where a sample is in an epoch. ``step``: None if it is in no batch of that epoch."""
    epoch: int
    step: Optional[int]


def steps_of(index: int, epochs: Sequence[int], step_of: Callable[[int, int], Optional[int]]) -> List[Appearance]:
    """Its first appearance in each of ``epochs``."""
    return [Appearance(epoch, step_of(index, epoch)) for epoch in epochs]


def section_of(index: int, source: Source, job: JobOptions, found: Sequence[Appearance], batches: Iterable[Batch],
               side: int) -> Section:
    """``batches``: of the steps of ``found``, in their order."""
    ready: Iterator[Batch] = iter(batches)
    cells = stored_cells(source, index, job, side)
    for epoch, step in found:
        if step is None:
            cells.append(Cell("epoch %d" % epoch, (), (Line("it is in no batch of this epoch", NOTE),), NOTE))
            continue
        cells += _cells(index, next(ready), side)
    name = class_of(source, index)
    return Section(named(source, index), [Line("class %s" % name)] * bool(name) + [
        Line("as it is stored, and in %d epoch%s (the first is 0)" % (len(found), "s" * (len(found) != 1)))], cells)


def _cells(index: int, batch: Batch, side: int) -> List[Cell]:
    title = "epoch %d, step %d" % (batch.epoch, batch.step)
    if batch.source is None:
        raise ConfigError("a function declared by stoker.batch makes the batches, so it is unknown which row is of "
                          "which sample: show whole steps, with --step")
    rows = [row for row, used in enumerate(batch.used_indices) if used == index]
    cells = [Cell(title + (", %d of %d" % (place + 1, len(rows)) if len(rows) > 1 else ""), views(batch, row, side))
             for place, row in enumerate(rows)]
    if cells:
        return cells
    reason = next((skip.reason for skip in batch.skipped if skip.index == index), "the function returned no row for it")
    return [Cell(title, (), (Line("not in the batch: %s" % printable(reason), BAD),), BAD)]


# -------------------------------------------------------------------------------------------------- as they are stored

def stored_cells(source: Source, index: int, job: JobOptions, side: int) -> List[Cell]:
    """The file of a sample, or the picture files that its row names, as they are stored."""
    if not source.root:
        return []
    if source.has_paths:
        paths = [source.samples([index])[0].path]
    else:
        paths = [path for path in _texts(source.rows([index])[0]) if path.lower().endswith(PICTURES)][:MAX_FILES]
    limits.apply(cast(Any, job))        # as a worker does: it has the fields that count here
    formats.apply(job.formats)
    try:
        return [_stored(source.root, path, job, side) for path in paths]
    finally:
        limits.apply(cast(Any, JobOptions()))
        formats.apply()


def _texts(row: Any) -> List[str]:
    values = list(row.values()) if isinstance(row, dict) else list(row) if isinstance(row, (list, tuple)) else [row]
    return [value for value in values[:MAX_FIELDS] if isinstance(value, str)]


def _stored(root: str, path: str, job: JobOptions, side: int) -> Cell:
    title = "stored: %s" % shortened(printable_path(path))
    relative = os.path.relpath(path, root) if os.path.isabs(path) else path
    try:
        data, _ = images.read(resolve(native(root), relative, job.follow_links))
        view, facts = picture_of(data, side)
        return Cell(title, (view,), (Line(facts),))
    except BadFile as error:
        return Cell(title, (), (Line(printable(str(error)), BAD),), BAD)
    except (StokerError, OSError, MemoryError) as error:
        return Cell(title, (), (Line("it cannot be read: %s" % printable(str(error)), BAD),), BAD)


def picture_of(data: Content, side: int) -> Tuple[View, str]:
    """The picture that ``images.read`` gave, and its facts: format, size, mode, bytes. Raises BadFile, OSError."""
    image = images.converted(data, None, None, None)
    kind, size_bytes = ("raw numbers", len(data.data)) if isinstance(data, Pixels) else (
        headers.format_of(data), len(data))
    facts = "%s, %d x %d pixels, mode %s, %s bytes" % (
        kind, image.size[0], image.size[1], image.mode, format(size_bytes, ","))
    if image.mode.startswith(("I", "F")):
        value = np.asarray(image)
        drawn = pixels.picture(value, pixels.Scale(value))
    else:
        drawn = np.asarray(image.convert("RGBA" if image.mode in ("LA", "PA", "RGBA") else "RGB"))[..., :3]
    return View("stored", PICTURE, png_of(drawn, side), ""), facts
