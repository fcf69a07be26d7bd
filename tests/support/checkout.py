"""This checkout of Stoker: where it is, and copies of it as `git clone` would make them."""

import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tracked_files():
    """Paths of the files that git tracks or would add, links among them."""
    # safe.directory: the checkout may belong to another user than the one that runs the tests
    output = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    return [path for path in output.splitlines() if os.path.lexists(os.path.join(ROOT, path))]


def clone(folder):
    """Copies the tracked files to ``folder``, which must not exist yet. Links stay links."""
    for path in tracked_files():
        copy = os.path.join(folder, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(os.path.join(ROOT, path), copy, follow_symlinks=False)
    return folder
