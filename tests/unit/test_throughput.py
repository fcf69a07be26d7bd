"""The bottleneck, computed from windows of batch timings: tables of situations, and the borders between them."""

import pytest

from stoker.pipeline.monitoring.throughput import (CONFIRMATIONS, MAX_BATCHES, MIN_BATCHES, MIN_S, OUTLIER_FACTOR,
                                                   REPORT_INTERVAL_S, WAITING, WARMUP_BATCHES, BatchTimings,
                                                   ThroughputMeter, Watch, Window, verdict)

STEP_S = 0.01


def timings(waited_s=0.0, step_s=STEP_S, storage_s=0.0, decode_s=0.0, augment_s=0.0, generator_s=0.0, wire_s=0.001):
    return BatchTimings(waited_s, step_s, storage_s + decode_s + augment_s + generator_s, storage_s, decode_s,
                        augment_s, wire_s)


def steady(workers, step_s=STEP_S, wire_s=0.001, **stages):
    """The window of 100 batches of a run that is as fast as its slower side."""
    every_s = max(step_s, sum(stages.values()) / workers, wire_s / (2 * workers))
    meter = ThroughputMeter(0)
    for _ in range(100 + WARMUP_BATCHES):
        meter.add(timings(every_s - step_s, step_s, wire_s=wire_s, **stages))
    return meter.window()


@pytest.mark.parametrize("name, workers, cores, stages", [
    ("trainer", 1, 8, dict(decode_s=0.009)),
    ("trainer", 2, 2, dict(decode_s=0.02)),                     # exactly enough
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
    ("wire", 1, 8, dict(decode_s=0.03, wire_s=0.1)),            # more workers would wait as well
    ("decode", 2, 2, dict(decode_s=0.1, wire_s=0.15)),          # travels for long, but in parallel
    ("decode", 2, 2, dict(decode_s=0.1, wire_s=0.05)),
])
def test_situations(name, workers, cores, stages):
    found = verdict(steady(workers, **stages), workers, cores)
    assert (found.name, found.sentence.split(":")[0]) == (name, name), found.sentence


@pytest.mark.parametrize("step_s", [0.0004, 0.0009, 0.01])
def test_fast_steps_are_known_too(step_s):
    meter = ThroughputMeter(32)
    for number in range(int(2 * MIN_S / step_s)):
        assert not (number < 50 and meter.is_known(meter.window()))
        meter.add(timings(0.9 * step_s, 0.1 * step_s))
    assert meter.is_known(meter.window())
    meter.clear()
    assert not meter.is_known(meter.window())


def test_stages_are_no_more_than_the_whole():
    """The threads of a generator may take more time in sum than has passed, and a worker may report wrong times."""
    meter = ThroughputMeter(0)
    for _ in range(100):
        meter.add(BatchTimings(0.01, 0.01, 0.02, 0.03, 0.15, 0.0, 0.0))
    window = meter.window()
    assert window.produce_s == pytest.approx(0.02) and window.workers_needed == 2
    storage_s, decode_s, augment_s, generator_s = window.stages
    assert decode_s == pytest.approx(5 * storage_s) and augment_s == 0 and generator_s == pytest.approx(0)
    meter.add(BatchTimings(0.01, 0.01, 1e-9, 1e9, 1e9, 1e9, 0.0))
    assert meter.window().workers_needed <= 2


def test_the_border_of_being_on_time():
    for share, name in ((0.9 * WAITING, "trainer"), (1.1 * WAITING, "decode")):
        window = Window(100, share, 1 - share, (0.0, 2.0, 0.0, 0.0), 0.1)
        assert verdict(window, 2, 2).name == name


def test_the_border_of_idle_workers():
    for made_s, name in ((1.5, "wire"), (1.7, "decode")):       # of 2 s of 2 workers' time
        assert verdict(Window(100, 0.5, 0.5, (0.0, made_s, 0.0, 0.0), 3.0), 2, 2).name == name


def test_the_border_of_too_few_workers():
    window = Window(100, 0.5, 0.5, (0.0, 2.0, 0.0, 0.0), 0.1)         # 4 are enough
    assert window.workers_needed == 4
    assert [verdict(window, workers, 4).name for workers in (1, 3, 4, 5)] == ["too few workers"] * 2 + ["decode"] * 2


def test_the_sentences_have_the_figures():
    assert verdict(steady(1, step_s=0.012, decode_s=0.031), 1, 8).sentence == (
        "too few workers: the trainer waits 61% of the time; a step takes 12 ms, a worker produces a batch in 31 ms: "
        "3 workers are needed, 1 is there, on 8 cores")
    assert verdict(steady(2, decode_s=0.083, storage_s=0.017), 2, 2).sentence == (
        "decode: the trainer waits 80% of the time; workers spend 83% of their time decoding and resizing; 2 workers "
        "are running on 2 cores, 10 workers are needed. What helps: more worker hosts, a faster --decode, smaller "
        "files or --cache")
    assert verdict(steady(2, decode_s=0.017, storage_s=0.083)._replace(read_s=8.3), 2, 2).sentence == (
        "storage: the trainer waits 80% of the time; workers spend 83% of their time waiting for files (the reads of a "
        "batch take 83 ms together, 1.0 at once); 2 workers are running on 2 cores, 10 workers are needed. What helps: "
        "--read-ahead auto, not 0, record files instead of many small ones (stoker-pack), --cache, or faster or nearer "
        "storage")
    assert verdict(steady(3, decode_s=0.009), 3, 8).sentence == (
        "trainer: the data is on time, the trainer waits 0.0% of the time; a step takes 10 ms, a worker produces a "
        "batch in 9 ms: 1 worker is needed, 3 are there")


