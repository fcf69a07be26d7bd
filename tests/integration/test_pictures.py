"""Pictures with more than 8 bits per channel and files beyond PIL's limits: command line, ``open_stream``, functions of
the user that open files with PIL themselves, resuming and predicting."""

import csv
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

import stoker
from stoker.pipeline.formats import FORMATS
from stoker.pipeline.options import FORMER
from stoker.trainer.record import files as records
from stoker.trainer.record.folder import RunFolder
from tests.support.bad_pictures import HEIC, jpeg, photo
from tests.support.processes import Log, interpreter
from tests.support.training import finished, predicted

OWN = """
import numpy as np
import stoker
from PIL import Image

@stoker.sample({"image": ("uint8", (8, 8, 3))})
def opened_by_pil(sample, random):
    with Image.open(sample.file) as image:
        return {"image": np.asarray(image.convert("RGB").resize((8, 8)))}
"""
PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")      # before a test changes the current folder
LEVELS = np.arange(64, dtype=np.uint16) * 1000


@pytest.fixture
def photos(tmp_path):
    """Two classes; one picture of 16 bits, one that is cut off, and one that a phone made."""
    root = tmp_path / "photos"
    for number in range(16):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        photo(number).save(str(folder / ("%02d.jpg" % number)))
    Image.frombytes("I;16", (64, 64), np.tile(LEVELS, (64, 1)).astype("<u2").tobytes()).save(str(root / "cat/deep.tif"))
    (root / "dog" / "cut.jpg").write_bytes(jpeg(str(root / "dog" / "cut.jpg"), photo(3))[:-300])
    (root / "dog" / "phone.jpg").write_bytes(HEIC)
    return root


def batches(root, **options):
    """(index -> pixels of its sample, path -> why it is bad, warnings) of one pass."""
    with Log() as log, stoker.open_stream(str(root), image_size=8, batch_size=6, training=False, workers=2,
                                          worker_python=PYTHON, **options) as stream:
        found, bad = {}, {}
        for batch in stream:
            found.update(zip(batch.paths, batch.arrays[0].copy()))
            bad.update((skip.index, skip.reason) for skip in batch.skipped)
    return found, sorted(bad.values()), [line for line in log.lines if "a picture holds" in line]


def test_a_stream_takes_the_upper_bits_and_with_exact_warns_once(photos):
    found, bad, warned = batches(photos)
    assert bad == ["HEIC, not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM", "OSError: image file is truncated; "
                   "truncated='use' (--truncated use) takes the part that is there"]
    ramp = found["cat/deep.tif"][4, :, 0].astype(int)
    assert abs(ramp - (LEVELS >> 8).reshape(8, 8).mean(axis=1)).max() < 20 and warned == []
    found, _, warned = batches(photos, decode="exact")
    assert found["cat/deep.tif"].mean() > 240
    assert len(warned) == 1 and warned[0].endswith("; the first one: cat/deep.tif")


def test_a_stream_takes_truncated_files_if_it_is_told_so(photos, tmp_path, monkeypatch):
    found, bad, _ = batches(photos, truncated="use")
    assert "dog/cut.jpg" in found and bad == ["HEIC, not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"]
    _, bad, _ = batches(photos, max_pixels=48 * 64 - 1)
    assert len(bad) == 19
    assert bad[0].startswith("DecompressionBombError: Image size (3072 pixels) exceeds limit of 3071 pixels")
    (tmp_path / "own_functions.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found, bad, _ = batches(photos, generator="own_functions:opened_by_pil", truncated="use")
    assert "dog/cut.jpg" in found and bad == ["HEIC, not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"]


def test_the_options_belong_to_the_run(photos, tmp_path):
    """A run with them cannot go on without them, and stoker-predict has them too."""
    pytest.importorskip("tensorflow")
    options = [photos, "--image-size", 8, "--batch-size", 6, "--epochs", 1, "--workers", 1, "--checkpoint-dir",
               tmp_path / "run"]
    trained = finished(tmp_path / "a", *(options + ["--truncated", "use", "--max-text-mb", 3]))
    assert trained.code == 0, trained
    assert "cut.jpg" not in (tmp_path / "run" / "bad-samples.tsv").read_text()
    saved = json.loads((tmp_path / "run" / "stoker.json").read_text())
    assert (saved["truncated"], saved["max_text_mb"]) == ("use", 3)
    assert saved["max_pixels"] == 64000000 and saved["formats"] == "default"
    refused = finished(tmp_path / "b", *(options + ["--max-text-mb", 3]))
    assert refused.code != 0 and 'is of a run with truncated "use", but this run has "bad"' in refused.stderr
    lines = predicted(tmp_path / "c", tmp_path / "run", photos / "dog", "--workers", 1)
    assert lines.code == 0, lines
    errors = {os.path.basename(row["path"]): row["error"] for row in csv.DictReader(io.StringIO(lines.stdout))}
    assert errors["cut.jpg"] == "" and errors["phone.jpg"].startswith("HEIC, not JPEG")


def test_a_checkpoint_of_an_older_release_keeps_its_limits(photos, tmp_path):
    """Its record has no max_pixels, max_file_mb, formats: it goes on with the former ones, unless others are given."""
    pytest.importorskip("tensorflow")
    options = [photos, "--image-size", 8, "--batch-size", 6, "--workers", 1, "--checkpoint-dir", tmp_path / "run"]
    trained = finished(tmp_path / "a", *(options + ["--epochs", 1, "--max-pixels", 178956970, "--max-file-mb", 1024,
                                                         "--formats", ",".join(FORMATS)]))
    assert trained.code == 0, trained
    saved = json.loads((tmp_path / "run" / "stoker.json").read_text())
    assert not {"max_pixels", "max_file_mb", "formats"} & set(saved)
    again = finished(tmp_path / "b", *(options + ["--epochs", 2]))
    assert again.code == 0 and "going on from step" in again.stdout, again
    refused = finished(tmp_path / "c", *(options + ["--epochs", 3, "--max-pixels", 64000000]))
    assert refused.code != 0 and "is of a run with max pixels 178956970, but this run has 64000000" in refused.stderr
    recorded = json.loads((tmp_path / "run" / "stoker-run.json").read_text())
    assert {name: recorded["options"].pop(name) for name in FORMER} == dict(FORMER, formats=list(FORMATS))
    del recorded["checksum"]
    folder = RunFolder(str(tmp_path / "run"))
    records.write_json(folder, records.RUN, recorded)       # as an older release wrote it
    options = records.recorded_run(folder).options
    assert {name: options[name] for name in FORMER} == FORMER
    refused = finished(tmp_path / "d", *(photos, "--image-size", 8, "--batch-size", 6, "--workers", 1, "--epochs", 3,
                                         "--checkpoint-dir", tmp_path / "run", "--formats", "jpeg"))
    assert refused.code != 0 and 'is of a run with formats ["jpeg", "png", ' in refused.stderr
    assert 'but this run has ["jpeg"]' in refused.stderr
