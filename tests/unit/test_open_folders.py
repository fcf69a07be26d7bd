"""Files that are read by their names in folders that stay open: the same bytes and errors as by their whole paths, and
never a byte of what lies outside of the data folder."""

import os
import threading

import pytest

from stoker.pipeline.storage import folder, open_folders
from stoker.pipeline.storage.folder import LINK_OUT, BadFile, read_file, resolve
from stoker.pipeline.storage.open_folders import plain_names


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """No folder stays open from one test to the next; within a test each stays open until the test says otherwise."""
    folder.close_kept()
    monkeypatch.setattr(open_folders, "OPEN_S", 1000.0)
    monkeypatch.setattr(folder.folders, "_until_s", 0.0)
    yield
    folder.close_kept()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data" / "a" / "b").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for name in ("data/x", "data/a/x", "data/a/b/x", "out/x"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "data"


@pytest.fixture
def whole(monkeypatch):
    """The paths that were opened as a whole."""
    found, opened = [], folder._opened
    monkeypatch.setattr(folder, "_opened", lambda path: found.append(bytes(path)) or opened(path))
    return found


def read(root, name, most=100, follow_links=False):
    return read_file(resolve(str(root), name, follow_links), most, "; advice", False)[0]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_ordinary_files_are_read_by_their_names(root, whole):
    before = descriptors()
    for _ in range(3):
        for name in ("x", "a/x", "a/b/x"):
            assert read(root, name) == b"data/" + name.encode()
    assert not whole and descriptors() == before + 3
    (root / "a" / "empty").write_bytes(b"")
    assert read(root, "a/empty") == b"" and not whole
    folder.close_kept()
    assert descriptors() == before


