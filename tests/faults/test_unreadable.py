"""A file with a permanent I/O error is bad after a few tries, by two workers where there are two; trouble of a network
file system is not."""

import errno
import json
import os

import pytest
from PIL import Image

import stoker
from stoker.pipeline.errors import RunFailed
from tests.support.processes import interpreter, python_with_path, wait_for

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unreadable")
BATCH = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 pictures in two classes."""
    root = tmp_path_factory.mktemp("unreadable")
    for index in range(24):
        place = root / ("cat", "dog")[index % 2]
        place.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (index * 10, 90, 200)).save(str(place / ("%02d.jpg" % index)))
    return str(root)


@pytest.fixture
def run(tmp_path, photos, monkeypatch):
    """Runs a stream on bad sectors; returns its audit without the workers' names, the bad files, and the tries."""
    def run(files, workers, number=errno.EIO, start_step=0, name="audit", **options):
        log = tmp_path / ("log-%d-%d" % (workers, start_step))
        log.write_text("")
        monkeypatch.setenv("FAULT_FILES", ":".join(files))
        monkeypatch.setenv("FAULT_ERRNO", str(number))
        monkeypatch.setenv("FAULT_LOG", str(log))
        python = python_with_path(tmp_path, HERE, interpreter("STOKER_TEST_WORKER_PYTHON"))
        options = dict(dict(image_size=8, batch_size=BATCH, epochs=2, seed=5, on_bad_image="replace", sandbox="off"),
                       **options)         # the injected code writes a log
        with stoker.open_stream(photos, workers=workers, worker_python=python, audit=str(tmp_path / name),
                                bad_samples=str(tmp_path / (name + ".tsv")), start_step=start_step, prefetch=1,
                                **options) as stream:
            for batch in stream:
                if batch.step == 0:       # no lease of a later step than the next one is there yet
                    wait_for(lambda: stream._coordinator.fleet.workers == workers, "all workers")
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        content = [{key: value for key, value in line.items() if key not in ("worker", "attempt")} for line in lines]
        return content, dict(stream.skipped), [int(line.split()[0]) for line in log.read_text().splitlines()]
    return run


def test_a_bad_sector_is_a_bad_file_after_tries_on_two_workers(run, photos, tmp_path):
    files = ["cat/04.jpg", "dog/11.jpg"]
    alone, skipped, tries = run(files, 1)
    assert sorted(skipped) == files and all("Input/output error" in reason for reason in skipped.values())
    assert len(alone) == 12 and all(line["used"] != line["indices"] for line in alone if line["skipped"])
    together, also_skipped, tries = run(files, 2, name="together")
    assert together == alone and also_skipped == skipped and len(set(tries)) == 2
    listed = (tmp_path / "together.tsv").read_text()
    assert "cat/04.jpg\tcat\tcannot be read on any try (Input/output error)\t" in listed
    # a resumed run finds the same: nothing has to be remembered, the file decides
    resumed, _, _ = run(files, 1, start_step=5, name="together")
    assert resumed == alone


def test_an_error_of_a_network_file_system_is_no_bad_file(run):
    with pytest.raises(RunFailed, match="Stale file handle|stale"):
        run(["cat/04.jpg"], 1, errno.ESTALE)


def test_a_file_system_on_which_nothing_can_be_read_ends_the_run(run):
    with pytest.raises(RunFailed, match="Input/output error"):
        run([".jpg"], 1)
