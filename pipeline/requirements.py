"""What an interpreter needs to run workers. Imports nothing that may be missing there.

The trainer asks another interpreter by running ``main`` in it, by ``workers/launch.py`` and so with a worker's path.
"""

import importlib.util
import json
import os
import shlex
import sys
from typing import List, Sequence

#: (module, what pip installs). The versions are those of setup.cfg.
PACKAGES = (("numpy", "numpy>=1.16.6"), ("PIL", "pillow>=8.4"), ("zmq", "pyzmq>=25.1"), ("msgpack", "msgpack>=1.0.5"))
BACKPORTS = (("dataclasses", "dataclasses>=0.8"),)             # of Python 3.6
COMMAND_LINE = (("configargparse", "configargparse>=1.9"),)    # of stoker-worker; the trainer's own workers do without
LEAST_PYTHON = (3, 6)
ANSWER = "stoker-interpreter: "          # how the line of ``main`` begins
#: Beside PIL, if .setup/pillow-simd.sh has built it: the features of the CPU that it needs, as in /proc/cpuinfo.
CPU_FILE = "pillow_simd.cpu"


def missing(command_line: bool = False) -> List[str]:
    """What pip must install for this interpreter. ``command_line``: for stoker-worker, too."""
    wanted = PACKAGES + (BACKPORTS if sys.version_info < (3, 7) else ()) + (COMMAND_LINE if command_line else ())
    return [requirement for module, requirement in wanted if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def lacking_features() -> List[str]:
    """The features of a CPU that this interpreter's pillow-simd needs and this machine lacks: it would end with
    "illegal instruction", perhaps while it is imported. Empty for Pillow, and for a build that does not tell."""
    try:
        found = importlib.util.find_spec("PIL")
        with open(os.path.join(os.path.dirname(os.path.dirname(str(found and found.origin))), CPU_FILE)) as file:
            needed = file.read(1000)
        with open("/proc/cpuinfo") as file:
            return _not_in(needed, file.read())
    except (OSError, ImportError, ValueError):
        return []


def _not_in(needed: str, cpuinfo: str) -> List[str]:
    """Which of the features ``needed`` are not among the flags in ``cpuinfo``; none if it has no flags."""
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return [] if flags is None else [feature for feature in needed.split() if feature not in flags]


def complaint(python: str, lacking: Sequence[str], features: Sequence[str] = ()) -> str:
    """The sentence for an interpreter that lacks packages, with the command that installs them, or that needs these
    features of the CPU; '' for one that can run workers."""
    if lacking:
        names = [requirement.split(">")[0] for requirement in lacking]
        return "%s cannot run workers: it has no %s: install %s with  %s -m pip install %s" % (
            python, ", no ".join(names), "it" if len(names) == 1 else "them", shlex.quote(python),
            " ".join(shlex.quote(requirement) for requirement in lacking))
    if features:
        return ("%s cannot decode pictures here: its pillow-simd was built for a CPU with %s, which this machine's has "
                "not: build it again on this machine (make clean; make train SIMD=1), or its image where the CPU is "
                "the oldest, or use Pillow" % (python, " and ".join(features)))
    return ""


def main(argv: Sequence[str]) -> int:
    """Prints what the trainer asks for: a line of JSON."""
    print(ANSWER + json.dumps({"missing": missing(), "features": lacking_features()}), flush=True)
    return 0
