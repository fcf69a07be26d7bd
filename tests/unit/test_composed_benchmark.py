"""The benchmark of containers against processes: what its table says, and that it is left out without an engine."""


from benchmarks import alternation, composed


def results(of_composed, error=""):
    return {composed.BARE: alternation.Result([100.0, 200.0, 300.0], [2.0] * 3),
            composed.COMPOSED: alternation.Result(of_composed, [1.9] * len(of_composed), error)}


def test_each_round_is_compared_with_the_processes_of_the_same_round():
    table = composed.table_of(64, "JPEGs", results([99.0, 190.0, 306.0]), ["Workers: these."], 3, 1.5)
    assert [row[4] for row in table.rows] == [1.0, 0.99]         # not 190 / 200, the ratio of the medians
    assert [row[1] for row in table.rows] == [200.0, 190.0] and table.goals[0].reached == 0.99
    assert table.goals[0].holds() and not composed.table_of(64, "", results([96.0] * 3), (), 3, 1.5).goals[0].holds()
    assert "failed" not in table.columns and len(table.columns) == len(table.rows[0])


def test_containers_that_failed_miss_the_goal_and_say_why():
    table = composed.table_of(224, "JPEGs", results([], "no answer"), [], 3, 1.5)
    assert table.rows[1] == [composed.COMPOSED, None, None, None, None, None, "no answer"]
    assert not table.goals[0].holds() and table.columns[-1] == "failed"


def test_without_an_engine_there_is_no_table(monkeypatch):
    monkeypatch.setenv("PATH", "/absent")
    said = []
    assert composed.run(True, said.append) == [] and said == ["no table: there is no docker"]
