"""For the tests with real processes: pictures, users' own generators, and a check that a test leaves nothing behind."""

import os
import sys
import tempfile
import threading

import numpy as np
import pytest
from PIL import Image

from tests.support.processes import command_line, interpreter, kill, listening, wait_for, with_environment

GENERATORS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support", "user_generators.py")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    """Fails a test that leaves a process (orphans too), a thread, an open port or a temporary file behind."""
    folder = tmp_path / "temporary-files"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))              # also the mark by which its processes are found
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    ports = listening()
    yield
    mark = "TMPDIR=%s" % folder
    try:
        wait_for(lambda: not with_environment(mark), "the end of its processes")
    except AssertionError:
        left = [(pid, command_line(pid)) for pid in with_environment(mark)]
        for pid, _ in left:
            kill(pid)                                      # so that they do not disturb other tests
        raise AssertionError("the test left processes: %s" % "; ".join("%d %s" % pair for pair in left)) from None
    # one may still read to the end what a process wrote that is gone
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("stoker")],
             "the end of the threads of Stoker, among %s" % [thread.name for thread in threading.enumerate()])
    assert listening() == ports
    assert os.listdir(str(folder)) == []


def draw(root, suffix, count, size=None):
    """``count`` pictures of ``size`` (height, width) or of varying ones, waves under noise, in two classes; paths are
    root/class/NNN.suffix."""
    random = np.random.RandomState(0)
    for number in range(count):
        height, width = size or random.randint(50, 200, 2)
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        waves = [np.sin(x * random.uniform(0.02, 0.2) + y * random.uniform(0.02, 0.2)) for _ in range(3)]
        pixels = np.stack(waves, axis=-1) * 90 + 128 + random.uniform(-20, 20, (height, width, 3))
        folder = os.path.join(root, ("left", "right")[number % 2])
        os.makedirs(folder, exist_ok=True)
        options = {"quality": int(random.randint(60, 95))} if suffix == "jpg" else {}
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            os.path.join(folder, "%03d.%s" % (number, suffix)), **options)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 120 JPEGs in two classes. Not to be changed."""
    root = str(tmp_path_factory.mktemp("pictures"))
    draw(root, "jpg", 120)
    return root


@pytest.fixture(scope="session")
def png_pictures(tmp_path_factory):
    """A folder of 120 PNGs of 48 x 64 pixels: used at that size, they are the same bytes with every Pillow."""
    root = str(tmp_path_factory.mktemp("png-pictures"))
    draw(root, "png", 120, (48, 64))
    return root


@pytest.fixture
def own_generators(tmp_path, monkeypatch):
    """A folder with the module ``user_generators`` that workers started by the test can import; holds its diary.

    It is the current folder of this process, and on the PYTHONPATH of programs that a test starts in another folder."""
    monkeypatch.delitem(sys.modules, "user_generators", raising=False)      # another test's, in this process
    folder = tmp_path / "own-generators"
    folder.mkdir()
    with open(GENERATORS) as source:
        (folder / "user_generators.py").write_text(source.read())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return folder


@pytest.fixture(scope="session")
def worker_python():
    """The workers' interpreter: the newest, or this one if ``make test`` names none."""
    return interpreter("STOKER_TEST_WORKER_PYTHON")


@pytest.fixture(scope="session")
def python36():
    """The trainer's interpreter."""
    return interpreter("STOKER_TEST_PYTHON36") or pytest.skip("STOKER_TEST_PYTHON36 names no Python 3.6")


@pytest.fixture(scope="session")
def same_pillow_python():
    """A newer Python with the Pillow of the trainer's."""
    return interpreter("STOKER_TEST_SAME_PILLOW_PYTHON") or pytest.skip(
        "STOKER_TEST_SAME_PILLOW_PYTHON names no Python with the trainer's Pillow")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Fifteen one-coloured pictures in three classes. Not to be changed."""
    root = tmp_path_factory.mktemp("tiny") / "colours"
    for number in range(15):
        folder = root / ("red", "green", "blue")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[:, :, number % 3] = 100 + 10 * number
        Image.fromarray(pixels).save(str(folder / ("%d.png" % number)))
    return str(root)
