"""The same pictures in S3, in Google's storage and on a web server give the audit of a local folder, with workers of
both Pythons, killed and stopped. Servers are real; tars are written by webdataset, TFRecords by TensorFlow 1.9."""

import os

import pytest

import stoker
from tests.engines.needs import python_of
from tests.support import stored
from tests.support.agreement import ENCODED, Agreement

#: How a URL begins -> the fixture of its server.
FIXTURES = {"s3": "s3", "gs": "gcs", "http": "web"}
#: form -> (function, Python, chaos) in each store: both Pythons, which have other clients, read files as a whole and
#: parts of record files.
RUNS = {"files": [("augmented", "old", True), ("parts", "newest", True)], "tfrecord": [("parts", "newest", True)],
        "tar": [("augmented", "old", False)]}


@pytest.fixture(scope="module")
def agreement(tmp_path_factory, python36, worker_python):
    agreement = Agreement(tmp_path_factory.mktemp("audits"), {"old": python36, "newest": worker_python})
    yield agreement
    agreement.check_chaos()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with files/ (JPEGs, with a table of rows) and records/."""
    root = tmp_path_factory.mktemp("data")
    files, records = root / "files", root / "records"
    files.mkdir()
    records.mkdir()
    pictures = stored.drawn(files)
    stored.write_rows(files, pictures)
    stored.write_tfrecords(records, pictures)
    stored.write_tars_by_webdataset(records, pictures, python_of("stores"))
    return str(root)


@pytest.fixture(scope="module", params=sorted(FIXTURES))
def url(request, data):
    """Where the folder is in a store."""
    server = request.getfixturevalue(FIXTURES[request.param])
    if request.param == "http":
        return "%s/%s" % (server.url, server.folder("agree", data))
    return "%s://%s" % (request.param, server.bucket("agree", data))


@pytest.fixture(autouse=True)
def environment(request, url, monkeypatch):
    """What trainer and local workers need of it."""
    server = request.getfixturevalue(FIXTURES[url.split(":")[0]])
    for name, value in getattr(server, "environment", {}).items():
        monkeypatch.setenv(name, value)


def files_at(url, files, function):
    """The folder of pictures at ``url``, a copy of the local one ``files``, as data for ``function``."""
    if function == "parts":
        return stoker.jsonl(os.path.join(files, "rows.jsonl"), root=url + "/files")
    if not url.startswith("http"):
        return url + "/files"
    local = stoker.scan_folder(files)               # a web server has no list
    return stoker.Dataset(url + "/files", local.classes, local.paths, local.labels, ())


@pytest.mark.parametrize("form", sorted(RUNS))
def test_a_store_agrees_with_a_local_folder(agreement, data, url, form):
    files = os.path.join(data, "files")
    for function, python, chaos in RUNS[form]:
        there = files_at(url, files, function) if form == "files" else (
            ENCODED[form][function == "parts"](url + "/records"))
        here = stoker.jsonl(os.path.join(files, "rows.jsonl")) if function == "parts" else files
        agreement.check("%s-%s" % (url.split(":")[0], form), there, here, function, python, chaos)
