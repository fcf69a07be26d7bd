"""The figures of the status address are those of the run: of its own counts, its audit, its log and its report."""

import base64
import io
import json
import os
import re
import time

import numpy as np
import pytest
from PIL import Image

from tests.support.asking import ask, figures, url_of
from tests.support.processes import kill, opened, wait_for, worker_pids, workers_program

OPTIONS = dict(image_size=32, batch_size=8, status="127.0.0.1:0")      # 120 pictures: 15 steps


@pytest.fixture
def spoiled(pictures, tmp_path):
    """The pictures, with two bad files."""
    root = tmp_path / "spoiled"
    root.mkdir()
    for name in os.listdir(pictures):
        (root / name).mkdir()
        for file in os.listdir(os.path.join(pictures, name)):
            os.link(os.path.join(pictures, name, file), str(root / name / file))
    classes = sorted(os.listdir(pictures))
    bad = [os.path.join(classes[0], "zz-bad.jpg"), os.path.join(classes[1], "zz-<script>\udcff.jpg")]
    for path in bad:
        (root / path).write_bytes(b"no picture")
    return str(root), bad


def details(url):
    code, _, body = ask(url, "/details.json")
    assert code == 200, body
    return json.loads(body.decode(), parse_constant=lambda name: pytest.fail(name + " is no JSON"))


