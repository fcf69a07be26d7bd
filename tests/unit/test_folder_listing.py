"""The listing of a store gives the dataset that a walk over the same files on a disk gives; roots and lists of URLs."""

import os
import shutil
import tempfile

import hypothesis
import pytest
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, DatasetError, StokerError
from stoker.pipeline.sources import folder as folder_module, folder_listing
from stoker.pipeline.sources.file_names import FileNames
from stoker.pipeline.sources.folder import NO_IMAGE, scan_folder
from stoker.pipeline.sources.folder_listing import ODD_NAME, listed_files
from stoker.pipeline.sources.folder_walk import EntryCount, matching
from stoker.pipeline.sources.reading import files, path_list
from stoker.pipeline.sources.roots import absolute, common, contains, relative
from stoker.pipeline.sources.url_list import _is_match, url_list

NAMES = st.sampled_from(["cat", "dog", "a", "b.jpg", "1.jpg", "2.JPG", "x.txt", "y", ".git", "@eaDir", "old_1.png",
                         "lost+found", "ü.gif", "z.jfif"])
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=25, unique=True)


def made(root, paths):
    """The files of ``paths`` that can lie in one folder: a disk has no file and folder of the same name."""
    for path in paths:
        whole = os.path.join(root, path)
        try:
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "xb") as file:
                file.write(b"\xff\xd8\xff" if path.endswith("y") else b"")
        except OSError:
            continue
        yield path


def in_order(paths):
    return sorted(paths, key=lambda path: path.encode())


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(TREES, st.sampled_from([(), ("old_*",), ("cat/a", "b.jpg"), ("a",)]), st.sampled_from([(), ".txt"]))
def test_a_listing_finds_what_a_walk_finds(paths, exclude, suffixes):
    root = tempfile.mkdtemp()
    try:
        there = in_order(made(root, paths))
        walked = folder_module._walked(root, False, FileNames(exclude, suffixes), 0)
        listed = listed_files(there, FileNames(exclude, suffixes), EntryCount("s3://bu"))
        assert sorted(listed.images) == sorted(walked.images)
        assert sorted(listed.others) == sorted(walked.others)
        assert sorted(listed.left_out) == sorted(walked.left_out)
        folders = {path.rpartition("/")[0] for path in there}          # a listing knows none without files
        folders |= {folder[:end] for folder in folders for end, sign in enumerate(folder) if sign == "/"}
        assert sorted(listed.folders) == sorted(folder for folder in walked.folders if folder in folders or not folder)
    finally:
        shutil.rmtree(root)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder that can be scanned at s3://bu/photos too."""
    monkeypatch.setattr(folder_module, "files_below", lambda root: iter(in_order(
        os.path.relpath(os.path.join(folder, name), str(tmp_path))
        for folder, _, names in os.walk(str(tmp_path)) for name in names)))
    monkeypatch.setattr(folder_module, "start_of_remote", lambda root, path: (tmp_path / path).read_bytes()[:12])
    return tmp_path


@pytest.mark.parametrize("options", [{}, {"labels": False}, {"label_word": "cat"}, {"classes": ["dog", "cat"]},
                                     {"exclude": "cat/old"}, {"suffixes": "y"}, {"validation": True}])
def test_a_scan_of_a_store_is_that_of_the_folder(store, options):
    list(made(str(store), ["cat/1.jpg", "cat/old/2.jpg", "dog/1.jpg", "dog/deep/er/3.png", "bird/x.txt", "dog/.h/1.jpg",
                           "top.jpg", "cat/x.y"]))
    here, there = scan_folder(str(store), **options), scan_folder("S3://bu/photos/", **options)
    assert there.root == "s3://bu/photos"
    assert (there.paths, there.labels, there.classes, there.left_out) == (
        here.paths, here.labels, here.classes, here.left_out)
    assert there.fingerprint() == here.fingerprint()


