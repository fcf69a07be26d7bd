"""BatchStream with a fake coordinator and a fake clock: the order, the errors, the files, and the end."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from stoker.pipeline.batch import Batch
from stoker.pipeline.errors import BatchesDiffer, ConfigError, DatasetError, RunFailed
from stoker.pipeline.monitoring.closing import TOO_SHORT
from stoker.pipeline.monitoring.pace import VERDICT_INTERVAL_S
from stoker.pipeline.monitoring.throughput import CONFIRMATIONS, WARMUP_BATCHES, WINDOW_S, Fleet
from stoker.pipeline.options import JobOptions, StreamOptions
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Skipped, Timings
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.pipeline.stream import CHECK_INTERVAL_S, VERIFIED_WITHIN_S, BatchStream

TRAINING, VALIDATION, BATCH_SIZE, EPOCHS = 6, 2, 2, 2      # an epoch: three training steps and one evaluation batch
MAX_CALLS = 10000      # of a fake clock: far more than any test here needs


def dataset_of(name, size):
    return Dataset("/data", ("cats", "dogs"), tuple("%s/%d.jpg" % (name, number) for number in range(size)),
                   tuple(number % 2 for number in range(size)), ())


DATASETS = Splits(dataset_of("training", TRAINING), dataset_of("validation", VALIDATION))


class FakeClock:
    """Time passes only where the stream waits. At each wait, the next of ``events`` happens: a function."""

    def __init__(self):
        self.seconds = 1000.0
        self.events = []
        self._calls = 0

    def now(self):
        self._calls += 1
        assert self._calls < MAX_CALLS, "the stream would wait forever"
        return self.seconds

    def wait(self, condition, limit_s):
        assert limit_s == CHECK_INTERVAL_S
        self.seconds += limit_s
        if self.events:
            self.events.pop(0)()


class FakeCoordinator:
    """Records the calls of the stream. Tests deliver batches, or an error, in its name."""

    def __init__(self, start, plan, datasets, job, options, deliver, fail):
        self.start_position, self.plan, self.deliver, self.fail = start, plan, deliver, fail
        self.address, self.local_keys, self.run_id = "tcp://127.0.0.1:5555", None, "ab12cd34"
        self.fleet = Fleet(2, 2, {}, ready=2)
        self.calls = []            # in order: names, or (name, arguments)
        self.unattended_s = 0.0    # no worker is alive for so long
        self.is_verifying = False
        self.stop_error = None

    def start(self):
        self.calls.append("start")

    def abandon(self):
        self.calls.append("abandon")

    def take_up_to(self, position, step_s=0.0):
        self.calls.append(("take_up_to", position))

    def stop(self, reason, done):
        self.calls.append(("stop", reason, done))
        if self.stop_error is not None:
            raise self.stop_error

    def without_workers_s(self):
        return self.unattended_s

    def stall_report(self, waited_s, limit_s):
        return "no batch for %.1f s (limit %g s): the report" % (waited_s, limit_s)

    def verification_report(self):
        return "verification: the report"

    def produce(self, *positions, **changed):
        for position in positions:
            self.deliver(position, batch_of(self.plan, position, **changed))


class FakeGroup:
    def __init__(self, stopped, name="group", error=None):
        self.problem, self._stopped, self._name, self._error = None, stopped, name, error
        self.windows, self.adjusts = [], False

    def trouble(self, fleet):
        return self.problem

    def adjust(self, window, fleet):
        self.windows.append(window)
        return self.adjusts

    def stop(self):
        self._stopped.append(self._name)
        if self._error is not None:
            raise self._error


def batch_of(plan, position, skipped=(), produce_s=0.25):
    planned = plan.at(position)
    used = tuple(index for index in planned.indices if index not in [skip.index for skip in skipped])
    return Batch(planned.step, planned.epoch, planned.training, planned.indices,
                 (np.full((len(used), 4), position, np.uint8), np.zeros((len(used), 1), np.int32)), tuple(skipped),
                 "host:1/0", 1, produce_s, used, Timings(decode_s=produce_s))


class Opened:
    """A stream with its fakes."""

    def __init__(self, start_step=0, datasets=DATASETS, job=None, epochs=EPOCHS, **options):
        self.clock = FakeClock()
        self.plan = Plan(len(datasets.training), BATCH_SIZE, epochs, 0, len(datasets.validation))
        self.stream = BatchStream(self.plan, datasets, job or JobOptions("image", (2, 2), BATCH_SIZE),
                                  StreamOptions(**options), start_step, self._coordinator, self.clock.now,
                                  self.clock.wait)

    def _coordinator(self, *arguments):
        self.coordinator = FakeCoordinator(*arguments)
        return self.coordinator

    def produce_all(self):
        self.coordinator.produce(*range(self.plan.positions))

    def taken(self):
        return [call[1] for call in self.coordinator.calls if call[0] == "take_up_to"]


@pytest.fixture
def opened():
    return Opened()


def test_a_stream_has_the_names_of_the_classes(opened):
    assert opened.stream.classes == ("cats", "dogs")
    rows = Splits(Dataset("/data", (), ("a.jpg", "b.jpg"), (-1, -1), ()))
    assert Opened(datasets=rows).stream.classes == ()


def test_a_stream_and_its_batches_are_printed_in_a_line(opened):
    opened.produce_all()
    batch = replace(next(opened.stream), specs=opened.stream.arrays)
    assert repr(batch) == "<Batch: step=0, epoch=0, %d samples, images uint8 %r, labels int32 %r>" % (
        len(batch), batch.images.shape, batch.labels.shape)
    assert repr(opened.stream) == ("<BatchStream: 1 of %d steps, batches of images uint8 (2, 2, 3), labels int32 (1,)>"
                                   % opened.plan.steps)
    evaluation = replace(batch, training=False, step=3, skipped=(Skipped(0, "gone"),))
    assert repr(evaluation).startswith("<Batch: step=3, epoch=0, training=False, 2 samples, 1 skipped, images ")
    opened.stream.close()
    assert repr(opened.stream).endswith(", closed>")


def position_in(batch):
    return int(batch.images[0, 0])


# ------------------------------------------------------------------------------------------- order, and exactly once

def test_batches_come_in_order_and_once_in_whatever_order_they_are_delivered(opened):
    opened.coordinator.produce(*[5, 1, 0, 7, 2, 3, 6, 4])
    batches = list(opened.stream)
    assert [position_in(batch) for batch in batches] == list(range(8)) == list(range(opened.plan.positions))
    assert [(batch.step, batch.training) for batch in batches] == [
        (0, True), (1, True), (2, True), (3, False), (3, True), (4, True), (5, True), (6, False)]
    assert list(opened.stream) == []
    assert opened.clock.now() == 1000.0      # nothing waited


def test_a_batch_that_was_handed_out_is_not_kept(opened):
    opened.produce_all()
    for _ in range(3):
        next(opened.stream)
    assert sorted(opened.stream._ready) == [3, 4, 5, 6, 7]


def test_the_coordinator_learns_the_position_after_each_step(opened):
    opened.produce_all()
    assert opened.taken() == []
    for position in range(3):
        next(opened.stream)
        assert opened.taken() == list(range(1, position + 2))
        assert position not in opened.stream._ready      # the lease that this allows has room


def test_a_stream_begins_at_its_start_step():
    opened = Opened(start_step=2)
    assert opened.coordinator.start_position == 2
    opened.produce_all()
    assert [position_in(batch) for batch in opened.stream] == [2, 3, 4, 5, 6, 7]
    assert Opened(start_step=3).coordinator.start_position == 3       # the evaluation comes again
    assert list(Opened(start_step=6, datasets=Splits(DATASETS.training)).stream) == []


def test_the_consumer_waits_for_its_own_position_and_the_time_is_counted(opened):
    opened.clock.events = [lambda: opened.coordinator.produce(1), lambda: opened.coordinator.produce(0)]
    assert position_in(next(opened.stream)) == 0
    assert opened.stream.waited_s == pytest.approx(2 * CHECK_INTERVAL_S)
    assert position_in(next(opened.stream)) == 1
    assert opened.stream.waited_s == pytest.approx(2 * CHECK_INTERVAL_S)
    assert opened.stream.produced_s == pytest.approx(2 * 0.25)


# ------------------------------------------------------------------------------------------------------- verification

def test_a_difference_is_raised_at_once_even_if_the_next_batch_is_there(opened):
    opened.produce_all()
    next(opened.stream)
    opened.coordinator.fail(BatchesDiffer("step 0 was made twice"))
    for _ in range(2):
        with pytest.raises(RunFailed, match="step 0 was made twice"):
            next(opened.stream)
    assert opened.taken() == [1]


def test_the_end_waits_for_the_last_comparison():
    for fails in (False, True):
        opened = Opened(verify=0.5)
        opened.produce_all()
        opened.coordinator.is_verifying = True

        def compared(opened=opened, fails=fails):
            opened.coordinator.is_verifying = False
            if fails:
                opened.coordinator.fail(BatchesDiffer("step 6 was made twice"))
        opened.clock.events = [lambda: None, compared]
        for _ in range(opened.plan.positions):
            next(opened.stream)
        with pytest.raises(BatchesDiffer if fails else StopIteration):
            next(opened.stream)
        assert opened.clock.now() == pytest.approx(1000.0 + 2 * CHECK_INTERVAL_S)
        assert opened.stream.report().splitlines()[3:] == ["verification: the report"]


@pytest.mark.parametrize("verify, waits_s", [(0.0, 0.0), (0.5, VERIFIED_WITHIN_S)])
def test_a_comparison_that_does_not_come_holds_up_the_end_only_for_so_long(verify, waits_s):
    opened = Opened(verify=verify)
    opened.produce_all()
    opened.coordinator.is_verifying = True
    assert len(list(opened.stream)) == opened.plan.positions
    assert opened.clock.now() == pytest.approx(1000.0 + waits_s, abs=2 * CHECK_INTERVAL_S)
    assert len(opened.stream.report().splitlines()) == (4 if verify else 3)
    opened.stream.close()
    assert opened.coordinator.calls[-1] == ("stop", "all steps are done", True)


# ------------------------------------------------------------------------------------------------------- interruption

def test_an_interrupt_before_a_step_ends_the_iteration_even_if_a_batch_is_ready(opened):
    opened.produce_all()
    assert position_in(next(opened.stream)) == 0
    opened.stream.interrupt()
    assert list(opened.stream) == [] and opened.taken() == [1]


def test_an_interrupt_during_a_step_lets_it_finish(opened):
    opened.produce_all()
    steps = []
    for batch in opened.stream:
        steps.append(position_in(batch))
        opened.stream.interrupt()
    assert steps == [0] and opened.taken() == [1]


def test_an_interrupt_ends_the_waiting(opened):
    opened.clock.events = [opened.stream.interrupt]
    assert list(opened.stream) == []
    assert opened.stream.waited_s == pytest.approx(CHECK_INTERVAL_S)


def test_a_ctrl_c_ends_the_waiting_for_those_who_look(opened):
    insight = opened.stream.insight()

    def interrupt():
        assert insight.waits_since_s is not None
        raise KeyboardInterrupt
    opened.clock.events = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        next(opened.stream)
    assert insight.waits_since_s is None


def test_a_run_that_has_waited_for_long_has_no_bottleneck_of_the_last_seconds(opened):
    insight, seen = opened.stream.insight(), []
    opened.stream.pace.judged = "as of before"

    def notice():
        seen.append((opened.clock.seconds - insight.waits_since_s >= WINDOW_S, insight.judged))
    opened.clock.events = [notice] * (int(WINDOW_S / CHECK_INTERVAL_S) + 5) + [opened.stream.interrupt]
    assert insight.judged == "as of before" and list(opened.stream) == []
    assert set(seen) == {(False, "as of before"), (True, None)}


def test_after_an_exception_the_same_batch_comes_again(opened, monkeypatch):
    """Ctrl-C may come at any moment before a batch is handed out."""
    opened.produce_all()

    def interrupted(*arguments):
        monkeypatch.undo()
        raise KeyboardInterrupt
    monkeypatch.setattr(opened.stream.pace, "handed_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(opened.stream)
    assert opened.taken() == [] and opened.stream.produced_s == 0
    assert [position_in(batch) for batch in opened.stream] == list(range(8))


def test_a_batch_that_comes_again_is_counted_once(opened):
    opened.produce_all()
    insight = opened.stream.insight()

    class Interrupted:
        def taken(self, *arguments):
            opened.stream.pace.observers.remove(self)
            raise KeyboardInterrupt
    opened.stream.pace.observers.append(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        next(opened.stream)
    assert len(list(opened.stream)) == insight.observation.counters.batches == 8


# ------------------------------------------------------------------------------------------------------------- errors

def test_an_error_before_and_while_waiting_reaches_the_consumer(opened):
    opened.clock.events = [lambda: None, lambda: opened.coordinator.fail(RunFailed("step 0 failed"))]
    with pytest.raises(RunFailed, match="^step 0 failed$"):
        next(opened.stream)
    assert opened.stream.waited_s == pytest.approx(2 * CHECK_INTERVAL_S)
    with pytest.raises(RunFailed, match="^step 0 failed$"):
        next(opened.stream)
    assert opened.stream.waited_s == pytest.approx(2 * CHECK_INTERVAL_S)


def test_the_first_error_counts_and_batches_that_are_ready_come_before_it(opened):
    opened.coordinator.produce(0)
    opened.coordinator.fail(RunFailed("the first"))
    opened.coordinator.fail(RunFailed("the second"))
    assert position_in(next(opened.stream)) == 0
    with pytest.raises(RunFailed, match="^the first$"):
        next(opened.stream)


def test_trouble_of_a_worker_group_ends_the_run(opened):
    group = FakeGroup([])
    opened.stream.attach(group)
    opened.clock.events = [lambda: None, lambda: setattr(group, "problem", "the workers ended")]
    with pytest.raises(RunFailed, match="^the workers ended$"):
        next(opened.stream)
    assert opened.stream.waited_s == pytest.approx(2 * CHECK_INTERVAL_S)


def waiting_from_the_start(opened):
    """No worker ever comes: that time is the time of the stream."""
    opened.clock.events = [lambda: setattr(opened.coordinator, "unattended_s", opened.clock.now() - 1000.0)] * 1000


def test_no_worker_for_worker_timeout_ends_the_run_and_says_how_to_start_one():
    opened = Opened(worker_timeout_s=2.1, batch_timeout_s=5.0)
    waiting_from_the_start(opened)
    with pytest.raises(RunFailed) as failed:
        next(opened.stream)
    assert str(failed.value) == ("no batch for 2.2 s (limit 2.1 s): the report; start workers with: "
                                 "python -m workers --connect tcp://127.0.0.1:5555")


def test_time_without_workers_counts_only_while_the_consumer_waits():
    """A step of the trainer may take longer than worker_timeout_s: the workers come back meanwhile."""
    opened = Opened(worker_timeout_s=2.0)
    opened.coordinator.unattended_s = 1000.0
    opened.clock.events = [lambda: None, lambda: opened.coordinator.produce(0)]
    assert position_in(next(opened.stream)) == 0


def test_no_batch_for_batch_timeout_ends_the_run_and_names_the_samples():
    opened = Opened(worker_timeout_s=2.0, batch_timeout_s=3.1)
    with pytest.raises(RunFailed) as failed:
        next(opened.stream)
    paths = [DATASETS.training.paths[index] for index in opened.plan.at(0).indices]
    assert str(failed.value) == "no batch for 3.2 s (limit 3.1 s): the report; its samples: " + ", ".join(paths)


def test_samples_are_not_to_blame_while_no_worker_is_ready():
    """For example, each hangs while it imports the user's module."""
    opened = Opened(worker_timeout_s=2.0, batch_timeout_s=3.1)
    opened.coordinator.fleet = Fleet(2, 2, {}, ready=0)
    with pytest.raises(RunFailed) as failed:
        next(opened.stream)
    assert str(failed.value) == "no batch for 3.2 s (limit 3.1 s): the report"


