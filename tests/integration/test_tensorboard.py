"""What a real TensorBoard 1.9 shows of a checkpoint folder: the layout of the custom scalars, histograms of stages."""

import json
import re
import signal
import sys
import urllib.parse
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.processes import Program, interpreter, wait_for
from tests.support.training import Trainer, arguments, finished

tf = pytest.importorskip("tensorflow")

EPOCHS, STEPS = 10, 12           # of an epoch, of one picture each; three more are held out
STAGES = ["storage", "decode", "augment", "generator", "wire", "waiting"]
CHARTS = {"loss": ["train/loss", "validation/loss"], "accuracy": ["train/accuracy", "validation/accuracy"],
          "images per second": ["feed/images_per_s", "feed/validation_images_per_s"],
          "share of time waiting": ["feed/waiting_share", "feed/validation_waiting_share"]}


def options(tiny, folder, epochs=EPOCHS, workers=1):
    python = interpreter("STOKER_TEST_WORKER_PYTHON")
    return [tiny, "--workers", workers] + (["--worker-python", python] if python else []) + arguments(dict(
        image_size=16, batch_size=1, epochs=epochs, checkpoint_dir=folder / "run", generator="augmented"))


class TensorBoard(Program):
    """TensorBoard for the folder ``logs``."""

    def __init__(self, logs):
        super().__init__(["-W", "ignore", "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1",
                          "--port", "0"], sys.executable)
        line, = self.wait_for_line(r"TensorBoard 1\.9\.0 at http://")
        self.url = "http://127.0.0.1:" + re.search(r":(\d+)", line.split("//")[1]).group(1)

    def asked(self, page, **query):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = "%s/data/plugin/%s?%s" % (self.url, page, urllib.parse.urlencode(query))
        with opener.open(url, timeout=60) as answer:
            return json.loads(answer.read().decode())

    def loaded(self, page, condition, **query):
        """Its answer once ``condition`` holds: it reads the folder in a thread of its own."""
        return wait_for(lambda: (lambda said: condition(said) and said)(self.asked(page, **query)), page)


def charts(layout):
    category, = layout["category"]
    assert category["title"] == "training and validation"
    return {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}


