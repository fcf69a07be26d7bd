"""Files that are replaced as a whole."""

import errno
import os
import threading

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.safe_files import UnsafeFile, new_file, replace
from stoker.trainer import files
from stoker.trainer.files import check_writable, output_file, reason, replace_file
from tests.support.other_user import as_other_user, shared_folder


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


# ---------------------------------------------------------------------------------------------- files that a user names

def test_the_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with output_file(str(path)) as file:
        file.write("a,\udcff\n")
        file.flush()
        assert path.read_text() == "old" and os.listdir(str(tmp_path)) == ["out.csv"]
    assert path.read_bytes() == b"a,\xff\n" and os.listdir(str(tmp_path)) == ["out.csv"]


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with output_file(str(path)) as file:
            file.write("new")
            raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(str(tmp_path)) == ["out.csv"]


def test_a_link_stays_one_and_a_device_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.symlink("folder/out.csv", str(tmp_path / "link.csv"))
    os.mkfifo(str(tmp_path / "pipe"))
    reader = os.open(str(tmp_path / "pipe"), os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link.csv", "pipe"):
        with output_file(str(tmp_path / name)) as file:
            file.write("new")
    assert (tmp_path / "folder" / "out.csv").read_text() == "new" and os.path.islink(str(tmp_path / "link.csv"))
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_a_pipe_that_no_program_reads_is_one_sentence(tmp_path, monkeypatch):
    os.mkfifo(str(tmp_path / "pipe"))
    monkeypatch.setattr(files, "PIPE_S", 0.1)
    with pytest.raises(ConfigError, match="cannot write .*/pipe': it is a pipe or socket that no program reads"):
        with output_file(str(tmp_path / "pipe")):
            raise AssertionError("it was opened")
    monkeypatch.setattr(files, "PIPE_S", 60)             # its reader comes later
    found = []

    def read():
        with open(str(tmp_path / "pipe")) as pipe:
            found.append(pipe.read())
    reader = threading.Timer(0.2, read)
    reader.start()
    with output_file(str(tmp_path / "pipe")) as file:
        file.write("new" * 100000)                                # more than a pipe holds: it is written in full
    reader.join()
    assert found == ["new" * 100000]


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_links_and_pipes_of_another_user_are_refused(what):
    with shared_folder() as folder:
        path, precious = os.path.join(folder, "out.csv"), os.path.join(folder, "precious")
        with open(precious, "w") as file:
            file.write("precious")
        as_other_user(lambda: os.symlink(precious, path) if what == "link" else os.mkfifo(path))
        with pytest.raises(ConfigError, match="cannot write .*: it is (a link )?of another user"):
            with output_file(path):
                raise AssertionError("it was opened")
        with open(precious) as file:
            assert file.read() == "precious"


def test_a_link_to_a_device(tmp_path):
    os.symlink("/dev/null", str(tmp_path / "out.csv"))
    with output_file(str(tmp_path / "out.csv")) as file:
        file.write("new")
    assert os.path.islink(str(tmp_path / "out.csv")) and not os.path.getsize("/dev/null")


@pytest.mark.parametrize("path", ["no/such/folder/out.csv", "."])
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot write"):
        with output_file(path):
            raise AssertionError("it was opened")


def test_standard_output(capfd):
    with output_file("-") as file:
        file.write("a\n")
    with output_file("-") as file:
        file.write("b\n")
    assert capfd.readouterr().out == "a\nb\n"


def test_whether_a_file_can_be_made_is_found_out_without_a_trace(path, tmp_path):
    check_writable(path)
    check_writable(str(tmp_path / "new"))
    assert content(path) == ("old", ["record"])
    for impossible, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "folder", FileNotFoundError)):
        with pytest.raises(error):
            check_writable(str(impossible))
