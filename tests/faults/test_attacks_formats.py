"""Pictures that promise far more than they hold, and pictures of formats whose libraries have known faults."""

import os
import re

import pytest

from stoker.pipeline.formats import FORMATS
from tests.support.bad_pictures import photo, png
from tests.support.formats import WEBP_IS_SAFE
from tests.support.hostile_headers import huge_webp, many_strips
from tests.support.processes import interpreter, opened, worker_pids

PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")      # before a test changes the current folder
OPTIONS = {"image_size": 32, "batch_size": 8, "training": False, "labels": False, "workers": 2}
PYTHONS = pytest.mark.parametrize("python", [None, PYTHON], ids=["3.6", "newest"])
TOO_LARGE = "pixels\\) exceeds limit of 64000000 pixels; max_pixels \\(--max-pixels\\) permits more$"


def sparse(path, size):
    photo().save(path, format="BMP")
    os.truncate(path, size)


#: name -> (how it is written, the reason why it is bad).
PROMISES = {
    "simple.webp": (lambda path: _write(path, huge_webp("VP8 ")), TOO_LARGE),
    "lossless.webp": (lambda path: _write(path, huge_webp("VP8L")), TOO_LARGE),
    "canvas.webp": (lambda path: _write(path, huge_webp("VP8X")), TOO_LARGE),
    "large.png": (lambda path: _write(path, png(8001, 8000)), TOO_LARGE),
    "strips.tif": (lambda path: _write(path, many_strips(8 << 20)), "8388608 numbers in one tag"),
    "sparse.bmp": (lambda path: sparse(path, (128 << 20) + 1), "a file of more than 134217728 bytes; max_file_mb"),
}


def _write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def folder_of(root, hostile, good=24):
    root.mkdir()
    for number in range(good):
        photo(number).save(str(root / ("%02d.jpg" % number)))
    for name, (write, _) in hostile.items():
        write(str(root / name))
    return root


def outcome(root, audit, python=None, lines=None, **options):
    """(path -> why it is bad, how many samples came, the most memory of a worker in MB) of one pass. ``lines`` gets the
    warnings about formats."""
    with opened(root, audit, worker_python=python, **dict(OPTIONS, **options)) as run:
        run.take_all()
        peak = max(map(peak_mb, worker_pids()))
        names = sorted(os.listdir(str(root)))
        bad = {names[skip.index]: skip.reason for batch in run.batches for skip in batch.skipped}
        assert run.log.having("killed") == run.log.having("its predecessor ended") == []
        if lines is not None:
            lines += run.log.having("by the name, and a worker has")
        return bad, sum(len(batch) for batch in run.batches), peak


def peak_mb(pid):
    with open("/proc/%d/status" % pid) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


@PYTHONS
def test_headers_that_promise_much_cost_no_memory(tmp_path, python, attacks):
    """A WebP of 34 bytes took 2.7 GB, a TIFF with 8 million strips 2.5 GB and 41 s."""
    _, count, usual_mb = outcome(folder_of(tmp_path / "good", {}), tmp_path / "clean", python)
    assert count == 24
    root = folder_of(tmp_path / "hostile", PROMISES)
    for decode in ("fastest", "exact"):
        bad, count, peak_mb = outcome(root, tmp_path / decode, python, decode=decode, formats=FORMATS)
        assert count == 24 and set(bad) == set(PROMISES)
        for name, (_, reason) in PROMISES.items():
            is_opened = WEBP_IS_SAFE or python is not None or not name.endswith(".webp")
            assert re.search(reason if is_opened else "CVE-2023-4863", bad[name]), (name, bad[name])
        assert peak_mb < usual_mb + 100, (decode, usual_mb)
    if python is not None:
        return                  # one row is enough
    attacks("the data: a picture", "WebPs of 34 bytes with 268 megapixels, a PNG of 64.008 megapixels, a TIFF with 8 "
            "million strips, a sparse file of 129 MB",
            "each is bad and named, by its header: no memory is taken for it")


@pytest.fixture
def of_each_format(tmp_path):
    """24 JPEGs, two WebPs of which one is called .jpg, and a TIFF."""
    root = folder_of(tmp_path / "data", {})
    photo().save(str(root / "x.webp"))
    photo().save(str(root / "y.jpg"), "WEBP")
    photo().save(str(root / "z.tif"))
    return root


@pytest.mark.skipif(WEBP_IS_SAFE, reason="this Python's Pillow has a libwebp without the fault")
def test_a_webp_is_opened_only_by_workers_whose_libwebp_is_safe(of_each_format, tmp_path, attacks):
    """CVE-2023-4863: a crafted file writes behind the end of the heap of the trainer's own Python's Pillow."""
    lines = []
    bad, count, _ = outcome(of_each_format, tmp_path / "default", lines=lines)
    assert set(bad) == {"x.webp", "y.jpg", "z.tif"} and count == 24
    for name in ("x.webp", "y.jpg"):
        assert re.match(r"WebP, not opened, for libwebp 1\.2\.1 has CVE-2023-4863: use workers with a newer Pillow",
                        bad[name])
    assert re.match(r"TIFF, not opened, for libtiff 4\.3\.0 has known faults: .*--formats with tiff in it$",
                    bad["z.tif"])
    assert [line.split(" by the name")[0].replace("stoker: ", "") for line in lines] == [
        "1 file of the data is a WebP", "1 file of the data is a TIFF"]        # once, although there are two workers
    lines = []
    bad, count, _ = outcome(of_each_format, tmp_path / "named", lines=lines, formats="jpeg,webp,tiff")
    assert set(bad) == {"x.webp", "y.jpg"} and count == 25 and len(lines) == 1      # naming WebP does not open it
    if PYTHON is not None:
        lines = []
        assert outcome(of_each_format, tmp_path / "newest", PYTHON, lines)[:2] == ({}, 27) and lines == []
    attacks("the data: a picture", "a WebP for workers whose libwebp has CVE-2023-4863, also one that is called .jpg",
            "bad, with that reason, before the library sees it; a warning when the first such worker joins")


@PYTHONS
def test_only_the_formats_that_a_run_names_are_opened(of_each_format, tmp_path, python, attacks):
    bad, count, _ = outcome(of_each_format, tmp_path / "audit", python, formats="jpg")
    assert count == 24 and set(bad) == {"x.webp", "y.jpg", "z.tif"}
    assert bad["x.webp"] == bad["y.jpg"] == "WebP, and the run opens only jpeg (--formats)"
    assert bad["z.tif"] == "TIFF, and the run opens only jpeg (--formats)"
    if python is None:
        attacks("the data: a picture", "a file of a format that the run does not need (`--formats jpeg`), whatever its "
                "name", "bad, with that reason, by its first bytes")
