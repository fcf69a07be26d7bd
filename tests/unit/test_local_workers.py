"""What local workers get of the trainer's environment and import path."""

import json
import os
import sys

import stoker
from stoker.trainer.local_workers import OF_ONE_PYTHON, _environment


def program_of(environment):
    return json.loads(environment["STOKER_PROGRAM_PATH"])


def test_pythonpath_travels_with_the_version_and_pythonhome_only_to_the_same_interpreter(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), "", "relative"]))
    for name in OF_ONE_PYTHON:
        monkeypatch.setenv(name, "/home/of/this/python")
    monkeypatch.setenv("STOKER_EPOCHS", "3")
    own, other = _environment(sys.executable), _environment("/usr/bin/another-python")
    assert own["PYTHONHOME"] == "/home/of/this/python"
    assert not OF_ONE_PYTHON & set(other) and OF_ONE_PYTHON <= set(own)
    for environment in (own, other):
        assert "PYTHONPATH" not in environment and "STOKER_EPOCHS" not in environment
        assert program_of(environment)["version"] == list(sys.version_info[:2])
        assert program_of(environment)["pythonpath"] == [str(tmp_path), os.path.abspath("relative")]
        assert program_of(environment)["folders"][-1] == os.getcwd()


def test_in_a_deleted_folder_relative_paths_lead_nowhere(monkeypatch, tmp_path):
    def deleted():
        raise FileNotFoundError(2, "No such file or directory")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["relative", str(tmp_path)]))
    monkeypatch.setattr(sys, "path", [""] + sys.path)
    monkeypatch.setattr(os, "getcwd", deleted)
    monkeypatch.setattr(stoker, "started_in", "")
    program = program_of(_environment(sys.executable))
    assert program["pythonpath"] == [str(tmp_path)]
    assert all(map(os.path.isabs, program["folders"]))
