"""A contact sheet as one PNG file, drawn with PIL alone: with its own font, which has the letters of Latin-1."""

import io
from typing import Any, List, NamedTuple, Tuple

from PIL import Image, ImageDraw, ImageFont

from stoker.inspection.showing.sheet import BAD, GOOD, NOTE, PLAIN, Cell, Line, Section, Sheet, texts_of
from stoker.pipeline.text import printable
from stoker.trainer.drawing.pictures import View
from stoker.workers.images import RESAMPLE

WIDTH = 1200                 # of the sheet, in pixels
MAX_WIDTH = 1600             # if that keeps the pictures of samples that are compared in one row
MARGIN, GAP, PAD = 16, 10, 8
MIN_CELL, MAX_TEXT_CELL = 136, 380     # the widths of a cell: at least, and at most for its texts alone
MAX_LINES = 3                # of one text in a cell
TITLE, BODY = 20, 12         # sizes of the letters
MAX_PIXELS = 1 << 28         # of the sheet
_PAPER, _CARD, _EDGE, _INK, _FAINT = (255, 255, 255), (247, 248, 250), (214, 218, 224), (24, 28, 34), (96, 104, 116)
_MOODS = {PLAIN: _INK, GOOD: (20, 120, 50), BAD: (190, 30, 30), NOTE: (165, 95, 0)}


class TooLarge(Exception):
    """The sheet would have more pixels than ``MAX_PIXELS``."""


def png_of(sheet: Sheet, side: int) -> bytes:
    """The file. Pictures are drawn ``side`` pixels long, if that takes a whole factor. Raises TooLarge."""
    pen = _Pen()
    drawings = [_Drawing(pen, section, side, is_first=place == 0, title=sheet.title if place == 0 else "")
                for place, section in enumerate(sheet.sections)]
    width = max([WIDTH] + [drawing.width for drawing in drawings])
    height = sum(drawing.height for drawing in drawings) + MARGIN
    if width * height > MAX_PIXELS:
        raise TooLarge("it would have %d x %d pixels" % (width, height))
    image = Image.new("RGB", (width, height), _PAPER)
    top = 0
    for drawing in drawings:
        drawing.draw(image, top, width)
        top += drawing.height
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)       # 6 takes three times as long, for a tenth less
    return file.getvalue()


