"""What is kept of a run for its status address: counters, events, bad files, the batch for the pictures."""

import numpy as np
import pytest

from stoker.pipeline.batch import Batch
from stoker.pipeline.monitoring import events as events_module
from stoker.pipeline.monitoring.events import KINDS, MAX_CHARS, MAX_EVENTS, MAX_OF_A_KIND, Events
from stoker.pipeline.monitoring.observation import (EPOCH_INTERVAL_S, FIRST_BAD_FILES, MAX_BAD_FILES, MAX_BOTTLENECKS,
                                                    Observation)
from stoker.pipeline.monitoring.throughput import BatchTimings, Fleet, Verdict
from stoker.pipeline.plan import Plan
from stoker.pipeline.protocol.messages import Skipped

START_S = 5000.0
PLAN = Plan(24, 8, 4, 0, 8)                     # four epochs of three steps and one evaluation batch
FLEET = Fleet(2, 2, {})
TIMINGS = BatchTimings(0.01, 0.02, 0.1, 0.01, 0.05, 0.03, 0.004)


def batch_of(position, worker="alpha:1/0", skipped=(), missing=0, plan=PLAN):
    planned = plan.at(position)
    count = len(planned.indices) - len(skipped) - missing
    return Batch(planned.step, planned.epoch, planned.training, planned.indices, (np.zeros((count, 1)),),
                 tuple(skipped), worker, 1, 0.1, missing=missing)


@pytest.fixture
def seen():
    return Observation(PLAN, 0, START_S)


def take(seen, positions=range(PLAN.positions), timings=TIMINGS, every_s=0.1, **options):
    now = START_S
    for position in positions:
        now += every_s
        seen.taken(batch_of(position, **options), timings, FLEET, now)
    return now


def texts(seen, *kinds):
    return [event.text for event in seen.events.newest() if event.kind in kinds]


def test_the_counters_are_the_sums_over_all_batches(seen):
    take(seen, skipped=[Skipped(1, "bad"), Skipped(2, "not wanted", chosen=True)], missing=1)
    counters = seen.counters
    assert counters.batches == 16 and counters.samples == 16 * 5 and counters.skipped == 16 * 3
    for name, each_s in (("waiting_s", 0.01), ("using_s", 0.02), ("storage_s", 0.01), ("decode_s", 0.05),
                         ("augment_s", 0.03), ("generator_s", 0.01), ("wire_s", 0.004)):
        assert getattr(counters, name) == pytest.approx(16 * each_s), name
    assert seen.workers.hosts() == {"alpha": 16} and seen.epoch == 4
    assert seen.history.recent(START_S + 1.6).samples_per_s == pytest.approx(80 / 1.6)


def test_no_counter_goes_back_where_stages_take_longer_than_the_whole(seen):
    """Several threads of a worker, or one that reports wrong times."""
    take(seen, [0])
    before = seen.counters.generator_s
    take(seen, [1], BatchTimings(0.0, 0.0, 0.1, 0.5, 0.5, 0.5, 0.0))
    assert seen.counters.generator_s == before > 0


def test_a_batch_that_is_handed_out_again_after_a_ctrl_c_counts_once(seen):
    first, second = batch_of(0), batch_of(1)
    for batch in (first, first, second, second):
        seen.taken(batch, TIMINGS, FLEET, START_S + 1)
    assert seen.counters.batches == 2 and seen.counters.samples == len(first) + len(second)
    assert seen.workers.hosts() == {"alpha": 2}


def test_a_batch_without_a_worker_counts(seen):
    take(seen, [0], worker="")
    assert seen.counters.batches == 1 and seen.workers.hosts() == {}


def test_the_beginning_the_epochs_and_the_end_are_events(seen):
    take(seen, every_s=EPOCH_INTERVAL_S)
    assert texts(seen, "run") == ["the run begins", "epoch 1 of 4 begins", "epoch 2 of 4 begins", "epoch 3 of 4 begins",
                                  "epoch 4 of 4 begins", "all 12 steps are done"]


def test_short_epochs_do_not_fill_the_events(seen):
    take(seen)
    assert texts(seen, "run") == ["the run begins", "epoch 1 of 4 begins", "all 12 steps are done"]


