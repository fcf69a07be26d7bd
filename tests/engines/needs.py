"""What a machine must have for a test of an engine: ``@pytest.mark.needs("namespaces", "environment ray")``.

A need is "namespaces" (root, with the right to make namespaces), "debian" (root, apt-get), one of UNPACKED
(STOKER_TEST_SLURM and so on, which ``.setup/engines-test.sh`` sets), "program NAME", "package NAME" (of this
Python) or "environment NAME" (.venv/NAME, which it makes).
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys

from tests.engines.namespaces import unshared
from tests.support import browser
from tests.support.processes import ROOT

#: What .setup/debian-programs.sh unpacks for tests.
UNPACKED = ("slurm", "chromium", "prometheus", "tmux", "nginx")


@functools.lru_cache(maxsize=None)
def lacking(need):
    """Why this machine does not have it, in a sentence; None if it has it."""
    kind, _, name = need.partition(" ")
    if kind == "environment":
        return _lacking_environment(name)
    if kind == "program":
        return None if shutil.which(name) else "the program %s is not in PATH" % name
    if kind == "package":
        return None if importlib.util.find_spec(name) else (
            "the package %s is missing in %s: sh .setup/environment.sh trainer tests metrics" % (name, sys.executable))
    if need == "debian":
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return "packages of Debian are needed, which root installs with apt-get"
        return None
    if need in UNPACKED:
        variable = "STOKER_TEST_" + need.upper()
        if not os.environ.get(variable):
            return "%s names no folder: sh .setup/debian-programs.sh %s unpacks %s and prints it" % (
                variable, need, need.capitalize())
        return browser.problem(os.environ[variable]) if need == "chromium" else None
    assert need == "namespaces", "unknown need %r" % need
    return _lacking_namespaces()


def _lacking_environment(name):
    if os.path.exists(python_of(name)):
        return None
    try:
        with open(os.path.join(ROOT, ".venv", name + ".missing")) as file:
            return file.read().strip()
    except OSError:
        return "there is no .venv/%s: sh .setup/environment.sh %s" % (name, name)


def _lacking_namespaces():
    try:
        subprocess.run(unshared(["true"]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=60)
        return None
    except FileNotFoundError:
        return "the program unshare (util-linux) is not in PATH"
    except subprocess.SubprocessError as error:
        said = (error.stdout or b"").decode("utf-8", "replace").strip()
        return "namespaces cannot be made here, which root may, nor the network in them: %s" % (said or error)


def python_of(environment):
    """The interpreter of .venv/``environment``, absolute."""
    return os.path.join(ROOT, ".venv", environment, "bin", "python")
