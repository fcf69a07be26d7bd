"""Some positions of a plan as a plan of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.orders import balanced, open_order
from stoker.pipeline.partners import open_partners
from stoker.pipeline.plan import Plan
from stoker.pipeline.sources.dataset import Dataset
from stoker.trainer.record import selected_plan
from stoker.trainer.record.selected_plan import SelectedPlan

DATA = Dataset("/data", ("a", "b"), tuple("%d.jpg" % number for number in range(11)), (0, 1) * 5 + (0,), ())


def plan_of(is_balanced=False, ranks=1, partners=0):
    order = open_order(balanced(steps=4) if is_balanced else None, DATA, 3, 7)
    return Plan(len(DATA), 3, 4, 7, 5, order=order, partners=(open_partners(partners, DATA),) * 2, rank=ranks - 1,
                ranks=ranks)


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_each_position_is_that_of_the_plan(data, is_balanced, in_advance, with_replacements):
    plan = plan_of(is_balanced)
    selected = data.draw(st.lists(st.integers(0, plan.positions - 1), min_size=1, max_size=30))
    before, selected_plan.PLANNED_BEFORE = selected_plan.PLANNED_BEFORE, 100 if in_advance else 0
    try:
        view = SelectedPlan(plan, selected)
    finally:
        selected_plan.PLANNED_BEFORE = before
    assert view.positions == view.position_of(0) + len(selected)
    for position, expected in enumerate(selected, view.position_of(0)):
        assert view.at(position, with_replacements) == plan.at(expected, with_replacements)._replace(position=position)


def test_it_begins_behind_position_0_and_ends_behind_its_last_one():
    view = SelectedPlan(plan_of(), [3])
    assert view.position_of(0) == 1 and view.positions == 2
    for position in (0, 2):
        with pytest.raises(IndexError):
            view.at(position)


def test_parts_of_ranks_and_partners_are_those_of_the_plan():
    plan = plan_of(ranks=3, partners=2)
    view = SelectedPlan(plan, range(plan.positions - 1, -1, -1))
    for position, expected in enumerate(range(plan.positions - 1, -1, -1), 1):
        assert view.is_empty(position) == plan.is_empty(expected)
        assert view.at(position) == plan.at(expected)._replace(position=position)
    assert (view.rank, view.ranks, view.part_size) == (plan.rank, plan.ranks, plan.part_size)
    assert view.has_partners and view.partners_of(True, 2, 5) == plan.partners_of(True, 2, 5)
    assert view.has_empty_parts(True) == plan.has_empty_parts(True)
    assert view.training_indices(6) == plan.training_indices(6)


def test_an_epoch_is_shuffled_once_however_its_steps_are_asked_for(monkeypatch):
    plan = plan_of()
    made = []
    new_epoch = plan._new_epoch
    monkeypatch.setattr(plan, "_new_epoch", lambda number: made.append(number) or new_epoch(number))
    view = SelectedPlan(plan, [plan.position_at(step) for step in (13, 0, 5, 1, 12, 4)])
    assert [view.at(position).step for position in range(1, 7)] == [13, 0, 5, 1, 12, 4]
    assert made == [0, 1, 3]
