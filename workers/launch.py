"""Runs a module of Stoker in a process that imports nothing from the folder in which it runs.

    PYTHON .../stoker/workers/launch.py stoker.workers.process ARGUMENT...

The trainer and the supervisor start this file by its path. ``python -m`` would put the current folder first in
``sys.path``, and it may be a dataset that was downloaded, with a ``queue.py``. Even its last place is too good for such
a folder: Python and the libraries try to import modules that most systems do not have. This way, a process also runs
the same copy of Stoker as its parent, even if its interpreter has another Stoker installed, or none.

``sys.path`` is then: the interpreter's own folders, then those of the trainer's program, and last a checkout of Stoker:
it has folders ``pipeline`` and ``workers``, and a user may have modules of these names. The current folder follows only
in a worker that imports a user's function (``add_current_folder``).
"""

import os
import sys
from typing import List, Sequence

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
           "VECLIB_MAXIMUM_THREADS")
PACKAGES = {"site-packages", "dist-packages"}
LAUNCH = os.path.abspath(__file__)     # before the current folder can change


def _repair_path() -> None:
    """Removes from ``sys.path`` this file's folder, and packages of another version of Python, to which a PYTHONPATH
    may lead; also the current folder. If PYTHONPATH names that, the user wants it: it gets to the end."""
    current = _current_folder()
    removed = [os.path.realpath(folder) for folder in [os.path.dirname(LAUNCH)] + current]
    named = [os.path.normpath(os.path.join(folder, entry)) for folder in current
             for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [folder for folder in sys.path if folder and os.path.realpath(folder) not in removed
                   and not _is_of_another_python(folder)] + [folder for folder in current if folder in named]


def _current_folder() -> List[str]:
    try:
        return [os.getcwd()]
    except OSError:                     # it was deleted
        return []


def _is_of_another_python(folder: str) -> bool:
    """Whether it is, or lies in, .../pythonX.Y/site-packages of a version that is not this one's."""
    parts = os.path.realpath(folder).split(os.sep)
    return any(part in PACKAGES and before.startswith("python") and "." in before
               and before != "python%d.%d" % sys.version_info[:2] for before, part in zip(parts, parts[1:]))


def _import_stoker() -> None:
    """Imports the package ``stoker`` of this file. The folder around it, perhaps site-packages of another Python, does
    not get into ``sys.path``."""
    if "stoker" in sys.modules:         # ``python -m workers`` or a sitecustomize.py has imported it
        return
    import importlib.util               # only after ``_repair_path``
    package = os.path.dirname(os.path.dirname(LAUNCH))
    if os.path.isfile(os.path.join(package, "stoker", "__init__.py")):     # a checkout: stoker/workers is a link
        package = os.path.join(package, "stoker")
    spec = importlib.util.spec_from_file_location("stoker", os.path.join(package, "__init__.py"),
                                                  submodule_search_locations=[package])
    assert spec is not None and spec.loader is not None
    sys.modules["stoker"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _add_program_folders() -> None:
    """Adds the folders from which the trainer's program imports its own modules (``trainer/local_workers.py``): those
    of its PYTHONPATH before site-packages, as in the program, but after the standard library; the others last. If this
    is another version of Python, its PYTHONPATH comes last, too, without folders that hold installed packages."""
    import json
    # by its name, not options.PROGRAM_PATH: packages that Stoker's modules import may be in these folders
    program = json.loads(os.environ.get("STOKER_PROGRAM_PATH", "null"))
    if program is None:                 # started by hand
        return
    is_same = program["version"] == list(sys.version_info[:2])
    first = next((i for i, folder in enumerate(sys.path) if PACKAGES & set(folder.split(os.sep))), len(sys.path))
    sys.path[first:first] = [folder for folder in program["pythonpath"] if is_same and folder not in sys.path]
    sys.path += [folder for folder in program["folders"] if folder not in sys.path]
    sys.path += [folder for folder in program["pythonpath"] if folder not in sys.path and not _has_packages(folder)]


def _put_checkout_last() -> None:
    """Moves the folder of the repository, if this Stoker runs from one, to the end of ``sys.path``: PYTHONPATH puts it
    in front of the program's folder. Stoker's own modules are found through the package (``_import_stoker``)."""
    folder = os.path.dirname(os.path.dirname(os.path.realpath(LAUNCH)))
    if os.path.isfile(os.path.join(folder, "stoker", "__init__.py")):      # else it is the installed package
        sys.path.sort(key=lambda entry: os.path.realpath(entry) == folder)


def add_current_folder() -> None:
    """Adds the folder in which this process runs to the end of ``sys.path``. For a worker with a user's functions,
    once all modules of Stoker are imported: they find nothing there."""
    sys.path += [folder for folder in _current_folder() if folder not in sys.path]
    _put_checkout_last()


def _has_packages(folder: str) -> bool:
    try:
        return bool(PACKAGES & set(folder.split(os.sep))) or any(name.endswith(".dist-info")
                                                                 for name in os.listdir(folder))
    except OSError:
        return False


def _write_lines_at_once() -> None:
    """Standard error may be the trainer's pipe, for which Python below 3.9 collects 8 KB: a process that is killed
    would lose its last words."""
    if sys.stderr is not None and sys.version_info < (3, 9):
        import io
        sys.stderr = sys.__stderr__ = io.TextIOWrapper(sys.stderr.detach(), sys.stderr.encoding, sys.stderr.errors,
                                                       line_buffering=True)


def _limit_threads() -> None:
    """One thread in the numerical libraries of each process, because there is a process per core already: OpenBLAS
    starts one per core when numpy is imported. What the user has set stays; most take OMP_NUM_THREADS if their own
    variable is missing."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in THREADS:
        os.environ.setdefault(name, "1")


def main(argv: Sequence[str]) -> int:
    """Runs ``main(arguments)`` of the module; ``argv``: the module's name and its arguments. Returns the exit code."""
    _limit_threads()
    _repair_path()
    import importlib
    _write_lines_at_once()
    try:
        _import_stoker()
        from stoker.pipeline import core_dumps
        from stoker.pipeline.output import protect
        core_dumps.forbid()
        protect()
        _add_program_folders()
        _put_checkout_last()
        from stoker.pipeline import requirements
        why_not = "" if argv[0] == requirements.__name__ else requirements.complaint(
            sys.executable, requirements.missing(argv[0] == "stoker.workers.cli"), requirements.lacking_features())
        if why_not:
            sys.exit("stoker-worker: error: " + why_not)
        module = importlib.import_module(argv[0])
    except Exception as error:      # a package of another Python raises anything
        sys.exit("stoker-worker: error: %s cannot run workers (%s: %.300s): install what is missing there, or name "
                 "another interpreter%s" % (sys.executable, type(error).__name__, " ".join(str(error).split()),
                                            "; PYTHONPATH is set: are these packages of another Python?"
                                            if os.environ.get("PYTHONPATH") else ""))
    return int(module.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
