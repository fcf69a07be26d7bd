"""Pictures that take hours or gigabytes to decode: each is found, named and left out, and the run goes on."""

import os
import re
import sys
from contextlib import contextmanager

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.trainer.feed import open_stream
from stoker.workers.quarantine import NO_MEMORY
from tests.faults.test_attacks_formats import PYTHONS, folder_of, peak_mb
from tests.support import hostile_pictures as hostile
from tests.integration.conftest import draw
from tests.support.processes import opened, wait_for, worker_pids
from tests.support.training import audit, finished

OPTIONS = {"image_size": 32, "batch_size": 8, "labels": False, "seed": 3}
TOO_SLOW = "takes more than 0.3 s of CPU time to decode; picture_cpu_s (--picture-cpu-s) permits more"
TOO_LARGE = "takes more than 120 MB of memory to decode; picture_memory_mb (--picture-memory-mb) permits more"


def named(content):
    """``content`` as PROMISES of test_attacks_formats have it."""
    def write(path):
        with open(path, "wb") as file:
            file.write(content)
    return write, ""


@contextmanager
def here(folder):
    """With ``folder`` as the current one."""
    before = os.getcwd()
    os.chdir(str(folder))
    try:
        yield
    finally:
        os.chdir(before)


def outcome(root, audit, python=None, **options):
    """(path -> why it is bad, what is in the audit, the run, the most memory of a worker in MB)."""
    with opened(root, audit, worker_python=python, **dict(OPTIONS, **options)) as run:
        run.take_all()
        peak = max(map(peak_mb, worker_pids()))
    return dict(run.stream.skipped), run.content(), run, peak


@PYTHONS
def test_a_picture_that_takes_minutes_is_named_and_left_out(tmp_path, python, attacks):
    """4 MB held each worker for more than batch_timeout_s, and so ended the run and every resume."""
    root = folder_of(tmp_path / "data", {"slow.jpg": named(hostile.slow_jpeg(20000))})
    contents = []
    for workers in (1, 2):
        bad, content, run, _ = outcome(root, tmp_path / ("audit-%d" % workers), python, workers=workers,
                                       picture_cpu_s=0.3, on_bad_image="replace")
        assert bad == {"slow.jpg": TOO_SLOW}
        contents.append(content)
        assert any("SIGPROF (a picture took more CPU time than --picture-cpu-s permits)" in line
                   for line in run.log.lines + run.printed().splitlines())
    assert contents[0] == contents[1] and len(contents[0]) == 4
    if python is None:          # one row is enough
        attacks("the data: a picture", "a JPEG of 0.5 MB with a scan that is repeated 20,000 times: a minute of "
                "CPU time", "the kernel ends a worker that decodes for longer than --picture-cpu-s; the picture is "
                "found as files that kill are, named and left out")


@PYTHONS
def test_a_picture_that_takes_much_memory_is_named_and_the_memory_goes_back(tmp_path, python, attacks):
    usual_mb = outcome(folder_of(tmp_path / "good", {}), tmp_path / "clean", python, workers=1)[3]
    root = folder_of(tmp_path / "data", {"large.png": named(hostile.png(7900, 8100, 6, 8))})
    bad, _, run, peak = outcome(root, tmp_path / "audit", python, workers=1, picture_memory_mb=120, epochs=3)
    assert bad == {"large.png": TOO_LARGE}
    assert run.reassigned == 0                          # no process died of it
    assert peak < usual_mb + 200
    if python is None:          # one row is enough
        attacks("the data: a picture", "a PNG that takes 256 MB to decode, where 120 are permitted",
                "it is bad by --picture-memory-mb, and no process dies; by default 1.5 GB are permitted")


@PYTHONS
def test_a_worker_is_small_again_after_a_large_picture(tmp_path, python):
    root = folder_of(tmp_path / "data", {"00-large.png": named(hostile.png(7900, 8100, 6, 8)),
                                         "01-deep.png": named(hostile.png(6000, 6000, 0, 16))})
    with opened(root, tmp_path / "audit", workers=1, training=False, worker_python=python,
                **dict(OPTIONS, batch_size=1)) as run:
        run.take(10)
        pid, = worker_pids()
        now, most = resident_mb(pid), peak_mb(pid)
        run.take_all()
    assert not run.stream.skipped and most > 250
    assert now < most - 150


