"""The benchmarks' pure parts: tables, goals, the report, and that no goal is lost by a row that got another name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as runner
from benchmarks import alternation, end_to_end, machine, report, sources
from benchmarks.alternation import Result
from benchmarks.contenders import limit, protocol
from benchmarks.table import Goal, Table, as_sentence, as_text, shown, spread
from stoker.workers import images

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


def test_the_first_table_comes_before_the_goals_and_gives_readme_its_rows():
    every = dict.fromkeys(end_to_end.SUMMARY_COLUMNS, results_of(end_to_end.groups(False)[0]))
    scripts = [report.Script("end_to_end", 1.0, [end_to_end.summary(every)], "", "today", "abc"),
               report.Script("speed", 1.0, [TABLE], "", "yesterday", "def")]
    text = report.render(scripts, [("commit", "abc")], {})
    assert text.index("## Images per second") < text.index("1 of 2 goals hold") < text.index("| commit |")
    assert "Measured apart from the tables above, at commit def, on yesterday." in text
    rows = report.readme_rows(scripts).splitlines()
    assert len(rows) == 6 and rows[4] == "| **Stoker with its defaults**, antialiased | 100 | 100 |"
    assert report.readme_rows(scripts[1:]) == ""


def full_groups():
    return [group for group in end_to_end.groups(False) if group.name in ("64", "224")]


def results_of(group, **rates):
    """Results with 100 images/s, but for those of ``rates``."""
    return {each.name: Result([rates.get(each.name, 100.0)] * 3, [2.0] * 3, "", [0.0] * 3)
            for each in group.contenders}


@pytest.mark.parametrize("group", full_groups(), ids=lambda group: group.name)
def test_no_goal_speaks_of_a_row_that_is_not_there(group):
    names = [each.name for each in group.contenders]
    assert len(set(names)) == len(names) and group.rounds >= 7
    goals = end_to_end.goals_of(group, results_of(group))
    assert len(goals) == {"64": 7, "224": 8}[group.name]
    assert all(goal.reached == 1.0 for goal in goals)


@pytest.mark.parametrize("group", full_groups(), ids=lambda group: group.name)
def test_each_class_has_peers_a_limit_and_stokers_way(group):
    for kind, mode in end_to_end.CLASSES.items():
        names = [each.name for each in group.contenders if each.kind == kind]
        assert end_to_end.stoker(mode) in names and end_to_end.limit(mode) in names
        assert [name for name in names if not name.startswith(("Stoker", "limit"))]
    assert all(each.kind in end_to_end.CLASSES for each in group.contenders)


def test_a_goal_above_the_limit_is_restated_by_the_limit():
    group = full_groups()[0]
    ours, bound = end_to_end.stoker("fastest"), end_to_end.limit("fastest")
    results = results_of(group, **{ours: 105.0, bound: 110.0})
    goal, = [goal for goal in end_to_end.goals_of(group, results)
             if goal.text.startswith("%s over %s " % (ours, end_to_end.TFDATA))]
    assert goal.wanted == pytest.approx(0.93 * 1.1) and goal.holds()
    assert goal.text.endswith("(1.15 would be above 0.93 of the limit of this decoding), at 64 pixels")
    goal, = [goal for goal in end_to_end.goals_of(group, results_of(group, **{ours: 105.0, bound: 150.0}))
             if goal.text == "%s over %s, at 64 pixels" % (ours, end_to_end.TFDATA)]
    assert goal.wanted == 1.15 and not goal.holds()


def test_a_share_that_the_least_pipeline_does_not_reach_is_restated_by_it():
    group = full_groups()[0]
    ours, bound, least = (name("fastest") for name in (end_to_end.stoker, end_to_end.limit, end_to_end.least))
    for most, wanted in ((90.0, 0.9), (95.0, 0.93)):
        goal, = [goal for goal in end_to_end.goals_of(group, results_of(group, **{ours: 85.0, least: most}))
                 if goal.text.startswith("%s over %s" % (ours, bound))]
        assert goal.wanted == pytest.approx(wanted) and not goal.holds()
        assert ("more than the least pipeline" in goal.text) == (most == 90.0)


def test_a_share_of_a_local_folder_that_no_pipeline_by_http_reaches_is_restated_by_the_least_one():
    group = sources.far(SimpleNamespace(url="http://localhost:1", far_url="http://localhost:1/far"), 1.0, 1)
    for most, wanted in ((80.0, 0.8), (104.0, 0.9)):
        rates = {"local folder, fastest": 100.0, sources.least("fastest"): most}
        results = {each.name: Result([rates.get(each.name, 85.0)], [2.0], "", [0.1]) for each in group.contenders}
        goals = [goal for goal in sources.table_of_far(group, results, {}).goals if ", fastest over" in goal.text]
        assert [goal.wanted for goal in goals] == [pytest.approx(wanted)] * 2
        assert [goal.holds() for goal in goals] == [most == 80.0] * 2
        assert all(("more than the least pipeline by HTTP reaches" in goal.text) == (most == 80.0) for goal in goals)


def test_ratios_are_taken_round_by_round():
    one, other = Result([100.0, 50.0, 120.0], [2.0] * 3), Result([50.0, 25.0, 30.0], [2.0] * 3)
    assert alternation.ratio(one, other) == 2.0
    assert alternation.ratio(one, Result([], [], "it broke")) == 0.0
    assert alternation.ratio(one, Result([200.0], [2.0])) == 0.5


@pytest.mark.parametrize("others, taken, tried", [([0.0], 0.0, 1), ([0.5, 0.05], 0.05, 2),
                                                    ([0.5, 0.3, 0.4, 0.0], 0.3, 3)])
def test_a_disturbed_turn_is_repeated(others, taken, tried):
    turns = iter([alternation.Turn(100.0, 2.0, share) for share in others])
    best, repeated = alternation.least_disturbed(lambda: next(turns), 3)
    assert best.others == taken and len(repeated) == tried - 1


def test_the_report_tells_of_disturbed_turns():
    quiet, loud = Result([1.0], [1.0], "", [0.0], [0.4]), Result([1.0], [1.0], "", [0.4], [])
    assert alternation.disturbance({"a": quiet}) == ["1 turn that other work on this machine disturbed was repeated."]
    assert "DISTURBED: in 1 of 1 turns" in alternation.disturbance({"a": loud})[0]
    assert alternation.disturbance({"a": quiet._replace(repeated=[])}) == []


@pytest.mark.parametrize("group", full_groups(), ids=lambda group: group.name)
def test_a_contender_that_failed_reaches_no_goal_and_says_why(group):
    ours = end_to_end.stoker("fastest")
    results = dict(results_of(group), **{ours: Result([], [], "it broke")})
    table = end_to_end.table_of(group, results, "title")
    row, = [row for row in table.rows if row[1] == ours]
    assert row[2] is None and row[-1] == "it broke"
    assert [goal.reached for goal in table.goals if goal.text.startswith(ours + " ")] == [0] * 3
    row, = [row for row in table.rows if row[1] == end_to_end.TUTORIAL]
    assert row[2:6] == [100.0, 100.0, 100.0, 1.0] and row[-1] == ""


@pytest.mark.parametrize("mode", sorted(end_to_end.MODES))
@pytest.mark.parametrize("size", [64, 224])
def test_a_limit_makes_the_same_pixels_as_stoker(mode, size, tmp_path):
    path = str(tmp_path / "photo.jpg")
    noise = np.random.RandomState(1).randint(0, 255, (375, 500, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, quality=90)
    made = limit.bare(mode, size)(limit.content(path))
    assert np.array_equal(made, np.asarray(images.load(path, (size, size), mode)))


def test_the_quick_run_has_every_contender_and_every_kind_of_picture():
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
