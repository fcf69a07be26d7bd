"""The files of the status page, which hold nothing of the run: they are in the package, in the folder ``page``."""

import os
from typing import Dict

from stoker.trainer.status.status import Page

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
#: path -> name of the file, and its type
FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/page.css": ("page.css", "text/css; charset=utf-8"),
         "/page.js": ("page.js", "text/javascript; charset=utf-8")}


def static_pages() -> Dict[str, Page]:
    """Each page by its path; read once, so that a change of the installed files changes nothing of a run."""
    pages = {}
    for path, (name, content_type) in FILES.items():
        with open(os.path.join(FOLDER, name), "rb") as file:
            pages[path] = Page(200, content_type, file.read())
    return pages
