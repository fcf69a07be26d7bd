"""What holds a run up, told from sums: tables of situations, and the borders between them."""

import pytest

from stoker.pipeline.monitoring.throughput import CONFIRMATIONS, MIN_BATCHES, MIN_S, OUTLIER_FACTOR, MAX_BATCHES, REPEAT_S, WAITING, WARMUP_BATCHES, ThroughputMeter
from stoker.pipeline.monitoring.throughput import Window, BatchTimings, Watch, verdict

STEP_S = 0.01


def taken(waited_s=0.0, step_s=STEP_S, storage_s=0.0, decode_s=0.0, augment_s=0.0, generator_s=0.0, wire_s=0.001):
    return BatchTimings(waited_s, step_s, storage_s + decode_s + augment_s + generator_s, storage_s, decode_s, augment_s,
                 wire_s)


def steady(workers, step_s=STEP_S, wire_s=0.001, **stages):
    """Sums of 100 batches of a run that is as fast as its slower side."""
    every_s = max(step_s, sum(stages.values()) / workers, wire_s / (2 * workers))
    meter = ThroughputMeter(0)
    for _ in range(100 + WARMUP_BATCHES):
        meter.add(taken(every_s - step_s, step_s, wire_s=wire_s, **stages))
    return meter.sums()


@pytest.mark.parametrize("name, workers, cores, stages", [
    ("trainer", 1, 8, dict(decode_s=0.009)),
    ("trainer", 2, 2, dict(decode_s=0.02)),                     # just enough
    ("too few workers", 1, 8, dict(decode_s=0.031)),
    ("too few workers", 7, 8, dict(decode_s=0.1)),
    ("too few workers", 1, 2, dict(storage_s=0.02, decode_s=0.001)),
    ("too few workers", 1, 2, dict(generator_s=0.05)),
    ("decode", 8, 8, dict(decode_s=0.1)),
    ("decode", 9, 8, dict(decode_s=0.1)),
    ("decode", 2, 2, dict(decode_s=0.02, storage_s=0.015, augment_s=0.015)),
    ("storage", 2, 2, dict(decode_s=0.01, storage_s=0.02)),
    ("augment", 2, 2, dict(decode_s=0.01, augment_s=0.02)),
    ("generator", 2, 2, dict(decode_s=0.01, generator_s=0.02)),
    ("wire", 2, 2, dict(decode_s=0.01, wire_s=0.1)),
    ("wire", 1, 8, dict(decode_s=0.03, wire_s=0.1)),            # more workers would only wait side by side
    ("decode", 2, 2, dict(decode_s=0.1, wire_s=0.15)),          # under way for long, and nobody waits for it
    ("decode", 2, 2, dict(decode_s=0.1, wire_s=0.05)),
])
def test_situations(name, workers, cores, stages):
    found = verdict(steady(workers, **stages), workers, cores)
    assert (found.name, found.sentence.split(":")[0]) == (name, name), found.sentence


@pytest.mark.parametrize("step_s", [0.0004, 0.0009, 0.01])
def test_quick_steps_are_known_too(step_s):
    meter = ThroughputMeter(32)
    for number in range(int(2 * MIN_S / step_s)):
        assert not (number < 50 and meter.is_known(meter.sums()))
        meter.add(taken(0.9 * step_s, 0.1 * step_s))
    assert meter.is_known(meter.sums())
    meter.clear()
    assert not meter.is_known(meter.sums())


def test_stages_are_no_more_than_the_whole():
    """A generator's threads add up to more than the time that passed, and a worker may say what it likes."""
    meter = ThroughputMeter(0)
    for _ in range(100):
        meter.add(BatchTimings(0.01, 0.01, 0.02, 0.03, 0.15, 0.0, 0.0))
    sums = meter.sums()
    assert sums.produce_s == pytest.approx(0.02) and sums.workers_needed == 2
    assert sums.decode_s == pytest.approx(5 * sums.storage_s) and sums.generator_s == pytest.approx(0)
    meter.add(BatchTimings(0.01, 0.01, 1e-9, 1e9, 1e9, 1e9, 0.0))
    assert meter.sums().workers_needed <= 2


def test_the_border_of_being_on_time():
    for share, name in ((0.9 * WAITING, "trainer"), (1.1 * WAITING, "decode")):
        sums = Window(100, share, 1 - share, 0.0, 2.0, 0.0, 0.0, 0.1)
        assert verdict(sums, 2, 2).name == name


def test_the_border_of_idle_workers():
    for made_s, name in ((1.5, "wire"), (1.7, "decode")):       # of 2 s of 2 workers' time
        assert verdict(Window(100, 0.5, 0.5, 0.0, made_s, 0.0, 0.0, 3.0), 2, 2).name == name


def test_the_border_of_too_few_workers():
    sums = Window(100, 0.5, 0.5, 0.0, 2.0, 0.0, 0.0, 0.1)         # 4 would do
    assert sums.workers_needed == 4
    assert [verdict(sums, workers, 4).name for workers in (1, 3, 4, 5)] == ["too few workers"] * 2 + ["decode"] * 2


