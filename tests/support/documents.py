"""The documents of the repository, and the marked blocks of code in them that tests run."""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def documents():
    """The paths of all documents, relative to the repository's root."""
    pages = sorted("docs/" + name for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md"))
    return ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] + pages


def read(path):
    """The text of the file at ``path``, relative to the repository's root."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def block(path, mark):
    """The code block of the document at ``path`` behind the comment ``mark``, such as 'program: after'."""
    found = re.search(r"<!-- %s -->\n```(?:sh|python)\n(.*?)```" % re.escape(mark), read(path), re.DOTALL)
    assert found, "%s has no block marked %r" % (path, mark)
    return found.group(1)
