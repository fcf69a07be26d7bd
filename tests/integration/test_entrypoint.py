"""What the script in the trainer's container makes of the settings in .env, without a container."""

import os
import subprocess

import pytest

from tests.support.documents import ROOT, read

PYTHON = """#!/bin/sh
[ "$2" != trainer ] || for argument in "$@"; do echo "[$argument]"; done
"""


@pytest.fixture
def trainer_arguments(tmp_path):
    """A function: settings -> the arguments of the trainer. The container's folders are below tmp_path."""
    script = read("trainer/entrypoint.sh")
    for folder in ("/keys", "/data", "/sample"):
        (tmp_path / folder[1:]).mkdir()
        script = script.replace(folder, str(tmp_path) + folder)
    (tmp_path / "data" / "train").mkdir()
    (tmp_path / "entrypoint.sh").write_text(script)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(**settings):
        done = subprocess.run(["sh", str(tmp_path / "entrypoint.sh"), "--epochs", "2"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, cwd=ROOT, universal_newlines=True, timeout=60,
                              env=dict(settings, PATH="%s:%s" % (tmp_path, os.environ["PATH"])))
        assert done.returncode == 0, done.stderr
        return [line[1:-1].replace(str(tmp_path), "") for line in done.stdout.splitlines()]
    return run


@pytest.mark.parametrize("settings, data", [
    ({}, ["/data"]), ({"TRAIN_FOLDER": "train"}, ["/data/train"]), ({"TRAIN_FOLDER": "my train"}, ["/data/my train"]),
    ({"STOKER_GENERATOR": "numerical"}, [])])
def test_the_folder_to_train_on(trainer_arguments, settings, data):
    arguments = trainer_arguments(DATA="./photos", **settings)
    assert arguments[:2] == ["-m", "trainer"] and arguments[2:arguments.index("--workers")] == data
    assert arguments[-2:] == ["--epochs", "2"]


@pytest.mark.parametrize("settings, options, permitted", [
    ({}, [], ["/data", "/sample"]), ({}, ["--quiet"], ["/data", "/sample"]), ({"STOKER_DATA": "/mnt"}, [], []),
    ({}, ["--data", "/mnt"], []), ({}, ["--data=/mnt"], [])])
def test_a_worker_permits_the_folders_of_its_container(tmp_path, settings, options, permitted):
    (tmp_path / "worker.key_secret").write_text("")
    (tmp_path / "python").write_text(PYTHON.replace("trainer", "workers"))
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(["sh", "workers/entrypoint.sh"] + options, stdout=subprocess.PIPE, cwd=ROOT, check=True,
                          universal_newlines=True, timeout=60,
                          env=dict(settings, KEYS=str(tmp_path), PATH="%s:%s" % (tmp_path, os.environ["PATH"])))
    arguments = [line[1:-1] for line in done.stdout.splitlines()]
    assert [arguments[i + 1] for i, one in enumerate(arguments) if one == "--allow-data"] == permitted
    assert arguments[len(arguments) - len(options):] == options
