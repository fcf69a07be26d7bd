"""The two programs of the README, word for word, on real pictures and real TF 1.9."""

import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def program(name):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
        found = re.search(r"<!-- program: %s -->\n```python\n(.*?)```" % name, readme.read(), re.DOTALL)
    assert found, "README.md has no program %r" % name
    return found.group(1)


@pytest.mark.parametrize("name", ["before", "after"])
def test_program_of_the_readme_trains(name, tmp_path):
    subprocess.run([sys.executable, "-m", "stoker.pipeline.sources.sample_data", str(tmp_path / "photos"),
                    "--count", "100"], check=True, cwd=ROOT)
    count = "\nprint('steps', session_runs)"
    counted = ("import tensorflow as tf\nsession_runs = 0\nrun = tf.Session.run\n"
               "def counting(*args, **kwargs):\n"
               "    global session_runs\n    session_runs += 1\n    return run(*args, **kwargs)\n"
               "tf.Session.run = counting\n")
    done = subprocess.run([sys.executable, "-c", counted + program(name) + count], cwd=str(tmp_path),
                          env=dict(os.environ, PYTHONPATH=ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # 100 pictures in batches of 32, the last short one kept, twice; and the initializer
    assert done.stdout.split()[-2:] == ["steps", "9"]
    assert "Traceback" not in done.stderr
