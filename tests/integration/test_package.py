"""Stoker as an installed package: the wheel on both Pythons, the wheel of the sdist, and an editable installation."""

import json
import os
import subprocess
import sys
import zipfile
from glob import glob

import pytest

from tests.support import checkout
from tests.support.processes import interpreter

PROGRAM = """
import json, sys
import stoker
if __name__ == "__main__":
    with stoker.open_stream(sys.argv[1], image_size=32, batch_size=8, seed=3, workers=1) as stream:
        steps = [(batch.step, len(batch.labels)) for batch in stream]
    print(json.dumps({"steps": steps, "file": stoker.__file__}))
"""

#: What `import stoker` must not load, and what none of its own code may.
HEAVY = ("tensorflow", "PIL", "zmq", "numpy", "msgpack", "configargparse", "lmdb", "logging", "threading", "subprocess")


def run(*command, folder, **environment):
    """Standard output of the command, which must succeed. Its environment has none of Stoker's own variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STOKER_", "PYTHON"))}
    done = subprocess.run([str(word) for word in command], cwd=str(folder), env=dict(kept, **environment),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=300)
    assert done.returncode == 0, "%s: exit code %d\n%s\n%s" % (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


class Environment:
    """A new environment of the interpreter ``python`` in ``folder``. It can import what is installed for ``python`` and
    for ``build_python``, which has pip and setuptools. What it installs itself goes into ``folder``."""

    def __init__(self, folder, python, build_python):
        self.bin = os.path.join(str(folder), "bin")
        self.python = os.path.join(self.bin, "python")
        run(python, "-I", "-m", "venv", "--without-pip", folder, folder="/")
        self.site, = glob(os.path.join(str(folder), "lib", "python3*", "site-packages"))
        paths = [run(each, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder="/").strip()
                 for each in (build_python, python)]
        with open(os.path.join(self.site, "installed-elsewhere.pth"), "w") as file:
            file.write("\n".join(paths) + "\n")
        self._before = set(os.listdir(self.site))

    def pip(self, *arguments, folder="/"):
        """``pip ARGUMENT...`` without the network."""
        run(self.python, "-I", "-m", "pip", "--disable-pip-version-check", *arguments, folder=folder)

    def added(self):
        """What was installed, without metadata."""
        return {name for name in set(os.listdir(self.site)) - self._before if not name.endswith("-info")}


class Built:
    """One Python's environment, without Stoker, the wheel and the sdist that it built, and ``wheel_of_sdist``."""

    def __init__(self, folder, python, build_python):
        self.python, self.build_python, self._folder = python, build_python, folder
        self.source = checkout.clone(str(folder / "source"))
        self.builder = self.environment("builder")
        self.wheel = self._wheel(self.source, "wheel")
        run(self.builder.python, "-c", "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])",
            str(folder), folder=self.source)
        self.sdist, = glob(str(folder / "*.tar.gz"))
        self.wheel_of_sdist = self._wheel(self.sdist, "wheel-of-sdist")

    def environment(self, name):
        return Environment(self._folder / name, self.python, self.build_python)

    def _wheel(self, source, name):
        self.builder.pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(self._folder / name), source)
        wheel, = glob(str(self._folder / name / "*.whl"))
        return wheel


@pytest.fixture(scope="module", params=["trainer", "workers"])
def built(request, tmp_path_factory):
    """The package, built by the trainer's Python and by the workers'."""
    python, build_python = os.path.abspath(sys.executable), interpreter("STOKER_TEST_BUILD_PYTHON")
    if request.param == "workers":
        python = build_python = interpreter("STOKER_TEST_WORKER_PYTHON")
        if python and os.path.realpath(python) == os.path.realpath(sys.executable):
            pytest.skip("the workers have no Python of their own")
    if not build_python:
        pytest.skip("`make setup-test` makes the environment in which the package is built")
    return Built(tmp_path_factory.mktemp("built-by-" + request.param), python, build_python)


@pytest.fixture(scope="module")
def installed(built):
    """An environment in which the wheel is installed."""
    environment = built.environment("installed")
    environment.pip("install", "--no-deps", "--no-index", built.wheel)
    return environment


def names_of(wheel):
    """The files in a wheel, without those that describe it."""
    with zipfile.ZipFile(wheel) as file:
        return sorted(name for name in file.namelist() if ".dist-info/" not in name)


