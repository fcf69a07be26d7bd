"""Which libraries decoded a run's pictures: what is recorded, and when there is a warning."""

import json
import logging
import os
import sys

import pytest

from stoker.pipeline.coordinator.effects import Log
from stoker.pipeline.coordinator.notices import MAX_DECODERS, Notices
from stoker.pipeline.options import JobOptions
from stoker.pipeline.protocol.messages import Hello
from stoker.trainer import feed, interpreter
from stoker.trainer.decoders import Decoders
from stoker.trainer.record import files as records
from stoker.trainer.record.folder import RunFolder

OLD, NEW, SIMD = "pillow 8.4.0, libjpeg-turbo 2.1.1", "pillow 13.0.0, libjpeg-turbo 3.1.2", "pillow-simd 12.1"


def hello(decoder, number=0):
    return Hello("host:1/%d" % number, 9, "python 3.13.0, " + decoder, 2, "")


def test_the_decoders_of_members_are_collected_up_to_a_limit():
    notices = Notices(8, "prefetch", True)
    assert notices.decoders == frozenset()
    before = notices.decoders
    warnings = []
    for number, decoder in enumerate([OLD, OLD, NEW, SIMD]):
        warnings.append([effect.text for effect in notices.joined(hello(decoder, number), 1)
                         if isinstance(effect, Log) and effect.is_warning])
    assert notices.decoders == {OLD, NEW, SIMD} and before == frozenset()     # another thread may hold the former one
    assert [len(lines) for lines in warnings] == [0, 0, 1, 0]
    for number in range(99):
        notices.joined(hello("pillow %d" % number), 1)
    assert len(notices.decoders) == MAX_DECODERS


def test_without_pictures_there_are_none():
    notices = Notices(8, "prefetch", False)
    notices.joined(hello(OLD), 1)
    assert notices.decoders == frozenset()


@pytest.fixture
def decoders(tmp_path, caplog):
    """A function: the Decoders of a run whose record has these; ``record()``: what ``stoker.json`` has now."""
    folder = RunFolder(str(tmp_path))
    caplog.set_level(logging.WARNING, "stoker")

    def of(*recorded):
        records.write_json(folder, records.RECORD, dict({"seed": 3}, **({"decoders": list(recorded)}
                                                                              if recorded else {})))
        return Decoders(folder)
    of.record = lambda: json.loads((tmp_path / records.RECORD).read_text())
    of.warnings = lambda: [record.getMessage() for record in caplog.records]
    return of


def test_a_run_that_goes_on_with_another_library_warns_once_and_records_both(decoders):
    run = decoders(OLD)
    run.note(frozenset())
    run.note(frozenset([OLD]))
    assert decoders.warnings() == [] and decoders.record()["decoders"] == [OLD]
    for seen in ([OLD, NEW], [OLD, NEW], [OLD, NEW, SIMD]):
        run.note(frozenset(seen))
    line, = decoders.warnings()
    assert line.startswith("pictures were decoded by %s so far, and now also by %s: " % (OLD, NEW))
    assert decoders.record()["decoders"] == sorted([OLD, NEW, SIMD]) and decoders.record()["seed"] == 3


def test_a_run_that_is_older_than_the_record_gets_it_without_a_warning(decoders):
    run = decoders()
    run.note(frozenset([NEW]))
    assert decoders.warnings() == [] and decoders.record()["decoders"] == [NEW]


@pytest.mark.parametrize("python, version, made, has_advice", [
    (None, (3, 6), True, True), (None, (3, 6), False, False), ("/other/python", (3, 6), True, False),
    (None, (3, 12), True, False)])
def test_what_workers_of_an_old_python_cost_is_said_where_a_newer_one_is_there(tmp_path, python, version, made,
                                                                               has_advice):
    folder = tmp_path / "workers" / "bin"
    folder.mkdir(parents=True)
    if made:
        (folder / "python").write_text("")
        (folder / "python").chmod(0o755)
    line = interpreter.advice(python, str(tmp_path), version)
    assert (line is not None) == has_advice
    if line:
        assert line.startswith("the workers run Python 3.6 and its old Pillow; --worker-python %s " % (
            folder / "python")) and "1.2 to 1.7 times as fast" in line


def test_no_advice_for_the_environment_that_runs_already(tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "bin").symlink_to(os.path.dirname(sys.executable))
    assert os.access(str(tmp_path / "workers" / "bin" / "python"), os.X_OK)
    assert interpreter.advice(None, str(tmp_path), (3, 6)) is None


@pytest.mark.parametrize("generator, workers, has_advice", [
    ("image", "auto", True), ("augmented", 2, True), ("numerical", "auto", False), ("image", 0, False)])
def test_the_advice_is_for_local_workers_that_decode(monkeypatch, generator, workers, has_advice):
    monkeypatch.setattr(interpreter, "advice", lambda python, environments: "%s, %s" % (python, environments))
    assert feed.advice(JobOptions(generator), feed.LocalOptions(workers)) == (
        ("None, " + feed.ENVIRONMENTS,) if has_advice else ())
