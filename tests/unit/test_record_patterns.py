"""Which record files a pattern means: globs, braces, lists, roots, and the same in a store."""

import os
import re

import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records import patterns
from stoker.pipeline.sources.records.patterns import expanded, find_files, pattern_of
from stoker.pipeline.storage.store import Entry, Gone, remote_version

FILES = ("train-000.tar", "train-001.tar", "train-010.tar", "val/x.tar", "val/deep/y.tar", ".hidden.tar", "_SUCCESS",
         "val/.git/z.tar", "@eaDir/train-000.tar", "odd[1].tar")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return str(tmp_path / "data")


def names(found):
    return [entry.path for entry in found.files]


@pytest.mark.parametrize("pattern, root, expected", [
    ("train-*.tar", "", ["train-000.tar", "train-001.tar", "train-010.tar"]),
    ("train-{000..001}.tar", "", ["train-000.tar", "train-001.tar"]),
    ("train-0{10,01}.tar", "", ["train-001.tar", "train-010.tar"]),
    ("train-000.tar", "", ["train-000.tar"]),
    ("val/*.tar", "/val", ["x.tar"]),
    ("**/*.tar", "", ["odd[1].tar", "train-000.tar", "train-001.tar", "train-010.tar", "val/deep/y.tar", "val/x.tar"]),
    ("{train-000,val/x}.tar", "", ["train-000.tar", "val/x.tar"]),
    ("odd[1].tar", "", ["odd[1].tar"]),                  # a file of that name comes before the pattern
    ("@eaDir/*.tar", "/@eaDir", ["train-000.tar"]),
    ("*", "", ["odd[1].tar", "train-000.tar", "train-001.tar", "train-010.tar"]),
    (".hidden.tar", "", [".hidden.tar"])])
def test_files_of_a_folder(folder, pattern, root, expected):
    found = find_files(folder + "/" + pattern)
    assert (found.root, names(found)) == (folder + root, expected)
    assert all(entry.version.size == os.path.getsize(found.root + "/" + entry.path) for entry in found.files)
    assert names(find_files(pattern, folder)) == [(root + "/" + path).lstrip("/") for path in expected]


def test_lists_are_sorted_and_have_a_common_root(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = find_files(["val/*.tar", "train-001.tar", "train-000.tar", "./train-001.tar"])
    assert (found.root, names(found)) == (folder, ["train-000.tar", "train-001.tar", "val/x.tar"])
    assert find_files("val/deep/y.tar").root == folder + "/val/deep"


@pytest.mark.parametrize("pattern, root, error, words", [
    ("nothing-*.tar", None, DatasetError, "no file matches nothing-\\*.tar in .*: check the pattern"),
    ("nothing.tar", None, DatasetError, "nothing.tar cannot be read \\(No such file"),
    ("val", None, DatasetError, "val is a folder.*val/\\*"),
    ("train-{5..2}.tar", None, ConfigError, "the smaller one first"),
    ("{0..999}{0..999}{0..9}", None, ConfigError, "stands for more than"),
    ("", None, ConfigError, "must be given as"), ([], None, ConfigError, "must be given as"),
    (7, None, ConfigError, "must be given as"), (["a", 7], None, ConfigError, "must be given as"),
    ("a\0b", None, ConfigError, "must be given as"),
    (["train-000.tar", "s3://b/x"], None, ConfigError, "files of one place"),
    ("../data/train-000.tar", "val", DatasetError, "is not below the root"),
    ("../x.tar", "s3://bucket", ConfigError, "no path below the root"),
    ("s3://b/x.tar", "val", ConfigError, "the record files are URLs, and the root"),
    ("s3://bucket/", None, ConfigError, "s3://bucket is all of a store.* such as s3://bucket/\\*.tar"),
    ("s3://u:p@b/x.tar", None, ConfigError, "password"), ("https://h/x.tar?sig=1", None, ConfigError, "query")])
def test_what_names_no_files_is_an_error(folder, monkeypatch, pattern, root, error, words):
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=words):
        find_files(pattern, root)