def resident_mb(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * 4096 / 2 ** 20


@PYTHONS
def test_a_picture_that_finds_no_memory_in_a_small_container_is_named(tmp_path, python, attacks):
    """The limit is none of Stoker's own: MemoryError three times ended the run, whatever the policy for bad files."""
    script = str(tmp_path / "small-python")
    with open(script, "w") as file:
        file.write('#!/bin/sh\nulimit -d 320000\nexec "%s" "$@"\n' % (python or sys.executable))
    os.chmod(script, 0o755)
    root = folder_of(tmp_path / "data", {"large.png": named(hostile.png(7900, 8100, 6, 8))}, 40)
    contents = []
    for workers in (1, 3):
        bad, content, run, _ = outcome(root, tmp_path / ("audit-%d" % workers), script, workers=workers,
                                       on_bad_image="replace")
        assert bad == {"large.png": NO_MEMORY}
        assert run.log.having("no memory to decode a picture")
        contents.append(content)
    assert contents[0] == contents[1]
    if python is None:
        attacks("the data: a picture", "a PNG that takes 256 MB to decode, on workers that may have less (ulimit, "
                "container)", "it is tried alone, three times, while other samples find memory; then it is bad, and "
                "named")


def test_where_no_sample_finds_memory_the_run_ends_with_a_sentence(tmp_path):
    with open(str(tmp_path / "hungry.py"), "w") as file:
        file.write("import stoker\n@stoker.sample({'x': 'float32'})\n"
                   "def make(sample, random):\n    raise MemoryError\n")
    with pytest.raises(RunFailed) as caught:
        with here(tmp_path), open_stream(100, "hungry:make", batch_size=4, workers=2) as stream:
            next(stream)
    assert "there is no memory for any of 4 samples, each alone in a process of its own" in str(caught.value)


def joins(run):
    """How many worker processes the run had."""
    return len(run.log.having(" joined ("))


def test_a_killer_costs_its_deaths_once_in_all_epochs_and_after_a_restart(tmp_path, attacks):
    workers = 2
    root = folder_of(tmp_path / "data", {"slow.jpg": named(hostile.slow_jpeg(20000))})
    list_path = tmp_path / "killers"
    options = dict(OPTIONS, workers=workers, picture_cpu_s=0.3, on_bad_image="replace", killers=str(list_path))
    with opened(root, tmp_path / "audit", epochs=3, **options) as run:
        per_epoch = run.stream.plan.steps // 3
        run.take(per_epoch)
        deaths = len([line for line in run.log.lines if re.match(r"\S+ lost the connection", line)])
        wait_for(lambda: joins(run) - workers >= deaths, "a successor of each")      # it may be late for this epoch
        run.take_all()
        assert joins(run) - workers == deaths >= 2
    assert dict(run.stream.skipped) == {"slow.jpg": TOO_SLOW}
    assert [len(entry["skipped"]) for entry in run.entries()].count(1) == 3
    with opened(root, tmp_path / "again", epochs=3, **options) as again:
        again.take_all()
    assert joins(again) <= workers and again.log.having("remove its line in ")
    assert again.content() == run.content()
    assert [entry["skipped"] for entry in again.entries()] == [entry["skipped"] for entry in run.entries()]
    assert dict(again.stream.skipped) == {"slow.jpg": TOO_SLOW}
    os.remove(str(list_path))
    with opened(root, tmp_path / "forgotten", epochs=1, **options) as forgotten:
        forgotten.take_all()
    assert joins(forgotten) > workers and forgotten.content() == run.content()[:per_epoch]
    attacks("the data: a picture", "a picture that kills workers, in each epoch and after each restart",
            "it costs two or three workers once: the checkpoint folder remembers it (killers.jsonl)")


def test_the_checkpoint_folder_remembers_killers(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    draw(str(data), "jpg", 24)
    named(hostile.slow_jpeg(20000))[0](str(data / "left" / "slow.jpg"))
    options = [data, "--checkpoint-dir", run, "--workers", 2, "--picture-cpu-s", 0.3, "--audit", tmp_path / "audit",
               "--validation-split", 0, "--batch-size", 5]
    first = finished(tmp_path, "--epochs", 1, *options)
    assert first.code == 0 and "ended with SIGPROF" in first.stderr, first
    assert TOO_SLOW in (run / "killers.jsonl").read_text()
    second = finished(tmp_path, "--epochs", 2, *options)
    assert second.code == 0 and "SIGPROF" not in second.stderr and "remove its line in" in second.stderr, second
    entries = audit(tmp_path / "audit")
    assert len(entries) == 10 and [entry["skipped"] for entry in entries if entry["skipped"]] == [[12]] * 2
    (run / "killers.jsonl").write_text("nonsense")
    third = finished(tmp_path, "--epochs", 3, *options)
    assert third.code == 2 or third.code == 1, third
    assert "line 1 of %s is no sample that kills" % (run / "killers.jsonl") in third.stderr, third
    assert "Traceback" not in third.stderr


def test_what_a_function_does_to_its_worker_is_remembered_for_its_step(tmp_path, pictures, own_generators):
    options = dict(OPTIONS, workers=2, generator="user_generators:killed_by_a_file", killers=str(tmp_path / "killers"))
    with opened(pictures, tmp_path / "audit", **options) as run:
        run.take_all()
    with opened(pictures, tmp_path / "again", **options) as again:
        again.take_all()
    assert run.content() == again.content() and dict(again.stream.skipped) == dict(run.stream.skipped) != {}
    hit, = [entry["step"] for entry in run.entries() if entry["skipped"]]
    with opened(pictures, tmp_path / "resumed", start_step=hit, **options) as resumed:
        resumed.take_all()
    assert joins(resumed) <= 2 and resumed.content() == run.content()[hit:]
    assert dict(resumed.stream.skipped) == dict(run.stream.skipped)
