"""The programs and commands of docs/DATA.md that name a bucket or a web server, with real ones."""

import re
import shlex

import pytest

import stoker
from tests.support import data_page
from tests.support.documents import read
from tests.support.processes import Log, free_port, workers_program

ELSEWHERE = "http://data.example.org"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    data_page.make(folder)
    return folder


@pytest.fixture(scope="module")
def bucket(s3, folder):
    """The bucket of the page, in which its data lie. What clients need."""
    s3.bucket("pets", folder)
    return s3.environment


def test_the_program_of_the_bucket(bucket, folder):
    assert data_page.run_program(folder, "bucket", **bucket).splitlines() == ["(16, 64, 64, 3)"] * 3


def test_the_program_of_the_web_server(web, folder):
    web.folder("page", folder)
    said = data_page.run_program(folder, "web", [(ELSEWHERE, web.url + "/page")])
    assert said == "(16, 64, 64, 3)"


def test_a_worker_by_the_command_of_the_page(bucket, folder, monkeypatch):
    """Without the keys of the page: this trainer is on the same host."""
    command, = re.findall(r"^stoker-worker (.*)$", read(data_page.PAGE), re.MULTILINE)
    words = shlex.split(command)
    address = "tcp://127.0.0.1:%d" % free_port()
    options = words[words.index("--data"):]
    assert options == ["--data", "s3://pets/photos"]
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    with workers_program(address, "--processes", "1", "--once", *options) as worker, Log(), \
            stoker.open_stream(str(folder / "photos"), bind=address, workers=0, image_size=32) as stream:
        assert len(next(stream)) == 32 and not stream.skipped
        stream.close()
        assert worker.wait() == 0, worker.text


def test_a_bucket_is_packed(bucket, folder):
    command, = re.findall(r"`(stoker-pack s3://[^`]*)`", read(data_page.PAGE))
    data_page.run(folder, "-m", "stoker.packing.pack", *shlex.split(command)[1:], **bucket)
    assert len(stoker.tar(str(folder / "packed" / "train-*.tar"))) == 60
