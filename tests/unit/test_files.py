"""Files that are replaced as a whole."""

import errno
import os

import pytest

from stoker.pipeline.storage.safe_files import UnsafeFile, new_file, replace
from stoker.trainer.files import reason, replace_file


@pytest.fixture
def path(tmp_path):
    (tmp_path / "record").write_text("old")
    return str(tmp_path / "record")


def content(path):
    with open(path) as file:
        return file.read(), sorted(os.listdir(os.path.dirname(path)))


def test_a_file_is_replaced(path):
    replace_file(path, lambda file: file.write(b"new"))
    assert content(path) == ("new", ["record"])


def test_of_two_processes_that_write_it_at_once_the_later_one_does(path):
    later = []

    def write(file):
        file.write(b"new")
        later.append(new_file(path))
    with pytest.raises(UnsafeFile, match="another process"):
        replace_file(path, write)
    (fd, name), = later
    replace(name, fd, path)                # the first one has not removed it
    os.close(fd)
    assert content(path) == ("", ["record"])


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(path, monkeypatch, at):
    if at != "write":
        monkeypatch.setattr(os, at, full)
    with pytest.raises(OSError, match="No space") as caught:
        replace_file(path, full if at == "write" else lambda file: file.write(b"new"))
    assert reason(caught.value) == "No space left on device"
    assert content(path) == ("old", ["record"])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_is_no_error(path, monkeypatch, number):
    def cannot(fd):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(os, "fsync", cannot)
    replace_file(path, lambda file: file.write(b"new"))
    assert content(path) == ("new", ["record"])