def test_no_evaluation_batch_for_batch_timeout_names_samples_of_the_validation_data():
    opened = Opened(start_step=3, batch_timeout_s=3.1)
    with pytest.raises(RunFailed, match="; its samples: validation/0.jpg, validation/1.jpg$"):
        next(opened.stream)


@pytest.mark.parametrize("workers, limit", [(True, "9"), (False, "7")])
def test_a_stall_is_reported_every_stall_s_with_the_limit_that_applies(caplog, workers, limit):
    opened = Opened(stall_s=2.1, batch_timeout_s=9.0, worker_timeout_s=7.0)
    opened.coordinator.unattended_s = 0.0 if workers else 1.0
    opened.clock.events = [lambda: None] * 24 + [lambda: opened.coordinator.produce(0)]      # 5 s
    next(opened.stream)
    assert caplog.messages == ["no batch for %s s (limit %s s): the report" % (waited, limit)
                               for waited in ("2.2", "4.4")]


@pytest.mark.parametrize("pause_s", [60.0, 100000.0])
def test_time_in_which_the_trainer_itself_did_not_run_is_no_stall(caplog, pause_s):
    """It was suspended, or one C call of another thread kept the interpreter."""
    opened = Opened(stall_s=2.1, batch_timeout_s=9.0, worker_timeout_s=7.0)
    opened.coordinator.unattended_s = 1e9

    def pause():
        opened.clock.seconds += pause_s

    opened.clock.events = [pause, lambda: None] * 3 + [lambda: opened.coordinator.produce(0)]
    next(opened.stream)
    assert caplog.messages == [] and opened.stream.waited_s == pytest.approx(7 * CHECK_INTERVAL_S)


