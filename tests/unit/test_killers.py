"""Killers: what is remembered of samples that end workers, for which steps, and in which file."""

import json
import os

import pytest

from stoker.pipeline.coordinator.effects import Grant
from stoker.pipeline.coordinator.killers import ANY_STEP, Killer, Killers
from stoker.pipeline.coordinator.open_positions import OpenPositions
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.killer_list import MAX_BYTES, read_list, write_list
from stoker.pipeline.options import JobOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Produced, Skipped
from stoker.pipeline.sources.dataset import Dataset, Splits

NAMES = tuple("%d.jpg" % number for number in range(12))
DATA = Splits(Dataset("/data", ("a", "b"), NAMES, (0, 1) * 6, ()),
              Dataset("/data", ("a", "b"), NAMES[:4], (0, 1) * 2, ()))
PICTURES = JobOptions("image", batch_size=4)
OWN = JobOptions("mine:f", batch_size=4, declared=PICTURES.arrays)
KILLS, SLOW = "kills the process that opens it: SIGSEGV", "takes more than 60 s; picture_cpu_s permits more"
PLAN = Plan(12, 4, 3, 0, 4)


class Trainer:
    """The samples of the positions that are leased, with killers. ``found``: what the worker finds in quarantine."""

    def __init__(self, killers, replaces=False):
        self.positions, self.lease = OpenPositions(PLAN, DATA, replaces, killers), 0

    def grant(self, position, isolated=False):
        self.lease += 1
        return self.positions.lease(Grant(b"w", self.lease, position, 1, isolated))

    def answer(self, position, skipped):
        lease = self.positions._open[position].leases[self.lease]
        self.positions.close(position, Produced("r", self.lease, position, len(lease.indices) - len(skipped), skipped,
                                                0.1, ()))


def killers(job=PICTURES, cpu_s=60.0, **known):
    return Killers(job, DATA, cpu_s, **known)


def batches_with(index, training=True):
    """The positions whose batch has the sample."""
    return [position for position in range(PLAN.positions)
            if PLAN.at(position).training == training and index in PLAN.at(position).indices]


def learned(job, reason=KILLS, isolated=True):
    """What is known after a batch with the sample 5, and the positions of the batches with it."""
    known, places = killers(job), batches_with(5)
    trainer = Trainer(known)
    trainer.grant(places[0], isolated)
    trainer.answer(places[0], (Skipped(5, reason, deadly=True), Skipped(PLAN.at(places[0]).indices[0], "no image")))
    return known, places


def test_a_picture_that_kills_is_told_with_each_further_lease():
    known, places = learned(PICTURES)
    assert known.all == (Killer(True, 5, ANY_STEP, 0.0, "5.jpg", KILLS),) and len(places) == 3
    trainer = Trainer(killers(remembered=known.all))
    for place in range(PLAN.positions):
        lease = trainer.grant(place)
        assert lease.known == ((Skipped(5, KILLS, deadly=True),) if place in places else ())
        assert not lease.isolated


def test_what_a_function_did_is_remembered_for_its_step_and_tried_alone_as_before():
    known, places = learned(OWN)
    assert [killer.step for killer in known.all] == [PLAN.at(places[0]).step]
    trainer = Trainer(killers(OWN, remembered=known.all))
    assert [(bool(trainer.grant(place).known), trainer.grant(place).isolated) for place in places] == [
        (True, True), (False, False), (False, False)]
    assert killers(OWN, remembered=known.all, is_new=True).all == ()       # no step was done
    assert killers(JobOptions("image", augment="mine:g"), remembered=known.all).all == known.all
    assert killers(PICTURES, remembered=known.all).all == ()               # of another run


def test_replacements_that_kill_are_told_too():
    plan = PLAN.at(0, True)
    index = plan.replacements[0]
    known = killers(remembered=[Killer(True, index, ANY_STEP, 0.0, NAMES[index], KILLS)])
    assert Trainer(known, True).grant(0).known == (Skipped(index, KILLS, deadly=True),)


def test_the_word_of_a_worker_counts_only_where_workers_died():
    assert learned(PICTURES, isolated=False)[0].all == ()


