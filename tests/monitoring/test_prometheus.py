"""deploy/monitoring with a real Prometheus: its rules, each query of the dashboard, and the alerts of real runs."""

import os
import re
import shutil
import threading
import time
from contextlib import contextmanager

import pytest

from tests.monitoring import dashboard
from tests.monitoring.prometheus import Prometheus, promtool
from tests.support.asking import TOKEN, ask, figures, token_file, url_of
from tests.support.documents import read
from tests.support.processes import ROOT, kill, opened, wait_for, worker_pids

pytestmark = pytest.mark.needs("prometheus")
pytest.importorskip("prometheus_client")

CONFIGURATION, RULES = "deploy/monitoring/prometheus.yml", "deploy/monitoring/rules.yml"
OPTIONS = dict(image_size=32, batch_size=8, status="127.0.0.1:0", epochs=1000)
#: Waits of the rules, for a test: a duration or limit, and the shorter one in its place.
SHORTER = ((r"for: \d+m", "for: 1s"), (r"\[5m\]", "[10s]"), (r"\[10m\]", "[20s]"), (r"_seconds > 60", "_seconds > 3"))


def configuration(target, token):
    """That of the project, for this address and token file, four times as fast."""
    text = read(CONFIGURATION)
    for old, new in (('"trainer:8265"', '"%s"' % target), ("/status/token", token), ("scrape_interval: 2s",
                     "scrape_interval: 500ms"), ("evaluation_interval: 10s", "evaluation_interval: 1s")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def quick_rules():
    text = read(RULES)
    for pattern, shorter in SHORTER:
        text, count = re.subn(pattern, shorter, text)
        assert count, pattern
    return text


class Taking(threading.Thread):
    """Takes the batches of a run, with ``step_s`` between two of them, until ``enough`` is set."""

    def __init__(self, run, step_s):
        super().__init__(name="taking", daemon=True)
        self._run, self.step_s, self.enough, self.taken = run, step_s, threading.Event(), 0

    def run(self):
        for _ in self._run.stream:
            self.taken += 1
            if self.enough.wait(self.step_s):
                return

    def stop(self):
        self.enough.set()
        self.join(60)
        assert not self.is_alive()


@contextmanager
def watched(data, tmp_path, rules=RULES, **options):
    """(a run with a status address and token, the Prometheus that scrapes it)."""
    token, folder = token_file(tmp_path), tmp_path / "prometheus"
    folder.mkdir()
    with opened(data, tmp_path / "audit", status_token_file=token, **dict(OPTIONS, **options)) as run:
        target = url_of(run.stream)[len("http://"):]
        with Prometheus(folder, configuration(target, token), read(rules) if rules == RULES else rules) as prometheus:
            yield run, prometheus


def some_bad(pictures, tmp_path, count):
    """A copy of the pictures in which so many files are none."""
    folder = shutil.copytree(pictures, str(tmp_path / "photos"))
    paths = sorted(os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    for path in paths[:count]:
        with open(path, "wb") as file:
            file.write(b"this is no picture")
    return folder


def test_the_files_are_valid(tmp_path):
    """Prometheus: configuration and rules are valid"""
    path = tmp_path / "prometheus.yml"
    path.write_text(configuration("127.0.0.1:1", token_file(tmp_path)))
    shutil.copy(os.path.join(ROOT, RULES), str(tmp_path))
    code, said = promtool("check", "config", str(path))
    assert code == 0 and "6 rules found" in said, said
    for text in (read(RULES), quick_rules()):
        (tmp_path / "rules.yml").write_text(text)
        code, said = promtool("check", "rules", str(tmp_path / "rules.yml"))
        assert code == 0 and "6 rules found" in said, said


def test_when_alerts_fire():
    """Prometheus: each alert fires when it should, with its sentences, and only then (promtool test rules)"""
    code, said = promtool("test", "rules", os.path.join(ROOT, "tests", "monitoring", "rules_test.yml"))
    assert code == 0, said
    text, names = read("tests/monitoring/rules_test.yml"), re.findall(r"alert: (\w+)", read(RULES))
    assert len(names) == 6
    for name in names:
        assert re.search(r"alertname: %s\n(?!.*\balertname).*\n *exp_alerts" % name, text), name
        assert re.search(r"\{alertname: %s, eval_time: \w+\}" % name, text), name


def test_promtool_finds_a_wrong_rule(tmp_path):
    """Prometheus: the tests of the rules can fail"""
    for old, new in (("stoker_bad_files > 0", "stoker_bad_files > 2"), ("on (job, instance) stoker_over == 0", "up")):
        assert old in read(RULES)
        (tmp_path / "rules.yml").write_text(read(RULES).replace(old, new))
        (tmp_path / "rules_test.yml").write_text(read("tests/monitoring/rules_test.yml").replace(
            "../../deploy/monitoring/rules.yml", "rules.yml"))
        assert promtool("test", "rules", str(tmp_path / "rules_test.yml"))[0] != 0


def test_the_dashboard_in_itself():
    """Grafana: panels do not overlap, name the provisioned data source, and have a title and queries"""
    board = dashboard.load()
    source = read("deploy/monitoring/grafana/provisioning/datasources/prometheus.yml")
    uid = re.search(r"uid: (\S+)", source).group(1)
    assert '"uid": "%s"' % uid in read("deploy/monitoring/grafana/dashboards/stoker.json")
    cells, ids = set(), [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"])
               for y in range(place["y"], place["y"] + place["h"])}
        assert not own & cells and place["x"] + place["w"] <= 24, panel["title"]
        cells |= own
        if panel["type"] != "row":
            assert panel["title"] and panel["targets"] and panel["datasource"]["uid"] == uid
            assert all(target["datasource"]["uid"] == uid for target in panel["targets"])
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == [
        "Progress", "Rate and waiting", "Stages", "Bottleneck", "Workers", "Bad files", "Window and memory"]


def test_each_query_says_what_the_run_says(pictures, tmp_path, worker_python):
    """Prometheus and Grafana: every query of the dashboard returns what the run's own figures say"""
    data, began_s = some_bad(pictures, tmp_path, 2), time.monotonic()
    with watched(data, tmp_path, workers=2, worker_python=worker_python) as (run, prometheus):
        url = url_of(run.stream)
        taking = Taking(run, 0.05)
        taking.start()
        wait_for(lambda: prometheus.value("stoker_bad_files") == 2, "both bad files in Prometheus")
        wait_for(lambda: prometheus.query("stoker_workers_needed"), "a verdict")
        known_s = time.monotonic()
        wait_for(lambda: time.monotonic() > known_s + 12 and prometheus.value("time() - timestamp(stoker_step)") < 1,
                 "enough samples for the rates")
        said = {title: [prometheus.query(query) for query in queries]
                for title, queries in dashboard.queries(dashboard.load()).items()}
        now = figures(url, TOKEN)
        taking.stop()
        audit = run.entries()
        skipped = sum(len(entry["skipped"]) for entry in audit)
        assert len(audit) == taking.taken and skipped
        for name, expected in (("stoker_step", run.stream.step), ("stoker_batches_total", taking.taken),
                               ("stoker_samples_total", 8 * len(audit) - skipped),
                               ("stoker_skipped_samples_total", skipped)):
            wait_for(lambda: prometheus.value(name) == expected, "the last %s in Prometheus" % name)  # noqa: B023
        spent_s = prometheus.value("stoker_waiting_seconds_total + stoker_using_seconds_total")
        assert 0.5 * (time.monotonic() - began_s) < spent_s < time.monotonic() - began_s
        text = ask(url, "/metrics", TOKEN)[2].decode()
        assert prometheus.target()["health"] == "up"
    print(said)
    empty = [title for title, results in said.items() if not all(results) and title != "annotation Alerts"]
    assert not empty

    def only(title, number=0):
        (labels, value), = said[title][number]
        return value

    def by(title, label):
        return {labels[label]: value for labels, value in said[title][0]}

    # 0.5 s between two scrapes, and a step takes 0.05 s and more
    assert now["step"] - 40 <= only("Step") <= now["step"]
    assert only("Done") == pytest.approx(only("Step") / now["steps"], rel=0.2)
    assert only("Epoch") in (now["epoch"], now["epoch"] - 1) and only("Answers") == 1 and only("Bad files") == 2
    assert only("Last batch") < 5
    rate = only("Samples per second")
    assert rate == pytest.approx(now["samples_per_s"], rel=0.5) and rate == pytest.approx(
        8 * only("Batches per second"), rel=0.2)
    assert only("Time left") == pytest.approx((now["steps"] - now["step"]) / only("Batches per second"), rel=1.0)
    assert only("Waiting share") == pytest.approx(now["waiting_share"], abs=0.3)
    assert set(by("Where the workers spend their time", "stage")) == {"storage", "decode", "augment", "generator"}
    assert 0 < sum(by("Where the workers spend their time", "stage").values()) < 2.5
    assert set(by("Time per batch", "stage")) == {"storage", "decode", "augment", "generator", "wire"}
    assert sum(value == 1 for value in by("Bottleneck", "name").values()) == 1
    states = by("Workers by state", "state")
    assert sum(states.values()) == 2 == sum(by("Workers by host", "host").values())
    assert only("Workers that are needed", 0) >= 1
    assert sum(by("Batches per second by host", "host").values()) == pytest.approx(only("Batches per second"), rel=0.5)
    assert only("Joined, lost, reassigned", 1) == 0
    assert sum(by("Window", "state").values()) == now["window"]["size"]
    assert only("Memory of the trainer") == pytest.approx(now["memory_mb"] * 1e6, rel=0.3)

    of_the_trainer = dashboard.metrics(text)
    assert dashboard.metrics(read("docs/MONITORING.md").split("\n## Figures\n")[1]) == of_the_trainer
    used = dashboard.metrics(read(RULES) + read("deploy/monitoring/grafana/dashboards/stoker.json"))
    assert used <= of_the_trainer, used - of_the_trainer


def test_alerts_of_a_run(pictures, tmp_path, worker_python, own_generators):
    """Prometheus: alerts on bad files, lost workers, waiting and a stall come and go in a real run"""
    data, options = some_bad(pictures, tmp_path, 1), dict(generator="user_generators:unhurried", max_workers=4)
    with watched(data, tmp_path, quick_rules(), workers=1, worker_python=worker_python, **options) as (run, prometheus):
        taking = Taking(run, 0.02)
        taking.start()

        def fires(name):
            wait_for(lambda: (name, "firing") in prometheus.alerts(), name, 90.0)

        def ends(name):
            wait_for(lambda: name not in {each for each, _ in prometheus.alerts()}, "the end of " + name, 90.0)
        fires("StokerBadFiles")
        fires("StokerWaitsForData")              # one worker, 0.2 s for a batch
        fires("StokerTooFewWorkers")
        assert not {name for name, _ in prometheus.alerts()} & {"StokerStalled", "StokerWorkersLost",
                                                                 "StokerTrainerGone"}
        taking.step_s = 1.0
        ends("StokerTooFewWorkers")
        ends("StokerWaitsForData")
        kill(worker_pids()[0])
        fires("StokerWorkersLost")
        assert prometheus.value("stoker_workers_lost_total") >= 1
        ends("StokerWorkersLost")                # 20 s later
        taking.stop()
        fires("StokerStalled")
        taking = Taking(run, 0.02)
        taking.start()
        ends("StokerStalled")
        taking.stop()


def test_a_trainer_that_is_gone(pictures, tmp_path, worker_python):
    """Prometheus: an alert on a trainer that goes away early; none at the end of a run"""
    for is_over in (True, False):
        folder = tmp_path / str(is_over)
        folder.mkdir()
        with watched(pictures, folder, quick_rules(), workers=1, worker_python=worker_python,
                     epochs=4) as (run, prometheus):
            wait_for(lambda: prometheus.value("stoker_over") == 0, "the run")
            run.take(3)
            if is_over:
                run.take_all()
            run.stream.close()
            wait_for(lambda: prometheus.value("up") == 0, "the end of the run")
            if is_over:
                assert prometheus.value("last_over_time(stoker_over[1m])") == 1
                time.sleep(5)
                assert prometheus.alerts() == set()
            else:
                wait_for(lambda: ("StokerTrainerGone", "firing") in prometheus.alerts(), "the alert")


def test_a_wrong_token(pictures, tmp_path, worker_python):
    """Prometheus: with a wrong token the target is down, and says why"""
    with watched(pictures, tmp_path, workers=1, worker_python=worker_python) as (run, prometheus):
        wait_for(lambda: prometheus.target()["health"] == "up", "the first scrape")
        with open(str(tmp_path / "status-token"), "w") as file:
            file.write("f" * 32)
        wait_for(lambda: "401" in prometheus.target()["lastError"], "the refusal")
        run.take(1)