def test_refusals_name_the_url(store):
    list(made(str(store), ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg"]))
    with pytest.raises(DatasetError, match="stoker-train s3://bu/photos/train --validation-data s3://bu/photos/val"):
        scan_folder("s3://bu/photos")
    with pytest.raises(DatasetError, match="dataset folder s3://bu/photos has a single class"):
        scan_folder("s3://bu/photos", exclude="val")


def test_markers_of_folders_and_odd_names():
    found = listed_files(["a/", "a/1.jpg", "b/", "b//2.jpg", "c/../3.jpg", "x/./4.jpg", "/5.jpg"], FileNames(),
                         EntryCount("s3://bu"))
    assert found.images == ["a/1.jpg"] and found.folders == ["", "a", "b"]
    assert found.left_out == [(path, ODD_NAME) for path in ("b//2.jpg", "c/../3.jpg", "x/./4.jpg", "/5.jpg")]


def test_a_listing_without_an_end_ends(monkeypatch):
    monkeypatch.setattr(folder_listing, "ENTRIES_AT_ONCE", 3)
    with pytest.raises(DatasetError, match="s3://bu has more than 5 files"):
        listed_files(("a/%d.jpg" % number for number in range(10 ** 9)), FileNames(), EntryCount("s3://bu", 5))


# --------------------------------------------------------------------------------------------------------------- roots

def test_what_is_below_what():
    assert absolute("S3://bu/a/") == "s3://bu/a" and absolute("/x/../y/") == "/y"
    assert contains("s3://bu/a", "s3://bu/a/c") and contains("s3://bu", "s3://bu") and contains("/", "/a")
    assert not contains("s3://bu/a", "s3://bu/ab") and not contains("s3://bu", "s3://cu/b") and not contains("/", "s3://bu")
    assert not contains("/a", "/ab") and not contains("s3://bu", "/b")
    assert relative("s3://bu/a/c", "s3://bu") == "a/c/" and relative("/a", "/a") == ""
    assert relative("/a/b", "/") == "a/b/"
    assert relative("http://h/a%20b", "http://h") == "a b/"
    assert common(["s3://bu/a/c", "s3://bu/a/d"]) == "s3://bu/a" and common(["/a/b", "/a/c"]) == "/a"
    assert common(["/a", "/b"]) == "/" and common(["s3://bu/a", "s3://bu/c"]) == "s3://bu"
    assert common(["s3://bu/a", "gs://bu/a"]) is None and common(["/a", "s3://bu"]) is None
    assert common(["http://h/a%20b/c", "http://h/a%20b/d"]) == "http://h/a%20b"


def test_lists_of_urls():
    data = path_list(["s3://bu/x/1.jpg", "s3://bu/x/y/2.jpg"], "/here", True)
    assert data.root == "s3://bu/x" and data.paths == ("1.jpg", "y/2.jpg")
    data = path_list(["1.jpg", "./y/2.jpg", "s3://bu/x/3.jpg"], "s3://bu/x", False)
    assert data.root == "s3://bu/x" and data.paths == ("1.jpg", "y/2.jpg", "3.jpg")
    data = url_list(["http://h/a%20b/1.jpg", "http://h/a%20b/%C3%BC.jpg"], None, "list")
    assert data.root == "http://h/a%20b" and data.paths == ("1.jpg", "ü.jpg")
    assert url_list(["s3://bu/50%25.jpg", "s3://bu/2.jpg"], None, "list").paths == ("50%25.jpg", "2.jpg")
    data = files(["s3://bu/x/1.jpg", "s3://bu/x/2.jpg"], exclude="2*")
    assert data.root == "s3://bu/x" and data.paths == ("1.jpg",)


@pytest.mark.parametrize("paths, start, sentence", [
    (["s3://bu/1.jpg", "s3://cu/2.jpg"], None, "row 1, s3://cu/2.jpg, is not in s3://bu as the others are"),
    (["s3://bu/1.jpg", "2.jpg"], None, "row 1 is the path 2.jpg, and other rows are URLs"),
    (["/x/1.jpg"], "s3://bu", "row 0 is the path /x/1.jpg, and other rows are URLs"),
    (["../1.jpg"], "s3://bu/x", "its path has a '.' or '..'"),
    (["s3://bu/y/1.jpg"], "s3://bu/x", "row 0, s3://bu/y/1.jpg, is not below the root s3://bu/x"),
    (["s3://bu/x//1.jpg"], None, "has two in a row"),
    (["s3://bu/x/\n.jpg"], None, "has control characters"),
    (["s3://bu/x/../1.jpg"], None, "has a '.' or '..' in it"),
    (["s3://u:p@bu/1.jpg"], None, "has a user's name or password in it"),
    (["http://h/1.jpg?sig=1"], None, "has a '?' or '#' behind its path"),
    (["ftp://h/1.jpg"], None, "Stoker does not read ftp://"),
    (["s3://bu/1.jpg", 5], None, "row 1 is 5, which is no path"),
    ([], "s3://bu", "the list is empty")])
def test_refusals_of_urls(paths, start, sentence):
    with pytest.raises((DatasetError, ConfigError)) as caught:
        url_list(paths, start, "the list")
    assert sentence in str(caught.value) and "u:p" not in str(caught.value) and "sig=1" not in str(caught.value)


def test_a_url_among_local_paths_is_refused():
    with pytest.raises(DatasetError, match="row 1 is the URL s3://bu/2.jpg, and all files of a run lie below one root"):
        path_list(["/x/1.jpg", "s3://bu/2.jpg"], "/x", True)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(TREES, st.sampled_from(["**/*.jpg", "*.jpg", "*/*", "**", "cat/**/*.*", "**/a/**", "?at/*.jpg",
                                         ".g*/*", "**/**/1.jpg", "[cd]*/**"]))
def test_patterns_match_in_a_store_what_they_match_in_a_folder(paths, pattern):
    root = tempfile.mkdtemp()
    try:
        there = list(made(root, paths))
        parts = pattern.split("/")
        here = {os.path.relpath(os.fsdecode(path), root) for path in matching(root.encode(), [
            part.encode() for part in parts]) if os.path.isfile(path)}
        assert {path for path in there if _is_match(path.split("/"), parts)} == here
    finally:
        shutil.rmtree(root)


def test_reasons_of_other_suffixes_are_read_from_the_store(store):
    list(made(str(store), ["cat/1.jpg", "dog/1.jpg", "dog/2.y", "dog/x.txt"]))
    left_out = dict(scan_folder("s3://bu/photos").left_out)
    assert left_out["dog/x.txt"] == NO_IMAGE and "JPEG with the suffix .y" in left_out["dog/2.y"]


def test_a_web_server_has_no_listing():
    with pytest.raises(StokerError, match="web server, which does not list its folders: give record files"):
        scan_folder("http://127.0.0.1:9/photos")
    with pytest.raises(StokerError, match="web server, which does not list its folders"):
        files("http://127.0.0.1:9/photos/*.jpg")
