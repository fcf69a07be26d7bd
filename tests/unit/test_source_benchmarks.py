"""The tables of the benchmark of sources, of results made up."""

import pytest

from benchmarks import sources
from benchmarks.alternation import Result
from benchmarks.table import as_text


def results(group, **rates):
    """Each contender with 100 images/s, and those of ``rates`` (by a part of their names) with theirs."""
    found = {}
    for each in group.contenders:
        rate = next((rate for part, rate in rates.items() if part in each.name.replace(" ", "_")), 100.0)
        found[each.name] = Result([rate, rate], [2.0, 2.0], "", [0.5, 0.5])
    return found


@pytest.fixture
def group():
    return sources.Group(64, 2, 1.0, sources.local(64, ("fastest", "sampled")) + sources.tfdata(64))


def test_each_way_of_stoker_is_compared_with_the_like_of_tf_data(group):
    table = sources.table_of_sources(group, results(group, TFRecord__sampled=300.0, TFRecord=110.0), "photos")
    assert [goal.text for goal in table.goals] == [
        "TFRecord, fastest over tf.data, TF 1.9: TFRecord at 64 pixels",
        "TFRecord, sampled over tf.data, TF 1.9: TFRecord, ratio-4 at 64 pixels"]
    assert [row[0] for row in table.rows] == [each.name for each in group.contenders]
    assert "tf.data" in as_text(table)


def test_one_that_failed_reaches_no_goal(group):
    found = results(group)
    found["TFRecord, fastest"] = Result([], [], "it broke")
    table = sources.table_of_sources(group, found, "photos")
    assert [goal.holds() for goal in table.goals] == [False, False] and table.goals[0].reached == 0.0
    assert "it broke" in as_text(table)


def test_other_work_on_the_machine_is_told(group):
    assert any("DISTURBED" in note for note in sources.notes_of(group, results(group)))


def test_reading_ahead_is_compared_by_cpu_time():
    group = sources.near(1.0, 2)
    found = results(group)
    found["local folder, auto"] = Result([90.0, 90.0], [1.5, 1.5], "", [0.0, 0.0])
    table = sources.table_of_near(group, found)
    assert [round(goal.reached, 2) for goal in table.goals] == [1.2, 1.0]
