"""WebDataset itself reads the shards that stoker-pack makes: the same samples, in the same order, by its decoders."""

import hashlib
import json
import os
import subprocess

import pytest

from tests.engines.needs import python_of
from tests.integration.test_pack import make_folder, pack, picture, samples, tfrecords
from tests.support.processes import LIMIT_S

READER = """
import hashlib, json, sys, webdataset
for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False, empty_check=False).decode():
    print(json.dumps([sample["__key__"], hashlib.sha256(sample["jpg"]).hexdigest(), sample["cls"], sample.get("json")]))
"""


def read(folder):
    """What webdataset finds: [(key, hash of the picture, class, columns)]."""
    names = sorted(os.path.join(str(folder), name) for name in os.listdir(str(folder)) if name.endswith(".tar"))
    done = subprocess.run([python_of("stores"), "-c", READER] + names, stdout=subprocess.PIPE,
                          universal_newlines=True, timeout=LIMIT_S, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.needs("environment stores")
def test_webdataset_reads_packed_folders_and_tfrecords(tmp_path):
    if subprocess.run([python_of("stores"), "-c", "import webdataset"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("webdataset is not installed in .venv/stores")
    folder = make_folder(tmp_path / "photos")
    pack(folder, tmp_path / "folder", "--shard-mb", 1, "--shuffle", 1)
    found = read(tmp_path / "folder")
    assert len(found) == 90 and found == [
        [key, hashlib.sha256(parts["jpg"]).hexdigest(), int(parts["cls"]), None]
        for key, parts in samples(tmp_path / "folder")]
    tfrecords(tmp_path)
    pack(tmp_path / "a-0*", tmp_path / "tf", "--columns", "image/filename")
    assert read(tmp_path / "tf") == [
        ["%09d" % number, hashlib.sha256(picture(number)).hexdigest(), number % 4,
         {"image/filename": "%d.JPEG" % number}] for number in range(30)]
