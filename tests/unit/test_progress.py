"""Progress where tqdm is not installed."""

import sys

from stoker.pipeline import progress


def test_without_tqdm_progress_is_a_line_now_and_then(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tqdm", None)                    # an import of it fails
    with progress.open_bar(1200, "files", "check") as bar:
        for _ in range(1200):
            bar.update(1)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "check: 1 of 1,200 files" and lines[-1] == "check: 1,200 of 1,200 files"
    assert len(lines) < 1200
