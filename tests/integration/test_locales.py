"""Names with any letters, and with bytes that are not UTF-8, in any locale. Python 3.6 knows ASCII under LC_ALL=C."""

import json
import os

import pytest
from PIL import Image

from tests.support.processes import Program, interpreter
from tests.support.training import audit, consumed, finished, predicted

CLASSES = (b"k\xc3\xa4tze", b"vogel\xe9", "日本".encode("utf-8"))      # the second is Latin-1

API = """
import json, sys
import numpy as np
import stoker

@stoker.sample({"x": ("uint8", (8, 8, 3))})
def opened(sample, random):
    with open(sample.file, "rb") as file:
        assert file.read(4) == b"\\\\x89PNG"
    return {"x": np.zeros((8, 8, 3), np.uint8)}

if __name__ == "__main__":
    python = sys.argv[1] or None
    for options in (dict(audit="prüfung.jsonl", bad_samples="schlechte.tsv", health_file="gesünd"),
                    dict(classes=["kätze", "日本"], validation="prüfung"), dict(generator=opened, keys="schlüssel"),
                    dict(label_word="kätze", cache="zwischenlägër")):
        if "cache" in options and python is None:
            del options["cache"]
        with stoker.open_stream("fotos für", image_size=8, batch_size=4, workers=1, worker_python=python,
                                **options) as stream:
            print("batches", len(list(stream)), "bad", stream.bad_files)
            print(stream.report())
"""


@pytest.fixture
def here(tmp_path):
    """A folder with data, for programs that run in it: eighteen pictures in three classes, and a bad file."""
    folder = os.fsencode(str(tmp_path / "here"))
    for data in ("fotos für", "prüfung"):
        for number, name in enumerate(CLASSES):
            os.makedirs(os.path.join(folder, data.encode("utf-8"), name))
            for picture in range(6):
                file = b"caf\xe9.png" if picture == 0 else "ä%d.png".encode("utf-8") % picture
                with open(os.path.join(folder, data.encode("utf-8"), name, file), "wb") as png:
                    Image.new("RGB", (20, 16), (40 * picture, 90, 60 * number)).save(png, "PNG")
    with open(os.path.join(folder, "fotos für".encode("utf-8"), CLASSES[0], b"kaputt.png"), "wb") as bad:
        bad.write(b"no picture")
    return tmp_path / "here"


def options(here, epochs):
    named = ["--epochs", epochs, "--batch-size", 4, "--image-size", 8, "--workers", 1, "--audit", os.fsdecode(
        "prüfung.jsonl".encode("utf-8")), "--validation", os.fsdecode("prüfung".encode("utf-8")), "--checkpoint-dir",
        os.fsdecode("läufe ".encode("utf-8") + b"\xe9")]
    python = interpreter("STOKER_TEST_WORKER_PYTHON")
    return named + (["--worker-python", python] if python else [])


def test_a_run_goes_on_under_another_locale(here):
    """One list of bad files, one audit, one checkpoint, whatever the locale of each part."""
    pytest.importorskip("tensorflow")
    data = os.fsdecode("fotos für".encode("utf-8"))
    for epochs, locale in ((1, "C"), (2, "C.UTF-8"), (3, "POSIX")):
        more = {"PYTHONIOENCODING": "ascii"} if epochs == 2 else {}
        run = finished(here, data, *options(here, epochs), LC_ALL=locale, **more)
        assert run.code == 0 and "Traceback" not in run.stderr, run
        assert "; 1 bad file (listed in " in run.stdout.splitlines()[-3], run
    lines = consumed(audit(os.path.join(str(here), os.fsdecode("prüfung.jsonl".encode("utf-8")))))
    assert [line[0] for line in lines] == list(range(len(lines))) and len(lines) == 3 * 5
    folder = os.path.join(os.fsencode(str(here)), "läufe ".encode("utf-8") + b"\xe9")
    with open(os.path.join(folder, b"bad-samples.tsv"), "rb") as listed:
        assert len(listed.readlines()) == 2
    with open(os.path.join(folder, b"stoker.json"), encoding="ascii") as record:
        assert sorted(json.load(record)["classes"]) == sorted(["kätze", "vogel\udce9", "日本"])
    run = predicted(here, os.fsdecode("läufe ".encode("utf-8") + b"\xe9"), data, "-o", os.fsdecode(
        "ergebnis é.csv".encode("utf-8")), *options(here, 1)[-2:] if interpreter("STOKER_TEST_WORKER_PYTHON") else [],
        "--workers", 1, LC_ALL="C")
    assert run.code == 0, run
    with open(os.path.join(os.fsencode(str(here)), "ergebnis é.csv".encode("utf-8")), "rb") as written:
        head, *rows = written.read().split(b"\n")[:-1]
    assert b",".join(b"score_" + name for name in CLASSES[:2]) in head and len(rows) == 19, head


@pytest.mark.parametrize("workers", ["same", "other"])
def test_names_that_a_program_writes_in_its_text(here, workers):
    """A program's own 'ü' is no name that Python 3.6 can open under LC_ALL=C."""
    python = interpreter("STOKER_TEST_WORKER_PYTHON") if workers == "other" else None
    (here / "programm.py").write_bytes(API.replace('"\\\\x89', '"\\x89').encode("utf-8"))
    with Program(["-m", "stoker.pipeline.transport.keys", os.fsdecode("schlüssel".encode("utf-8"))],
                 cwd=str(here)) as made:
        assert made.wait() == 0
    with Program(["programm.py", python or ""], cwd=str(here), LC_ALL="C") as program:
        assert program.wait() == 0, program.text
    assert [line for line in program.lines if line.startswith("batches")] == [
        "batches 5 bad 1", "batches 7 bad 1", "batches 5 bad 1", "batches 5 bad 1"], program.text
    found = set(os.listdir(os.fsencode(str(here))))
    assert found >= {"prüfung.jsonl".encode("utf-8"), "gesünd".encode("utf-8")}
    assert not [name for name in found if b"\\" in name]
