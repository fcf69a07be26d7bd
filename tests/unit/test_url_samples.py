"""Samples in stores: what the errors of a store are worth, and paths that lead nowhere else."""

import pytest

from stoker.pipeline.errors import ConfigError, ProtocolError, UnfitWorker
from stoker.pipeline.storage import url_sample
from stoker.pipeline.storage.folder import ENDS_BEFORE, BadFile, check_file, check_root, read_file, resolve
from stoker.pipeline.storage.store import Damaged, Entry, Gone, Refused, TooLarge, TooShort, Unavailable, remote_version
from stoker.workers.readers import Readers
from tests.support.caching import job

ROOT = "s3://bucket/photos"
CONTENT = bytes(range(200))


class Bucket:
    """A store of a few files, which keeps the contract of ``storage.store``. ``error``: raised by all it does."""
    root = ROOT

    def __init__(self, files):
        self.files, self.error, self.asked = files, None, []

    def size(self, path):
        if self.error is not None:
            raise self.error
        if path not in self.files:
            raise Gone("no %s" % path)
        return Entry(path, remote_version(len(self.files[path]), "etag"))

    def read(self, path, offset=0, length=None, max_bytes=1 << 30):
        self.asked.append((path, offset, length))
        entry, data = self.size(path), self.files[path]
        if (len(data) - offset if length is None else length) > max_bytes:
            raise TooLarge("%s has more" % path)
        if length is not None and offset + length > len(data):
            raise TooShort("%s ends before" % path)
        return data[offset:None if length is None else offset + length], entry.version


@pytest.fixture
def bucket(monkeypatch):
    bucket = Bucket({"a b.jpg": CONTENT, "sub/t.tar": CONTENT, "100%.jpg": b"1", "caf\u00e9.jpg": b"2"})
    monkeypatch.setattr(url_sample, "open_store", lambda root, note: {ROOT: bucket}[root])
    return bucket


def test_files_and_places(bucket):
    for text, wanted in (("a b.jpg", CONTENT), ("sub/t.tar//5+10", CONTENT[5:15]), ("./sub//t.tar//5+0", b""),
                         ("100%.jpg", b"1"), ("caf\u00e9.jpg", b"2"), (ROOT + "/sub/t.tar//5+10", CONTENT[5:15])):
        assert Readers(job(ROOT)).bytes(text) == wanted
    data, version = read_file(resolve(ROOT, "sub/t.tar//5+10"))
    assert data == CONTENT[5:15] and version == bucket.size("sub/t.tar").version
    assert resolve(ROOT, "sub/t.tar//5+10").key == b"s3://bucket/photos/sub/t.tar//5+10"
    assert len(bucket.asked) == 7                        # one request each


def test_paths_are_taken_from_any_name_of_the_root(bucket):
    readers = Readers(job(ROOT, trainer_root="/mnt/photos"))
    assert readers.bytes("/mnt/photos/a b.jpg") == CONTENT
    readers = Readers(job(ROOT, trainer_root="https://data.example/photos"))
    assert readers.bytes("https://data.example/photos/a%20b.jpg") == CONTENT
    for path in ("https://data.example/photos2/a.jpg", "https://data.example/photos/../x", "s3://bucket/photo",
                 "s3://other/photos/a b.jpg", "https://u:p@data.example/photos/a.jpg"):
        with pytest.raises(ConfigError, match="is not below the data folder"):
            readers.bytes(path)


def test_a_folder_here_for_a_url_of_the_trainer(tmp_path):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    readers = Readers(job(tmp_path, trainer_root=ROOT))
    assert readers.bytes(ROOT + "/a.tar//5+3") == readers.bytes("a.tar//5+3") == CONTENT[5:8]


def test_what_is_gone_is_bad_with_the_reason_of_a_folder(bucket, tmp_path):
    reasons = set()
    for root in (ROOT, str(tmp_path)):
        for text in ("gone.jpg", "gone.tar//0+5"):
            with pytest.raises(BadFile) as caught:
                Readers(job(root)).bytes(text)
            assert caught.value.path == text
            reasons.add(str(caught.value))
    assert reasons == {"FileNotFoundError: no such file"}


def test_limits(bucket):
    assert read_file(resolve(ROOT, "a b.jpg"), 200)[0] == CONTENT
    bucket.asked.clear()
    for text in ("a b.jpg", "a b.jpg//0+200"):
        with pytest.raises(BadFile, match="^a file of more than 199 bytes; advice$"):
            read_file(resolve(ROOT, text), 199, "; advice")
    assert bucket.asked == [("a b.jpg", 0, None)]         # the other one is not even asked for


def test_a_place_behind_the_end(bucket):
    for text in ("a b.jpg//199+2", "a b.jpg//%d+1" % (1 << 38)):
        with pytest.raises(BadFile) as caught:
            read_file(resolve(ROOT, text))
        assert str(caught.value) == ENDS_BEFORE


@pytest.mark.parametrize("error, raised", [
    (Refused("s3://bucket refuses this host (403): set credentials."), UnfitWorker),
    (Damaged("too few bytes, five times"), Damaged), (Unavailable("no answer in 60 s"), Unavailable)])
def test_trouble_of_a_store_makes_no_file_bad(bucket, error, raised):
    bucket.error = error
    for ask in (lambda: read_file(resolve(ROOT, "a b.jpg")), lambda: read_file(resolve(ROOT, "a b.jpg//1+2")),
                lambda: check_file(resolve(ROOT, "a b.jpg")), lambda: check_root(ROOT, ("a b.jpg",)),
                lambda: Readers(job(ROOT)).bytes("a b.jpg")):
        with pytest.raises(raised, match=str(error).split(" (")[0].rstrip(".")):
            ask()


def test_a_root_with_none_of_the_probes_is_the_wrong_one(bucket):
    check_root(ROOT, ())
    check_root(ROOT, ("gone.jpg", "sub/t.tar//5+10"))
    with pytest.raises(UnfitWorker, match="s3://bucket/photos is not the dataset's .*of 2 files .*'gone.jpg'.*--data"):
        check_root(ROOT, ("gone.jpg", "gone.tar//0+5"))


@pytest.mark.parametrize("path", [
    "../secret", "a/../../secret", "..", "", "/secret", "a\0b", "\ud800", "%2e%2e/secret", "a/%2E./../secret",
    "..%2fsecret", "%2e%2e%2fsecret", "%252e%252e/secret", "a/%25252e%25252e/secret", "..\\secret", "a\\..\\..\\secret",
    "%5c..%5csecret", "..%5csecret", "%2fsecret", "\\secret", "a\r\nHost: other", "a%0d%0aHost: other", "a%00", "a/%2e",
    "../secret//0+5", "%2e%2e/secret//0+5", "a//../secret//0+5", "\x7f", "%" + "25" * 9 + "2e%2e/secret"])
def test_no_path_leads_out_of_a_url(bucket, path):
    with pytest.raises(ProtocolError, match="names the file"):
        resolve(ROOT, path)
    with pytest.raises((ProtocolError, ConfigError)):
        Readers(job(ROOT)).bytes(path)
    assert bucket.asked == []


@pytest.mark.parametrize("path", ["a%.jpg", "100%25.jpg", "a..b/c..", "...", "a\\b", "%zz", "a%2fb", "\udce9.jpg",
                                  "?a#b"])
def test_strange_names_that_lead_nowhere_else(bucket, path):
    with pytest.raises(BadFile, match="no such file"):
        Readers(job(ROOT)).bytes(path)
