"""The rate and the waiting share over time, and what each worker delivered: on times that the tests choose."""

import random

import pytest

from stoker.pipeline.monitoring.history import INTERVAL_S, MAX_INTERVALS, History
from stoker.pipeline.monitoring.worker_rates import MAX_HOSTS, MAX_WORKERS, OTHERS, PERIOD_S, WorkerRates, host_of

START_S = 5000.0


def test_nothing_is_known_before_the_first_batch():
    history = History(START_S)
    assert history.recent(START_S + 5) == (None, None)
    assert history.lines(START_S + 5) == ([None, None], [None, None])
    assert history.lines(START_S + 5, START_S).waiting_share == [1.0, 1.0]      # but that the trainer waits


def test_a_steady_run():
    history, now = History(START_S), START_S
    for _ in range(int(20 / 0.1)):
        now += 0.1
        history.add(8, 0.025, 0.075, now)
    rates, shares = history.lines(START_S + 20.01)
    assert len(rates) == len(shares) == 10
    assert rates == pytest.approx([80.0] * 10, rel=0.06) and shares == pytest.approx([0.25] * 10, abs=0.02)
    recent = history.recent(now)
    assert recent.samples_per_s == pytest.approx(80, rel=0.02) and recent.waiting_share == pytest.approx(0.25)


def test_a_long_time_counts_in_each_interval_that_it_covers():
    history = History(START_S)
    history.add(4, 1.0, 0.0, START_S + 1)
    history.add(4, 3.0, 6.0, START_S + 10)      # used until 7, waited until 10
    rates, shares = history.lines(START_S + 12)
    assert rates == [2.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    assert shares == [0.5, 0.0, 0.0, 0.5, 1.0, None]
    assert history.recent(START_S + 10).waiting_share == pytest.approx(4 / 10)


def test_a_run_that_stalls_shows_it_before_the_next_batch():
    history = History(START_S)
    for number in range(40):
        history.add(10, 0.0, 0.25, START_S + 0.25 * (number + 1))
    assert history.recent(START_S + 10).waiting_share == 0.0
    stalled = history.recent(START_S + 16, START_S + 10)
    assert stalled.samples_per_s < 25 and stalled.waiting_share == pytest.approx(0.6, abs=0.05)
    stalled = history.recent(START_S + 60, START_S + 10)
    assert stalled.samples_per_s < 0.5 and stalled.waiting_share == 1.0
    assert history.lines(START_S + 16, START_S + 10).waiting_share[-3:] == [1.0, 1.0, 1.0]
    assert history.lines(START_S + 16, START_S + 10).samples_per_s[-3:] == [pytest.approx(5.0), 0.0, 0.0]
    assert history.lines(START_S + 16).waiting_share[-2:] == [None, None]      # it uses the last batch, or hangs


def test_the_rate_of_a_run_with_slow_steps():
    history, now = History(START_S), START_S
    for _ in range(20):
        now += 30
        history.add(60, 5.0, 25.0, now)
    for later_s in (1, 12, 29):
        recent = history.recent(now + later_s)
        assert recent.samples_per_s == pytest.approx(2.0, rel=0.4)
        assert recent.waiting_share == pytest.approx(1 / 6, rel=0.2)


def test_the_history_is_bounded_whatever_time_passes():
    history, now = History(START_S), START_S
    for _ in range(3 * MAX_INTERVALS):
        now += INTERVAL_S
        history.add(2, 0.5, INTERVAL_S - 0.5, now)
    assert len(history._rows) == MAX_INTERVALS + 1
    rates, shares = history.lines(now + 0.1)
    assert len(rates) == len(shares) == MAX_INTERVALS and set(rates) == {1.0}
    history.add(2, 0.0, 1e9, now + 1e9)                           # the process was suspended
    rates, shares = history.lines(now + 1e9 + 2 * INTERVAL_S)
    assert len(rates) == MAX_INTERVALS and shares[0] == 0.0 and sum(rates) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_and_second_counts_once(seed):
    chance, history, now = random.Random(seed), History(START_S), START_S
    samples = waited_s = used_s = 0
    while now < START_S + MAX_INTERVALS * INTERVAL_S - 40:
        waited, used = (chance.choice([0.0, 0.001, 0.3, 7.0]) * chance.random() for _ in range(2))
        now += used + waited
        count = chance.randrange(64)
        history.add(count, waited, used, now)
        samples, waited_s, used_s = samples + count, waited_s + waited, used_s + used
    rows = list(history._rows)
    assert sum(row.samples for row in rows) == samples
    assert sum(row.waited_s for row in rows) == pytest.approx(waited_s)
    assert sum(row.used_s for row in rows) == pytest.approx(used_s)
    for row in rows:
        assert row.waited_s + row.used_s <= INTERVAL_S * (1 + 1e-6)
    assert sum(filter(None, history.lines(now + INTERVAL_S).samples_per_s)) * INTERVAL_S == pytest.approx(samples)


def delivered(rates, name, count, now, every_s=1.0, samples=8, stages=(0.1, 0.01, 0.02, 0.03)):
    for _ in range(count):
        now += every_s
        rates.add(name, samples, *stages, now)
    return now


def test_what_a_worker_delivered():
    rates = WorkerRates()
    assert rates.rate("alpha:1/0", START_S) == (0, 0.0, None)
    now = delivered(rates, "alpha:1/0", 60, START_S)
    delivered(rates, "alpha:1/1", 20, START_S, 0.1)
    batches, samples_per_s, stages = rates.rate("alpha:1/0", now)
    assert batches == 60 and samples_per_s == pytest.approx(8, rel=0.15)
    assert stages == pytest.approx((0.01, 0.02, 0.03, 0.04))
    assert rates.rate("alpha:1/1", now) == (20, 0.0, None)                     # none for long
    assert rates.hosts() == {"alpha": 80}


def test_only_the_last_seconds_of_a_worker_count():
    rates = WorkerRates()
    now = delivered(rates, "a:1/0", 50, START_S, 0.1, 100)
    now = delivered(rates, "a:1/0", 30, now, 1.0, 2)
    assert rates.rate("a:1/0", now).samples_per_s == pytest.approx(2, rel=0.15)
    assert rates.rate("a:1/0", now + 3 * PERIOD_S) == (80, 0.0, None)
    rates.add("a:1/0", 5, 0.1, 0.2, 0.0, 0.0, now + 4 * PERIOD_S)              # stages of several threads
    assert rates.rate("a:1/0", now + 4 * PERIOD_S + 1) == (81, 5.0, (0.2, 0.0, 0.0, 0.0))


def test_workers_and_hosts_that_come_and_go_are_bounded_and_no_batch_is_lost():
    rates = WorkerRates()
    for number in range(3 * MAX_WORKERS):
        rates.add("host%d:1/0" % number, 1, 0.1, 0.0, 0.0, 0.0, START_S + number)
    assert len(rates._workers) <= MAX_WORKERS
    assert rates.rate("host%d:1/0" % (3 * MAX_WORKERS - 1), START_S + 3 * MAX_WORKERS).batches == 1
    hosts = rates.hosts()
    assert len(hosts) == MAX_HOSTS + 1 and hosts["host0"] == 1
    assert sum(hosts.values()) == 3 * MAX_WORKERS and hosts[OTHERS] == 3 * MAX_WORKERS - MAX_HOSTS


@pytest.mark.parametrize("worker, host", [("alpha:4711/0", "alpha"), ("[::1]:4/1", "[::1]"), ("odd", "odd"), ("", "")])
def test_the_host_in_the_name_of_a_worker(worker, host):
    assert host_of(worker) == host