# ---------------------------------------------------------------------------------------------------------- bad files

def bad_batch(opened, position, reason="no\x1bpicture"):
    """The path of the bad file in the batch that is delivered for ``position``."""
    planned = opened.plan.at(position)
    opened.coordinator.produce(position, skipped=(Skipped(planned.indices[1], reason),))
    return DATASETS.of(planned.training).paths[planned.indices[1]]


def test_a_bad_file_is_logged_once_and_counted(opened, caplog):
    first = bad_batch(opened, 0)
    opened.coordinator.produce(1, 2)
    evaluated = bad_batch(opened, 3)
    opened.coordinator.produce(4, 5, 6, 7)
    again = [position for position in (4, 5, 6) if first in [
        DATASETS.training.paths[index] for index in opened.plan.at(position).indices]]
    opened.coordinator.produce(*again, skipped=(Skipped(DATASETS.training.paths.index(first), "no picture"),))
    assert len(list(opened.stream)) == 8 and evaluated == "validation/1.jpg"
    assert caplog.messages == ["bad file %r: no\\x1bpicture" % path for path in (first, evaluated)]
    assert opened.stream.skipped == {first: "no picture", evaluated: "no\x1bpicture"}
    assert opened.stream.bad_files == 2


@pytest.mark.parametrize("chosen, why", [
    (False, "40 bad files, such as 'training/16.jpg': no picture; paths start from the folder /data"),
    (True, "no bad files; 40 samples skipped by your function (no picture)")])
