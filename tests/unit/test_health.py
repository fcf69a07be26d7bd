import os

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.health import BEAT_INTERVAL_S, STALE_S, HealthFile, main, trouble
from tests.support.other_user import as_other_user, shared_folder


def touched(path):
    return os.stat(str(path)).st_mtime


def test_not_fresh_before_the_first_beat_and_stale_after_the_last(tmp_path):
    path = str(tmp_path / "alive")
    assert "has not begun" in trouble(path, 5000.0)
    file = HealthFile(path)
    assert "not connected yet" in trouble(path, 5000.0)
    file.beat(0.0)
    now = touched(path)
    assert trouble(path, now) is None and trouble(path, now + STALE_S) is None
    assert "no sign of life for 11 s" in trouble(path, now + STALE_S + 1)


def test_many_beats_touch_the_file_once_a_second(tmp_path):
    path = str(tmp_path / "alive")
    file = HealthFile(path)
    file.beat(100.0)
    os.utime(path, (1, 1))
    file.beat(100.0 + 0.9 * BEAT_INTERVAL_S)
    assert touched(path) == 1
    file.beat(100.0 + BEAT_INTERVAL_S)
    assert touched(path) > 1


def test_a_second_writer_does_not_hide_the_first(tmp_path):
    path = str(tmp_path / "alive")
    HealthFile(path).beat(0.0)
    now = touched(path)
    HealthFile(path)
    assert trouble(path, now) is None


def test_a_file_that_was_removed_comes_back_and_a_lost_folder_does_no_harm(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    file = HealthFile(str(folder / "alive"))
    (folder / "alive").unlink()
    file.beat(1.0)
    assert (folder / "alive").exists()
    (folder / "alive").unlink()
    folder.rmdir()
    file.beat(10.0)


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path):
    with pytest.raises(ConfigError, match="health_file .*No such file or directory"):
        HealthFile(str(tmp_path / "nowhere" / "alive"))


def test_the_command(tmp_path, capsys):
    path = str(tmp_path / "alive")
    assert main([path]) == 1 and "has not begun" in capsys.readouterr().out
    HealthFile(path).beat(0.0)
    assert main([path]) == 0 and capsys.readouterr().out == "well\n"
    assert main([]) == main(["--help"]) == 2
    assert "usage: python -m stoker.pipeline.monitoring.health FILE" in capsys.readouterr().err


def test_what_another_user_put_there_is_refused():
    with shared_folder() as folder:
        path, precious = os.path.join(folder, "alive"), os.path.join(folder, "precious")
        open(precious, "w").close()
        os.utime(precious, (5, 5))
        as_other_user(lambda: os.symlink(precious, path))
        with pytest.raises(ConfigError, match="health_file .*: it is a link of another user"):
            HealthFile(path)
        os.unlink(path)
        file = HealthFile(path)
        os.unlink(path)
        as_other_user(lambda: os.symlink(precious, path))
        file.beat(1.0)
        assert os.stat(precious).st_mtime == 5
        os.unlink(path)
        os.mkfifo(path)
        with pytest.raises(ConfigError, match="health_file .*: it is a pipe, and must be a regular file; name another"):
            HealthFile(path)
        file.beat(10.0)


def test_a_link_of_this_user_is_followed(tmp_path):
    os.symlink("target", str(tmp_path / "alive"))
    HealthFile(str(tmp_path / "alive")).beat(1.0)
    assert trouble(str(tmp_path / "alive"), touched(tmp_path / "target")) is None
