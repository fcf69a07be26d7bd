"""The modules of a recorded program, while they are needed: found in its folders, and kept apart from modules of the
same names that belong to another run, or to this program."""

import contextlib
import sys
from types import ModuleType
from typing import Any, Dict, Iterator, Sequence

from stoker.pipeline.functions import PROGRAM


class ProgramModules:
    """``folders``: where its modules are looked for, after all places in which this program looks."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)
        self._modules: Dict[str, ModuleType] = {}      # that were imported from there

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """For the length of a ``with``, its modules can be imported, and workers that are started find them."""
        path, others = list(sys.path), {name: sys.modules[name] for name in self._modules if name in sys.modules}
        program = sys.modules.pop(PROGRAM, None)       # the file of a program, whatever its name
        before = set(sys.modules)
        sys.modules.update(self._modules)
        sys.path.extend(folder for folder in self._folders if folder not in path)
        try:
            yield
        finally:
            for name in set(sys.modules) - before | set(self._modules):
                if name in self._modules or self._is_own(sys.modules[name], path):
                    self._modules[name] = sys.modules.pop(name)
            sys.modules.update(others)
            if program is not None:
                sys.modules[PROGRAM] = program
            sys.path[:] = [folder for folder in sys.path if folder in path]

    def _is_own(self, module: Any, path: Sequence[str]) -> bool:
        """Whether it lies in one of the folders, and not in one of ``path``, which may be below it."""
        file = getattr(module, "__file__", None) or ""
        return getattr(module, "__name__", "") == PROGRAM or (
            file.startswith(tuple(folder.rstrip("/") + "/" for folder in self._folders))
            and not file.startswith(tuple(entry.rstrip("/") + "/" for entry in path if entry)))
