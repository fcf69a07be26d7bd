"""The folder in which a command line runs may be a dataset that was downloaded, with a ``numpy.py`` in it. Nothing is
imported from it, except the user's own functions, which a command line names.

Python itself puts this folder first for ``python -m trainer``, and where PYTHONPATH has an empty entry. What it imports
before the first line of this module runs (``runpy``, ``typing``) is out of reach: the commands ``stoker-train`` and
``stoker-predict`` have no such entry.
"""

import os
import sys
from typing import Optional


def leave() -> None:
    """Removes the current folder from ``sys.path``, unless PYTHONPATH names it."""
    current = _current_folder()
    pythonpath = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = [os.path.normpath(os.path.join(current, folder)) for folder in pythonpath if folder]
    sys.path[:] = [folder for folder in sys.path if folder and (folder != current or current in named)]


def search_for(*functions: Optional[str]) -> None:
    """Adds the current folder to the end of ``sys.path``, as it is there for workers, if one of these names is that of
    a user's function, module:function."""
    current = _current_folder()
    if current and current not in sys.path and any(name and ":" in name for name in functions):
        sys.path.append(current)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:         # it was deleted
        return ""
