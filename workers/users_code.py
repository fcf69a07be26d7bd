"""Notices that the user's modules have changed since this process imported them.

A worker on another host outlives the runs of its trainer. Python imports a module once, so it would go on with the code
of an earlier run, without a word, while the workers of the trainer's own host have the new one.
"""

import os
import sys
from contextlib import suppress
from typing import Dict, Iterable, Tuple

from stoker.pipeline.functions import loaded_module

_State = Tuple[int, int]
_imported: Dict[str, _State] = {}       # file of a module -> what it was like after its import


def note_imported(name: str) -> None:
    """The user's function ``name`` (see ``load_function``) was found: notes the files of its module, and of all others
    in that folder or below it. Each keeps the state in which it was seen first."""
    module_name = name.rpartition(":")[0]
    file = module_name if module_name.endswith(".py") else getattr(loaded_module(module_name), "__file__", None)
    if not file:
        return
    folder = os.path.join(os.path.dirname(os.path.abspath(file)), "")
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and os.path.abspath(path).startswith(folder) and path not in _imported:
            try:
                _imported[path] = _state(path)
            except OSError:
                pass


def note_modules(names: Iterable[str]) -> None:
    """The import of the user's module failed, and these modules are imported all the same: if one of their files
    changes, only another process imports it anew."""
    for name in names:
        path = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(path, str) and path not in _imported:
            with suppress(OSError):
                _imported[path] = _state(path)


def changed_file() -> str:
    """The file of a module that has changed since its import; '' if there is none. One that is gone counts as the same:
    it could not be imported again."""
    for path, state in _imported.items():
        try:
            if _state(path) != state:
                return path
        except OSError:
            pass
    return ""


def _state(path: str) -> _State:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size