def test_the_sentences_have_the_figures():
    said = verdict(steady(1, step_s=0.012, decode_s=0.031), 1, 8).sentence
    assert said == ("too few workers: the trainer waits 61% of the time; a step takes 12 ms, a worker makes a batch in "
                    "31 ms: 3 workers are needed, 1 is there, of 8 cores")
    said = verdict(steady(2, decode_s=0.083, storage_s=0.017), 2, 2).sentence
    assert "workers spend 83% of theirs decoding" in said and "2 of them are on 2 cores (10 workers are needed)" in said
    said = verdict(steady(3, decode_s=0.009), 3, 8).sentence
    assert "on time" in said and "1 worker is needed, 3 are there" in said


@pytest.mark.parametrize("produce_s, needed", [(0.001, 1), (0.0101, 1), (0.0103, 2), (0.02, 2), (0.025, 3), (0.8, 80)])
def test_workers_needed(produce_s, needed):
    sums = steady(1, decode_s=produce_s)
    assert sums.workers_needed == needed
    assert sums.share_with(needed) <= WAITING and (needed == 1 or sums.share_with(needed - 1) > WAITING)


# ----------------------------------------------------------------------------------------------------------- the meter

def fed(batches, prefetch=0):
    meter = ThroughputMeter(prefetch)
    for one in batches:
        meter.add(one)
    return meter


def test_first_steps_do_not_count():
    meter = fed([taken(waited_s=3.0, step_s=9.0)] * WARMUP_BATCHES + [taken()] * 10)
    assert meter.sums().waiting_share == 0.0 and meter.sums().step_s == pytest.approx(STEP_S)
    meter.clear()
    for _ in range(WARMUP_BATCHES):
        meter.add(taken(step_s=9.0))
    assert meter.sums().batches == 0 and meter.sums().step_s == 0.0


def test_a_checkpoint_or_evaluation_is_no_step_and_a_lost_worker_no_wait():
    usual = [taken(waited_s=0.0002, decode_s=0.01)] * 200
    sums = fed(usual[:100] + [taken(step_s=5.0), taken(waited_s=5.0, decode_s=0.01)] + usual).sums()
    assert sums.step_s == pytest.approx(STEP_S, rel=OUTLIER_FACTOR / 100)
    assert sums.waiting_share < 0.05
    assert sums.workers_needed == 1


def known(one, counts, prefetch=0):
    """Whether a verdict is possible after so many batches that count."""
    meters = [fed([one] * (WARMUP_BATCHES + count), prefetch) for count in counts]
    return [meter.is_known(meter.sums()) for meter in meters]


def test_what_every_tenth_step_takes_longer_is_the_pace():
    sums = fed([taken(step_s=0.1 if step % 10 == 0 else 0.001) for step in range(WARMUP_BATCHES + 200)]).sums()
    assert sums.step_s == pytest.approx((0.1 + 9 * 0.001) / 10)


def test_only_the_last_batches_are_remembered():
    meter = fed([taken(decode_s=9.0)] * MAX_BATCHES + [taken(decode_s=0.01)] * (MAX_BATCHES + 7))
    assert meter.sums().batches == MAX_BATCHES and meter.sums().produce_s == pytest.approx(0.01)
    assert meter.sums(1.0).batches == pytest.approx(100, abs=1)


def test_a_verdict_takes_batches_and_time():
    assert known(taken(waited_s=0.2, decode_s=0.3), (MIN_BATCHES - 1, MIN_BATCHES)) == [False, True]
    count = int(MIN_S / 0.02)
    assert known(taken(waited_s=0.01, decode_s=0.3), (count - 1, count + 1)) == [False, True]


def test_being_on_time_is_known_when_what_lay_ready_is_used_up():
    for waited_s, counts in ((0.0, (31 + MIN_BATCHES, 32 + MIN_BATCHES)), (0.05, (MIN_BATCHES - 1, MIN_BATCHES))):
        assert known(taken(waited_s, 0.2, decode_s=0.3), counts, prefetch=32) == [False, True]


def test_sums_look_back_as_far_as_wanted():
    meter = fed([taken()] * (WARMUP_BATCHES + 100) + [taken(waited_s=STEP_S, decode_s=0.1)] * 100)
    assert meter.sums().waiting_share == pytest.approx(1 / 3)
    assert meter.sums(1.5).waiting_share == pytest.approx(1 / 2)
    assert 74 <= meter.sums(1.5).batches <= 76


# ----------------------------------------------------------------------------------------------------- what is said

def test_a_verdict_is_said_once_when_it_is_sure_and_again_when_it_changes():
    watch, said = Watch(), []
    for now, name in enumerate(["decode"] * 100 + ["wire"] * 100 + ["decode", "wire"] * 100):
        if watch.is_news(name, float(now)):
            said.append((now, name))
    assert said == [(CONFIRMATIONS - 1, "decode"), (100 + CONFIRMATIONS - 1, "wire")]


def test_verdicts_that_change_all_the_time_are_not_said_all_the_time():
    watch = Watch()
    said = [now for now in range(1000) if watch.is_news(("decode", "trainer")[now // 3 % 2], float(now))]
    assert 2 <= len(said) <= 1000 / REPEAT_S + 1
    assert all(later - earlier >= REPEAT_S for earlier, later in zip(said, said[1:]))
