"""Random faults of state files, in short, and that a wrong outcome is seen; ``STATE_ROUNDS=200 SEED=3`` for more."""

import os

import pytest

from tests.faults import state_faults
from tests.support.training import arguments  # noqa: F401

pytest.importorskip("tensorflow")

ROUNDS, SEED = int(os.environ.get("STATE_ROUNDS") or 8), int(os.environ.get("SEED") or 0)


def test_random_faults_of_state_files(tmp_path, figures):
    lines = []
    assert state_faults.rounds(ROUNDS, SEED, folder=str(tmp_path), report=lines.append) == [], "\n".join(lines)
    figures(lines[-1])
