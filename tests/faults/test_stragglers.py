"""Workers that are slow or hang, and files that kill: the stream flows on at the pace of the rest."""

import time

import pytest

from tests.support.processes import diary, opened, worker_pids

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The audit of the undisturbed run of eight epochs by one worker."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=8, **OPTIONS) as run:
        run.take_all()
    return run.content()


def seconds_of(run, steps):
    """How long the next steps take."""
    start = time.monotonic()
    run.take(steps)
    return time.monotonic() - start


@pytest.mark.parametrize("generator", ["one_is_slow", "one_hangs"])
def test_one_of_four_workers_does_not_slow_down_the_others(generator, reference, pictures, tmp_path, own_generators,
                                                           figures):
    """In comparison with the three others alone: at least 85 % of their throughput, in a run of six seconds. What else
    this machine does can slow down one of the runs: the best of three comparisons counts."""
    shares = []
    while not shares or max(shares) <= 0.85 and len(shares) < 3:
        took = _seconds_with_three_and_four(generator, reference, pictures, tmp_path / str(len(shares)), own_generators)
        shares.append(took[3] / took[4])
    figures("%s: four workers have %.2f of the throughput of the three good ones" % (generator, max(shares)))
    assert max(shares) > 0.85, shares


def _seconds_with_three_and_four(generator, reference, pictures, folder, own_generators):
    """How long 100 steps take with three good workers, and with a fourth that is slow, by the number of workers."""
    folder.mkdir()
    for mark in ("slow", "hangs"):                       # of an earlier comparison: the process that came first made it
        if (own_generators / mark).exists():
            (own_generators / mark).rmdir()
    took = {}
    for workers in (3, 4):
        with opened(pictures, folder / ("audit-%d" % workers), workers=workers, epochs=8, **OPTIONS,
                    generator="user_generators:" + (generator if workers == 4 else "slow")) as run:
            run.joined(workers)
            run.take(20)                                 # until the pace is known
            took[workers] = seconds_of(run, 100)
            pids = worker_pids()
            begun, ended = ([[pid for _, pid in diary(own_generators, what)].count(pid) for pid in pids]
                            for what in ("begin", "end"))
        assert run.content() == reference
    slow = begun.index(min(begun))                       # there was one, and the others did its share
    assert len(begun) == 4 and begun[slow] < (sum(begun) - begun[slow]) / 3 / 3
    assert generator == "one_is_slow" or (begun[slow], ended[slow]) == (1, 0)
    return took


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("generator, how", [("killed_by_a_file", "SIGSEGV"), ("exits_at_a_file", "exit code 3"),
                                            ("out_of_memory_at_a_file", "SIGKILL")])
def test_a_file_that_kills_its_process_is_named_and_left_out(generator, how, workers, reference, pictures, tmp_path,
                                                             own_generators):
    with opened(pictures, tmp_path / "audit", workers=workers, generator="user_generators:" + generator,
                **OPTIONS) as run:
        run.take_all()
    assert list(run.stream.skipped) == ["left/010.jpg"]
    assert run.stream.skipped["left/010.jpg"].startswith("kills the process that opens it: " + how)
    entries = run.entries()
    hit, = [entry["step"] for entry in entries if entry["skipped"]]
    assert [entry["indices"] for entry in entries] == [indices for _, _, indices, _ in reference[:15]]
    content = run.content()
    assert content[:hit] + content[hit + 1:] == reference[:hit] + reference[hit + 1:15]
    assert len(run.batches[hit]) == 7
