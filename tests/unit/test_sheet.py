"""Contact sheets: PNG files of a bounded size, and HTML in which the names of files stay text."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from stoker.inspection.showing import drawn as drawn_sheet
from stoker.inspection.showing import html_sheet
from stoker.inspection.showing.sheet import BAD, GOOD, NOTE, PLAIN, Cell, Line, Section, Sheet
from stoker.trainer.drawing.pictures import View, png_of

HOSTILE = "cats/<script>alert(1)</script>\"'&.jpg"


def view(height=8, width=8, name="image", text=""):
    return View(name, "picture", png_of(np.full((height, width, 3), 200, np.uint8)), text)


def drawn(sheet, side=32):
    return np.asarray(Image.open(io.BytesIO(drawn_sheet.png_of(sheet, side))))


def of(*cells, lines=(), group=1):
    return Sheet("runs/photos", [Section("step 3", lines, list(cells), group)])


@pytest.mark.parametrize("cells, rows", [(0, 0), (1, 1), (7, 1), (8, 2)])
def test_cells_are_in_rows(cells, rows):
    empty, full = (drawn(of(*[Cell("#%d" % number, [view()]) for number in range(count)]))
                   for count in (0, cells))
    if rows == 0:
        assert full.shape == empty.shape
    else:
        height = drawn(of(Cell("#0", [view()]))).shape[0] - empty.shape[0]
        assert full.shape == (empty.shape[0] + rows * height, drawn_sheet.WIDTH, 3)


def test_small_pictures_are_made_larger_by_a_whole_factor():
    colour = View("image", "picture", png_of(np.array([[[10, 200, 30]]], np.uint8)), "")
    assert (drawn(of(Cell("", [colour]))) == (10, 200, 30)).all(axis=2).sum() == 32 * 32


@pytest.mark.parametrize("mood", [GOOD, BAD, NOTE])
def test_moods_have_colours(mood):
    plain, other = (drawn(of(Cell("#1", [view()], (Line("a", each),), each), lines=[Line("b", each)]))
                    for each in (PLAIN, mood))
    assert plain.shape == other.shape and (plain != other).any()


def test_a_text_that_does_not_fit_is_shortened():
    pen = drawn_sheet._Pen()
    assert pen.fitted("short", 200) == "short"
    for keeps_end in (False, True):
        text = pen.fitted("a long name/" * 40 + "end", 120, keeps_end=keeps_end)
        assert pen.width(text) <= 120 and "..." in text and text.endswith("end") is keeps_end
    lines = pen.wrapped("word " * 100, 120)
    assert len(lines) == drawn_sheet.MAX_LINES and all(pen.width(line) <= 120 for line in lines)


@pytest.mark.parametrize("title, first, last", [
    ("#12345 a/very/long/path/of/a/picture.jpg", "#12345 ...", ".jpg"),
    ("#12345 left=a/very/long/path.jpg, right=another/very/long/path.jpg, angle=0.5", "#12345", "..."),
    ("#1 short.jpg", "#1 short.jpg", "#1 short.jpg"), ("stored: a/very/long/path/of/a/picture.jpg", "stored:", "...")])
def test_a_title_keeps_the_index(title, first, last):
    card = drawn_sheet._Card(drawn_sheet._Pen(), Cell(title, [view()]), 32, 1000)
    card.fit(card.width)
    lines = card._title(title, card.width - 2 * drawn_sheet.PAD)
    assert lines[0].startswith(first) and lines[-1].endswith(last)
    assert all(card._pen.width(line) <= card.width for line in lines)


def test_letters_that_the_font_lacks_are_escaped():
    assert drawn(of(Cell("\u732b/\u30cd\u30b3.jpg stra\xdfe", [view()]))).shape[1] == drawn_sheet.WIDTH


def test_a_sheet_that_is_too_large_is_an_error(monkeypatch):
    monkeypatch.setattr(drawn_sheet, "MAX_PIXELS", 1000)
    with pytest.raises(drawn_sheet.TooLarge):
        drawn_sheet.png_of(of(), 32)


def test_cells_that_are_compared_stay_side_by_side():
    """Seven cells fit into a row: of pairs, six."""
    cells = [Cell("#%d" % number, [view()]) for number in range(7)]
    assert drawn(of(*cells, group=2)).shape[0] > drawn(of(*cells)).shape[0]
    assert html_sheet.html_of(of(*cells, group=2), 32).count(b'<div class="group">') == 4


def test_three_pictures_of_samples_that_are_compared_are_in_one_row():
    """A second row of pictures would make the sheet more than their side higher."""
    one, three = (drawn(of(*[Cell("#1", [view()] * count)] * 3, group=3), 128) for count in (1, 3))
    assert one.shape[0] < three.shape[0] < one.shape[0] + 128 and three.shape[1] <= drawn_sheet.MAX_WIDTH


@given(st.lists(st.tuples(st.text(max_size=300), st.integers(0, 3), st.integers(1, 200), st.integers(1, 200)),
                max_size=6), st.integers(1, 3), st.sampled_from([16, 100, 500]))
def test_no_cells_make_an_error(cells, group, side):
    made = [Cell(text, [view(height, width, text[:9], text)] * pictures, (Line(text, BAD),))
            for text, pictures, height, width in cells]
    sheet = of(*made, lines=[Line(text) for text, _, _, _ in cells], group=group)
    assert drawn(sheet, side).shape[1] >= drawn_sheet.WIDTH
    html_sheet.html_of(sheet, side).decode("utf-8")


def test_hostile_names_stay_text():
    sheet = Sheet(HOSTILE, [Section(HOSTILE, [Line(HOSTILE, BAD)], [
        Cell(HOSTILE, [view(name=HOSTILE, text=HOSTILE)], (Line(HOSTILE + "\udcff"),))])])
    page = html_sheet.html_of(sheet, 32).decode("utf-8")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;.jpg") >= 6
    assert "<script" not in page and "\\udcff" in page


def test_the_page_fetches_nothing():
    page = html_sheet.html_of(of(Cell("#1", [view()])), 32).decode("ascii")
    assert "default-src 'none'" in page
    assert set(re.findall(r'(?:src|href)="([a-z:/]*)', page)) == {"data:image/png"}
