"""A dataset that was downloaded holds modules, and Stoker is started in it: no process of Stoker imports one."""

import os
import pkgutil
import shutil
import subprocess
import sys

import pytest

import stoker
from stoker.pipeline.options import WorkerOptions
from stoker.workers.launch import LAUNCH
from tests.support.processes import LIMIT_S, ROOT, Program

#: Modules that Python and the libraries try to import, and that most systems do not have.
OPTIONAL = ("nt _winapi msvcrt _hashlib cffi defusedxml olefile pickle5 pandas lmdb gevent google argcomplete yaml "
            "toml configargparse numpy PIL zmq msgpack tqdm tensorflow sitecustomize usercustomize stoker workers "
            "pipeline trainer inspection _cmsgpack simplejpeg cv2 dask jax torch tornado cython _scproxy winreg java "
            "grp pwd")
#: What ``python -m`` itself looks for in the current folder, before it runs a line of Stoker.
STANDARD = {module.name for module in pkgutil.iter_modules([os.path.dirname(os.__file__)])} | {
    "stoker", "workers", "trainer", "inspection"}
PLANTED = """
with open({mark!r}, "a") as file:
    file.write(__name__ + " ")
raise ImportError("planted")
"""
COMMANDS = {"stoker-train": "trainer.__main__", "stoker-predict": "trainer.predict",
            "stoker-worker": "workers.__main__"}
TRAIN = (".", "--workers", "1", "--epochs", "1", "--image-size", "8", "--checkpoint-dir", "../run")


@pytest.fixture
def dataset(pictures, tmp_path, monkeypatch):
    """A folder of pictures. Beside it are Stoker's commands, as pip makes them."""
    folder = tmp_path / "dataset"
    shutil.copytree(pictures, str(folder))
    (folder / "left" / "000.jpg").write_bytes(b"\0no picture" * 9)       # PIL imports all that it has
    for name, module in COMMANDS.items():
        (tmp_path / name).write_text("import sys\nfrom stoker.%s import main\nsys.exit(main())\n" % module)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stoker").symlink_to(os.path.join(ROOT, "stoker"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return folder


def plant(dataset, without=()):
    """Writes the modules into it; returns how many."""
    names = {module.name for module in pkgutil.iter_modules()} | set(OPTIONAL.split())
    names -= set(sys.builtin_module_names) | set(without)
    for name in names:
        (dataset / (name + ".py")).write_text(PLANTED.format(mark=str(dataset.parent / "imported")))
    return len(names)


def imported(dataset):
    """Which of them were."""
    mark = dataset.parent / "imported"
    return mark.read_text().split() if mark.exists() else []


def run(dataset, *command, path=None, code=0):
    """Runs Python in the dataset; returns its output. ``path``: its PYTHONPATH."""
    done = subprocess.run([sys.executable] + [str(word) for word in command], cwd=str(dataset),
                          env=dict(os.environ, PYTHONPATH=path or str(dataset.parent / "site")),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=4 * LIMIT_S)
    assert (imported(dataset), done.returncode) == ([], code), done.stdout
    return done.stdout


def test_the_commands_import_nothing_from_the_folder_in_which_they_run(dataset, worker_python, attacks):
    pytest.importorskip("tensorflow")
    assert plant(dataset) > 200
    assert "1 bad file" in run(dataset, "../stoker-train", *TRAIN)
    other = ["--worker-python", worker_python] if worker_python else []
    run(dataset, "../stoker-predict", "../run", ".", "--workers", "1", *other)
    run(dataset, LAUNCH, "stoker.workers.quarantine", "1", WorkerOptions("tcp://127.0.0.1:1").to_json(), code=1)
    run(dataset, "../stoker-train", *TRAIN, "--worker-python", "/bin/false", code=2)
    attacks("a downloaded dataset", "holds `numpy.py`, `configargparse.py`, `nt.py` and hundreds of other modules; "
            "`stoker-train .`, `stoker-predict` and `stoker-worker` run in it", "no process imports one of them")


@pytest.mark.parametrize("command", [["../stoker-worker"], ["-m", "workers"]], ids=["installed", "checkout"])
def test_a_worker_that_is_started_by_hand_imports_nothing_from_there(dataset, tmp_path, worker_python, command):
    is_checkout = command[0] == "-m"
    plant(dataset, without=STANDARD if is_checkout else ())
    with stoker.open_stream(str(dataset), image_size=8, workers=0) as stream, Program(
            command + ["--connect", stream.address, "--processes", "1"], worker_python, cwd=str(dataset),
            PYTHONPATH=ROOT if is_checkout else str(tmp_path / "site")) as workers:
        assert (sum(len(batch) for batch in stream), imported(dataset)) == (119, []), workers.text


def test_in_a_checkout_too(dataset):
    pytest.importorskip("tensorflow")
    plant(dataset, without=STANDARD)
    run(dataset, "-m", "trainer", *TRAIN, path=ROOT)
    run(dataset, "-m", "trainer.predict", "../run", ".", "--workers", "1", path=ROOT)


def test_a_function_of_the_users_own_is_found_there(dataset):
    pytest.importorskip("tensorflow")
    (dataset / "mine.py").write_text("import neighbour\n\n\ndef vary(picture, random):\n    return picture\n")
    (dataset / "neighbour.py").write_text("")
    assert "done after step" in run(dataset, "../stoker-train", *TRAIN, "--augment", "mine:vary")
