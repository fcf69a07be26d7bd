"""What local workers get of the trainer's environment and import path, and when they end the run."""

import json
import os
import re
import socket
import sys
from types import SimpleNamespace

import pytest

import stoker
from stoker.pipeline.monitoring.throughput import Fleet
from stoker.pipeline.options import is_loopback
from stoker.trainer.local_workers import OF_ONE_PYTHON, LocalWorkers, _environment


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


@pytest.mark.parametrize("functions, has_current", [((), False), (("mine:f",), True)])
def test_the_folder_of_an_interpreter_without_a_program_counts_if_there_are_functions(monkeypatch, functions,
                                                                                     has_current):
    """It may be a dataset that was downloaded, with a numpy.py."""
    monkeypatch.setattr(sys, "path", ["", "/of/the/program"] + sys.path[-1:])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folders = program_of(_environment(sys.executable, functions))["folders"]
    assert [folder for folder in folders if folder in (stoker.started_in, "/of/the/program")] == (
        [stoker.started_in] * has_current + ["/of/the/program"])


def test_a_module_of_the_program_travels_with_its_file_and_no_installed_one_does(monkeypatch, tmp_path):
    (tmp_path / "code_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONINSPECT", "1")
    environment = _environment(sys.executable, ("code_of_mine:f", "json:f", "pytest:f", "/the/program.py:f"))
    assert program_of(environment)["files"] == {"code_of_mine": str(tmp_path / "code_of_mine.py")}
    assert "PYTHONINSPECT" not in environment


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


# ----------------------------------------------------------------------------- local workers that cannot do the job

OWN = "%s:7" % socket.gethostname()


def local(processes=2, connect="tcp://127.0.0.1:5555", autoscaler=None):
    """Local workers that run, without a process."""
    workers = LocalWorkers.__new__(LocalWorkers)
    workers.__dict__.update(
        _autoscaler=autoscaler, _python="python", _stopped=False, _process=SimpleNamespace(poll=lambda: None, pid=7),
        supervisor=OWN, _is_alone=is_loopback(connect), _processes=processes, _functions="my:f",
        _output=SimpleNamespace(lines=lambda wait_s: ["Segmentation fault"]))
    return workers


def fleet(alive=0, ready=0, other=0, **changed):
    return Fleet(alive + other, 2, {OWN: alive, "other:1": other}, ready=ready, **changed)


def aside(*reasons):
    return {OWN: list(reasons)}


@pytest.mark.parametrize("workers, seen, trouble", [
    (local(), fleet(set_aside=aside("no f", "no f")), "none of the local workers can do this job: no f"),
    (local(), fleet(set_aside=aside("no f", "no g")), "none of the local workers can do this job: no f; no g"),
    (local(), fleet(set_aside=aside("no f")), None),                              # the other one starts
    (local(), fleet(1, set_aside=aside("no f")), None),                           # ... or imports
    (local(autoscaler=SimpleNamespace(wanted=1)), fleet(set_aside=aside("no f")), "none of the local .*: no f"),
    (local(), fleet(other=1, set_aside=aside("no f", "no f")), None),             # one started by hand
    (local(), fleet(set_aside={"other:1": ["no f", "no f"]}), None),
    (local(connect="tcp://0.0.0.0:5555"), fleet(set_aside=aside("no f", "no f")), None),       # others may come
    (local(), fleet(lost={OWN: 4}), None),
    (local(), fleet(1, lost={OWN: 5}), r"5 local workers in a row died before they could do this job \(does "
     r"importing my:f end the process\?\); the last lines that they wrote:\n    Segmentation fault"),
    (local(), fleet(2, 1, lost={OWN: 5}), None),
    (local(connect="tcp://0.0.0.0:5555"), fleet(lost={OWN: 5}), None),
])
def test_local_workers_end_the_run_if_no_worker_can_do_the_job_and_no_other_can_come(workers, seen, trouble):
    found = workers.trouble(seen)
    assert found is None if trouble is None else re.match(trouble + "$", found), found
