"""The line of one step in an audit, found by halves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring import audit_lines
from stoker.pipeline.monitoring.audit import crc32_of_all
from stoker.pipeline.monitoring.audit_lines import audited, line_of, lines_of


def line(step, size=0, **more):
    return json.dumps(dict({"step": step, "epoch": 0, "indices": [step] * size, "skipped": [], "crc32": 7 * step + 1,
                            "worker": "w", "attempt": 1}, **more)).encode() + b"\n"


@pytest.fixture
def near(monkeypatch):
    monkeypatch.setattr(audit_lines, "NEAR_BYTES", 64)


@given(sizes=st.lists(st.integers(0, 60), max_size=40), first=st.integers(0, 5), gap=st.integers(0, 3),
       torn=st.booleans())
def test_each_step_is_found_and_no_other(tmp_path_factory, sizes, first, gap, torn):
    path = str(tmp_path_factory.getbasetemp() / "audit")
    steps = [first + number + (gap if number > 10 else 0) for number in range(len(sizes))]
    with open(path, "wb") as file:
        file.write(b"".join(line(step, size) for step, size in zip(steps, sizes)))
        file.write(line(first + 1000)[:-1] if torn else b"")        # it is being written
    before, audit_lines.NEAR_BYTES = audit_lines.NEAR_BYTES, 64
    try:
        for step in list(range(first + len(sizes) + 6)) + [first + 1000]:
            found = line_of(path, step)
            assert (None if found is None else (found["step"], found["crc32"])) == (
                (step, 7 * step + 1) if step in steps else None)
    finally:
        audit_lines.NEAR_BYTES = before


def test_little_of_a_large_file_is_read(tmp_path, near):
    (tmp_path / "audit").write_bytes(b"".join(line(step, 100) for step in range(5000)))
    read = []

    class Counting(type((tmp_path / "audit").open("rb"))):
        def readline(self, *size):
            read.append(super().readline(*size))
            return read[-1]
    with Counting(open(str(tmp_path / "audit"), "rb", 0)) as file:
        assert audit_lines._found(file, 3217, "audit")["step"] == 3217
    assert len(read) < 60


@pytest.mark.parametrize("content", [b"no audit\n" * 10, b"\0" * 5000 + b"\n", line(1) + b"{]\n"])
def test_a_file_that_is_no_audit_is_one_sentence(tmp_path, near, content):
    (tmp_path / "audit").write_bytes(content)
    with pytest.raises(ConfigError, match="audit is no audit, or damaged: "):
        line_of(str(tmp_path / "audit"), 3)
    with pytest.raises(ConfigError, match="audit is no audit, or damaged: "):
        list(lines_of(str(tmp_path / "audit")))


def test_all_lines_but_one_that_is_being_written(tmp_path):
    (tmp_path / "audit").write_bytes(b"".join(map(line, range(3))) + line(3)[:-1])
    assert [each["step"] for each in lines_of(str(tmp_path / "audit"))] == [0, 1, 2]


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="the audit .*gone cannot be read: No such file"):
        line_of(str(tmp_path / "gone"), 3)
    with pytest.raises(ConfigError, match="the audit .*gone cannot be read: No such file"):
        next(lines_of(str(tmp_path / "gone")))


def test_the_audits_of_all_ranks_say_what_one_trainers_says(tmp_path):
    pieces = [[(11, 4), (22, 8)], [(33, 4), (44, 8)]]
    paths = []
    for rank in range(2):
        paths.append(str(tmp_path / ("audit-%d" % rank)))
        with open(paths[-1], "wb") as file:
            for step in range(3):
                file.write(line(step, 2, rank=rank, ranks=2, arrays=pieces[rank], skipped=[rank]))
    found = audited(paths, 1)
    assert found == {"step": 1, "epoch": 0, "indices": [1] * 4, "used": [1] * 4, "skipped": [0, 1], "ranks": 2,
                     "crc32": crc32_of_all([(11, 4), (33, 4), (22, 8), (44, 8)])}
    assert audited(paths[:1], 1) is None and audited(paths, 7) is None and audited([], 1) is None


def test_the_part_of_one_rank(tmp_path):
    (tmp_path / "audit").write_bytes(line(0, rank=1, ranks=2))
    assert line_of(str(tmp_path / "audit"), 0)["rank"] == 1