def test_an_epoch_without_a_sample_ends_the_run_after_it(chosen, why):
    opened = Opened(datasets=Splits(dataset_of("training", 40)), epochs=2)
    for position in range(21):
        opened.coordinator.produce(position, skipped=[
            Skipped(index, "no picture", chosen=chosen) for index in opened.plan.at(position).indices])
    assert [len(next(opened.stream)) for _ in range(20)] == [0] * 20
    for _ in range(2):
        with pytest.raises(DatasetError) as caught:
            next(opened.stream)
        assert str(caught.value) == "not one sample of epoch 1 could be used: " + why


def test_an_epoch_of_which_a_part_was_done_before_a_resume_may_have_no_sample():
    opened = Opened(datasets=Splits(dataset_of("training", 4)), epochs=2, start_step=1)
    opened.coordinator.produce(1, skipped=[Skipped(index, "no picture") for index in opened.plan.at(1).indices])
    opened.coordinator.produce(2)
    assert [len(next(opened.stream)) for _ in range(2)] == [0, 2]


def test_only_some_bad_files_are_named_in_the_log(caplog):
    datasets = Splits(dataset_of("training", 40))
    opened = Opened(datasets=datasets, epochs=1)
    for position in range(20):
        opened.coordinator.produce(position, skipped=[
            Skipped(index, "no picture") for index in opened.plan.at(position).indices])
    assert all(len(next(opened.stream)) == 0 for _ in range(20))
    assert ["any more are only counted" in line for line in caplog.messages] == [False] * 9 + [True]
    assert opened.stream.bad_files == 40