def test_a_limit_that_is_higher_by_now_is_another_chance():
    known, _ = learned(PICTURES, SLOW)
    assert known.all[0].cpu_s == 60.0
    assert [bool(killers(cpu_s=now, remembered=known.all).all) for now in (30.0, 60.0, 61.0, 0.0)] == [
        True, True, False, False]


def test_a_sample_that_is_another_one_or_gone_is_forgotten():
    of = dict(training=True, index=5, step=ANY_STEP, cpu_s=0.0, name="5.jpg", reason=KILLS)
    assert len(killers(remembered=[Killer(**of)]).all) == 1
    for changed in ({"name": "6.jpg"}, {"index": 12}, {"training": False}, {"step": 3}):
        assert killers(remembered=[Killer(**dict(of, **changed))]).all == (), changed


# ------------------------------------------------------------------------------------------------------------ the file

ROWS = [Killer(True, 5, ANY_STEP, 0.0, "caf\u00e9/\udcff\n5.jpg", KILLS), Killer(False, 3, 7, 60.0, "3.jpg", SLOW)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "killers.jsonl")


def test_the_file_gives_back_what_was_written(path):
    assert read_list(path) == []
    write_list(path, ROWS)
    assert [Killer(*row) for row in read_list(path)] == ROWS
    assert json.loads(open(path).readline()) == {
        "data": "training", "number": 5, "step": None, "cpu_s": 0.0, "sample": ROWS[0].name, "reason": KILLS}
    write_list(path, ROWS[1:])
    assert len(read_list(path)) == 1 and os.listdir(os.path.dirname(path)) == ["killers.jsonl"]


def test_empty_lines_are_what_an_editor_leaves(path):
    write_list(path, ROWS)
    with open(path, "rb+") as file:
        content = file.read()
        file.seek(0)
        file.write(b"\n" + content + b" \r\n\n")
    assert [Killer(*row) for row in read_list(path)] == ROWS


def test_it_stays_small(path):
    write_list(path, [Killer(True, number, ANY_STEP, 0.0, "x" * 60000, KILLS) for number in range(400)])
    assert os.path.getsize(path) <= MAX_BYTES and 200 < len(read_list(path)) < 400


LINE = {"data": "training", "number": 5, "step": None, "cpu_s": 0, "sample": "5.jpg", "reason": KILLS}


@pytest.mark.parametrize("line, fact", [
    (b"{", "it is torn or damaged"), (b"[" * 100000, "it is nested more than"), (b"\xff", "it is torn or damaged"),
    (b"5", "it must have the keys data, number"), (b'{"data": "training"}', "it must have the keys"),
    (dict(LINE, number=-1), "number must be"), (dict(LINE, number=True), "number must be"),
    (dict(LINE, number=1 << 70), "number must be"), (dict(LINE, step=-2), "step must be"),
    (dict(LINE, cpu_s=-1), "cpu_s must be"), (dict(LINE, cpu_s="60"), "cpu_s must be"),
    (dict(LINE, data="test"), "data must be"), (dict(LINE, sample=None), "sample must be"),
    (dict(LINE, reason=""), "reason must be"), (dict(LINE, reason="x" * 301), "reason must be"),
    (dict(LINE, reason="\x1b[2J"), "reason must be"), (dict(LINE, more=1), "it must have the keys")])
def test_hostile_content_is_refused_with_the_line_at_fault(path, line, fact):
    with open(path, "wb") as file:
        file.write(json.dumps(LINE).encode() + b"\n" + (line if isinstance(line, bytes) else json.dumps(line).encode()))
    with pytest.raises(ConfigError, match="killers: line 2 of .*killers.jsonl is no sample that kills: " + fact):
        read_list(path)


def test_a_link_a_pipe_and_a_large_file_are_refused(path):
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="killers: .* cannot be used: it has more than"):
        read_list(path)
    for make in (lambda: os.symlink("/etc/hosts", path), lambda: os.mkfifo(path)):
        os.remove(path)
        make()
        with pytest.raises(ConfigError, match="killers: .* cannot be used: it is a (link|pipe)"):
            read_list(path)
