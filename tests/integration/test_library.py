"""The programs of README.md and docs/OWN_CODE.md, word for word, on real pictures and real TF 1.9."""

import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.support.documents import ROOT, block, read
from tests.support.processes import wait_for

#: What README.md leaves out around its programs.
OLD_CODE = """
import random
import numpy as np
from PIL import Image, ImageOps
"""
AROUND = """
import tensorflow as tf
from old_code import CLASSES
images = tf.placeholder(tf.float32, [None, 64, 64, 3])
labels = tf.placeholder(tf.int32, [None, 1])
logits = tf.layers.dense(tf.layers.flatten(images), len(CLASSES))
train_op = tf.train.AdamOptimizer(0.001).minimize(tf.losses.sparse_softmax_cross_entropy(labels, logits))
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
#: Notes the loss of each step.
NOTING = """
import tensorflow as tf
losses = []
minimize, run = tf.train.AdamOptimizer.minimize, tf.Session.run
def minimizing(self, loss, *args, **kwargs):
    tf.add_to_collection("minimized", loss)
    return minimize(self, loss, *args, **kwargs)
def noting(self, fetches, feed_dict=None, **kwargs):
    if feed_dict:
        losses.append(float(run(self, tf.get_collection("minimized")[0], feed_dict)))
    return run(self, fetches, feed_dict, **kwargs)
tf.train.AdamOptimizer.minimize, tf.Session.run = minimizing, noting
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


def test_program_of_the_readme_trains(folder):
    (folder / "old_code.py").write_text(OLD_CODE + block("README.md", "program: generator"))
    (folder / "batches.py").write_text(block("README.md", "program: batches"))
    program = COUNTING + AROUND + block("README.md", "program: after") + "\nprint('runs', session_runs)"
    # 5 epochs of 100 pictures in batches of 32, the last short one kept; and the initializer's run
    assert python(folder, "-c", program).split()[-2:] == ["runs", "21"]
    # the old generator by itself, on the files of the first batch
    python(folder, "-c", "import numpy as np, random, batches, stoker\n"
                         "from stoker.pipeline.plan import sample_seed\n"
                         "with stoker.open_stream('photos', batches.batch, batch_size=32, workers=1) as stream:\n"
                         "    batch = next(stream)\n"
                         "files = [sample.path for sample in stream._datasets.training.samples(batch.indices)]\n"
                         "number = sample_seed(0, 0, batch.indices[0])\n"
                         "random.seed(number); np.random.seed(number & 0xffffffff)\n"
                         "x, y = next(batches.image_generator(['photos/' + file for file in files], 32, (64, 64)))\n"
                         "assert (batch['x'] == x.astype(np.float32)).all() and (batch['y'] == y).all()")


@pytest.mark.parametrize("name", ["before", "after"])
def test_program_in_full_trains(folder, name):
    program = block("docs/OWN_CODE.md", "program: " + name)
    assert python(folder, "-c", COUNTING + program + "\nprint('runs', session_runs)").split()[-2:] == ["runs", "9"]


@pytest.mark.parametrize("page, name", [("README.md", "after"), ("docs/OWN_CODE.md", "after"),
                                        ("docs/OWN_CODE.md", "resumed")])
def test_the_programs_take_any_number_of_classes(tmp_path, page, name):
    """One sigmoid for labels 0 to 2 gives a loss without a lower bound."""
    program = block(page, "program: " + name)
    for number, colour in enumerate(("blue", "green", "red")):
        (tmp_path / "photos" / colour).mkdir(parents=True)
        for shade in range(100, 124):
            pixel = [0, 0, 0]
            pixel[2 - number] = shade
            Image.new("RGB", (80, 64), tuple(pixel)).save(str(tmp_path / "photos" / colour / ("%d.png" % shade)))
    if page == "README.md":
        old_code = block(page, "program: generator").replace('"negative", "positive"', '"blue", "green", "red"')
        assert '"red"' in old_code
        (tmp_path / "old_code.py").write_text(OLD_CODE + old_code)
        (tmp_path / "batches.py").write_text(block(page, "program: batches"))
        program = AROUND + program + "\nassert stream.classes == ('blue', 'green', 'red')"
    if name != "resumed":            # which prints the loss of each step itself
        program = NOTING + program + "\nfor loss in losses:\n    print(loss)"
    losses = [float(line.split()[-1]) for line in python(tmp_path, "-c", program).splitlines()
              if not line.startswith(("result: ", "speed: ", "bottleneck: "))]       # of stream.report()
    assert len(losses) >= 6 and min(losses) >= 0 and losses[-1] < losses[0]


def test_the_readme_shows_its_programs_at_its_beginning():
    beginning = "\n".join(read("README.md").splitlines()[:65])
    for name in ("generator", "batches", "after"):
        assert block("README.md", "program: " + name) in beginning


def test_resume(folder):
    assert python(folder, "-c", block("docs/OWN_CODE.md", "program: resume")).strip() == "[5, 6, 7]"


def test_the_log(folder):
    """Its lines are written to standard error, and without the line that asks for them, there are warnings alone."""
    program = block("docs/OWN_CODE.md", "program: log")
    def said(program):
        return subprocess.run([sys.executable, "-c", program], cwd=str(folder), env=dict(os.environ, PYTHONPATH=ROOT),
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True, check=True
                              ).stderr
    assert "INFO:stoker:" in said(program) and " joined (pid " in said(program)
    assert " joined (pid " not in said(program.replace("logging.basicConfig(level=logging.INFO)", ""))


#: Once there is a checkpoint, each step takes a tenth of a second more: the program is killed before its end.
SLOW = """
import glob, time
show = print
def print(*args, **kwargs):
    show(*args, **kwargs)
    time.sleep(0.1 * bool(glob.glob("run/model.ckpt-[1-9]*")))
"""


def test_a_killed_program_goes_on_with_the_same_steps(folder, tmp_path):
    """To the last digit of each loss."""
    program = block("docs/OWN_CODE.md", "program: resumed")
    for text, changed in (("epochs=5", "epochs=15"), ("save_checkpoint_secs=60", "save_checkpoint_secs=0.3"),
                          ('"photos"', repr(str(folder / "photos")))):
        assert text in program
        program = program.replace(text, changed)
    (tmp_path / "whole").mkdir()
    whole = python(tmp_path / "whole", "-c", program).splitlines()
    assert [int(line.split()[0]) for line in whole] == list(range(15 * 12))
    process = subprocess.Popen([sys.executable, "-c", SLOW + program], cwd=str(tmp_path), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=dict(os.environ, PYTHONPATH=ROOT))
    try:
        wait_for(lambda: (tmp_path / "run" / "checkpoint").exists() and re.match(
            r'model_checkpoint_path: ".*-[1-9]\d*"', (tmp_path / "run" / "checkpoint").read_text()), "a checkpoint")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    rest = python(tmp_path, "-c", program).splitlines()
    assert 0 < len(rest) < len(whole)
    assert rest == whole[-len(rest):]


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