def test_a_version_is_never_left_out_where_it_is_needed(root, whole, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", -1.0)
    path = resolve(str(root), "a/x")
    assert read_file(path, 100, "", False) == (b"data/a/x", None) and not whole
    assert read_file(path, 100, "") == (b"data/a/x", folder.version_of(os.stat(path))) and whole


@pytest.mark.parametrize("target", ["../../out/x", "/dev/zero"])
def test_a_link_out_is_not_read(root, target):
    assert read(root, "a/x") == b"data/a/x"         # the folder is open
    os.symlink(target, str(root / "a" / "link"))
    with pytest.raises(BadFile, match="not a regular file" if "dev" in target else "a link that leads out"):
        read(root, "a/link")


def test_a_folder_that_is_a_link_out_is_not_read(root):
    os.symlink("../out", str(root / "link"))
    for _ in range(2):
        with pytest.raises(BadFile) as error:
            read(root, "link/x")
        assert str(error.value) == LINK_OUT
    assert read(root, "link/x", follow_links=True) == b"out/x"
    with pytest.raises(BadFile):                    # also when another job has it open
        read(root, "link/x")


def test_links_within_the_root_are_read(root):
    os.symlink("a", str(root / "link"))
    os.symlink("b/x", str(root / "a" / "inner"))
    assert read(root, "link/x") == b"data/a/x" and read(root, "a/inner") == b"data/a/b/x"


def test_a_sibling_whose_name_begins_as_the_roots_is_not_in_it(root):
    (root.parent / "data2").mkdir()
    (root.parent / "data2" / "x").write_bytes(b"no")
    os.symlink("../data2", str(root / "link"))
    with pytest.raises(BadFile):
        read(root, "link/x")


@pytest.mark.parametrize("most, reason", [(7, "a file of more than 7 bytes; advice"), (8, None)])
def test_the_largest_file(root, most, reason):
    if reason is None:
        assert read(root, "a/x", most) == b"data/a/x"
        return
    with pytest.raises(BadFile) as error:
        read(root, "a/x", most)
    assert str(error.value) == reason


def test_what_is_no_file(root):
    os.mkfifo(str(root / "a" / "pipe"))
    for name, reason in (("a/pipe", "not a regular file"), ("a/b", "IsADirectoryError: is a directory"),
                         ("a/no", "FileNotFoundError: no such file"), ("no/x", "FileNotFoundError: no such file"),
                         ("x/x", "NotADirectoryError: a part of the path is no directory")):
        for _ in range(2):
            with pytest.raises(BadFile) as error:
                read(root, name)
            assert str(error.value).startswith(reason)


def test_a_file_that_becomes_another_kind_while_it_is_opened(root, monkeypatch, whole):
    """It is a pipe, or a link out, when it is opened: nothing waits, nothing is read from it."""
    opened, name, changes = os.open, str(root / "a" / "x"), [os.mkfifo, lambda name: os.symlink("../../out/x", name)]

    def exchange(path, *args, **kwargs):
        if path == b"x" and changes:
            os.unlink(name)
            changes.pop(0)(name)
        return opened(path, *args, **kwargs)
    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(BadFile, match="not a regular file"):
        read(root, "a/x")
    os.unlink(name)
    (root / "a" / "x").write_bytes(b"again")
    with pytest.raises(BadFile, match="leads out"):
        read(root, "a/x")
    assert not changes and len(whole) == 2


def test_a_file_that_grows_or_is_cut_is_read_by_its_whole_path(root, monkeypatch, whole):
    real = os.read
    for size in (1, -1):
        monkeypatch.setattr(os, "read", lambda fd, count, size=size: (b"?" * (count - 1 + size), monkeypatch.undo())[0])
        assert open_folders.OpenFolders().read(resolve(str(root), "a/x"), 100) is None
        assert os.read is real


def test_a_folder_that_was_exchanged_is_found_after_some_seconds(root, monkeypatch):
    assert read(root, "a/x") == b"data/a/x"
    os.rename(str(root / "a"), str(root / "old"))
    (root / "a").mkdir()
    (root / "a" / "y").write_bytes(b"new")
    assert read(root, "a/y") == b"new"              # not there: so its whole path was looked at
    monkeypatch.setattr(folder.folders, "_until_s", 0.0)
    (root / "a" / "x").write_bytes(b"also new")
    assert read(root, "a/x") == b"also new"


def test_a_folder_that_became_a_link_out_gives_nothing_of_it(root, monkeypatch):
    assert read(root, "a/x") == b"data/a/x"
    os.rename(str(root / "a"), str(root / "old"))
    os.symlink("../out", str(root / "a"))
    assert read(root, "a/x") == b"data/a/x"         # of the folder that was there when it was opened
    monkeypatch.setattr(folder.folders, "_until_s", 0.0)
    with pytest.raises(BadFile):
        read(root, "a/x")


def test_not_more_than_some_stay_open(root, whole, monkeypatch):
    monkeypatch.setattr(open_folders, "MAX_OPEN", 3)
    before = descriptors()
    for number in range(6):
        (root / str(number)).mkdir()
        (root / str(number) / "x").write_bytes(b"%d" % number)
    for _ in range(2):
        assert [read(root, "%d/x" % number) for number in range(6)] == [b"%d" % number for number in range(6)]
    assert descriptors() == before + 3 and len(whole) == 6


def test_a_second_thread_reads_by_the_whole_path_meanwhile(root, whole):
    found = []
    with folder.folders._lock:
        thread = threading.Thread(target=lambda: found.append(read(root, "a/x")))
        thread.start()
        thread.join(10)
        folder.close_kept()                         # does not wait either
    assert found == [b"data/a/x"] and len(whole) == 1


def test_the_status_of_ordinary_files_only(root):
    os.symlink("x", str(root / "a" / "link"))
    folders = open_folders.OpenFolders()
    assert folders.status(resolve(str(root), "a/x")) == os.stat(str(root / "a" / "x"))
    assert [folders.status(resolve(str(root), name)) for name in ("a/link", "a/b", "a/no", "no/x")] == [None] * 4
    folders.close_all()


def statuses(root, names, follow_links=False):
    found = folder.folders.statuses([bytes(resolve(str(root), name)) for name in names],
                                    None if follow_links else str(root).encode())
    return [None if status is None else status.st_ino for status in found]


def test_statuses_of_several_files(root):
    names = ["x", "a/x", "a/b/x", "a/x", "missing", "missing/x", "a"]
    wanted = [os.stat(str(root / name)).st_ino for name in names[:4]] + [None] * 3
    for _ in range(2):
        assert statuses(root, names) == wanted
    os.symlink("x", str(root / "a" / "link"))
    os.symlink("../out", str(root / "link"))
    assert statuses(root, ["a/link", "link/x", "x"]) == [None, None, wanted[0]]
    assert statuses(root, ["link/x"], follow_links=True) == [os.stat(str(root / "link" / "x")).st_ino]
    assert statuses(root, ["link/x", "a/x"]) == [None, wanted[1]]


def test_a_folder_that_was_replaced_is_found_again(root, monkeypatch):
    assert statuses(root, ["a/x"]) == [os.stat(str(root / "a" / "x")).st_ino]
    os.rename(str(root / "a"), str(root / "old"))
    os.symlink("../out", str(root / "a"))
    monkeypatch.setattr(open_folders, "OPEN_S", 0.0)
    folder.folders._until_s = 0.0
    assert statuses(root, ["a/x"]) == [None]


def test_no_statuses_while_another_thread_reads(root):
    with folder.folders._lock:
        assert statuses(root, ["x", "a/x"]) == [None, None]


@pytest.mark.parametrize("paths", [["x"], ["a/b", "c"], ["\u00fc/x", "\udcff"], ["a.b/.c", "x "]])
def test_plain_names_are_those_of_the_resolver(paths):
    located = folder.resolver("/data")
    assert [b"/data/" + name for name in plain_names(paths)] == [bytes(located(path)) for path in paths]


@pytest.mark.parametrize("path", ["/x", "../x", "a/../x", "..", "x\0y", "\0", "a.tar//512+3", "\ud800", "//"])
def test_other_names_are_not_plain(path):
    for paths in ([path], ["x", path], [path, "x"], ["x", path, "y"]):
        assert plain_names(paths) is None
