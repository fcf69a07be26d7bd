"""A folder as a store."""

import os

import pytest

from stoker.pipeline.storage.folder_store import FolderStore
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.store import Gone, Refused, TooLarge, TooShort


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2", "b/1", "b.txt", "a", "b-c/x", "train/000.tar", "train/001.tar", "train.txt"):
        file = tmp_path.joinpath(*name.split("/"))
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
    os.symlink("..", str(tmp_path / "b" / "loop"))
    os.symlink("a", str(tmp_path / "link"))
    os.mkfifo(str(tmp_path / "pipe"))
    return tmp_path


def paths(store, prefix=""):
    return [entry.path for entry in store.listed(prefix)]


def test_files_in_the_order_of_their_paths_bytes(folder):
    store = open_store(str(folder))
    assert isinstance(store, FolderStore)
    found = paths(store)
    assert found == sorted(found, key=str.encode)
    assert found == ["a", "b-c/x", "b.txt", "b/1", "b/2", "link", "train.txt", "train/000.tar", "train/001.tar"]
    assert paths(store, "b") == ["b-c/x", "b.txt", "b/1", "b/2"]
    assert paths(store, "b/") == ["b/1", "b/2"]
    assert paths(store, "train/00") == ["train/000.tar", "train/001.tar"]
    assert paths(store, "none/") == paths(store, "a/b") == []


def test_reads(folder):
    store = open_store(str(folder))
    entry = store.size("train/000.tar")
    assert store.read("train/000.tar") == (b"train/000.tar", entry.version)
    assert entry in list(store.listed())
    assert store.read("train/000.tar", 6, 3)[0] == b"000"
    assert store.read("train/000.tar", 13)[0] == b""
    with pytest.raises(TooShort):
        store.read("a", 0, 2)
    with pytest.raises(TooLarge):
        store.read("train/000.tar", max_bytes=5)


@pytest.mark.parametrize("path", ["none", "b", "a/b", "pipe", "../a", "/etc/passwd", ""])
def test_what_is_no_file_there(folder, path):
    for ask in (open_store(str(folder)).read, open_store(str(folder)).size):
        with pytest.raises(Gone):
            ask(path)


def test_no_folder(tmp_path):
    with pytest.raises(Gone):
        paths(open_store(str(tmp_path / "none")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_no_right(folder):
    os.chmod(str(folder / "a"), 0)
    with pytest.raises(Refused):
        open_store(str(folder)).read("a")