def test_bad_files_are_listed_with_class_reason_and_step(tmp_path):
    listing = tmp_path / "bad.tsv"
    listing.write_bytes(b"path\tclass\treason\tstep\nold.jpg\tcats\tno picture\t0\n")
    opened = Opened(start_step=1, bad_samples=str(listing))
    trained = bad_batch(opened, 1)
    opened.coordinator.produce(2)
    evaluated = bad_batch(opened, 3)
    for _ in range(3):
        next(opened.stream)
    number = DATASETS.training.paths.index(trained)
    assert listing.read_bytes().splitlines()[1:] == [
        b"old.jpg\tcats\tno picture\t0",
        ("%s\t%s\tno\\u001bpicture\t1" % (trained, ("cats", "dogs")[number % 2])).encode(),
        ("%s\tdogs\tno\\u001bpicture\t3" % evaluated).encode()]
    assert opened.stream.bad_files == 3 and len(opened.stream.skipped) == 2


@pytest.mark.parametrize("position, where", [(4, "step 3 of epoch 2"),
                                             (3, "the evaluation before step 3, after epoch 1")])
def test_a_bad_file_ends_the_run_if_it_is_to(tmp_path, caplog, position, where):
    opened = Opened(start_step=3, job=JobOptions("image", (2, 2), BATCH_SIZE, on_bad_image="raise"),
                    audit=str(tmp_path / "audit.jsonl"), bad_samples=str(tmp_path / "bad.tsv"))
    opened.coordinator.produce(3, 4)
    path = bad_batch(opened, position)
    with pytest.raises(RunFailed) as failed:
        list(opened.stream)
    assert str(failed.value) == ("%r, in %s, is a bad file: no\\x1bpicture; replace it, or continue with "
                                 "on_bad_image='skip' (--on-bad-image skip)" % (path, where))
    assert path in (tmp_path / "bad.tsv").read_text() and not caplog.messages
    assert opened.taken() == ([4] if position == 4 else []) and not (tmp_path / "audit.jsonl").read_text()