def test_a_resumed_run_ends_when_its_own_batches_are_done():
    seen = Observation(PLAN, 7, START_S)
    take(seen, range(PLAN.position_of(7), PLAN.positions))
    assert texts(seen, "run") == ["the run goes on from step 7", "epoch 3 of 4 begins", "all 12 steps are done"]


def test_the_next_batch_is_kept_only_if_it_is_wanted_and_only_one(seen):
    woken = []
    seen.wake = lambda: woken.append(True)
    take(seen, [0, 1])
    assert seen.batch is None and not woken
    seen.is_batch_wanted = True
    take(seen, [2, 3, 4])
    assert seen.batch.step == 2 and woken == [True] and not seen.is_batch_wanted


def test_bad_files_are_bounded_and_each_is_an_event_only_while_they_are_few(seen):
    for number in range(1000):
        seen.bad_file("a/%d.jpg" % number, "no image", number, START_S + number)
    assert len(seen.bad_files) == MAX_BAD_FILES
    assert seen.bad_files[-1] == (START_S + 999, "a/999.jpg", "no image", 999)
    told = texts(seen, "bad file")
    assert told[:2] == ["a/0.jpg: no image", "a/1.jpg: no image"] and FIRST_BAD_FILES <= len(told) <= 20
    assert told[-1] == "a/639.jpg: no image (640 bad files so far)"


@pytest.mark.parametrize("text", ["\x1b[2J\x07", "a\nb", "\udcff" * 1000, "x" * 10 ** 6, "\u202egpj", "<script>"])
def test_names_and_reasons_are_hostile(seen, text):
    seen.bad_file(text, text, 0, START_S)
    seen.heard("lost", text, text, START_S)
    seen.reported(Verdict("decode", text), START_S)
    shown = [seen.bad_files[0].path, seen.bad_files[0].why, seen.bottlenecks[0].sentence] + texts(seen, *KINDS)
    for one in shown:
        assert one.isprintable() and len(one) <= 2 * MAX_CHARS
        one.encode("ascii", "backslashreplace")
        one.encode("utf-8")
    if text == "<script>":
        assert "<script>" in shown              # it is text, and stays what it is


def test_bottlenecks_are_kept(seen):
    for number in range(30):
        seen.reported(Verdict("decode", "decode: %d" % number), START_S + number)
    assert len(seen.bottlenecks) == MAX_BOTTLENECKS
    assert seen.bottlenecks[-1] == (START_S + 29, "decode", "decode: 29")
    assert texts(seen, "bottleneck")[-1] == "decode: 29"


def test_lines_of_the_log_become_events(seen):
    seen.heard("", "of no interest", "", START_S)
    seen.heard("lost", "alpha:1/0 lost the connection; its 2 steps are reassigned", "2 steps of alpha:1/0", START_S)
    seen.heard("set aside", "alpha:1/1 is set aside\nTraceback ...", "", START_S)
    assert texts(seen, "lost") == ["alpha:1/0 lost the connection; its 2 steps are reassigned"]
    assert texts(seen, "reassigned") == ["2 steps of alpha:1/0"]
    assert texts(seen, "set aside") == ["alpha:1/1 is set aside"]
    assert seen.events.counts["lost"] == 1


def test_events_are_bounded_and_one_kind_leaves_room_for_the_others():
    events = Events()
    events.add("bad file", "the only one", START_S)
    for number in range(5000):
        events.add("joined", "joined %d" % number, START_S + number)
        events.add("lost", "lost %d" % number, START_S + number)
    newest = events.newest()
    assert len(newest) == MAX_EVENTS and newest[-1].text == "lost 4999" and events.counts["lost"] == 5000
    assert MAX_OF_A_KIND < MAX_EVENTS
    events.add("run", "the end", START_S + 9999)
    assert events.newest()[-1].text == "the end"
    few = Events()
    few.add("bad file", "the only one", START_S)
    for number in range(5000):
        few.add("joined", "joined %d" % number, START_S + number)
    assert few.newest()[0].text == "the only one" and len(few.newest()) == MAX_OF_A_KIND + 1


def test_a_text_says_that_it_was_cut():
    assert events_module.short("x" * 400) == "x" * 297 + "..." and events_module.short("x" * 300) == "x" * 300
