"""A batch with many long rows: its lease is as long as it must be."""

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.trainer.feed import open_stream
from tests.support.processes import opened

MODULE = """
import numpy as np
import stoker

@stoker.batch({"x": ("int32", (1,))})
def lengths(samples, random):
    return (np.array([[len(sample.row["text"])] for sample in samples], np.int32),)
"""


@pytest.fixture
def lengths(tmp_path, monkeypatch):
    """The name of a batch function that workers can import."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "measured.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))
    return "measured:lengths"


@pytest.mark.parametrize("python", ["worker_python", "python36"])
def test_a_batch_of_60000_rows_of_300_characters(python, request, tmp_path, lengths):
    rows = [{"text": "x" * (290 + number % 20)} for number in range(60000)]
    # so many rows keep a worker's interpreter busy, on a slow machine for longer than the usual lease
    with opened(rows, tmp_path / "audit", generator=lengths, batch_size=60000, workers=1, lease_s=60.0,
                arrays={"x": ("int32", (1,))}, worker_python=request.getfixturevalue(python)) as run:
        run.take_all()
    batch, = run.batches
    assert len(batch) == 60000 and batch["x"].sum() == sum(len(row["text"]) for row in rows)


def test_a_batch_that_no_lease_can_hold(lengths):
    row = {"text": "x" * 1000000}
    with pytest.raises(ConfigError) as caught:
        open_stream([row] * 300, generator=lengths, batch_size=280, workers=0, arrays={"x": ("int32", (1,))})
    assert "the paths and rows of one batch have 280" in str(caught.value) and "smaller batch_size" in str(caught.value)
