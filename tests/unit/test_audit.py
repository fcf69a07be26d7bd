import json
import os
import zlib

import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring import step_log
from stoker.pipeline.monitoring.audit import Audit, crc32
from stoker.pipeline.protocol.messages import Skipped
from tests.support.other_user import as_other_user, shared_folder


def begun(*args):
    """The log after ``begin``, as a stream uses it when its port is bound."""
    made = Audit(*args)
    made.begin()
    return made


class Handed:
    """A batch with the attributes that the audit reads."""

    def __init__(self, step, worker="host/0"):
        self.step, self.epoch, self.indices, self.worker, self.attempt = step, 0, (2 * step, 2 * step + 1), worker, 1
        self.skipped, self.used_indices = (Skipped(2 * step, "broken"),), (2 * step + 1,)
        self.arrays = (np.arange(step, step + 6, dtype=np.uint8).reshape(1, 6), np.array([[step]], np.int32))
        self.sizes, self.missing = {}, 0


def planned(step, rank, ranks):
    return 2 * step, 2 * step + 1


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "audit.jsonl")


def write(path, start_step, steps):
    audit = begun(path, start_step, planned)
    for step in steps:
        audit.write(Handed(step))
    audit.close()


def steps(path):
    with open(path) as lines:
        return [json.loads(line)["step"] for line in lines]


def test_a_line_names_the_data_of_its_step(path):
    write(path, 0, [3])
    batch = Handed(3)
    with open(path) as lines:
        assert json.loads(lines.read()) == {
            "step": 3, "epoch": 0, "indices": [6, 7], "skipped": [6], "used": [7], "worker": "host/0", "attempt": 1,
            "crc32": zlib.crc32(batch.arrays[0].tobytes() + batch.arrays[1].tobytes()) & 0xFFFFFFFF}


def test_a_line_is_in_the_file_at_once(path):
    audit = begun(path, 0, planned)
    audit.write(Handed(0))
    assert steps(path) == [0]
    audit.close()
    audit.close()


def test_an_audit_of_another_run_is_not_continued(path):
    audit = begun(path, 0, lambda step, rank, ranks: (7,))
    audit.close()
    write(path, 0, range(3))
    with pytest.raises(ConfigError, match="of another run, as its step 0 shows"):
        begun(path, 2, lambda step, rank, ranks: (7,))
    assert steps(path) == [0, 1, 2]


def test_two_trainers_do_not_write_one_audit(path):
    first = begun(path, 0, planned)
    first.write(Handed(0))
    with pytest.raises(ConfigError, match="another trainer writes it"):
        begun(path, 0, planned)
    assert steps(path) == [0]
    first.close()


def test_steps_after_the_checkpoint_are_removed_and_come_again(path):
    write(path, 0, range(10))
    write(path, 6, range(6, 8))
    assert steps(path) == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("former, start_step", [(5, 2), (2, 2), (0, 0)])
def test_a_step_that_comes_again_after_a_ctrl_c_has_one_line(path, former, start_step):
    """Also the first step of a resumed run, whatever was removed behind it."""
    write(path, 0, range(former))
    audit = begun(path, start_step, planned)
    for step in (start_step, start_step, start_step + 1, start_step + 1, start_step + 2):
        audit.write(Handed(step))
    audit.close()
    assert steps(path) == list(range(start_step + 3))


def test_a_run_from_the_start_replaces_the_audit(path):
    write(path, 0, range(10))
    write(path, 0, range(2))
    assert steps(path) == [0, 1]


def test_a_run_that_is_complete_keeps_all(path):
    write(path, 0, range(4))
    write(path, 4, [])
    assert steps(path) == [0, 1, 2, 3]


def test_a_resumed_run_may_begin_an_audit(path):
    write(path, 5, [5, 6])
    write(path, 6, [6])
    assert steps(path) == [5, 6]