class _Pen:
    """Writes texts. Pillow has letters of any size since 10.1 and with FreeType; else those of one size, which are
    made larger."""

    def __init__(self) -> None:
        self._measure = ImageDraw.Draw(Image.new("L", (1, 1)))
        self._fonts = {size: self._font(size) for size in (TITLE, BODY)}

    @staticmethod
    def _font(size: int) -> Tuple[Any, int]:
        """A font, and how many times it is made larger."""
        try:
            font = ImageFont.load_default(size)  # type: ignore[call-arg, unused-ignore]
            return font, 1
        except (TypeError, ImportError, OSError):
            return ImageFont.load_default(), max(1, size // 10)

    def width(self, text: str, size: int = BODY) -> int:
        font, factor = self._fonts[size]
        return int(self._measure.textlength(_latin(text), font=font) * factor + 0.99)

    @staticmethod
    def height(size: int = BODY) -> int:
        """From one line to the next."""
        return size + 4

    def write(self, image: Image.Image, place: Tuple[int, int], text: str, colour: Tuple[int, int, int],
              size: int = BODY) -> None:
        font, factor = self._fonts[size]
        if factor == 1:
            ImageDraw.Draw(image).text(place, _latin(text), font=font, fill=colour)
            return
        letters = Image.new("L", (self.width(text, size) // factor + 2, 16))
        ImageDraw.Draw(letters).text((0, 0), _latin(text), font=font, fill=255)
        letters = letters.resize((letters.size[0] * factor, letters.size[1] * factor), RESAMPLE["nearest"])
        image.paste(Image.new("RGB", letters.size, colour), place, letters)

    def fitted(self, text: str, width: int, size: int = BODY, keeps_end: bool = False) -> str:
        """``text``, or as much of its beginning (``keeps_end``: of its end) as fits."""
        if self.width(text, size) <= width:
            return text
        fits, most = 0, min(len(text), 4 * width)
        while fits < most:                          # the largest number of letters that fits
            middle = (fits + most + 1) // 2
            part = text[-middle:] if keeps_end else text[:middle]
            if self.width("..." + part, size) <= width:
                fits = middle
            else:
                most = middle - 1
        return "..." + text[len(text) - fits:] if keeps_end else text[:fits] + "..."

    def wrapped(self, text: str, width: int, most: int = MAX_LINES) -> List[str]:
        """``text`` in at most ``most`` lines."""
        lines, line = [], ""
        for word in text.split(" "):
            longer = line + " " * bool(line) + word
            if line and self.width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
        if len(lines) > most:
            lines = lines[:most - 1] + [" ".join(lines[most - 1:])]
        return [self.fitted(each, width) for each in lines]


def _latin(text: str) -> str:
    return printable(text).encode("latin-1", "backslashreplace").decode("latin-1")


class _Placed(NamedTuple):
    """A picture in a cell."""
    image: Image.Image
    left: int
    top: int
    name: str        # above it; '' if the cell has one picture


class _Card:
    """A cell: its pictures beside each other, then its texts."""

    def __init__(self, pen: _Pen, cell: Cell, side: int, most: int) -> None:
        """``most``: its width, at most."""
        self.cell, self._pen = cell, pen
        self.pictures: List[_Placed] = []
        shown = [view for view in cell.views if view.png]
        left = top = row = self._right = 0
        for view in shown:
            image = _enlarged(view, side)
            name = view.name if len(shown) > 1 else ""
            width = max(image.size[0], min(pen.width(name), side))
            if left and left + width > most - 2 * PAD:
                left, top, row = 0, top + row + GAP, 0
            above = pen.height() if name else 0
            self.pictures.append(_Placed(image, left, top + above, name))
            row = max(row, above + image.size[1])
            left += width + GAP
            self._right = max(self._right, left - GAP)
        self._pictures_height = top + row
        self._lines = [Line(cell.title)] + texts_of(cell)
        wanted = max(pen.width(line.text) for line in self._lines)
        self.width = min(most, 2 * PAD + max(self._right, min(wanted, MAX_TEXT_CELL), MIN_CELL)) if not shown else min(
            most, 2 * PAD + max(self._right, MIN_CELL))
        self._texts: List[Line] = []
        self._title_lines = 0
        self.height = 0

    def fit(self, width: int) -> None:
        """Gives it its final width, and so its lines and its height."""
        self.width, room = width, width - 2 * PAD
        title, others = self._lines[0], self._lines[1:]
        self._texts = [Line(part) for part in self._title(title.text, room)]
        self._title_lines = len(self._texts)
        for line in others:
            self._texts += [Line(part, line.mood) for part in self._pen.wrapped(line.text, room)]
        gap = 4 if self.pictures else 0
        self.height = 2 * PAD + self._pictures_height + gap + len(self._texts) * self._pen.height()

    def _title(self, text: str, room: int) -> List[str]:
        """The index is never left out; of a path, the end is kept, and a row has two lines."""
        index, space, rest = text.partition(" ")
        if " " in rest or not index.startswith("#"):
            return self._pen.wrapped(text, room, 2)
        return [index + space + self._pen.fitted(rest, room - self._pen.width(index + space), keeps_end=True)]

    def draw(self, image: Image.Image, left: int, top: int, height: int) -> None:
        edge = _EDGE if self.cell.mood == PLAIN else _MOODS[self.cell.mood]
        draw = ImageDraw.Draw(image)
        for inset in range(1 if self.cell.mood == PLAIN else 2):
            draw.rectangle((left + inset, top + inset, left + self.width - 1 - inset, top + height - 1 - inset),
                           fill=_CARD if not inset else None, outline=edge)
        for placed in self.pictures:
            place = left + PAD + placed.left, top + PAD + placed.top
            if placed.name:
                width = self.width - 2 * PAD - placed.left
                self._pen.write(image, (place[0], place[1] - self._pen.height()),
                                self._pen.fitted(placed.name, width), _FAINT)
            image.paste(placed.image, place)
        below = top + PAD + self._pictures_height + (4 if self.pictures else 0)
        for number, line in enumerate(self._texts):
            colour = _MOODS[line.mood] if line.mood != PLAIN or number < self._title_lines else _FAINT
            self._pen.write(image, (left + PAD, below), line.text, colour)
            below += self._pen.height()


class _Drawing:
    """A section: its title and lines, and its cells in rows."""

    def __init__(self, pen: _Pen, section: Section, side: int, is_first: bool, title: str) -> None:
        self._pen, self._section, self._title, self._is_first = pen, section, title, is_first
        most = ((WIDTH if section.group == 1 else MAX_WIDTH) - 2 * MARGIN + GAP) // section.group - GAP
        self._cards = [_Card(pen, cell, side, most) for cell in section.cells]
        wide = max([card.width for card in self._cards] or [MIN_CELL])
        fitting = (WIDTH - 2 * MARGIN + GAP) // (wide + GAP)
        columns = max(1, fitting // section.group) * section.group
        for card in self._cards:
            card.fit(wide)
        self._rows = [self._cards[start:start + columns] for start in range(0, len(self._cards), columns)]
        self.width = 2 * MARGIN + columns * (wide + GAP) - GAP
        room = WIDTH - 2 * MARGIN
        self._lines = [Line(part, line.mood) for line in section.lines for part in pen.wrapped(line.text, room, 4)]
        self._head = (MARGIN + bool(title) * (pen.height(TITLE) + 6) + bool(section.title) * (pen.height() + 4)
                      + len(self._lines) * pen.height() + GAP)
        self.height = self._head + sum(max(card.height for card in row) + GAP for row in self._rows)

    def draw(self, image: Image.Image, top: int, width: int) -> None:
        if not self._is_first:
            ImageDraw.Draw(image).line((MARGIN, top + MARGIN // 2, width - MARGIN, top + MARGIN // 2), fill=_EDGE)
        below, room = top + MARGIN, WIDTH - 2 * MARGIN
        if self._title:
            self._pen.write(image, (MARGIN, below), self._pen.fitted(self._title, room, TITLE), _INK, TITLE)
            below += self._pen.height(TITLE) + 6
        if self._section.title:
            self._pen.write(image, (MARGIN, below), self._pen.fitted(self._section.title, room), _INK)
            below += self._pen.height() + 4
        for line in self._lines:
            self._pen.write(image, (MARGIN, below), line.text, _MOODS[line.mood] if line.mood != PLAIN else _FAINT)
            below += self._pen.height()
        below = top + self._head
        for row in self._rows:
            height = max(card.height for card in row)
            left = MARGIN
            for card in row:
                card.draw(image, left, below, height)
                left += card.width + GAP
            below += height + GAP


def _enlarged(view: View, side: int) -> Image.Image:
    """The picture, larger by a whole factor if it is small: its pixels can be seen."""
    image = Image.open(io.BytesIO(view.png)).convert("RGB")
    factor = max(1, side // max(image.size))
    return image if factor == 1 else image.resize((image.size[0] * factor, image.size[1] * factor), RESAMPLE["nearest"])
