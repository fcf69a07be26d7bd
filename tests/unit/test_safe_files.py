"""Files of Stoker's own: no link is followed, no pipe waited for, nothing of another use is changed."""

import os
import socket
import stat

import pytest

from stoker.pipeline.storage.safe_files import UnsafeFile, followed, new_file, open_own, read_whole, replace
from tests.support.other_user import as_other_user, shared_folder

WRITE = os.O_WRONLY | os.O_CREAT


def a_link(path):
    os.symlink(str(path) + ".target", str(path))


def a_dangling_link(path):
    os.symlink("/nowhere/at/all", str(path))


def a_folder(path):
    os.mkdir(str(path))


def a_pipe(path):
    os.mkfifo(str(path))


def a_socket(path):
    os.chdir(os.path.dirname(str(path)))         # a socket's path may have 107 characters
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.basename(str(path)))
    listener.close()


KINDS = [(a_link, "a link"), (a_dangling_link, "a link"), (a_folder, "a folder"), (a_pipe, "a pipe"),
         (a_socket, "a socket")]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "record.target").write_text("precious")
    return str(tmp_path / "record")


@pytest.fixture
def shared():
    with shared_folder() as folder:
        with open(os.path.join(folder, "record.target"), "w") as file:
            file.write("precious")
        yield os.path.join(folder, "record")


@pytest.mark.parametrize("flags", [os.O_RDONLY, WRITE, os.O_RDWR | os.O_APPEND | os.O_CREAT])
@pytest.mark.parametrize("made, kind", KINDS)
def test_what_is_no_regular_file_is_not_opened(path, flags, made, kind):
    made(path)
    with pytest.raises(UnsafeFile, match="it is %s, and must be a regular file" % kind):
        open_own(path, flags)
    with pytest.raises(UnsafeFile):
        read_whole(path, 100)


def test_a_device_is_not_opened():
    with pytest.raises(UnsafeFile, match="it is a device"):
        open_own("/dev/null", os.O_WRONLY)


def test_the_user_may_name_a_link_of_his_own(path):
    os.symlink("record.target", path)
    os.symlink(path, path + "2")
    assert read_whole(path + "2", 100, links=True) == b"precious"
    with pytest.raises(FileNotFoundError):
        read_whole(path + "3", 100, links=True)
    os.symlink(path + "5", path + "4")
    os.symlink(path + "4", path + "5")
    with pytest.raises(OSError, match="symbolic links"):
        followed(path + "4")


def test_a_link_of_another_user_is_not_followed(shared):
    as_other_user(lambda: os.symlink("record.target", shared))
    with pytest.raises(UnsafeFile, match="a link of another user .number 65534., which could lead to any file"):
        open_own(shared, WRITE, links=True)


def test_a_file_of_another_user_is_written_only_where_he_can_put_none(shared):
    as_other_user(lambda: open(shared, "w").close())
    os.close(open_own(shared))
    with pytest.raises(UnsafeFile, match="of another user .number 65534., in a folder in which every user"):
        open_own(shared, WRITE)
    os.chmod(os.path.dirname(shared), 0o755)
    os.close(open_own(shared, WRITE))


def test_a_large_file_is_not_read(path):
    with open(path, "w") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsafeFile, match="more than the 1,000 bytes"):
        read_whole(path, 1000)
    os.truncate(path, 1000)
    assert len(read_whole(path, 1000)) == 1000


@pytest.mark.parametrize("made, kind", KINDS)
def test_a_new_file_is_new(path, tmp_path, made, kind):
    (tmp_path / "record.new.target").write_text("precious")
    made(path + ".new")
    fd, new = new_file(path)
    os.write(fd, b"content")
    replace(new, fd, path)
    os.close(fd)
    assert stat.S_ISREG(os.lstat(path).st_mode) and read_whole(path, 100) == b"content"
    assert (tmp_path / "record.new.target").read_text() == (tmp_path / "record.target").read_text() == "precious"


def test_a_link_takes_the_name_of_a_new_file_of_another_user(shared):
    as_other_user(lambda: os.symlink("record.target", shared + ".new"))
    fd, new = new_file(shared)
    os.close(fd)
    assert read_whole(shared + ".target", 100) == b"precious" and not os.path.islink(new)


def test_two_writers_are_noticed(path):
    fd, new = new_file(path)
    other, _ = new_file(path)
    with pytest.raises(UnsafeFile, match="another process"):
        replace(new, fd, path)
    replace(new, other, path)
    os.close(fd)
    os.close(other)
