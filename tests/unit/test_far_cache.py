"""The cache of what lies in stores elsewhere: bytes and pixels, only for the version that the store tells."""

import os

import numpy as np
import pytest

from stoker.pipeline.storage import url_sample
from stoker.pipeline.storage.folder import SamplePath, read_file, resolve
from stoker.pipeline.storage.store import Entry, Gone, TooShort, Unavailable, Version, remote_version
from stoker.workers import cache as cache_module, far_files, fetching, remote_versions
from stoker.workers.generators.pictures import with_cache
from stoker.workers.readers import Readers
from stoker.workers.remote_versions import VERSION_S, RemoteVersions, tells_changes
from tests.support.caching import Host, batch, draw, in_use, job, same

ROOT = "http://far.example/data"


class Far:
    """A store: files with etags; ``reads`` and ``asked``: what was asked of it."""
    root = ROOT

    def __init__(self):
        self.files, self.reads, self.asked, self.fails = {}, [], [], None

    def put(self, name, content, etag="a"):
        self.files[name] = content, etag

    def version(self, name):
        if self.fails is not None:
            raise self.fails
        if name not in self.files:
            raise Gone("%s is not there" % name)
        content, etag = self.files[name]
        return remote_version(len(content), etag, "")

    def size(self, path):
        self.asked.append(path)
        return Entry(path, self.version(path))

    def read(self, path, offset=0, length=None, max_bytes=1 << 30):
        self.reads.append((path, offset, length))
        version = self.version(path)
        content = self.files[path][0]
        if length is not None and offset + length > len(content):
            raise TooShort(path)
        return content[offset:] if length is None else content[offset:offset + length], version


@pytest.fixture
def far(monkeypatch):
    store = Far()
    monkeypatch.setattr(url_sample, "open_store", lambda root, note=None: store)
    monkeypatch.setattr(remote_versions, "open_store", lambda root: store)
    return store


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path / "cache")
    yield host
    host.end()
    fetching.start(0, None)


def worker(host, **options):
    """The next worker's process: it knows no version."""
    cache = host.worker(**options)
    fetching.start(0, None, cache)
    return cache


def place(text):
    return resolve(ROOT, text)


@pytest.fixture
def photos(tmp_path, far):
    """Ten pictures, in one file of the store with the places of all, and each as a file."""
    names, whole = [], b""
    for number in range(10):
        draw(tmp_path / "one.png", number)
        content = (tmp_path / "one.png").read_bytes()
        far.put("%d.png" % number, content)
        names.append("all.tar//%d+%d" % (len(whole), len(content)))
        whole += content + b"-" * 100
    far.put("all.tar", whole)
    return names


# ------------------------------------------------------------------------------------------------------------ versions

def test_a_version_is_asked_once_and_trusted_for_some_minutes():
    answers = []

    def ask(root, name):
        answers.append((root, name))
        return Version(len(answers), (1, 2, 3, 4))
    versions, path = RemoteVersions(ask), place("a")
    assert versions.known(path, 10.0) is None
    assert versions.ask(path, 10.0) == versions.known(path, 10.0 + VERSION_S - 1) == Version(1, (1, 2, 3, 4))
    assert versions.known(path, 10.0 + VERSION_S) is None
    versions.note(path, Version(7, (1, 2, 3, 4)), 500.0)               # a read tells it, too
    assert versions.known(path, 501.0).size == 7 and len(answers) == 1
    assert versions.known(place("b"), 501.0) is None


def test_what_does_not_tell_changes_is_no_version():
    size_only = remote_version(7, "", "")
    assert not tells_changes(size_only) and tells_changes(remote_version(7, "etag", ""))
    versions = RemoteVersions(lambda root, name: size_only)
    assert versions.ask(place("a"), 0.0) is None and versions.known(place("a"), 0.0) is None


@pytest.mark.parametrize("error", [Gone("it"), Unavailable("it"), OSError(5, "it")])
def test_a_store_that_fails_tells_no_version(error):
    def ask(root, name):
        raise error
    assert RemoteVersions(ask).ask(place("a"), 0.0) is None


# --------------------------------------------------------------------------------------------------------------- bytes

def test_bytes_of_a_far_file_are_read_once_and_then_copied_by_later_workers(host, far):
    far.put("x.npy", b"content")
    worker(host)
    assert fetching.read(place("x.npy")) == (b"content", far.version("x.npy"))
    worker(host)
    assert fetching.read(place("x.npy")) == (b"content", far.version("x.npy"))
    assert fetching.read(place("x.npy"))[0] == b"content"
    assert (len(far.reads), far.asked) == (1, ["x.npy"])
    host.end()
    assert host.logged("bytes: 2 files copied") and "bytes-" in os.path.basename(host.file)


def test_the_places_of_one_file_are_one_question_and_have_entries_of_their_own(host, far, photos):
    worker(host)
    wanted = [fetching.read(place(name))[0] for name in photos]
    assert len(far.reads) == 10
    worker(host)
    assert [fetching.read(place(name))[0] for name in photos] == wanted
    assert (len(far.reads), far.asked) == (10, ["all.tar"])


