"""The programs of docs/DATA.md and the data that they name."""

import os
import re
import subprocess
import sys

import numpy as np

from tests.support import stored
from tests.support.documents import ROOT, block, read

PAGE = "docs/DATA.md"


def make(folder):
    """The modules of the page and its data, in ``folder``: photos/, records/, shards/, arrays/, photos.zip."""
    for name in re.findall(r"<!-- file: (\S+) -->", read(PAGE)):
        (folder / name).write_text(block(PAGE, "file: " + name))
    for name in ("photos", "records", "shards", "arrays"):
        (folder / name).mkdir()
    pictures = stored.drawn(folder / "photos")
    stored.write_tfrecords(folder / "records", pictures, files=2)
    stored.write_tars(folder / "shards", pictures, files=2)
    stored.write_zip(folder, pictures, "photos.zip")
    stored.write_arrays(folder / "arrays", pictures)
    import h5py
    with h5py.File(str(folder / "arrays" / "data.h5"), "w") as file:
        file["images"] = np.load(str(folder / "arrays" / "x.npy"))
        file["labels"] = np.load(str(folder / "arrays" / "y.npy"))


def run(folder, *arguments, **environment):
    """The output of this Python with ``arguments`` in ``folder``."""
    done = subprocess.run((sys.executable,) + arguments, cwd=str(folder), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=ROOT, **environment),
                          universal_newlines=True, timeout=180)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def run_program(folder, name, changes=(), **environment):
    """The output of a program of the page; ``changes``: (text in it, what stands for it here)."""
    text = block(PAGE, "program: " + name)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / ("program_%s.py" % name)).write_text(text)
    return run(folder, "program_%s.py" % name, **environment).strip()
