"""The modules of a recorded program are there for the length of a ``with``, and apart from others of their names."""

import os
import sys

import pytest

from stoker.pipeline.functions import PROGRAM, load_function
from stoker.trainer.record.program_modules import ProgramModules


@pytest.fixture
def folders(tmp_path):
    """Two folders, each with a module and a package of the same names, and the file of a program."""
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        (folder / "a_package_of_runs").mkdir(parents=True)
        (folder / "a_package_of_runs" / "__init__.py").write_text("")
        (folder / "a_package_of_runs" / "inner.py").write_text("def f():\n    return %d\n" % number)
        (folder / "a_module_of_runs.py").write_text(
            "from a_package_of_runs.inner import f as inner\ndef f():\n    return %d, inner()\n" % number)
        (folder / "program.py").write_text("import a_module_of_runs\ndef f():\n    return %d, a_module_of_runs.f()\n"
                                           % number)
        made.append(str(folder))
    return made


def names():
    return [name for name in sys.modules if name.startswith(("a_module_of_runs", "a_package_of_runs", PROGRAM))]


def test_each_program_has_its_own(folders):
    path, modules = list(sys.path), [ProgramModules([folder]) for folder in folders]
    for _ in range(2):
        for number, own in enumerate(modules):
            with own.importable():
                assert load_function("a_module_of_runs:f")() == (number, number)
                assert load_function("%s/program.py:f" % folders[number])() == (number, (number, number))
                assert names() and sys.path[-1] == folders[number]
            assert names() == [] and sys.path == path
    with modules[0].importable():
        first = sys.modules["a_module_of_runs"]
    with modules[0].importable():
        assert sys.modules["a_module_of_runs"] is first, "it is imported once"


def test_after_an_error_nothing_is_left(folders):
    path = list(sys.path)
    with pytest.raises(ZeroDivisionError), ProgramModules(folders[:1]).importable():
        import a_module_of_runs
        a_module_of_runs.f() and 1 / 0
    assert names() == [] and sys.path == path


def test_a_module_that_this_program_has_stays(folders, monkeypatch):
    monkeypatch.syspath_prepend(folders[1])
    import a_module_of_runs as own
    try:
        with ProgramModules(folders[:1]).importable():
            assert load_function("a_module_of_runs:f") is own.f
        assert sys.modules["a_module_of_runs"] is own
    finally:
        for name in names():
            del sys.modules[name]


def test_a_folder_that_holds_everything_claims_no_installed_module(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with ProgramModules(["/", os.path.dirname(os.__file__)]).importable():
        import wave
    assert sys.modules.pop("wave") is wave
