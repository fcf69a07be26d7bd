"""The report as one HTML file, with small copies of the suspicious pictures. Names of files are only text. Pure."""

from typing import Any, Dict, Iterable, List, Sequence

from stoker.inspection import html
from stoker.inspection.checking import text
from stoker.inspection.checking.data import Data
from stoker.inspection.checking.kinds import ERROR, WARNING, Finding, counted
from stoker.inspection.checking.report import Report
from stoker.pipeline.text import printable_path
from stoker.trainer.drawing.pictures import png_of

_PICTURES_EACH = 12         # files of a finding that are shown
_MAX_PICTURES = 240         # of all
_STYLE = "figure img{display:inline-block;margin-right:.2rem}h3{font-size:1rem;margin-bottom:0}p{margin-top:.2rem}"


def pictures_of(findings: Sequence[Finding]) -> List[int]:
    """The numbers of the files whose pictures the page shows, each once."""
    numbers = [index for finding in findings for example in finding.examples[:_PICTURES_EACH]
               for index in (example.index,) + example.more if index >= 0]
    return list(dict.fromkeys(numbers))[:_MAX_PICTURES]


def page(report: Report, data: Data, thumbnails: Dict[int, Any]) -> str:
    """``thumbnails``: number of a file -> uint8 [height, width, 3]."""
    content = report.content
    parts = ["<p>%s</p><p><strong>%s</strong></p>" % (html.text(text.headline(content)),
                                                     html.text(text.verdict(content)))]
    for level, title in ((ERROR, "Wrong"), (WARNING, "Worth a look")):
        found = [finding for finding in report.findings if finding.level == level]
        parts += ["<h2>%s</h2>" % title] * bool(found) + [_finding(finding, data, thumbnails) for finding in found]
    for title, rows in text.sections(content):
        if rows:
            parts.append("<h2>%s</h2><table>%s</table>" % (html.text(title.capitalize()), "".join(
                "<tr><th>%s</th><td>%s</td></tr>" % (html.text(name), html.text(value)) for name, value in rows)))
    return html.page("stoker-check: " + printable_path(data.root), "\n".join(parts), html.STYLE + _STYLE)


def _finding(finding: Finding, data: Data, thumbnails: Dict[int, Any]) -> str:
    shown, listed = [], []
    for place, example in enumerate(finding.examples):
        pictures = [index for index in (example.index,) + example.more
                    if place < _PICTURES_EACH and index in thumbnails]
        if pictures:
            shown.append(_figure(example.text, [thumbnails[index] for index in pictures]))
        else:
            listed.append("<li>%s</li>" % html.text(example.text))
    return "<h3>%s: %s</h3><p>%s</p>%s%s" % (
        finding.kind, html.text(counted(finding.count, finding.what)), html.text(finding.advice), "".join(shown),
        "<ul>%s</ul>" % "".join(listed) if listed else "")


def _figure(caption: str, pictures: Iterable[Any]) -> str:
    return "<figure>%s<figcaption>%s</figcaption></figure>" % (
        "".join(html.picture(png_of(pixels), caption) for pixels in pictures), html.text(caption))
