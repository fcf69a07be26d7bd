"""A contact sheet: samples with their pictures and a few lines on each. As a value; ``drawn`` and ``html_sheet`` make
files of it. All its texts are printable: names of files may hold anything, and are escaped where they come in."""

from typing import List, NamedTuple, Sequence, Tuple

from stoker.trainer.drawing.pictures import View

#: How a line or a cell is meant.
PLAIN, GOOD, BAD, NOTE = "plain", "good", "bad", "note"


class Line(NamedTuple):
    """A line of text."""
    text: str
    mood: str = PLAIN


class Cell(NamedTuple):
    """One sample."""
    title: str                       # its index, and its file or row
    views: Sequence[View] = ()       # of its arrays
    lines: Tuple[Line, ...] = ()     # what else is to be said of it
    mood: str = PLAIN                # of its frame


class Section(NamedTuple):
    """The samples of one step, or those that are compared."""
    title: str
    lines: Sequence[Line]
    cells: Sequence[Cell]
    group: int = 1                   # so many cells, one after the other, stand side by side: they are compared


class Sheet(NamedTuple):
    """All of a file."""
    title: str
    sections: List[Section]


def texts_of(cell: Cell) -> List[Line]:
    """The lines below the pictures of a cell: what its views say, and its own."""
    said = [Line("%s: %s" % (view.name, view.text)) for view in cell.views if view.text]
    return said + list(cell.lines)