def test_the_wheel_holds_the_product_and_nothing_else(built):
    folders = ("pipeline/", "workers/", "trainer/", "inspection/", "packing/")
    product = {"stoker/" + path for path in checkout.tracked_files()
               if path.endswith(".py") and path.startswith(folders)
               or path.startswith("trainer/status/page/")}
    assert set(names_of(built.wheel)) == product | {"stoker/__init__.py", "stoker/py.typed"}


def test_the_wheel_of_the_sdist_is_the_same(built):
    assert names_of(built.wheel_of_sdist) == names_of(built.wheel)
    with zipfile.ZipFile(built.wheel) as one, zipfile.ZipFile(built.wheel_of_sdist) as other:
        assert all(one.read(name) == other.read(name) for name in names_of(built.wheel))


def test_an_installed_stoker_adds_one_name(installed, tmp_path):
    assert installed.added() == {"stoker"}
    for name in ("pipeline", "workers", "trainer", "inspection", "packing"):
        found = run(installed.python, "-c", "from importlib import util; print(util.find_spec(%r))" % name,
                    folder=tmp_path)
        assert found.strip() == "None"


def test_import_stoker_loads_nothing_else(installed, tmp_path):
    text = run(installed.python, "-c", "import sys; before = set(sys.modules); import stoker, json; "
                                       "print(json.dumps(sorted(set(sys.modules) - before)))", folder=tmp_path)
    loaded = json.loads(text)
    assert [name for name in loaded if name.startswith("stoker")] == ["stoker"]
    assert not set(loaded) & set(HEAVY)


@pytest.mark.parametrize("names", [(), ("trainer/__init__.py", "pipeline.py", "workers.py", "queue.py", "random.py")],
                         ids=["an empty folder", "a folder with modules of the same names"])
def test_an_installed_stoker_feeds_from(installed, pictures, tmp_path, names):
    folder = tmp_path / "folder"
    (folder / "trainer").mkdir(parents=True)
    for name in names:
        (folder / name).write_text("raise ImportError('the wrong %s')\n" % name)
    (tmp_path / "program.py").write_text(PROGRAM)
    said = json.loads(run(installed.python, tmp_path / "program.py", pictures, folder=folder))
    assert said["steps"] == [[step, 8] for step in range(15)]
    assert said["file"] == os.path.join(installed.site, "stoker", "__init__.py")
    left = {name for _, _, files in os.walk(str(folder)) for name in files}
    assert left == {os.path.basename(name) for name in names}


def test_the_commands_of_an_installed_stoker(installed, pictures, tmp_path):
    assert "usage: stoker-worker" in run(os.path.join(installed.bin, "stoker-worker"), "--help", folder=tmp_path)
    run(os.path.join(installed.bin, "stoker-keys"), "keys", "alpha", folder=tmp_path)
    assert (tmp_path / "keys" / "workers" / "alpha" / "worker.key_secret").exists()
    report = run(os.path.join(installed.bin, "stoker-check"), pictures, "--strict-kinds", "all", folder=tmp_path)
    assert "120 files, 120 good, 0 bad" in report and report.endswith("Nothing wrong was found\n")
    trainer = os.path.join(installed.bin, "stoker-train")
    if "python3.6" not in installed.site:
        assert os.path.exists(trainer)               # TensorFlow 1.9 exists for Python 3.6 alone
        return
    run(trainer, pictures, "--batch-size", "8", "--image-size", "32", "--workers", "1", "--epochs", "1",
        "--validation-split", "0", "--checkpoint-dir", "checkpoints", folder=tmp_path)
    assert glob(str(tmp_path / "checkpoints" / "*-15.index"))


def test_an_editable_installation_imports_the_checkout(built, pictures, tmp_path):
    environment = built.environment("editable")
    environment.pip("install", "--no-build-isolation", "--no-deps", "--editable", ".", folder=built.source)
    (tmp_path / "program.py").write_text(PROGRAM)
    said = json.loads(run(environment.python, tmp_path / "program.py", pictures, folder=tmp_path))
    assert said["steps"] == [[step, 8] for step in range(15)]
    assert os.path.realpath(said["file"]) == os.path.realpath(os.path.join(built.source, "stoker", "__init__.py"))
