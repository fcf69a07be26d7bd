"""A contact sheet as one HTML file."""

from typing import List

from stoker.inspection import html
from stoker.inspection.sheet import PLAIN, Cell, Line, Section, Sheet, texts_of

STYLE = html.STYLE + """
main{max-width:90rem}ul{list-style:none;padding:0;margin:.3rem 0}li{overflow-wrap:anywhere}
.cells{display:flex;flex-wrap:wrap;gap:.8rem;margin-top:.8rem}.group{display:flex;gap:.2rem}
figure{margin:0;padding:.5rem;border:1px solid #8884;border-radius:.4rem;max-width:44rem;min-width:11rem}
figure.bad{border:2px solid #c33}figure.good{border:2px solid #2a2}figure.note{border:2px solid #c80}
.views{display:flex;flex-wrap:wrap;gap:.5rem;align-items:flex-end}.views div{font-size:.75rem}
.views img{min-width:var(--least,4rem);max-height:20rem}
.title{font-weight:600;color:inherit}figcaption{max-width:26rem;color:inherit}
li.good,p.good{color:#2a2}li.note,p.note{color:#b70}li.bad,p.bad{color:#c33}figcaption p{margin:.1rem 0}"""


def html_of(sheet: Sheet) -> bytes:
    """The file."""
    body = "\n".join(_section(section, len(sheet.sections) > 1) for section in sheet.sections)
    return html.page(sheet.title, body, STYLE).encode("utf-8", "backslashreplace")


def _section(section: Section, is_one_of_several: bool) -> str:
    cells = [_cell(cell) for cell in section.cells]
    groups = ["".join(cells[start:start + section.group]) for start in range(0, len(cells), section.group)]
    if section.group > 1:
        groups = ['<div class="group">%s</div>' % group for group in groups]
    return '<section>%s<ul>%s</ul><div class="cells">%s</div></section>' % (
        "<h2>%s</h2>" % html.text(section.title) if is_one_of_several or section.title else "",
        "".join("<li%s>%s</li>" % (_mood(line.mood), html.text(line.text)) for line in section.lines),
        "".join(groups))


def _cell(cell: Cell) -> str:
    pictures = "".join("<div>%s%s</div>" % (html.text(view.name), html.picture(view.png, view.name))
                       for view in cell.views if view.png)
    lines: List[Line] = texts_of(cell)
    return '<figure%s><div class="views">%s</div><figcaption><p class="title">%s</p>%s</figcaption></figure>' % (
        _mood(cell.mood), pictures, html.text(cell.title),
        "".join("<p%s>%s</p>" % (_mood(line.mood), html.text(line.text)) for line in lines))


def _mood(mood: str) -> str:
    return "" if mood == PLAIN else ' class="%s"' % mood
