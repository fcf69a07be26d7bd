"""All of Pillow's own test pictures, odd and broken ones, with the trainer's Pillow and the workers'."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.pillow_pictures import names_in
from tests.support.processes import ROOT

LIMIT_S = 600


@pytest.fixture(scope="module")
def folder():
    found = os.environ.get("STOKER_TEST_PILLOW_PICTURES")
    if not found and os.environ.get("STOKER_REQUIRE_PICTURES") == "1":
        pytest.fail("STOKER_TEST_PILLOW_PICTURES names no folder: sh .setup/pillow-pictures.sh makes it")
    return os.path.abspath(found) if found else pytest.skip(
        "STOKER_TEST_PILLOW_PICTURES names no folder: sh .setup/pillow-pictures.sh makes it")


def test_exact_is_what_pil_makes_and_every_way_opens_the_same_files(folder, tmp_path, worker_python):
    """With both Pillows, at the same time: 'exact' equals PIL's expression to the last bit in four sizes, upright too;
    each way to decode, each mode of sample.image and the cache open the same files. Upper 8 bits do not depend on
    Pillow."""
    pythons = [sys.executable] + [worker_python] * (worker_python is not None)
    running = [subprocess.Popen([python, "-m", "tests.support.pillow_pictures", folder, str(tmp_path / str(number))],
                                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
               for number, python in enumerate(pythons)]
    try:
        results = [json.loads(process.communicate(timeout=LIMIT_S)[0].decode()) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert len(names_in(folder)) > 700
    for result in results:
        assert result["wrong"] == []
        assert result["cached"] == len(result["files"]) > 640
    first, last = results[0]["files"], results[-1]["files"]
    deep = {name: upper for name, (_, _, upper) in first.items() if upper and name in last}
    assert len(deep) > 15
    assert deep == {name: last[name][2] for name in deep}
