"""The Docker engine of the compose tests, their pictures, the undisturbed run, and the table of cases at the end."""

import os
import subprocess
import uuid

import pytest

from stoker.pipeline.sources import sample_data
from tests.compose.project import Project, compose_command, docker, images_of
from tests.support import checkout
from tests.support.case_table import hooks

pytest_runtest_makereport, pytest_terminal_summary = hooks("compose table")
EPOCHS, PICTURES = 24, 480      # 48 steps of 8 in each: quick steps, and enough of them to be disturbed
OPTIONS = {"STOKER_EPOCHS": str(EPOCHS), "STOKER_BATCH_SIZE": "8", "STOKER_IMAGE_SIZE": "32",
           "STOKER_AUDIT": "/runs/audit.jsonl"}


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A folder as after `git clone`: the files that git tracks or would add, and nothing else."""
    return checkout.clone(str(tmp_path_factory.mktemp("clone") / "stoker"))


@pytest.fixture(scope="session")
def images(clone):
    """Stoker's images, built once, under names of the tests' own: (trainer's, worker's)."""
    names = images_of("stoker-test-%s" % uuid.uuid4().hex[:8])
    with_names = dict(os.environ, TRAINER_IMAGE=names[0], WORKER_IMAGE=names[1])
    if subprocess.run(compose_command() + ["build"], cwd=clone, env=with_names).returncode != 0:
        subprocess.run(compose_command() + ["build"], cwd=clone, env=with_names, check=True)    # a download was cut
    yield names
    docker("image", "rm", "--force", *names, check=False)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of pictures in two classes, which only their owner can write to."""
    folder = str(tmp_path_factory.mktemp("pictures") / "photos")
    sample_data.write(folder, PICTURES)
    for where, _, _ in os.walk(os.path.dirname(folder)):
        os.chmod(where, 0o755)
    return folder


@pytest.fixture
def project(clone, images, pictures, tmp_path):
    """A project of its own, not yet started, that trains on ``pictures`` and writes an audit. All of it is removed
    afterwards."""
    made = Project(clone, images, str(tmp_path), DATA=pictures, **OPTIONS)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def undisturbed(clone, images, pictures, tmp_path_factory):
    """The audit of an undisturbed run of ``project``."""
    made = Project(clone, images, str(tmp_path_factory.mktemp("undisturbed")), DATA=pictures, **OPTIONS)
    try:
        made.up("-d")
        made.wait_for_end()
        assert "come through shared memory" in made.log() and " come over TCP" not in made.log()
        return made.audit()
    finally:
        made.remove()
