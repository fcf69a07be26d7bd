"""Record files that stay open: each sample is of the file that its path leads to now."""

import os
import threading

import pytest

from stoker.pipeline.storage import folder, kept_open
from stoker.pipeline.storage.folder import ENDS_BEFORE, LINK_OUT, BadFile, read_file, resolve


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened."""
    found = []

    def note(path):
        found.append(os.path.basename(path).decode())
        return folder._opened(path)
    files = kept_open.KeptFiles(note)
    monkeypatch.setattr(folder, "_kept", files)
    yield found
    files.close_all()
    assert not files._kept


def read(root, text):
    return read_file(resolve(str(root), text))[0]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_opened_once(tmp_path, opened):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    for offset in range(10):
        assert read(tmp_path, "a.tar//%d+1" % offset) == b"%d" % offset
    assert opened == ["a.tar"]


def test_a_file_that_changes_is_seen(tmp_path, opened):
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    assert read(tmp_path, "a.tar//3+2") == b"34"
    (tmp_path / "new").write_bytes(b"abcdefghij")
    os.rename(str(tmp_path / "new"), str(tmp_path / "a.tar"))
    assert read(tmp_path, "a.tar//3+2") == b"de"
    with open(str(tmp_path / "a.tar"), "r+b") as file:
        file.write(b"0123")
        os.utime(file.fileno(), (1, 1))
    assert read(tmp_path, "a.tar//3+2") == b"3e"
    os.truncate(str(tmp_path / "a.tar"), 4)
    with pytest.raises(BadFile) as caught:
        read(tmp_path, "a.tar//3+2")
    assert str(caught.value) == ENDS_BEFORE
    os.unlink(str(tmp_path / "a.tar"))
    with pytest.raises(BadFile, match="no such file"):
        read(tmp_path, "a.tar//3+1")
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(BadFile, match="IsADirectoryError"):
        read(tmp_path, "a.tar//3+1")


def test_the_rules_of_a_root_hold_for_each_root(tmp_path, opened):
    (tmp_path / "data").mkdir()
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    (tmp_path / "data" / "a.tar").symlink_to(tmp_path / "a.tar")
    root = str(tmp_path / "data")
    assert read_file(resolve(root, "a.tar//3+2", follow_links=True))[0] == b"34"
    with pytest.raises(BadFile) as caught:
        read(root, "a.tar//3+2")
    assert str(caught.value) == LINK_OUT
    (tmp_path / "data" / "b.tar").write_bytes(b"0123456789")
    assert read(root, "b.tar//3+2") == b"34"
    os.unlink(str(tmp_path / "data" / "b.tar"))
    (tmp_path / "data" / "b.tar").symlink_to(tmp_path / "a.tar")
    with pytest.raises(BadFile):
        read(root, "b.tar//3+2")


def test_not_more_than_some_stay_open_and_none_is_lost(tmp_path, opened):
    folder.close_kept()
    before = descriptors()
    for number in range(3 * kept_open.MAX_OPEN):
        (tmp_path / ("%d.tar" % number)).write_bytes(b"%06d" % number)
    for _ in range(2):
        for number in range(3 * kept_open.MAX_OPEN):
            assert read(tmp_path, "%d.tar//0+6" % number) == b"%06d" % number
        assert descriptors() <= before + kept_open.MAX_OPEN
    with pytest.raises(BadFile):
        read(tmp_path, "0.tar//5+6")
    folder.close_kept()
    assert descriptors() == before


def test_several_threads(tmp_path, opened, monkeypatch):
    """Each reads its own bytes, while files are closed and replaced below them, and no descriptor is left over."""
    monkeypatch.setattr(kept_open, "MAX_OPEN", 2)
    before, wrong = descriptors(), []
    for number in range(5):
        (tmp_path / ("%d.tar" % number)).write_bytes(bytes([number]) * 1000)

    def work(seed):
        for step in range(300):
            number = (seed * 7 + step) % 5
            try:
                if read(tmp_path, "%d.tar//%d+100" % (number, step)) != bytes([number]) * 100:
                    wrong.append(number)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for step in range(100):
        number = step % 5
        (tmp_path / "new").write_bytes(bytes([number]) * 1000)
        os.rename(str(tmp_path / "new"), str(tmp_path / ("%d.tar" % number)))
        if step % 10 == 0:
            folder.close_kept()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    folder.close_kept()
    assert descriptors() == before