@pytest.mark.parametrize("at_once, helps", [
    (0.0, "--read-ahead auto, not 0"), (1.0, "--read-ahead auto, not 0"),
    (8.0, "a higher --read-ahead than the number that was given"),
    (60.0, "more workers than cores, which read more files at once")])
def test_what_helps_against_waiting_for_files_depends_on_how_many_are_read_at_once(at_once, helps):
    window = steady(2, decode_s=0.01, storage_s=0.04)
    sentence = verdict(window._replace(read_s=at_once * sum(window.stages)), 2, 2).sentence
    assert "What helps: %s, record files" % helps in sentence
    assert ("%.1f at once" % at_once in sentence) is bool(at_once)


def test_a_worker_cannot_say_that_it_reads_more_at_once_than_it_can():
    meter = ThroughputMeter(0)
    for _ in range(100):
        meter.add(timings(0.01, storage_s=0.02)._replace(read_s=1e9))
    assert meter.window().reads_at_once == pytest.approx(64)


@pytest.mark.parametrize("produce_s, needed", [(0.001, 1), (0.0101, 1), (0.0103, 2), (0.02, 2), (0.025, 3), (0.8, 80)])
def test_workers_needed(produce_s, needed):
    window = steady(1, decode_s=produce_s)
    assert window.workers_needed == needed
    assert window.share_with(needed) <= WAITING and (needed == 1 or window.share_with(needed - 1) > WAITING)


# ----------------------------------------------------------------------------------------------------------- the meter

def fed(batches, prefetch=0):
    meter = ThroughputMeter(prefetch)
    for one in batches:
        meter.add(one)
    return meter


def test_first_steps_do_not_count():
    meter = fed([timings(waited_s=3.0, step_s=9.0)] * WARMUP_BATCHES + [timings()] * 10)
    assert meter.window().waiting_share == 0.0 and meter.window().step_s == pytest.approx(STEP_S)
    meter.clear()
    for _ in range(WARMUP_BATCHES):
        meter.add(timings(step_s=9.0))
    assert meter.window().batches == 0 and meter.window().step_s == 0.0


def test_a_checkpoint_or_evaluation_is_no_step_and_a_lost_worker_no_wait():
    usual = [timings(waited_s=0.0002, decode_s=0.01)] * 200
    window = fed(usual[:100] + [timings(step_s=5.0), timings(waited_s=5.0, decode_s=0.01)] + usual).window()
    assert window.step_s == pytest.approx(STEP_S, rel=OUTLIER_FACTOR / 100)
    assert window.waiting_share < 0.05
    assert window.workers_needed == 1


def known(one, counts, prefetch=0):
    """Whether a verdict is possible after so many batches that count."""
    meters = [fed([one] * (WARMUP_BATCHES + count), prefetch) for count in counts]
    return [meter.is_known(meter.window()) for meter in meters]


def test_a_step_that_is_longer_every_tenth_time_counts():
    window = fed([timings(step_s=0.1 if step % 10 == 0 else 0.001) for step in range(WARMUP_BATCHES + 200)]).window()
    assert window.step_s == pytest.approx((0.1 + 9 * 0.001) / 10)


def test_only_the_last_batches_are_remembered():
    meter = fed([timings(decode_s=9.0)] * MAX_BATCHES + [timings(decode_s=0.01)] * (MAX_BATCHES + 7))
    assert meter.window().batches == MAX_BATCHES and meter.window().produce_s == pytest.approx(0.01)
    assert meter.window(1.0).batches == pytest.approx(100, abs=1)


def test_a_verdict_needs_batches_and_time():
    assert known(timings(waited_s=0.2, decode_s=0.3), (MIN_BATCHES - 1, MIN_BATCHES)) == [False, True]
    count = int(MIN_S / 0.02)
    assert known(timings(waited_s=0.01, decode_s=0.3), (count - 1, count + 1)) == [False, True]


def test_being_on_time_is_known_when_the_prefetched_batches_are_used_up():
    for waited_s, counts in ((0.0, (31 + MIN_BATCHES, 32 + MIN_BATCHES)), (0.05, (MIN_BATCHES - 1, MIN_BATCHES))):
        assert known(timings(waited_s, 0.2, decode_s=0.3), counts, prefetch=32) == [False, True]


def test_a_window_reaches_back_as_far_as_asked():
    meter = fed([timings()] * (WARMUP_BATCHES + 100) + [timings(waited_s=STEP_S, decode_s=0.1)] * 100)
    assert meter.window().waiting_share == pytest.approx(1 / 3)
    assert meter.window(1.5).waiting_share == pytest.approx(1 / 2)
    assert 74 <= meter.window(1.5).batches <= 76


# ----------------------------------------------------------------------------------------------------- what is reported

def test_a_verdict_is_reported_once_when_it_is_confirmed_and_again_when_it_changes():
    watch, reported = Watch(), []
    for now, name in enumerate(["decode"] * 100 + ["wire"] * 100 + ["decode", "wire"] * 100):
        if watch.is_news(name, float(now)):
            reported.append((now, name))
    assert reported == [(CONFIRMATIONS - 1, "decode"), (100 + CONFIRMATIONS - 1, "wire")]


def test_verdicts_that_change_all_the_time_are_not_reported_all_the_time():
    watch = Watch()
    reported = [now for now in range(1000) if watch.is_news(("decode", "trainer")[now // 3 % 2], float(now))]
    assert 2 <= len(reported) <= 1000 / REPORT_INTERVAL_S + 1
    assert all(later - earlier >= REPORT_INTERVAL_S for earlier, later in zip(reported, reported[1:]))
