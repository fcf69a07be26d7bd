"""The samples of a lease, column by column: what comes back, and what is refused."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.options import MAX_BATCH, MAX_PARTNERS
from stoker.pipeline.protocol import columns
from stoker.pipeline.protocol.columns import MAX_INDEX, MAX_LABEL, MAX_ROW_BYTES, columns_of, samples_from
from stoker.pipeline.protocol.messages import MAX_TEXT, Sample

GOOD = [[1, 2], ["a", "b"], [0, 1], [b"", b"\xc0"], [0, 1], [[], [[3], ["c"], [], [], [], []]]]
NUMBERS = st.integers(0, MAX_INDEX)
FIELDS = (NUMBERS, st.text(max_size=3), st.integers(-1, MAX_LABEL), st.binary(max_size=3), NUMBERS)
ALONE = st.tuples(*FIELDS).map(lambda fields: Sample(*fields))
PARTNERS = st.lists(ALONE, max_size=3).map(tuple)
SAMPLES = st.lists(st.one_of(ALONE, st.tuples(*FIELDS, PARTNERS).map(lambda fields: Sample(*fields)),
                             NUMBERS.map(lambda index: Sample(index, "", 0))), max_size=5).map(tuple)


def travelled(samples):
    return samples_from(msgpack.unpackb(msgpack.packb(columns_of(samples), use_bin_type=True), raw=False))


@given(SAMPLES)
def test_samples_come_back(samples):
    found = travelled(samples)
    assert found == samples
    assert all(type(one) is Sample for sample in found for one in (sample, *sample.partners))


def test_columns_in_which_all_are_alike_are_left_out():
    assert columns_of([Sample(0, "", 0), Sample(7, "", 0)]) == ((0, 7), (), (), (), (), ())
    assert columns_of([]) == ()


def test_the_longest_texts_rows_and_numbers_come_back():
    sample = Sample(MAX_INDEX, "x" * MAX_TEXT, MAX_LABEL, b"x" * MAX_ROW_BYTES, MAX_INDEX)
    samples = (sample._replace(partners=(sample,)), Sample(0, "", -1))
    assert travelled(samples) == samples


def test_the_form_of_these_tests_is_right():
    assert samples_from(GOOD) == (Sample(1, "a", 0), Sample(2, "b", 1, b"\xc0", 1, (Sample(3, "c", 0),)))


def changed(place, value):
    return [value if number == place else column for number, column in enumerate(GOOD)]


NO_COLUMN = [None, 7, "ab", {1: 2}, [1.5, 1], [True, 1], [None, 1], [["a"], "a"], [-2, 1], [1, 1 << 63]]


@pytest.mark.parametrize("value", [
    *(changed(place, value) for place in range(6) for value in NO_COLUMN),
    *(changed(place, GOOD[place][:1]) for place in range(6)), *(changed(place, GOOD[place] * 2) for place in range(6)),
    changed(0, []), changed(0, [-1, 1]), changed(2, [-1, MAX_LABEL + 1]), changed(4, [-1, 1]),
    changed(1, ["a", "x" * (MAX_TEXT + 1)]), changed(1, ["a", b"b"]), changed(3, [b"", b"x" * (MAX_ROW_BYTES + 1)]),
    changed(3, [b"", ""]), changed(5, [[], GOOD]), changed(5, [[], [[1], [], [], [], [], [[]]]]),
    changed(5, [[], [list(range(MAX_PARTNERS + 1)), [], [], [], [], []]]), changed(5, [[], [[]] * 6]),
    GOOD[:5], GOOD + [[]], [[]] * 6, [[1]], None, {}, "abcdef", 6])
def test_any_other_form_is_refused(value):
    with pytest.raises(ValueError):
        samples_from(value)


def test_a_lease_has_no_more_samples_than_a_batch_may_have(monkeypatch):
    assert columns.MAX_BATCH == MAX_BATCH
    monkeypatch.setattr(columns, "MAX_BATCH", 2)
    assert len(samples_from([[1, 2], [], [], [], [], []])) == 2
    with pytest.raises(ValueError, match="1 to 2 samples"):
        samples_from([[1, 2, 3], [], [], [], [], []])
