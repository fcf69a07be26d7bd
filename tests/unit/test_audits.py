"""The audits of several ranks: each continues its own, and together they are that of one trainer."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.audit import Audit, crc32_of_all
from stoker.pipeline.monitoring.audits import main
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Skipped

BAD = 3          # an index that is always skipped
SIZES = {"train_size": 41, "batch_size": 8, "epochs": 2, "seed": 5}


@given(st.lists(st.binary(max_size=300), max_size=4))
@example([bytes(range(256)) * 5000, b"\xff" * 3000001])
def test_checksums_are_put_together(parts):
    assert crc32_of_all((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


def write(folder, rank, ranks, begin, end, sizes=SIZES, padded=False, change=None):
    """Does the steps begin .. end - 1 as rank ``rank`` of ``ranks``; returns the path of its audit."""
    path = str(folder / ("audit-%d" % rank))
    plan = Plan(rank=rank, ranks=ranks, **sizes)
    audit = Audit(path, begin, plan.training_indices, rank, ranks)
    audit.begin()
    for step in range(begin, end):
        indices = plan.training_indices(step)
        used = tuple(index for index in indices if index != BAD)
        arrays = (np.array([[index, step] for index in used], np.int64).reshape(-1, 2), np.array(used, np.uint8))
        if change == step:
            arrays[1][-1:] += 1
        skipped = (Skipped(BAD, "broken"),) * (BAD in indices)
        audit.write(Batch(step, step // plan.steps_per_epoch, True, indices, arrays, skipped, "w", 1, 0.1, used,
                          sizes={"a": np.array(used, np.int32)} if padded else {}))
    audit.close()
    return path


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def one(tmp_path):
    """The audit of one trainer."""
    (tmp_path / "one").mkdir()
    return write(tmp_path / "one", 0, 1, 0, 12)


def test_a_line_of_one_trainer_says_nothing_of_ranks_and_one_of_several_does(tmp_path, one):
    assert not {"rank", "ranks", "arrays"} & set(lines(one)[0])
    line = lines(write(tmp_path, 1, 3, 0, 1))[0]
    assert (line["rank"], line["ranks"]) == (1, 3) and [size for _, size in line["arrays"]] == [16 * 3, 3]


@pytest.mark.parametrize("ranks", [2, 3])
def test_together_they_are_the_audit_of_one_trainer(tmp_path, one, capsys, ranks):
    paths = [write(tmp_path, rank, ranks, 0, 12) for rank in range(ranks)]
    assert main(paths[::-1] + ["--against", one]) == 0
    assert capsys.readouterr().out == "12 steps, 82 samples: the same as in %s, to the byte\n" % one


def test_a_run_may_go_on_with_another_number_of_ranks(tmp_path, one, capsys):
    """1 -> 2 -> 3 -> 1 -> 2, and each time some steps are done again."""
    paths = set()
    for ranks, begin, end in ((1, 0, 3), (2, 2, 6), (3, 4, 9), (1, 5, 10), (2, 9, 12)):
        for rank in range(ranks):
            paths.add(write(tmp_path, rank, ranks, begin, end))
    assert main(sorted(paths) + ["--against", one]) == 0
    assert "to the byte" in capsys.readouterr().out
    assert [(line["step"], line["ranks"]) for line in lines(str(tmp_path / "audit-1"))] == [
        (2, 2), (3, 2), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3), (9, 2), (10, 2), (11, 2)]
    assert main(sorted(paths)) == 0
    assert capsys.readouterr().out == "12 steps, 82 samples\n"


def test_padded_arrays_are_not_compared(tmp_path, one, capsys):
    paths = [write(tmp_path, rank, 2, 0, 12, padded=True) for rank in range(2)]
    assert main(paths + ["--against", one]) == 0
    assert capsys.readouterr().out.endswith("; the bytes of 12 steps cannot be compared\n")


@pytest.mark.parametrize("broken, says", [
    ("a rank is missing", "not whole: step 0: no file has rank 1 of 2"),
    ("rank 0 is missing", "not whole: step 0: no file has rank 0"),
    ("twice", "not whole: step 0: two files have rank 1 of 2"),
    ("a step is missing", "not whole: step 5: no file has rank 1 of 2"),
    ("another byte", "step 7: the bytes differ"), ("another seed", "step 0: the samples differ"),
    ("it ends earlier", "one of them ends before step 9")])
def test_what_is_not_as_it_was_is_found(tmp_path, one, capsys, broken, says):
    sizes = dict(SIZES, seed=6) if broken == "another seed" else SIZES
    end = 9 if broken == "it ends earlier" else 12
    paths = [write(tmp_path, rank, 2, 0, end, sizes, change=7 if broken == "another byte" and rank else None)
             for rank in range(2)]
    if broken == "a rank is missing":
        del paths[1]
    elif broken == "rank 0 is missing":
        del paths[0]
    elif broken == "twice":
        paths.append(paths[1])
    elif broken == "a step is missing":
        with open(paths[1]) as file:
            kept = [line for line in file if '"step": 5,' not in line]
        with open(paths[1], "w") as file:
            file.writelines(kept)
    assert main(paths + ["--against", one]) == 1
    assert says in capsys.readouterr().out


def test_what_is_no_audit_is_named(tmp_path, capsys):
    (tmp_path / "x").write_text("{}\n")
    assert main([str(tmp_path / "x")]) == 2 and main([str(tmp_path / "none")]) == 2
    errors = capsys.readouterr().err
    assert "line 1 of" in errors and "No such file" in errors


@pytest.mark.parametrize("field, value", [("epoch", ["a"]), ("skipped", [{}]), ("indices", ["1"]), ("crc32", 1.5),
                                          ("arrays", [[1, -5]]), ("arrays", [["a", "b"]]), ("arrays", [[1]])])
def test_a_line_with_other_things_than_numbers_is_named(tmp_path, capsys, field, value):
    paths = [write(tmp_path, rank, 2, 0, 3) for rank in range(2)]
    changed = [dict(line, **{field: value}) for line in lines(paths[1])]
    with open(paths[1], "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in changed)
    assert main(paths) == 2
    assert "line 1 of %s is no line of an audit" % paths[1] in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- a resume

def test_a_rank_continues_its_own_audit_only_if_it_is_of_this_run(tmp_path):
    path = write(tmp_path, 1, 2, 0, 6)
    other = Plan(rank=1, ranks=2, **dict(SIZES, seed=6))
    with pytest.raises(ConfigError, match="of another run, as its step 0 shows"):
        Audit(path, 4, other.training_indices, 1, 2)


@pytest.mark.parametrize("field, value", [("rank", 2), ("rank", -1), ("ranks", 0), ("ranks", 1 << 40), ("rank", "1"),
                                          ("ranks", True), ("ranks", None), ("rank", 0), ("ranks", 3)])
def test_a_line_of_another_part_is_not_kept(tmp_path, field, value):
    path = write(tmp_path, 1, 2, 0, 3)
    changed = [dict(line, **{field: value}) for line in lines(path)]
    with open(path, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in changed)
    with pytest.raises(ConfigError, match="of another run, as its step 0 shows"):
        Audit(path, 3, Plan(rank=1, ranks=2, **SIZES).training_indices, 1, 2)


def test_one_trainer_s_audit_has_no_gap(tmp_path, one):
    plan = Plan(**SIZES)
    kept = [line for line in lines(one) if line["step"] != 4]
    with open(one, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in kept)
    with pytest.raises(ConfigError, match="of another run, as its step 5 shows"):
        Audit(one, 8, plan.training_indices)


def test_steps_of_several_ranks_only_grow(tmp_path):
    path = write(tmp_path, 1, 2, 0, 6)
    with open(path) as file:
        text = file.readlines()
    with open(path, "w") as file:
        file.writelines([text[0], text[3], text[2]])
    with pytest.raises(ConfigError, match="of another run, as its step 2 shows"):
        Audit(path, 6, Plan(rank=1, ranks=2, **SIZES).training_indices, 1, 2)


def test_two_ranks_do_not_write_one_file(tmp_path):
    plan = Plan(rank=0, ranks=2, **SIZES)
    first = Audit(str(tmp_path / "audit"), 0, plan.training_indices, 0, 2)
    with pytest.raises(ConfigError, match="another trainer writes it; each of several ranks needs a file of its own"):
        Audit(str(tmp_path / "audit"), 0, plan.training_indices, 1, 2)
    first.close()