def test_braces():
    assert list(expanded("a{08..11}b")) == ["a08b", "a09b", "a10b", "a11b"]
    assert list(expanded("{9..11}")) == ["9", "10", "11"]
    assert list(expanded("{a,b}/{1..2}")) == ["a/1", "a/2", "b/1", "b/2"]
    assert list(expanded("a{b}c{}{x..y}")) == ["a{b}c{}{x..y}"]


@pytest.mark.parametrize("pattern, yes, no", [
    ("a/*.tar", ["a/x.tar"], ["a/.x.tar", "a/b/x.tar", "a/x.tar2", "xa/x.tar"]),
    ("**/*.tar", ["x.tar", "a/b/x.tar"], [".a/x.tar", "a/.b/x.tar"]), ("a/**", ["a/x", "a/b/c"], ["a/.x", "b/x"]),
    ("x[0-9]?.tar", ["x1a.tar"], ["xaa.tar", "x1/.tar", "x1.tar"]), ("x[!0-9]", ["xa"], ["x1", "x/"]),
    (".x*", [".xy"], ["x"]), ("x[", ["x["], ["x"]), ("a.b", ["a.b"], ["axb"])])
def test_patterns_of_a_store_are_those_of_a_folder(pattern, yes, no):
    matches = re.compile(pattern_of(pattern.split("/"))).match
    assert all(map(matches, yes)) and not any(map(matches, no))


class Bucket:
    root = "s3://bucket/data"

    def __init__(self, monkeypatch):
        self.prefixes = []
        monkeypatch.setattr(patterns, "open_store", self.opened)

    def opened(self, root):
        self.root = root
        return self

    def listed(self, prefix=""):
        self.prefixes.append(prefix)
        below = (self.root + "/")[len("s3://bucket/"):]
        return (Entry(("data/" + name)[len(below):], remote_version(1, name)) for name in sorted(FILES)
                if ("data/" + name).startswith(below + prefix))

    def size(self, path):
        if (self.root + "/" + path)[len("s3://bucket/data/"):] not in FILES:
            raise Gone("there is no %s" % path)
        return Entry(path, remote_version(1, path))


def test_files_of_a_bucket(monkeypatch):
    bucket = Bucket(monkeypatch)
    found = find_files("s3://bucket/data/train-*.tar")
    assert (found.root, names(found)) == ("s3://bucket/data", ["train-000.tar", "train-001.tar", "train-010.tar"])
    found = find_files(["s3://bucket/data/val/*.tar", "s3://bucket/data/train-{000..001}.tar"])
    assert (found.root, names(found)) == ("s3://bucket/data", ["train-000.tar", "train-001.tar", "val/x.tar"])
    found = find_files("**/*.tar", "s3://bucket/data/")
    assert names(found) == ["odd[1].tar", "train-000.tar", "train-001.tar", "train-010.tar", "val/deep/y.tar",
                            "val/x.tar"]
    assert bucket.prefixes == ["train-", "val/", ""]
    assert names(find_files("val/x.tar", "s3://bucket/data")) == ["val/x.tar"]
    with pytest.raises(DatasetError, match=r"no train-002.tar: check its name; if it is a folder, give its files"):
        find_files("s3://bucket/data/train-{000..002}.tar")
    with pytest.raises(DatasetError, match="no file in s3://bucket/data matches test-"):
        find_files("s3://bucket/data/test-*.tar")
    with pytest.raises(ConfigError, match="files of one bucket or host"):
        find_files(["s3://bucket/a", "s3://other/b"])


def test_files_of_a_web_server_have_plain_paths(monkeypatch):
    class Server(Bucket):
        def size(self, path):
            return Entry(path, remote_version(1, path))
    server = Server(monkeypatch)
    found = find_files("https://Data.example.org/a%20b/x[1]-{0..1}%23.tar")
    assert (server.root, names(found)) == ("https://data.example.org/a%20b", ["x[1]-0#.tar", "x[1]-1#.tar"])
    assert found.root == server.root