def test_tensorboard_shows_the_layout_with_training_and_validation(tiny, tmp_path):
    run = finished(tmp_path / "here", *options(tiny, tmp_path))
    assert run.code == 0, run
    with TensorBoard(tmp_path) as board:
        found = charts(board.loaded("custom_scalars/layout", bool))
        assert list(found) == list(CHARTS)
        last = board.loaded("histograms/tags", lambda said: "stages/decode_ms" in said.get("run", {}))["run"]
        assert sorted(last) == sorted("stages/%s_ms" % stage for stage in STAGES)
        for title, tags in CHARTS.items():
            shown = {}
            for pattern in found[title]:
                said = board.asked("custom_scalars/scalars", run="run", tag=pattern)
                assert said["regex_valid"], pattern
                shown.update(said["tag_to_events"])
            assert set(shown) == set(tags)
            counts = [len(shown[tag]) for tag in tags]
            assert counts == [EPOCHS * STEPS // 10, EPOCHS], title
            assert all(np.isfinite(value) and value >= 0 for tag in tags for _, _, value in shown[tag])
        for stage in STAGES:
            (_, step, buckets), = board.asked("histograms/histograms", run="run", tag="stages/%s_ms" % stage)
            assert step == 99
            # the batches of the steps so far, and of the evaluations between them
            assert 99 < sum(count for _, _, count in buckets) <= 100 + 3 * EPOCHS
    # the same run goes on: one layout and one graph stay, whichever file has them
    run = finished(tmp_path / "here", *options(tiny, tmp_path, EPOCHS + 1))
    assert run.code == 0, run
    with TensorBoard(tmp_path) as board:
        rate = "feed/images_per_s"
        assert len(board.loaded("custom_scalars/scalars", lambda said: len(said["tag_to_events"].get(rate, ())) >= 13,
                                run="run", tag=rate + "$")["tag_to_events"][rate]) == 13
        assert charts(board.asked("custom_scalars/layout")) == found
        assert [step for _, step, _ in board.asked("histograms/histograms", run="run", tag="stages/decode_ms")] == [
            99, 131]          # the second run is shorter than the interval: its histogram is of its end
    assert len(layouts(tmp_path / "run")) == 1


def layouts(folder):
    """The steps of all layouts in the folder's files."""
    return [event.step for path in folder.glob("events.out.*") for event in tf.train.summary_iterator(str(path))
            for value in event.summary.value if value.tag == "custom_scalars__config__"]


def test_a_run_that_ended_before_its_first_checkpoint_costs_no_later_one_its_layout(tiny, tmp_path):
    """TensorBoard discards what was written at a step that a later run begins with, or after it."""
    for _ in range(2):
        with Trainer(tmp_path / "here", *options(tiny, tmp_path, workers=0)) as trainer:
            trainer.wait_until(lambda: "waiting for workers" in trainer.stdout, "the trainer to wait")
            trainer.send_signal(signal.SIGINT)
            trainer.wait_gone()
    assert layouts(tmp_path / "run") == [0, 0]
    with TensorBoard(tmp_path) as board:
        assert list(charts(board.loaded("custom_scalars/layout", bool))) == list(CHARTS)


def test_names_of_metrics_are_no_patterns():
    from stoker.trainer.events import layout
    chart = layout(["top (5)", "a.b|c"], "samples").category[0].chart
    assert [one.title for one in chart] == ["loss", "a.b|c", "top (5)", "samples per second", "share of time waiting"]
    assert re.match(chart[2].multiline.tag[0], "train/top (5)") and re.match(chart[1].multiline.tag[1],
                                                                              "validation/a.b|c")
    assert not re.match(chart[1].multiline.tag[1], "validation/a.b")


def test_histograms_hold_all_recent_batches_whatever_times_a_worker_reports():
    from stoker.pipeline.monitoring.throughput import BatchTimings
    from stoker.trainer.events import MAX_BATCHES, StageTimes
    times = StageTimes()
    assert not times.histograms().value
    for number in range(MAX_BATCHES + 5):
        times.taken(True, BatchTimings(0.0, 0.0, 0.002 + 0.001 * number, 0.001, 1e9 * (number % 2), 0.0, 1e-9), None, 0)
    found = {value.tag: value.histo for value in times.histograms().value}
    assert sorted(found) == ["stages/%s_ms" % stage for stage in ("decode", "generator", "storage", "wire")]
    for histogram in found.values():
        assert histogram.num == sum(histogram.bucket) == MAX_BATCHES and histogram.bucket_limit[-1] >= histogram.max
        assert list(histogram.bucket_limit) == sorted(set(histogram.bucket_limit)) and histogram.bucket[0] > 0
    assert found["stages/decode_ms"].max == 1e12 and found["stages/storage_ms"].min == 1.0
    times.taken(True, BatchTimings(0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), None, 0.0)
    assert [value.histo.num for value in times.histograms().value] == [1]


def test_the_rate_of_training_after_an_evaluation_is_that_of_training(monkeypatch):
    """Its samples and its time are not in it."""
    from stoker.trainer import train
    clock, said = [100.0], {}
    stream = SimpleNamespace(waited_s=0.0, plan=SimpleNamespace(evaluations_per_epoch=1))
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(train, "_run_without_hooks", lambda *arguments: (1.0, {}))
    monkeypatch.setattr(train, "_add_scalars", lambda writer, step, scalars: said.update(scalars))
    loop = train.Loop(stream, SimpleNamespace(loss=None, metrics={}), SimpleNamespace(saved_step=0))
    batch = type("Batch", (SimpleNamespace,), {"__len__": lambda self: 1000})(step=8, epoch=0, training=False)
    loop._marked = loop._evaluation_marked = loop._mark()
    clock[0], stream.waited_s = 150.0, 25.0
    loop._evaluate(None, batch, train.StepInput(batch, {}), None)
    clock[0], loop._samples = 160.0, loop._samples + 30
    loop._summarise(None, batch, {})
    assert said["feed/validation_images_per_s"] == 20.0 and said["feed/validation_waiting_share"] == 0.5
    assert said["feed/images_per_s"] == 3.0 and said["feed/waiting_share"] == 0.0
