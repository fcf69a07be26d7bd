"""Which of the user's modules have changed since this process imported them."""

import os
import sys

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.functions import PROGRAM
from stoker.workers import users_code
from stoker.workers.generators.registry import find

MODULE = """
import stoker
from changing_helper import WIDTH

@stoker.sample({"x": ("int32", (WIDTH,))})
def function(sample, random):
    return [[sample.index] * WIDTH]
"""
NAME = "changing_functions:function"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With the modules ``changing_functions`` and ``changing_helper``, which this process can import."""
    (tmp_path / "changing_functions.py").write_text(MODULE)
    (tmp_path / "changing_helper.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(users_code, "_imported", {})
    yield tmp_path
    for name in ("changing_functions", "changing_helper", PROGRAM):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", [NAME, "program"])
@pytest.mark.parametrize("file", ["changing_functions.py", "changing_helper.py"])
def test_a_module_that_changes_is_noticed(name, file, folder):
    name = name if name == NAME else "%s:function" % (folder / "changing_functions.py")
    assert users_code.changed_file() == ""           # nothing was imported
    find(name, (name,))
    assert users_code.changed_file() == ""
    (folder / file).write_text((folder / file).read_text() + "# changed\n")
    assert users_code.changed_file() == str(folder / file)
    find(name, (name,))                              # of the next run: Python has it already
    assert users_code.changed_file() == str(folder / file)


def test_the_same_size_at_another_time_is_a_change_and_a_file_that_is_gone_is_none(folder):
    find(NAME, (NAME,))
    os.utime(str(folder / "changing_helper.py"), ns=(1, 1))
    assert users_code.changed_file() == str(folder / "changing_helper.py")
    (folder / "changing_helper.py").unlink()
    assert users_code.changed_file() == ""


def test_only_modules_in_the_folder_of_the_function_count(folder):
    find(NAME, (NAME,))
    assert sorted(users_code._imported) == [str(folder / "changing_functions.py"), str(folder / "changing_helper.py")]
    find("image", ())
    with pytest.raises(ConfigError):
        find(NAME, ())
    assert len(users_code._imported) == 2