def test_another_version_of_the_file_is_read_anew_and_replaces_the_entry(host, far):
    far.put("x", b"before", "1")
    worker(host)
    fetching.read(place("x"))
    far.put("x", b"after!", "2")
    for reads in (2, 2):
        worker(host)
        assert fetching.read(place("x")) == (b"after!", far.version("x"))
        assert len(far.reads) == reads


@pytest.mark.parametrize("content, etag", [(bytes(cache_module.MAX_CONTENT_BYTES + 1), "a"), (b"x", "")],
                         ids=["large", "without a version"])
def test_large_files_and_those_without_a_version_are_not_kept(host, far, content, etag):
    far.put("x", content, etag)
    for reads in (1, 2):
        worker(host)
        assert fetching.read(place("x"))[0] == content and len(far.reads) == reads


def test_files_of_this_host_are_not_kept_as_bytes(host, far, tmp_path):
    (tmp_path / "x").write_bytes(b"here")
    for _ in range(2):
        worker(host)
        assert fetching.read(resolve(str(tmp_path), "x"))[0] == b"here"
    host.end()
    assert not os.path.exists(host.folder) or not [each for each in os.listdir(host.folder) if "bytes" in each]


def test_a_file_larger_than_permitted_is_no_matter_of_the_cache(host, far):
    far.put("x", b"content")
    worker(host)
    fetching.read(place("x"))
    worker(host)
    read = []
    far.read = lambda *args: read.append(args) or (b"", None)
    fetching.read(place("x"), 3)
    assert read


def test_a_damaged_entry_is_read_anew(host, far):
    far.put("x", b"unmistakable content")
    worker(host)
    fetching.read(place("x"))
    host.end()
    for thread in [each for each in __import__("threading").enumerate() if each.name == "stoker-cache"]:
        thread.join(60)
    damaged = open(host.file, "rb").read().replace(b"unmistakable content", b"unmistakable cOntent")
    with open(host.file, "wb") as file:
        file.write(damaged)
    worker(host)
    assert fetching.read(place("x"))[0] == b"unmistakable content" and len(far.reads) == 2


def test_the_limit_is_for_bytes_and_pixels_together(host, far, tmp_path):
    for number in range(40):
        far.put("%d" % number, os.urandom(100000))
    worker(host, gb=1 / 1024)
    for number in range(40):
        fetching.read(place("%d" % number))
    host.end()
    assert host.bytes < 1.2 * 2**20 and host.logged("full:")


def test_what_is_kept_decoded_is_not_kept_as_bytes_and_the_other_way_round(host, far, photos):
    a_job = with_cache(job(ROOT), worker(host))
    readers = Readers(a_job, in_use.cache)
    small = np.asarray(readers.image(photos[0], (24, 32)))
    whole = np.asarray(readers.image(photos[1]))
    worker(host)
    readers = Readers(a_job, in_use.cache)
    assert np.array_equal(np.asarray(readers.image(photos[0], (24, 32))), small)
    assert np.array_equal(np.asarray(readers.image(photos[1])), whole)
    assert (len(far.reads), far.asked) == (2, ["all.tar"])
    readers.image(photos[0])
    assert len(far.reads) == 3


# -------------------------------------------------------------------------------------------------------------- pixels

@pytest.mark.parametrize("kind", ["files", "places"])
def test_pixels_of_far_pictures_are_copied_while_the_version_is_the_same(host, far, photos, kind):
    names = photos if kind == "places" else ["%d.png" % number for number in range(10)]
    fetching.start(0, None)
    wanted, bad = batch(ROOT, names)
    assert not bad and len(wanted) == 10
    far.reads.clear()
    for hits, reads in ((0, 10), (10, 10)):
        cache = worker(host)
        found, _ = batch(ROOT, names)
        assert same(found, wanted) and cache.hits == hits and len(far.reads) == reads
    assert len(far.asked) == (1 if kind == "places" else 10)
    far.put("all.tar", far.files["all.tar"][0], "another")
    far.put("3.png", far.files["4.png"][0], "another")
    cache = worker(host)
    found, _ = batch(ROOT, names)
    assert cache.hits == (0 if kind == "places" else 9)
    assert np.array_equal(found["3.png" if kind == "files" else names[3]],
                          wanted["4.png" if kind == "files" else names[3]])


def test_a_store_that_fails_when_it_is_asked_fails_the_read(host, far, photos):
    worker(host)
    batch(ROOT, photos)
    worker(host)
    far.fails = Unavailable("no answer")
    with pytest.raises(Unavailable):
        batch(ROOT, photos)


def test_every_part_of_this_works_without_a_cache(far):
    fetching.start(0, None)
    far.put("x", b"content")
    assert fetching.read(place("x"))[0] == b"content" == far_files.through_cache(place("x"), 100, "")[0]
    assert isinstance(place("x"), SamplePath) and read_file(place("x"))[0] == b"content"
