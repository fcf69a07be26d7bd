"""Hostile pictures of every kind in one run, with the usual limits of pixels and memory, and all formats named."""

import re

import pytest

from stoker.pipeline.monitoring.bad_samples import escaped
from tests.support.hostile_folder import ALL, Outcome, bad_names, make
from tests.support.hostile_pictures import NAMES
from tests.support.processes import interpreter

PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")      # before a test changes the current folder
GOOD, CPU_S = 40, 3.0
LEFT_OUT = {"slow-grey.jpg", "comments.gif"}           # one slow picture is enough here: each costs nine seconds
#: what -> (attempt, what happens, names of files).
ROWS = {
    "bombs": ("files of 34 bytes to 0.8 MB that are pictures of 67 to 900 megapixels: WebP, PNG, GIF, BMP, TIFF, JPEG",
              "bad, by their headers: more pixels than max_pixels", [
                  "webp-34-bytes.webp", "canvas-16384.webp", "above.png", "beyond-pils.png", "screen.gif", "above.gif",
                  "above.tif", "above.jpg", "width.bmp"]),
    "slow": ("a progressive JPEG of 0.1 MB with 5,000 scans: 13 s of CPU time",
             "it ends two workers at picture_cpu_s; the search for files that kill names it, and the run goes on",
             ["slow.jpg"]),
    "parts": ("TIFFs with millions of strips or tiles for 8 x 8 pixels; texts and profiles in a PNG that unpack to "
              "256 MB", "bad: the numbers of a tag and the size of texts are limited",
              ["strips.tif", "tiles.tif", "counts.tif", "huge-text.png", "profile.png", "packed-texts.png"]),
    "liars": ("headers that promise what is not there, or nothing: no strips, no scan, no frame, sides of 0 or of "
              "2^31, files that end early", "bad", [
                  "no-strips.tif", "no-scan.jpg", "no-frame.webp", "no-sides.bmp", "sides.png", "cut.png", "cut.jpg"]),
    "names": ("names of files with escape sequences, line breaks and characters that turn the direction of writing",
              "log and list have them escaped, a line each", list(NAMES)),
    "webp": ("WebP files, where the worker's libwebp has a fault by which a file can run code (CVE-2023-4863)",
             "bad with this reason, though the format is named; a newer Pillow opens them", ["old-libwebp.webp"]),
    "sparse": ("sparse files of 1 GB and 4 TB", "bad by their size, unread", ["gigabytes.png", "terabytes.jpg"]),
}


@pytest.mark.parametrize("python", [None, PYTHON], ids=["3.6", "newest"])
def test_hostile_pictures_of_every_kind(tmp_path, python, attacks):
    hostile = [name for name in ALL if name not in LEFT_OUT]
    root = make(str(tmp_path / "pictures"), GOOD, hostile=hostile)
    run = Outcome(root, tmp_path / "audit", 2, python, image_size=32, batch_size=8, picture_cpu_s=CPU_S)
    run.check({name: why for name, why in bad_names(python is None).items() if name in hostile}, GOOD + len(hostile))
    for kind, (_, _, names) in ROWS.items():
        assert set(names) <= set(run.bad) or kind == "webp" and python is not None
    assert "CPU time" in run.bad["slow.jpg"]
    lines = run.listed.decode().splitlines()
    assert {line.split("\t")[0] for line in lines[1:]} == {escaped(name) for name in run.bad}
    assert len(lines) == 1 + len(run.bad) and not re.search("[\x00-\x08\x0b-\x1f\x7f\x9b\u202e]", run.listed.decode())
    for text in ("\x1b", "\u202e", "\x08"):
        assert text not in run.text
    assert not any(line.startswith("stoker: all is well") for line in run.text.splitlines())
    if python is not None:
        for attempt, fate, _ in ROWS.values():
            attacks("the data: a picture", attempt, fate)
