"""The libraries that decoded a run's pictures, through real runs of the command line on both Pythons."""

import json
import os

import pytest

from tests.support.processes import ROOT
from tests.support.training import arguments, finished, predicted

pytest.importorskip("tensorflow")


def test_another_pillow_in_a_resumed_run_and_in_a_prediction(tmp_path, pictures, worker_python):
    if worker_python is None:
        pytest.skip("no second interpreter")
    options = dict(image_size=8, batch_size=60, workers=1, checkpoint_dir="run")
    record = tmp_path / "run" / "stoker.json"
    run = finished(tmp_path, pictures, *arguments(dict(options, epochs=1)))
    first, = json.loads(record.read_text())["decoders"]
    assert first.startswith("pillow 8.4") and "were decoded by" not in run.stderr, run
    made = os.path.join(ROOT, ".venv", "workers", "bin", "python")
    assert ("--worker-python %s" % made in run.stdout) == os.access(made, os.X_OK), run
    run = finished(tmp_path, pictures, *arguments(dict(options, epochs=2, worker_python=worker_python)))
    assert "pictures were decoded by %s so far, and now also by pillow 1" % first in run.stderr, run
    both = json.loads(record.read_text())["decoders"]
    assert run.code == 0 and len(both) == 2 and first in both
    record.write_text(json.dumps({"decoders": ["pillow 1.0"]}))
    done = predicted(tmp_path, "run", pictures, "--output", "out.csv", "--workers", "1")
    assert done.code == 0 and "were decoded by pillow 1.0 so far, and now also by pillow 8.4" in done.stderr, done
