"""Indexes of record files in stores: made by processes, kept in the user's cache, never those of a replaced file."""

import os

import pytest

import stoker
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import indexing, kept_index
from stoker.pipeline.storage import opening
from tests.support import tfrecords as made


def contents(text, count=400):
    return made.tfrecord(*({"image/encoded": [text * number], "image/class/label": [number % 3]}
                           for number in range(1, count)))


@pytest.fixture(params=["s3", "web"])
def store(request, s3, web, monkeypatch, tmp_path):
    """(URL of a folder, what puts a file into it)."""
    server = {"s3": s3, "web": web}[request.param]
    for name, value in getattr(server, "environment", {}).items():
        monkeypatch.setenv(name, value)
    opening.forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "records-%s" % os.urandom(4).hex()
    (server.bucket if request.param == "s3" else server.folder)(name)
    yield ("s3://" + name if request.param == "s3" else "%s/%s" % (server.url, name),
           lambda key, data: server.put(name, key, data))
    opening.forget()


def test_an_index_of_a_store_is_made_once_for_each_version(store, tmp_path, monkeypatch):
    url, put = store
    here = tmp_path / "here"
    here.mkdir()
    for number in range(3):
        put("a/%d.tfrecord" % number, contents(b"%d" % number))
        (here / ("%d.tfrecord" % number)).write_bytes(contents(b"%d" % number))
    monkeypatch.setattr(indexing, "SMALL_BYTES", 0)
    monkeypatch.setattr(indexing, "cores", lambda: 2)
    pattern = url + "/a/{0..2}.tfrecord"
    source = stoker.tfrecord(pattern)
    assert source.root == url + "/a" and source.changed() is None
    assert source.fingerprint() == stoker.tfrecord(str(here / "*.tfrecord")).fingerprint()
    assert len(os.listdir(kept_index.cache_folder())) == 3

    def none(*arguments):
        raise AssertionError("a file is indexed again")
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "_make", none)
        assert stoker.tfrecord(pattern).fingerprint() == source.fingerprint()
    put("a/1.tfrecord", contents(b"?"))              # of the same size
    assert "1.tfrecord has changed since it was indexed at" in source.changed()
    assert "1.tfrecord" not in (stoker.tfrecord(pattern).changed() or "")


def test_a_file_that_is_not_there_or_damaged_is_a_sentence(store):
    url, put = store
    put("b/0.tfrecord", contents(b"0")[:-1])
    with pytest.raises(DatasetError, match=r"0.tfrecord: record 398 \(at byte \d+\) is torn"):
        stoker.tfrecord(url + "/b/0.tfrecord")
    with pytest.raises(DatasetError, match="1.tfrecord"):
        stoker.tfrecord(url + "/b/{0..1}.tfrecord")