def metrics(url):
    """{name or 'name{label}': value} of /metrics."""
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families
    return {sample.name + "".join("{%s}" % value for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(ask(url, "/metrics")[2].decode()) for sample in family.samples}


def texts(said, kind):
    return [event["text"] for event in said["events"] if event["kind"] == kind]


def two_without(rows, victim):
    """The table, once it has two workers that work and no longer the process ``victim``; it is kept for a moment."""
    states = {row["state"] for row in rows}
    is_new = len(rows) == 2 and victim not in [row["pid"] for row in rows]
    return rows if is_new and states <= {"works", "idle"} else None


def test_a_run_with_bad_files_and_a_killed_worker(spoiled, tmp_path, worker_python):
    data, bad = spoiled
    begun_s = time.time()
    with opened(data, tmp_path / "audit", workers=2, worker_python=worker_python, epochs=8, validation=0.25,
                **OPTIONS) as run:
        stream, url = run.stream, url_of(run.stream)
        run.joined(2)
        run.take(20)
        before = metrics(url)
        victim = worker_pids()[0]
        kill(victim)
        run.joined(3)
        run.take(20)
        rows = wait_for(lambda: two_without(details(url)["worker_table"], victim), "both workers")
        assert sorted(row["restarts"] for row in rows) == [0, 1]
        assert sorted(row["pid"] for row in rows) == worker_pids()
        run.take_all()
        said, now = details(url), metrics(url)
        report = stream.report()
    batches, samples = len(run.batches), sum(map(len, run.batches))

    # what the consumer counted itself
    assert batches == stream.plan.positions
    skipped = sum(len(batch.skipped) for batch in run.batches)
    assert (now["stoker_batches_total"], now["stoker_samples_total"], now["stoker_skipped_samples_total"]) == (
        batches, samples, skipped)
    names = {row["name"] for row in rows}
    assert {row["name"]: row["batches"] for row in said["worker_table"]} == {
        name: sum(batch.worker == name for batch in run.batches) for name in names}
    assert sum(value for name, value in now.items() if name.startswith("stoker_host_batches_total")) == batches
    for name, each in (("storage", "storage_s"), ("decode", "decode_s"), ("augment", "augment_s")):
        assert now["stoker_stage_seconds_total{%s}" % name] == pytest.approx(
            sum(getattr(batch.timings, each) for batch in run.batches))
    assert now["stoker_stage_seconds_total{wire}"] == pytest.approx(sum(batch.wire_s for batch in run.batches))

    # the run's own report and audit
    assert len(run.entries()) == now["stoker_step"] == said["step"] == said["steps"] == stream.plan.steps
    rate, percent = map(float, re.search(r"speed: (\d+) images/s; .* data ([0-9.]+)%", report).groups())
    assert now["stoker_waiting_seconds_total"] == pytest.approx(stream.waited_s, rel=0.05, abs=0.05)
    assert now["stoker_waiting_seconds_total"] == pytest.approx(percent / 100 * samples / rate, rel=0.2, abs=0.05)
    # from the opening to the last batch
    seconds = now["stoker_waiting_seconds_total"] + now["stoker_using_seconds_total"]
    assert said["elapsed_s"] == pytest.approx(seconds, rel=0.05, abs=0.1) and seconds >= 0.95 * samples / rate - 0.1
    assert said["since_last_batch_s"] == 0.0 and said["waiting_share"] is not None

    # bad files
    assert said["bad_files"] == said["bad"]["count"] == now["stoker_bad_files"] == len(stream.skipped) == 2
    assert {each["path"] for each in said["bad"]["newest"]} == {path.replace("\udcff", "\\xff") for path in bad}
    for each in said["bad"]["newest"]:
        batch = next(batch for batch in run.batches if batch.step == each["step"] and batch.skipped)
        assert each["why"] in [skip.reason for skip in batch.skipped]
        assert begun_s <= each["s"] <= time.time()

    # workers
    assert now["stoker_workers_lost_total"] == len(texts(said, "lost")) == 1
    assert texts(said, "lost") == run.log.having("lost the connection")
    assert now["stoker_workers_joined_total"] == len(texts(said, "joined")) == 3
    assert now["stoker_steps_reassigned_total"] >= run.reassigned and "SIGKILL" in texts(said, "joined")[-1]
    assert sum(said["states"].values()) == 2
    assert sum(value for name, value in now.items() if name.startswith("stoker_workers_state{")) == 2
    assert texts(said, "run")[0] == "the run begins"
    assert texts(said, "run")[-1] == "all %d steps are done" % said["step"]
    assert len(texts(said, "bad file")) == 2

    # counters only grow, and the end is said
    assert all(now[name] >= before[name] for name in before if name.endswith("_total") or "_total{" in name)
    assert said["over"] is True and now["stoker_over"] == 1 and said["epoch"] == said["epochs"] == 8


def test_the_bottleneck_and_its_history_are_those_of_the_log(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, epochs=100, **OPTIONS) as run:
        url = url_of(run.stream)
        for _ in run.stream:                    # a slow consumer: the data is on time
            time.sleep(0.01)
            if run.log.having("bottleneck: "):
                break
        logged, = run.log.having("bottleneck: ")[:1]
        said = details(url)
        assert said["bottlenecks"][0]["sentence"] == logged[len("bottleneck: "):] == texts(said, "bottleneck")[0]
        assert said["bottleneck"]["name"] == said["bottlenecks"][-1]["name"] == logged.split()[1].strip(":")
        assert said["speed"]["step_ms"] >= 10 and said["speed"]["produce_ms"] > 0 and said["workers_needed"] >= 1
        assert sum(said["stages"].values()) == pytest.approx(1, abs=0.01)
        assert metrics(url)["stoker_bottleneck{%s}" % said["bottleneck"]["name"]] == 1
        assert said["history"]["samples_per_s"] and len(said["history"]["samples_per_s"]) == len(
            said["history"]["waiting_share"])
        row, = said["worker_table"]
        assert row["samples_per_s"] > 0 and sum(row["stages_ms"].values()) > 0
        run.stream.interrupt()


def test_a_worker_that_is_set_aside_is_in_the_table_with_the_reason(pictures, tmp_path, worker_python):
    (tmp_path / "other").mkdir()
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, **OPTIONS) as run:
        url = url_of(run.stream)
        with workers_program(run.stream.address, "--processes", "1", "--data", str(tmp_path / "other"),
                             python=worker_python):
            def aside():
                return [row for row in details(url)["worker_table"] if row["state"] == "set aside"]
            row, = wait_for(aside, "the worker without the pictures")
            said = details(url)
            assert row["why"] and row["why"] in run.log.having("is set aside")[0]
            assert row["why"][:100] in texts(said, "set aside")[0] and said["states"]["set aside"] == 1
            wait_for(lambda: metrics(url)["stoker_workers_state{set aside}"] == 1, "the metrics")
            run.take_all()


