"""HTML files that people keep and mail: one file each, without scripts and without anything from outside."""

import base64
import html

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>%s</title><style>%s</style></head><body><main><h1>%s</h1>
%s
</main></body></html>
"""
STYLE = """:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:0}
main{max-width:70rem;margin:auto;padding:1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #8884}
figure{display:inline-block;margin:.4rem;vertical-align:top;max-width:12rem;overflow-wrap:anywhere}
img{image-rendering:pixelated;max-width:100%;display:block}figcaption{font-size:.8rem}.bad{color:#c33}"""


def page(title: str, body: str, style: str = STYLE) -> str:
    """The whole file. ``body`` is HTML, in which ``text`` has made all that comes from data harmless."""
    return _PAGE % (text(title), style, text(title), body)


def text(value: object) -> str:
    """``value`` as text that is only text, also within an attribute: names of files may hold anything."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"))


def picture(png: bytes, alt: str) -> str:
    """An <img> that holds the PNG file itself."""
    return '<img alt="%s" src="data:image/png;base64,%s">' % (text(alt), base64.b64encode(png).decode("ascii"))
