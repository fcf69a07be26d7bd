"""The benchmarks' pure parts: tables, goals, the report, and that no goal is lost by a row that got another name."""

import json

import pytest

from benchmarks import __main__ as runner
from benchmarks import end_to_end, machine, report
from benchmarks.alternation import Result
from benchmarks.contenders import protocol
from benchmarks.table import Goal, Table, as_sentence, as_text, shown, spread

TABLE = Table("speed", "Speed of things", ["thing", "images/s", "least", "most"],
              [["Stoker", 1234.6, 1200.0, 1300.0], ["a|peer", 12.34, 11.0, 13.0], ["broken", None, None, None]],
              ["A note."], [Goal("Stoker over a peer", 100.04, 4.5), Goal("milliseconds", 0.2, 0.15, at_most=True)],
              "bars", "images/s", ("least", "most"))


@pytest.mark.parametrize("cell, text", [(None, "-"), ("x", "x"), (3, "3"), (1234567, "1,234,567"), (1234.56, "1,235"),
                                        (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.0, "0.000"),
                                        (0.00001234, "1.2e-05"), (True, "True")])
def test_a_cell_shows_three_digits(cell, text):
    assert shown(cell) == text


def test_spread_is_the_median_and_both_ends():
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spread([4.0, 1.0]).median == 2.5


@pytest.mark.parametrize("reached, wanted, at_most, holds", [(1.0, 1.0, False, True), (0.99, 1.0, False, False),
                                                             (1.0, 1.0, True, True), (1.01, 1.0, True, False)])
def test_a_goal_holds_from_its_border_on(reached, wanted, at_most, holds):
    goal = Goal("it", reached, wanted, at_most)
    assert goal.holds() is holds
    assert as_sentence(goal).startswith("holds " if holds else "MISSED")


def test_the_text_has_every_row_goal_and_note():
    text = as_text(TABLE)
    lines = text.splitlines()
    assert "Stoker     1,235  1,200  1,300" in lines
    assert "broken         -      -      -" in lines
    assert "A note." in lines
    assert "MISSED  milliseconds: 0.200 (at most 0.150)" in lines


def test_the_markdown_has_them_too():
    text = report.as_markdown(TABLE, "benchmarks/speed.png")
    assert "| Stoker | 1,235 | 1,200 | 1,300 |" in text
    assert "| a\\|peer | 12.3 | 11.0 | 13.0 |" in text
    assert "| Stoker over a peer | 100 | at least 4.50 | holds |" in text
    assert "| milliseconds | 0.200 | at most 0.150 | **MISSED** |" in text
    assert "![Speed of things](benchmarks/speed.png)" in text
    assert "| --- | --: | --: | --: |" in text


def test_tables_come_back_from_json():
    document = json.loads(json.dumps({"tables": [dict(TABLE._asdict(), goals=[
        dict(goal._asdict(), holds=goal.holds()) for goal in TABLE.goals])]}))
    table, = report.tables_of(document)
    assert as_text(table) == as_text(TABLE)


def test_the_report_says_what_failed_and_what_was_missed():
    text = report.render([report.Script("speed", 1.0, [TABLE]), report.Script("other", 1.0, [], "exit code 3")],
                         [("commit", "abc"), ("date", "today")], {"speed": "benchmarks/speed.png"})
    assert "| commit | abc |" in text
    assert "1 of 2 goals hold. Missed:" in text
    assert "- MISSED  milliseconds" in text
    assert "**`benchmarks.other` failed: exit code 3**" in text
    assert text.count("## ") == 1
    assert "Missed:" not in report.render([], [], {})


def full_groups():
    return [group for group in end_to_end.groups(False) if group.name in ("64", "224")]


@pytest.mark.parametrize("group", full_groups(), ids=lambda group: group.name)
def test_no_goal_speaks_of_a_row_that_is_not_there(group):
    names = [each.name for each in group.contenders]
    assert len(set(names)) == len(names)
    rates = dict.fromkeys(names, 100.0)
    goals = end_to_end.goals_of(group, rates)
    assert len(goals) == {"64": 11, "224": 10}[group.name]
    assert all(goal.reached == 1.0 for goal in goals)


@pytest.mark.parametrize("group", full_groups(), ids=lambda group: group.name)
def test_a_contender_that_failed_reaches_no_goal_and_says_why(group):
    names = [each.name for each in group.contenders]
    results = {name: Result([100.0, 110.0, 90.0], [2.0] * 3) for name in names}
    results[end_to_end.stoker("fastest")] = Result([], [], "it broke")
    table = end_to_end.table_of(group, results, "title")
    row, = [row for row in table.rows if row[0] == end_to_end.stoker("fastest")]
    assert row[1] is None and row[-1] == "it broke"
    assert [goal.reached for goal in table.goals if goal.text.startswith(end_to_end.stoker("fastest") + " ")] == [0] * 4
    row, = [row for row in table.rows if row[0] == end_to_end.TUTORIAL]
    assert row[1:5] == [100.0, 90.0, 110.0, 1.0] and row[-1] == ""


def test_the_quick_run_has_everybody_and_every_kind_of_picture():
    quick, full = end_to_end.groups(True), end_to_end.groups(False)
    assert [group.name for group in quick] == [group.name for group in full]
    assert [each.name for each in quick[0].contenders] == [each.name for each in full[0].contenders]
    assert all(group.contenders for group in quick)


def test_end_to_end_is_the_first_of_the_scripts():
    assert runner.scripts()[0] == "end_to_end"
    assert not {"table", "report", "plots", "machine", "alternation", "pictures"} & set(runner.scripts())


def test_the_machine_is_described():
    facts = dict(machine.facts())
    assert "cores" in facts["machine"] and "GB" in facts["machine"]
    assert facts["commit"]


def test_the_shuffle_knows_every_file_each_time_round(tmp_path):
    for name in ("negative", "positive"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / ("%d.jpg" % number)).write_bytes(b"")
    (tmp_path / ".recipe").write_bytes(b"1")
    paths, labels = protocol.files_of(str(tmp_path))
    assert len(paths) == 6 and labels == [0, 0, 0, 1, 1, 1]
    samples = protocol.shuffled(str(tmp_path), 1)
    rounds = [[next(samples) for _ in range(6)] for _ in range(3)]
    assert all(sorted(each) == sorted(zip(paths, labels)) for each in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
