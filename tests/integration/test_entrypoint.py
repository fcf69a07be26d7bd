"""What the script in the trainer's container makes of the settings in .env, without a container."""

import os
import re
import subprocess

import pytest

from tests.support.documents import ROOT, read

PYTHON = """#!/bin/sh
[ "$2" != trainer ] || for argument in "$@"; do echo "[$argument]"; done
[ "$2" != trainer ] || env | sed -n 's/^STOKER_STATUS/[STOKER_STATUS/p' | sed 's/$/]/' | sort >&2
"""


@pytest.fixture
def trainer_arguments(tmp_path):
    """A function: settings -> the arguments of the trainer. The container's folders are below tmp_path."""
    script = read("trainer/entrypoint.sh")
    for folder in ("/keys", "/data", "/sample", "/status"):
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
        run.said = done.stderr.replace(str(tmp_path), "")
        return [line[1:-1].replace(str(tmp_path), "") for line in done.stdout.splitlines()]
    return run


@pytest.mark.parametrize("settings, data", [
    ({}, ["/data"]), ({"TRAIN_FOLDER": "train"}, ["/data/train"]), ({"TRAIN_FOLDER": "my train"}, ["/data/my train"]),
    ({"STOKER_GENERATOR": "numerical"}, [])])
def test_the_folder_to_train_on(trainer_arguments, settings, data):
    arguments = trainer_arguments(DATA="./photos", **settings)
    assert arguments[:2] == ["-m", "trainer"] and arguments[2:arguments.index("--workers")] == data
    assert arguments[-2:] == ["--epochs", "2"]


def test_the_status_page(trainer_arguments, tmp_path):
    """Its token is made once, for its user alone, and nothing says it; an empty setting switches the page off."""
    trainer_arguments()
    assert "[STOKER_STATUS=0.0.0.0:8265]\n[STOKER_STATUS_TOKEN_FILE=/status/token]\n" in trainer_arguments.said
    path = tmp_path / "status" / "token"
    token = path.read_text()
    assert re.match("[0-9a-f]{64}$", token) and path.stat().st_mode & 0o777 == 0o600
    assert token not in trainer_arguments.said and os.listdir(str(path.parent)) == ["token"]
    trainer_arguments(STOKER_STATUS="127.0.0.1:8265")
    assert path.read_text() == token and "[STOKER_STATUS=127.0.0.1:8265]" in trainer_arguments.said
    trainer_arguments(STOKER_STATUS="", STOKER_STATUS_TOKEN_FILE="/status/token")
    assert "STOKER_STATUS" not in trainer_arguments.said and not path.exists()


def test_a_training_without_a_volume_for_the_token(trainer_arguments, tmp_path):
    """It goes on, without the page."""
    (tmp_path / "status").rmdir()
    trainer_arguments()
    assert "there is no status page: user " in trainer_arguments.said and "[STOKER" not in trainer_arguments.said


@pytest.mark.parametrize("port, said", [("8265", "http://127.0.0.1:8265/#token=x\n"),
                                        ("0", "http://127.0.0.1:PORT/#token=x\n"),
                                        ("", "http://[0-9.]+:8265/#token=x\n")])
def test_the_address_of_the_page(tmp_path, port, said):
    script = read("trainer/entrypoint.sh").replace("/status", str(tmp_path) + "/status")
    script = script.replace("python -c", "python3 -c")
    (tmp_path / "status").mkdir()
    command = ["sh", "-c", script, "entrypoint.sh", "page"]
    assert subprocess.run(command, stderr=subprocess.PIPE, timeout=60).returncode == 2
    (tmp_path / "status" / "token").write_text("x")
    done = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, timeout=60, check=True,
                          env=dict(os.environ, STATUS_PORT=port))
    assert re.match(said + "$", done.stdout)


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
