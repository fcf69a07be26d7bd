"""Workers find the user's modules beside the program, wherever and however that was started, on both Pythons."""

import os
import subprocess
import sys
import zipfile

import pytest

import stoker
from tests.support.processes import ROOT, workers_program

MODULE = """
import stoker
@stoker.sample({"x": "int32"})
def one(sample, random):
    return sample.index + 1
"""
PROGRAM = """
import os, sys
import stoker
{here}
if __name__ == "__main__":
    os.chdir({folder!r})
    with stoker.open_stream(2, {function}, arrays={{"x": "int32"}}, batch_size=2, workers=1, worker_timeout_s=60,
                            worker_python=os.environ.get("WORKERS_PYTHON")) as stream:
        print([batch["x"].tolist() for batch in stream])
"""


def made(project, start, folder):
    """Makes the program that is started as ``start``, which then changes to ``folder``; returns its command."""
    def program(function="'mygen:one'", here=""):
        return PROGRAM.format(folder=folder, function=function, here=here)
    (project / "pkg").mkdir(parents=True)
    (project / "inner").mkdir()
    (project / "pkg" / "__init__.py").write_text("")
    for module in ("mygen.py", "pkg/gen.py", "pkg/mygen.py"):
        (project / module).write_text(MODULE)
    own = MODULE.replace("import stoker\n", "")
    texts = {"script": program(), "symlink": program(), "object": program("one", own), "main": program("one", own),
             "pkg": program("'pkg.gen:one'"), "function of pkg": program("one", own)}
    (project / "train.py").write_text(texts.get(start, program()))
    (project / "pkg" / "train.py").write_text(texts.get(start, program()))
    (project / "pkg" / "__main__.py").write_text(texts.get(start, program()))
    if start in ("script", "object"):
        return [os.path.join("..", "train.py")]
    if start == "symlink":
        (project / "inner" / "run.py").symlink_to(project / "train.py")
        return ["run.py"]
    if start in ("pkg", "function of pkg"):
        return ["-m", "pkg.train"]
    if start == "main":
        return [str(project / "pkg")]
    if start == "text":
        return ["-c", program()]
    with zipfile.ZipFile(str(project / start), "w") as archive:
        archive.writestr("__main__.py", program())
        archive.writestr("mygen.py", MODULE)
    for name in ("mygen.py", "pkg/mygen.py"):       # only the one inside is left
        (project / name).unlink()
    return [os.path.join("..", start)]


@pytest.mark.parametrize("start, folder", [
    ("script", "."), ("text", "."), ("script", "/"), ("symlink", "/"), ("object", "/"), ("pkg", "/"),
    ("function of pkg", "/"), ("main", "/"), ("app.zip", "/"), ("app.pyz", "/")])
def test_the_modules_of_the_program_are_found(tmp_path, worker_python, start, folder):
    project = tmp_path / "my project"
    command = made(project, start, folder)
    current = project if start in ("pkg", "function of pkg", "text") else project / "inner"
    environment = dict(os.environ, PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE="1")
    if worker_python and folder != ".":
        environment["WORKERS_PYTHON"] = worker_python
    done = subprocess.run([sys.executable] + command, cwd=str(current), env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert done.stdout == "[[1, 2]]\n", done.stderr


@pytest.mark.parametrize("module", ["pipeline", "workers.inner", "code"])
def test_a_module_with_the_name_of_another_one_is_the_programs_and_nothing_is_written(tmp_path, worker_python, module):
    """Of a folder of the repository, which PYTHONPATH has, or of the standard library. Python's variables that are for
    the program make no worker write more."""
    file = tmp_path / (module.replace(".", "/") + ".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(MODULE)
    (file.parent / "__init__.py").write_text("")
    (tmp_path / "train.py").write_text(PROGRAM.format(folder=str(tmp_path), function=module + ".one",
                                                      here="import " + module))
    environment = dict(os.environ, PYTHONPATH=ROOT, PYTHONDONTWRITEBYTECODE="1", PYTHONINSPECT="1",
                       PYTHONWARNINGS="always::ResourceWarning")
    if worker_python:
        environment["WORKERS_PYTHON"] = worker_python
    done = subprocess.run([sys.executable, "train.py"], cwd=str(tmp_path), env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert done.stdout == "[[1, 2]]\n", done.stderr
    assert "SystemExit" not in done.stderr and "ResourceWarning" not in done.stderr, done.stderr


def test_a_worker_that_was_started_in_another_folder_says_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mygen.py").write_text(MODULE)
    (tmp_path / "here" / "train.py").write_text(MODULE.replace("sample.index + 1", "two.two(sample)").replace(
        "import stoker", "import stoker, two"))
    (tmp_path / "here" / "two.py").write_text("def two(sample):\n    return sample.index + 2\n")
    monkeypatch.chdir(tmp_path)
    arrays = {"x": "int32"}
    with stoker.open_stream(2, "mygen:one", arrays=arrays, workers=0) as stream, \
            workers_program(stream.address, "--processes", "1", "--allow-generator", "mygen:one", cwd=str(tmp_path)
                            ) as workers:
        workers.wait_for_line("No module named 'mygen': start the worker in the folder of mygen, or add that folder to "
                              "its PYTHONPATH")
    program = str(tmp_path / "here" / "train.py") + ":one"       # what a program's own function is called
    with stoker.open_stream(2, program, arrays=arrays, batch_size=2, workers=0, worker_timeout_s=60) as stream, \
            workers_program(stream.address, "--processes", "1", "--allow-generator", program, cwd="/"):
        assert next(stream)["x"].tolist() == [2, 3]
