"""The table of workers, and the events of their coming and going, as the trainer's session has them."""

import gc
import json
from types import SimpleNamespace

import pytest

from stoker.pipeline.coordinator.aside import SetAside
from stoker.pipeline.coordinator.effects import Gone
from stoker.pipeline.coordinator.members import Worker, Workers
from stoker.pipeline.coordinator.notices import gone_line
from stoker.pipeline.coordinator.roster import MAX_ROWS, PART, STATES, restarts_of, roster_of
from stoker.pipeline.coordinator.thread import carry_out
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.monitoring.events import KINDS
from stoker.pipeline.monitoring.worker_rates import hosts_of
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.protocol import codec
from stoker.pipeline.protocol.messages import Alive, Failed, Hello, Lease, Leaving, Ready, Unfit
from tests.support.trainer import SilentTrainer, batch

JOB = JobOptions(image_size=(2, 3), batch_size=2)
RUN = "5eed"


class ToldTrainer(SilentTrainer):
    """What the status address would hear is kept: (kind, text, reassigned)."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.heard = []

    def do(self, effects):
        carry_out(effects, self.now, self.session, self, self.deliver, self.errors.append,
                  lambda line: self.heard.append((line.kind, line.text, line.reassigned)))

    def kinds(self):
        return [kind for kind, _, _ in self.heard if kind]

    def text(self, kind):
        return [text for each, text, _ in self.heard if each == kind][-1]

    def roster(self):
        return self.session.standing.roster(self.now, lambda: None)

    def states(self):
        return {row.name: row.state for row in self.roster().rows}


@pytest.fixture
def trainer():
    return ToldTrainer(JOB, options=StreamOptions(lease_s=5.0))


def hello(name, last_exit="", **more):
    return Hello(name, 4711, "python 3.13.0, pillow 13.0.0", 1, last_exit, **more)


def test_the_states_of_workers(trainer):
    trainer.are_ready = False
    trainer.say(b"s", hello("host:1/starting"))
    trainer.say(b"a", hello("host:1/aside"))
    trainer.say(b"a", Unfit(RUN, "no pillow\x1b[2J"))
    trainer.are_ready = True
    for number in range(6):                     # for the run's four batches
        trainer.say(b"%d" % number, hello("host:2/%d" % number))
    assert trainer.states() == dict({"host:1/starting": "starting", "host:1/aside": "set aside"}, **{
        "host:2/%d" % number: "works" if number < 4 else "idle" for number in range(6)})
    trainer.say(b"0", Leaving(RUN, trainer.to(b"0", Lease)[0].lease, "asked to stop"))
    assert trainer.states()["host:2/0"] == "leaving"
    for _ in range(6):
        trainer.tick(1.0)
        for peer in (b"s", b"a", b"0", b"1", b"2", b"4", b"5"):
            trainer.say(peer, Alive(RUN))
    rows = {row.name: row for row in trainer.roster().rows}
    assert [name for name, row in rows.items() if row.state == "silent"] == ["host:2/3"]
    assert rows["host:2/3"].silent_s == pytest.approx(6.0) and rows["host:2/1"].silent_s is None
    assert rows["host:1/aside"].why == "no pillow\\x1b[2J" and rows["host:2/1"].why == ""
    assert rows["host:2/1"].joined_s == pytest.approx(6.0) and rows["host:2/1"].pid == 4711
    assert trainer.roster().states == {"set aside": 1, "silent": 1, "starting": 1, "leaving": 1, "works": 4,
                                       "idle": 0}


def test_every_member_is_in_one_state(trainer):
    for number in range(6):
        trainer.say(b"%d" % number, hello("host:2/%d" % number))
    roster = trainer.roster()
    assert set(roster.states) == set(STATES) and sum(roster.states.values()) == len(roster.rows) == 6
    trainer.do(trainer.session.lost(b"0", trainer.now))
    assert sum(trainer.roster().states.values()) == 5 and "host:2/0" not in trainer.states()


@pytest.mark.parametrize("last_exit, restarts", [
    ("", 0), ("SIGKILL (killed by hand or, if memory ran out, by the kernel), restart 3", 3),
    ("exit code 1, restart 12", 12), ("restart many", 0), ("restart " + "9" * 40, 0)])
def test_restarts_are_those_that_the_supervisor_counted(last_exit, restarts):
    assert restarts_of(last_exit) == restarts


def test_restarts_are_in_the_table(trainer):
    trainer.say(b"a", hello("host:1/0", "SIGKILL, restart 2"))
    assert [row.restarts for row in trainer.roster().rows] == [2]


def test_a_large_fleet_has_a_bounded_table_in_which_troubled_workers_come_first(trainer):
    trainer.are_ready = False
    rests = []
    for number in range(2000):
        peer = b"%d" % number
        trainer.do(trainer.session.joined(peer, hello("host%d:1/%d" % (number // 16, number % 16)), trainer.now))
        if number % 100:
            trainer.do(trainer.session.receive(peer, [memoryview(bytes(frame)) for frame in codec.encode(Ready(RUN))],
                                               trainer.now))
    roster = trainer.session.standing.roster(trainer.now, lambda: rests.append(True))
    assert len(roster.rows) == MAX_ROWS and sum(roster.states.values()) == 2000
    assert roster.states["starting"] == 20 == sum(row.state == "starting" for row in roster.rows)
    assert len(rests) == 2000 // PART + MAX_ROWS // PART


def test_a_large_fleet_does_not_wake_the_garbage_collector():
    """It would look at all objects of the trainer, and keep its threads waiting for that long."""
    workers, member = Workers(), hello("host:1/0")
    for number in range(20000):
        workers.join(b"%d" % number, Worker(1, 0.0))
    members, scheduler = dict.fromkeys(workers, member), SimpleNamespace(workers=workers)
    thresholds = gc.get_threshold()
    gc.set_threshold(700)
    try:
        before = gc.get_stats()[0]["collections"]
        roster = roster_of(members, scheduler, SetAside(), 1.0)
        assert gc.get_stats()[0]["collections"] - before <= 10 * MAX_ROWS // 700
    finally:
        gc.set_threshold(*thresholds)
    assert roster.states["starting"] == 20000 and len(roster.rows) == MAX_ROWS


def test_what_workers_do_is_heard(trainer):
    trainer.say(b"a", hello("host:1/0"))
    trainer.say(b"b", hello("host:2/0"))
    assert trainer.kinds() == ["joined", "joined"]
    trainer.do(trainer.session.lost(b"a", trainer.now))
    assert trainer.heard[-1] == ("lost", "host:1/0 lost the connection; its step is reassigned", "1 step of host:1/0")
    trainer.say(b"c", hello("host:3/0"))
    trainer.say(b"c", Leaving(RUN, -1, "asked to stop"))
    assert trainer.heard[-1][0] == "left" and "asked to stop" in trainer.text("left")
    for _ in range(7):
        trainer.tick(1.0)
    assert trainer.heard[-1][0] == "silent" and "host:2/0 was silent for" in trainer.text("silent")
    assert trainer.session.standing.counts.joined == 3


def test_workers_that_cannot_do_the_job_and_those_that_fail_are_heard(trainer):
    trainer.are_ready = False
    trainer.say(b"a", hello("host:1/0"))
    trainer.say(b"a", Unfit(RUN, "no such folder", "Traceback: ..."))
    assert trainer.kinds() == ["set aside"] and "no such folder" in trainer.text("set aside")
    trainer.say(b"a", Ready(RUN))
    assert trainer.kinds()[-1] == "joined"
    trainer.say(b"b", hello("host:2/0"), Ready(RUN))
    lease = trainer.to(b"a", Lease)[0]
    trainer.say(b"a", Failed(RUN, lease.lease, lease.position, "ValueError: odd", "Traceback", "3.jpg"))
    assert "host:1/0 failed at '3.jpg': ValueError: odd" in trainer.text("reassigned")


def test_a_member_that_breaks_the_protocol_is_lost_and_a_stranger_is_refused(trainer):
    trainer.say(b"a", hello("host:1/0"))
    trainer.receive(b"a", [b"nonsense"])
    assert trainer.kinds()[-2:] == ["refused", "lost"] or trainer.kinds()[-2:] == ["lost", "refused"]
    before = len(trainer.heard)
    trainer.hosts[b"x"] = "10.0.0.9"
    for _ in range(30):
        trainer.receive(b"x", [b"nonsense"])
    assert {kind for kind, _, _ in trainer.heard[before:]} == {"refused"}


def test_each_kind_is_one_that_the_status_address_knows(trainer):
    for gone, is_member, kind in ((Gone(b"a", "lost the connection", 2, True), False, "lost"),
                                  (Gone(b"a", "drained", 0), False, "left"),
                                  (Gone(b"a", "said Hello again", 1), False, "left"),
                                  (Gone(b"a", "is cut off", 1, True), False, "lost"),
                                  (Gone(b"a", "was silent for 5.0 s", 1), True, "silent")):
        line = gone_line("host:1/0", gone, is_member)
        assert line.kind == kind and kind in KINDS and bool(line.reassigned) == bool(gone.positions)


def test_steps_that_are_leased_and_reassigned_are_counted(trainer):
    trainer.say(b"a", hello("host:1/0"))
    trainer.say(b"b", hello("host:2/0"))
    counts = trainer.session.standing.counts
    assert (counts.leased, counts.reassigned, counts.joined) == (2, 0, 2)
    trainer.say(b"a", batch(trainer.to(b"a", Lease)[0]))
    trainer.do(trainer.session.lost(b"a", trainer.now))
    trainer.say(b"b", batch(trainer.to(b"b", Lease)[0]))
    assert trainer.session.standing.counts.reassigned == 1
    assert not [error for error in trainer.errors if isinstance(error, RunFailed)]


def test_hosts():
    assert hosts_of({"alpha:1": 2, "alpha:2": 1, "beta:1": 4}) == {"alpha": 3, "beta": 4}
    assert hosts_of({"a-name-of-its-own": 1}) == {"a-name-of-its-own": 1}
    json.dumps(hosts_of({"\udcff:1": 1}))
