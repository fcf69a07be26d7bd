"""The programs of README.md and docs/OWN_CODE.md, word for word, on real pictures and real TF 1.9."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.documents import ROOT, block, read

#: What README.md leaves out around its two programs: docs/OWN_CODE.md has them in full.
AROUND = """
import os
import numpy as np
import tensorflow as tf
from PIL import Image
paths = [os.path.join(folder, name) for folder, _, names in os.walk("photos") for name in names
         if name.endswith(".jpg")]
images = tf.placeholder(tf.%s, [None, 64, 64, 3])
labels = tf.placeholder(tf.int32, [None, 1])
logits = tf.layers.dense(tf.layers.flatten(tf.to_float(images) / %s), 1)
train_op = tf.train.AdamOptimizer(0.001).minimize(tf.losses.sigmoid_cross_entropy(labels, logits))
session = tf.Session()
session.run(tf.global_variables_initializer())
"""
COUNTING = """
import tensorflow as tf
session_runs = 0
run = tf.Session.run
def counting(*args, **kwargs):
    global session_runs
    session_runs += 1
    return run(*args, **kwargs)
tf.Session.run = counting
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 100 sample pictures in photos/."""
    folder = tmp_path_factory.mktemp("program")
    subprocess.run([sys.executable, "-m", "stoker.pipeline.sources.sample_data", str(folder / "photos"),
                    "--count", "100"], check=True, cwd=ROOT)
    return folder


def python(folder, *arguments, **environment):
    """Runs Python in ``folder``; returns its standard output."""
    done = subprocess.run((sys.executable,) + arguments, cwd=str(folder), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=ROOT, **environment),
                          universal_newlines=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


# of 100 pictures in batches of 32, the last short one kept; and the initializer's run
@pytest.mark.parametrize("name, dtype, scale", [("before", "float32", 1.0), ("after", "uint8", 255.0)])
def test_program_of_the_readme_trains(folder, name, dtype, scale):
    program = AROUND % (dtype, scale) + block("README.md", "program: " + name)
    assert python(folder, "-c", COUNTING + program + "\nprint('runs', session_runs)").split()[-2:] == ["runs", "5"]


@pytest.mark.parametrize("name", ["before", "after"])
def test_program_in_full_trains(folder, name):
    program = block("docs/OWN_CODE.md", "program: " + name)
    assert python(folder, "-c", COUNTING + program + "\nprint('runs', session_runs)").split()[-2:] == ["runs", "9"]


def test_the_readme_shows_both_programs_at_its_beginning():
    beginning = "\n".join(read("README.md").splitlines()[:50])
    for name in ("before", "after"):
        assert block("README.md", "program: " + name) in beginning


def test_resume(folder):
    assert python(folder, "-c", block("docs/OWN_CODE.md", "program: resume")).strip() == "[5, 6, 7]"


def test_own_generator(folder):
    """The generator of docs/OWN_CODE.md inverts the pictures, and its command trains."""
    (folder / "inverted.py").write_text(block("docs/OWN_CODE.md", "program: generator"))
    python(folder, "-c", "from stoker import open_stream\n"
                         "def first(generator):\n"
                         "    with open_stream('photos', generator=generator, workers=1) as batches:\n"
                         "        return next(iter(batches)).images\n"
                         "assert (first('inverted:negative') == 255 - first('image')).all()")
    command, = re.findall(r"^python (-m trainer .*inverted:negative)$", read("docs/OWN_CODE.md"), re.MULTILINE)
    assert "done after step 3:" in python(folder, *command.split(), STOKER_EPOCHS="1", STOKER_WORKERS="1")