def shown_batch(run, url):
    """What /batch.json says of one of the batches that follow."""
    for _ in range(200):
        said = json.loads(ask(url, "/batch.json")[2].decode())
        if said["step"] is not None:
            return said
        run.take(1)
    raise AssertionError("no batch is shown")


def test_the_pictures_are_those_of_the_batch(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, epochs=10, **OPTIONS) as run:
        url = url_of(run.stream)
        said = shown_batch(run, url)
        batch = next(batch for batch in run.batches if batch.step == said["step"])
        assert said["size"] == len(batch) == len(said["samples"]) and said["training"] and said["epoch"] == 1
        for row, sample in enumerate(said["samples"]):
            assert (sample["index"], sample["name"]) == (batch.used_indices[row], batch.paths[row])
            assert sample["label"] == run.stream.classes[int(batch.labels[row])]
            picture = Image.open(io.BytesIO(base64.b64decode(sample["views"][0]["png"])))
            assert np.array_equal(np.asarray(picture.convert("RGB")), batch.images[row])
        wait_for(lambda: all(observer.batch is None for observer in run.stream.pace.observers
                             if hasattr(observer, "batch")), "the server to let go of the batch")
        run.stream.interrupt()


OWN = """
import numpy as np
import stoker

@stoker.sample({"image": ("uint8", (8, 8, 3)), "score": ("float32", ())})
def scored(sample, random):
    return {"image": np.full((8, 8, 3), sample.index, np.uint8), "score": float("nan")}
"""


def test_own_arrays_with_nan_are_shown(worker_python, tmp_path, monkeypatch):
    (tmp_path / "scoring.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with opened(40, tmp_path / "audit", generator="scoring:scored", batch_size=4, workers=1, status="127.0.0.1:0",
                worker_python=worker_python, epochs=20) as run:
        said = shown_batch(run, url_of(run.stream))
        assert {view["name"] for view in said["samples"][0]["views"]} == {"image", "score"}
        assert figures(url_of(run.stream))["unit"] == "samples"
        run.stream.interrupt()


def test_without_a_status_address_nothing_is_kept(pictures, tmp_path, worker_python):
    with opened(pictures, tmp_path / "audit", workers=1, worker_python=worker_python, image_size=32) as run:
        run.take(1)
        assert run.stream.pace.observers == [] and run.stream.pace.reported is None
        assert run.stream._coordinator.heard is None and run.stream._bad_files.found is None
        run.stream.interrupt()


@pytest.mark.parametrize("options, begins", [
    (dict(rank=1, ranks=2, start_step=30, epochs=3), "the run goes on from step 30"),
    (dict(verify=0.5, epochs=2, validation=0.2), "the run begins"), (dict(training=False), "the run begins")],
    ids=["resumed rank", "verified", "one pass"])
def test_the_figures_of_runs_of_other_kinds(options, begins, tmp_path, worker_python):
    with opened(400, tmp_path / "audit", generator="numerical", batch_size=16, workers=2, worker_python=worker_python,
                status="127.0.0.1:0", **options) as run:
        url, plan = url_of(run.stream), run.stream.plan
        said = figures(url)
        start = options.get("start_step", 0)
        assert (said["step"], said["steps"], said["epochs"]) == (start, plan.steps, plan.epochs)
        assert said["epoch"] == start // plan.steps_per_epoch + 1
        run.take_all()
        said, now = details(url), metrics(url)
        assert now["stoker_batches_total"] == len(run.batches) == sum(row["batches"] for row in said["worker_table"])
        assert now["stoker_samples_total"] == sum(map(len, run.batches))
        assert (said["step"], said["epoch"], said["over"]) == (plan.steps, plan.epochs, True)
        assert texts(said, "run")[0] == begins and texts(said, "run")[-1] == "all %d steps are done" % plan.steps