def test_several_bad_files_of_a_batch_end_the_run_with_their_number():
    opened = Opened(job=JobOptions("image", (2, 2), BATCH_SIZE, on_bad_image="raise"))
    indices = opened.plan.at(0).indices
    opened.coordinator.produce(0, skipped=[Skipped(index, "gone") for index in indices])
    with pytest.raises(RunFailed, match=r"is a bad file: gone \(and 1 more in this batch\); replace it"):
        next(opened.stream)


# -------------------------------------------------------------------------------------------------------------- audit

def audited_steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_each_training_step_is_in_the_audit_before_it_is_handed_out(tmp_path):
    opened = Opened(audit=str(tmp_path / "audit.jsonl"))
    opened.produce_all()
    steps = []
    for batch in opened.stream:
        if batch.training:
            steps.append(batch.step)
        assert audited_steps(tmp_path / "audit.jsonl") == steps
    assert steps == list(range(6))


@pytest.mark.parametrize("is_written", [True, False])
def test_a_ctrl_c_at_a_line_of_the_audit_does_not_write_it_twice(tmp_path, monkeypatch, is_written):
    opened = Opened(audit=str(tmp_path / "audit.jsonl"))
    opened.produce_all()
    next(opened.stream)
    append = opened.stream._audit._append

    def interrupted(data):
        append(data if is_written else data[:5])
        monkeypatch.undo()
        raise KeyboardInterrupt
    monkeypatch.setattr(opened.stream._audit, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(opened.stream)
    assert [position_in(batch) for batch in opened.stream] == list(range(1, 8))
    assert audited_steps(tmp_path / "audit.jsonl") == list(range(6))


def test_a_step_whose_audit_line_cannot_be_written_is_not_handed_out(tmp_path, monkeypatch):
    opened = Opened(audit=str(tmp_path / "audit.jsonl"))
    opened.produce_all()
    next(opened.stream)

    def full(batch):
        monkeypatch.undo()
        raise RunFailed("audit: cannot write: No space left on device")
    monkeypatch.setattr(opened.stream._audit, "write", full)
    with pytest.raises(RunFailed, match="No space left"):
        next(opened.stream)
    assert opened.taken() == [1]
    assert position_in(next(opened.stream)) == 1      # the same batch comes again
    assert audited_steps(tmp_path / "audit.jsonl") == [0, 1]


# --------------------------------------------------------------------------------------------------------------- pace

def trained(opened, count, step_s=0.1):
    for _ in range(count):
        opened.coordinator.produce(opened.stream._position)
        next(opened.stream)
        opened.clock.seconds += step_s


def test_the_bottleneck_is_logged_once_it_is_confirmed_and_groups_see_the_window(caplog):
    caplog.set_level(logging.INFO, "stoker")
    opened = Opened(epochs=1000, prefetch=2)
    group = FakeGroup([])
    opened.stream.attach(group)
    assert opened.stream.verdict() is None
    trained(opened, 200)
    assert [line.split(":")[:2] for line in caplog.messages] == [["bottleneck", " trainer"]]
    assert opened.stream.verdict().name == "trainer" and opened.stream.verdict(1.0).name == "trainer"
    assert len(group.windows) > CONFIRMATIONS and group.windows[-1].step_s == pytest.approx(0.1)
    assert group.windows[-1].produce_s == pytest.approx(0.25)
    assert group.windows[-1].stages[1] == pytest.approx(0.25 * group.windows[-1].batches)


def test_a_group_that_changes_its_number_makes_the_figures_begin_anew():
    opened = Opened(epochs=1000, prefetch=2)
    group = FakeGroup([])
    opened.stream.attach(group)
    group.adjusts = True
    trained(opened, 200)
    assert 1 < len(group.windows) <= 200 / 10
    assert max(window.batches for window in group.windows) <= WARMUP_BATCHES + 10 + VERDICT_INTERVAL_S / 0.1


def test_no_verdict_without_workers(caplog):
    opened = Opened(epochs=1000, prefetch=2)
    opened.coordinator.fleet = Fleet(0, 0, {})
    trained(opened, 200)
    assert opened.stream.verdict() is None and not caplog.messages


def test_the_first_batch_of_a_worker_is_not_in_its_time_per_image():
    """It includes the import of the user's module."""
    opened = Opened(epochs=20, prefetch=2)
    opened.coordinator.produce(0, produce_s=30.0)
    next(opened.stream)
    assert "a worker takes 15000.00 ms per image" in opened.stream.report()
    trained(opened, 3)
    assert "a worker takes 125.00 ms per image" in opened.stream.report() and opened.stream.produced_s == 30.75


def test_a_closed_stream_that_had_ended_is_still_at_its_end(opened):
    opened.produce_all()
    list(opened.stream)
    opened.stream.close()
    assert next(opened.stream, None) is None


def test_the_report_inside_and_after_the_with_block():
    opened = Opened(epochs=20, prefetch=2)
    assert opened.stream.report().splitlines() == ["result: 0 of %d steps, no bad files" % opened.plan.steps,
                                                   "speed: no images were used", TOO_SHORT]
    trained(opened, 20, 0.5)
    inside = opened.stream.report()
    result, speed, advice = inside.splitlines()
    assert result == "result: 15 of %d steps, no bad files" % opened.plan.steps
    assert speed == ("speed: 4 images/s; the trainer waited for data 0.0% of the time; a worker takes 125.00 ms per "
                     "image")
    assert advice == "bottleneck: " + opened.stream.verdict().sentence and advice.startswith("bottleneck: trainer: ")
    opened.stream.close()
    opened.coordinator.fleet = Fleet(0, 0, {})           # the workers leave
    opened.clock.seconds += 3600
    assert opened.stream.report() == inside and opened.stream.verdict().name == "trainer"


# ------------------------------------------------------------------------------------------------------ begin and end

def files_closed(stream):
    return [file._file.closed for file in (stream._audit, stream._listing)]


@pytest.fixture
def with_files(tmp_path):
    return Opened(audit=str(tmp_path / "audit.jsonl"), bad_samples=str(tmp_path / "bad.tsv"))


def test_close_stops_the_coordinator_then_the_groups_then_closes_the_files(with_files):
    order = with_files.coordinator.calls
    for name in ("first", "second"):
        with_files.stream.attach(FakeGroup(order, name))
    with with_files.stream as stream:
        assert order == ["start"] and files_closed(stream) == [False, False]
    assert order[1] == ("stop", "the trainer closed the stream", False)
    assert sorted(order[2:]) == ["first", "second"] and files_closed(stream) == [True, True]
    stream.close()
    assert len(order) == 4
    with pytest.raises(RuntimeError, match="the stream is closed"):
        next(stream)


def test_a_finished_run_is_closed_as_finished(opened):
    opened.produce_all()
    list(opened.stream)
    opened.stream.close()
    assert opened.coordinator.calls[-1] == ("stop", "all steps are done", True)


@pytest.mark.parametrize("failing", ["coordinator", "first", "second"])
def test_close_closes_everything_whatever_fails(with_files, failing):
    stopped, error = [], OSError("it failed")
    for name in ("first", "second"):
        with_files.stream.attach(FakeGroup(stopped, name, error if name == failing else None))
    with_files.coordinator.stop_error = error if failing == "coordinator" else None
    with pytest.raises(OSError, match="^it failed$"):
        with_files.stream.close()
    assert with_files.coordinator.calls[-1][0] == "stop"
    assert sorted(stopped) == ["first", "second"] and files_closed(with_files.stream) == [True, True]
    with_files.stream.close()
    assert len(stopped) == 2


def test_a_stream_whose_port_cannot_be_bound_changes_no_file(tmp_path):
    audit = tmp_path / "audit.jsonl"
    opened = Opened(audit=str(audit))
    opened.produce_all()
    next(opened.stream)
    opened.stream.close()
    before = audit.read_bytes()
    with pytest.raises(ConfigError, match="address in use"):
        BatchStream(opened.plan, DATASETS, JobOptions("image", (2, 2), BATCH_SIZE), StreamOptions(audit=str(audit)), 0,
                    cannot_bind)
    assert audit.read_bytes() == before != b""
    Opened(audit=str(audit)).stream.close()      # the lock of the file was released, and the run begins anew
    assert audit.read_bytes() == b""


def cannot_bind(*arguments):
    raise ConfigError("address in use")


def test_a_stream_whose_files_cannot_be_changed_frees_the_port(tmp_path, monkeypatch):
    def full(self):
        raise ConfigError("disk full")
    monkeypatch.setattr("stoker.pipeline.monitoring.audit.Audit.begin", full)
    made = []

    def coordinator(*arguments):
        made.append(FakeCoordinator(*arguments))
        return made[0]
    with pytest.raises(ConfigError, match="disk full"):
        BatchStream(Plan(TRAINING, BATCH_SIZE, 1, 0), DATASETS, JobOptions("image", (2, 2), BATCH_SIZE),
                    StreamOptions(audit=str(tmp_path / "audit.jsonl")), 0, coordinator)
    assert made[0].calls == ["abandon"]


@pytest.mark.parametrize("address", ["0.0.0.0", "*", "[::]"])
def test_workers_elsewhere_connect_to_this_host_by_its_name(opened, monkeypatch, address):
    monkeypatch.setattr("socket.gethostname", lambda: "trainer-7")
    opened.stream.address = "tcp://%s:5555" % address
    assert opened.stream.worker_command == "python -m workers --connect tcp://trainer-7:5555 --data DIR"


def test_the_worker_command_is_one_for_a_shell(opened):
    opened.stream._own_functions = ("/my programs/train.py:drive",)
    assert opened.stream.worker_command.endswith(" --allow-generator '/my programs/train.py:drive'")


def test_the_worker_command_names_the_keys(tmp_path):
    command = Opened(keys="keys").stream.worker_command
    assert command == "python -m workers --connect tcp://127.0.0.1:5555 --keys NAME (a copy of keys/workers/NAME)"
