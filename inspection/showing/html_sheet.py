"""A contact sheet as one HTML file."""

import struct

from stoker.inspection import html
from stoker.inspection.showing.sheet import PLAIN, Cell, Section, Sheet, texts_of
from stoker.trainer.drawing.pictures import View

STYLE = html.STYLE + """
main{max-width:90rem}ul{list-style:none;padding:0;margin:.3rem 0}li{overflow-wrap:anywhere}
.cells{display:flex;flex-wrap:wrap;gap:.7rem;margin-top:.8rem}.group{display:flex;gap:.2rem}
figure{margin:0;padding:.5rem;border:1px solid #8886;border-radius:.4rem;max-width:none;min-width:9.5rem}
figure.framed-bad{border:2px solid #c33}figure.framed-good{border:2px solid #292}
figure.framed-note{border:2px solid #b70}
figcaption{width:0;min-width:100%}figcaption p{margin:.15rem 0}.title{font-weight:600}
.views{display:flex;flex-wrap:wrap;gap:.5rem;align-items:flex-start;font-size:.75rem;opacity:.99}
.views div{max-width:100%}.views img{width:100%}.good{color:#292}.note{color:#b70}"""


def html_of(sheet: Sheet, side: int) -> bytes:
    """The file. Pictures are shown ``side`` pixels long, if that takes a whole factor."""
    body = "\n".join(_section(section, side) for section in sheet.sections)
    return html.page(sheet.title, body, STYLE).encode("utf-8", "backslashreplace")


def _section(section: Section, side: int) -> str:
    cells = [_cell(cell, side) for cell in section.cells]
    groups = ["".join(cells[start:start + section.group]) for start in range(0, len(cells), section.group)]
    if section.group > 1:
        groups = ['<div class="group">%s</div>' % group for group in groups]
    return '<section>%s<ul>%s</ul><div class="cells">%s</div></section>' % (
        "<h2>%s</h2>" % html.text(section.title) if section.title else "",
        "".join("<li%s>%s</li>" % (_mood(line.mood), html.text(line.text)) for line in section.lines),
        "".join(groups))


def _cell(cell: Cell, side: int) -> str:
    shown = [view for view in cell.views if view.png]
    pictures = "".join('<div style="width:%dpx">%s%s</div>' % (
        _width(view, side), html.text(view.name) if len(shown) > 1 else "", html.picture(view.png, view.name))
                       for view in shown)
    return '<figure%s><div class="views">%s</div><figcaption><p class="title">%s</p>%s</figcaption></figure>' % (
        _mood(cell.mood, "framed-"), pictures, html.text(cell.title),
        "".join("<p%s>%s</p>" % (_mood(line.mood), html.text(line.text)) for line in texts_of(cell)))


def _width(view: View, side: int) -> int:
    width, height = struct.unpack(">II", view.png[16:24])       # of a PNG file's first chunk
    return width * max(1, side // max(width, height))


def _mood(mood: str, prefix: str = "") -> str:
    return "" if mood == PLAIN else ' class="%s%s"' % (prefix, mood)