@pytest.mark.parametrize("cut", [1, 2, 20, 150])
def test_an_incomplete_last_line_is_removed(path, cut):
    write(path, 0, range(5))
    with open(path, "r+b") as file:
        file.truncate(len(file.read()) - cut)       # 1: only the end of the line is missing
    write(path, 5, [5])
    lost = 1 if cut < 100 else 2
    assert steps(path) == list(range(5 - lost)) + [5]


@pytest.mark.parametrize("left", [10, 60])
def test_an_incomplete_first_line_is_removed(path, left):
    write(path, 0, [0])
    with open(path, "r+b") as file:
        file.truncate(left)
    write(path, 0, [0, 1])
    assert steps(path) == [0, 1]


def test_an_empty_file_is_used(path):
    open(path, "w").close()
    write(path, 0, [0])
    assert steps(path) == [0]


@pytest.mark.parametrize("content", [b"my notes\n", b"\x89PNG\r\n\x1a\n\0\xff", b'{"step": 1, "loss": 0.5}\n', b"{}\n",
                                     b"[1]\n", b"\n", b'{"step": "1", "crc32": 0}\n'])
@pytest.mark.parametrize("start_step", [0, 3])
def test_a_file_that_is_no_audit_is_not_touched(path, content, start_step):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(ConfigError, match="exists and is no audit file: not overwritten"):
        begun(path, start_step, planned)
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_file_that_cannot_be_written_is_a_config_error(path, tmp_path):
    with pytest.raises(ConfigError, match="audit: cannot write .*: it is a folder"):
        begun(str(tmp_path), 0, planned)
    with pytest.raises(ConfigError, match="audit: cannot write .*: No such file or directory"):
        begun(path + "/below/audit", 0, planned)


def test_a_worker_s_odd_name_survives(path):
    audit = begun(path, 0, planned)
    audit.write(Handed(0, "h\udcff\n\u00f6st/0"))
    audit.close()
    with open(path) as lines:
        assert [json.loads(line)["worker"] for line in lines] == ["h\udcff\n\u00f6st/0"]


def test_crc32_is_of_all_bytes_in_order():
    first, second = np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([[1], [-1]], np.int32)
    assert crc32(first, second) == zlib.crc32(second.tobytes(), zlib.crc32(first.tobytes())) & 0xFFFFFFFF
    assert crc32(first) != crc32(first[::-1].copy())
    assert crc32() == crc32(np.empty((0, 4), np.uint8)) == 0


def test_the_checksum_covers_the_sizes_and_the_line_tells_what_is_missing(path):
    batch = Handed(0)
    batch.sizes, batch.missing = {"boxes": np.array([3], np.int32)}, 2
    audit = begun(path, 0, planned)
    audit.write(batch)
    with open(path) as lines:
        line = json.loads(lines.readline())
    assert line["missing"] == 2 and line["crc32"] == crc32(*batch.arrays, batch.sizes["boxes"])
    assert line["crc32"] != crc32(*batch.arrays)


def test_a_link_of_this_user_is_followed_and_one_of_another_user_is_not(tmp_path):
    (tmp_path / "disk").mkdir()
    os.symlink("disk/audit.jsonl", str(tmp_path / "audit.jsonl"))
    begun(str(tmp_path / "audit.jsonl"), 0, planned)
    assert (tmp_path / "disk" / "audit.jsonl").exists()
    with shared_folder() as folder:
        path = os.path.join(folder, "audit.jsonl")
        as_other_user(lambda: os.symlink(os.path.join(folder, "target"), path))
        with pytest.raises(ConfigError, match="audit: cannot write .*: it is a link of another user .*name another"):
            begun(path, 0, planned)
        assert os.listdir(folder) == ["audit.jsonl"]


def test_a_line_without_an_end_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(step_log, "MAX_LINE_BYTES", 1000)
    (tmp_path / "audit.jsonl").write_bytes(b"{" * 100000)
    with pytest.raises(ConfigError, match="exists and is no audit file"):
        begun(str(tmp_path / "audit.jsonl"), 0, planned)
