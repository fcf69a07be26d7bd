"""What an interpreter needs to run workers. Imports nothing that may be missing there.

The trainer asks another interpreter by running ``main`` in it, by ``workers/launch.py`` and so with a worker's path.
"""

import importlib.util
import json
import shlex
import sys
from typing import List, Sequence

#: (module, what pip installs). The versions are those of setup.cfg.
PACKAGES = (("numpy", "numpy>=1.16.6"), ("PIL", "pillow>=8.4"), ("zmq", "pyzmq>=25.1"), ("msgpack", "msgpack>=1.0.5"))
BACKPORTS = (("dataclasses", "dataclasses>=0.8"),)             # of Python 3.6
COMMAND_LINE = (("configargparse", "configargparse>=1.9"),)    # of stoker-worker; the trainer's own workers do without
LEAST_PYTHON = (3, 6)
ANSWER = "stoker-interpreter: "          # how the line of ``main`` begins


def missing(command_line: bool = False) -> List[str]:
    """What pip must install for this interpreter. ``command_line``: for stoker-worker, too."""
    wanted = PACKAGES + (BACKPORTS if sys.version_info < (3, 7) else ()) + (COMMAND_LINE if command_line else ())
    return [requirement for module, requirement in wanted if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def complaint(python: str, lacking: Sequence[str]) -> str:
    """The sentence for an interpreter that lacks these, with the command that installs them."""
    names = [requirement.split(">")[0] for requirement in lacking]
    return "%s cannot run workers: it has no %s: install %s with  %s -m pip install %s" % (
        python, ", no ".join(names), "it" if len(names) == 1 else "them", shlex.quote(python),
        " ".join(shlex.quote(requirement) for requirement in lacking))


def main(argv: Sequence[str]) -> int:
    """Prints what the trainer asks for: a line of JSON."""
    print(ANSWER + json.dumps({"missing": missing()}), flush=True)
    return 0
