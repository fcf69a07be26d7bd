"""A run whose record files are replaced while it goes ends with a sentence; the looks themselves are called here."""

import types

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.pipeline.sources.dataset import Dataset, Splits
from stoker.trainer.data_watch import LOCAL_INTERVAL_S, REMOTE_INTERVAL_S, DataWatch, watched

BATCH, BAD = types.SimpleNamespace(skipped=()), types.SimpleNamespace(skipped=("one",))


@pytest.fixture
def answers():
    """What the files say at each look; None once they are used up."""
    return []


@pytest.fixture
def watch(answers):
    watch = DataWatch([lambda: answers.pop(0) if answers else None], 3, 1e6, False)
    yield watch
    watch.stop()


def test_nothing_happens_while_nothing_changes(watch):
    for _ in range(3):
        watch.taken(BATCH, None, None, 0.0)
    assert watch.trouble(None) is None and watch.adjust(None, None) is False


def test_a_change_ends_the_run_before_the_next_batch(watch, answers):
    answers.append("train-0.tar has changed since it was indexed")
    watch.taken(BATCH, None, None, 0.0)
    watch._look()
    with pytest.raises(RunFailed, match="train-0.tar has changed since it was indexed"):
        watch.taken(BATCH, None, None, 1.0)
    assert watch.trouble(None) == "train-0.tar has changed since it was indexed"


def test_the_last_batch_is_handed_out_only_after_a_look(watch, answers):
    answers.append("x.tar has changed")
    watch.taken(BATCH, None, None, 0.0)
    watch.taken(BATCH, None, None, 0.0)
    with pytest.raises(RunFailed, match="x.tar has changed"):
        watch.taken(BATCH, None, None, 0.0)


def test_a_bad_sample_makes_the_thread_look(watch, answers):
    answers.append("x.tar has changed")
    watch.taken(BAD, None, None, 0.0)
    watch._thread.join(30)
    assert not watch._thread.is_alive() and watch.trouble(None) == "x.tar has changed"


def test_bad_samples_in_each_batch_do_not_make_it_look_all_the_time(answers):
    watch = DataWatch([lambda: None], 100, 30.0, True)
    watch.stop()                    # its thread would clear the event
    woken = []
    for now in range(100, 170, 2):
        watch._wake.clear()
        watch.taken(BAD, None, None, float(now))
        woken += [now] * watch._wake.is_set()
    assert woken == [100, 130, 160]


def test_an_early_end_still_warns(answers, caplog):
    watch = DataWatch([lambda: "x.tar has changed"], 3, 1e6, False)
    watch.stop()
    watch.stop()
    assert [record.getMessage() for record in caplog.records] == ["x.tar has changed"]
    DataWatch([lambda: 1 / 0], 3, 1e6, False).stop()        # a store that is away
    DataWatch([lambda: "y.tar has changed"], 3, 1e6, True).stop()
    assert len(caplog.records) == 1


def test_which_sources_are_watched():
    plain = Dataset("/x", (), ("1.jpg",), (-1,), ())
    assert watched(Splits(plain, plain), 3) is None
    files = object()
    calls = []

    def source(root, files):
        return types.SimpleNamespace(root=root, watched=files, changed=lambda: calls.append(root))
    watch = watched(Splits(source("/x", files), source("/x", files)), 3)
    assert watch._interval_s == LOCAL_INTERVAL_S
    watch._look()
    assert calls == ["/x"]
    watch.stop()
    watch = watched(Splits(source("/x", files), source("s3://bucket", object())), 3)
    assert watch._interval_s == REMOTE_INTERVAL_S
    watch.stop()
