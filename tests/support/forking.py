"""Several commands of one program for the price of one start: each in a process of its own, forked from one that has
imported what they need. For commands that are refused, so that what they import is most of their time."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

from tests.support.processes import LIMIT_S, ROOT

PROGRAM = """
import importlib, json, os, runpy, sys
module, imports, commands, folder = json.loads(sys.argv[1])
for name in imports:
    importlib.import_module(name)
for number, arguments in enumerate(commands):
    with open(os.path.join(folder, "printed-%d" % number), "w+b") as printed:
        pid = os.fork()
        if not pid:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            sys.argv = [module] + arguments
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            sys.stdout.flush()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        printed.seek(0)
        print(json.dumps([os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status),
                          printed.read().decode()]), flush=True)
"""


class Ended(NamedTuple):
    """How a command ended."""
    code: int           # of its exit; of a signal it is below 0
    printed: str        # on both outputs


def ended(module, imports, commands, folder):
    """``python -m module`` with the arguments of each of ``commands``, in the current folder ``folder``: an Ended each.
    ``imports``: the modules that are imported before."""
    given = json.dumps([module, list(imports), [[str(each) for each in command] for command in commands], str(folder)])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    done = subprocess.run([sys.executable, "-c", PROGRAM, given], cwd=str(folder),
                          env=dict(environment, PYTHONPATH=ROOT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          universal_newlines=True, timeout=4 * LIMIT_S, check=True)
    found = [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(commands), done
    return found
