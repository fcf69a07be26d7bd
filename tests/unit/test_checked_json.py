"""JSON of strangers."""

import json
import time

import pytest

from stoker.pipeline.storage.checked_json import MAX_DEPTH, loads


@pytest.mark.parametrize("value", [
    {}, [], None, True, 1, -1.5, "text \ud800", {"a": [1, {"b": None}], "c": 1e300, "": 10 ** 39}, "7" * 1000])
def test_values_are_those_of_json(value):
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("data, words", [
    (b"", "torn or damaged"), (b"{", "torn or damaged"), (b"\xff{}", "no text in UTF-8"), (b"{} {}", "torn or damaged"),
    (b'{"a": {"b": 1, "b": 1}}', "the key 'b' twice"), (b"[NaN]", "the value NaN"), (b"-Infinity", "value -Infinity"),
    (b"[1e999]", "number that is too large, 1e999"), (b"1." + b"0" * 1000, "too large"),
    (b"[" + b"1" * 41 + b"]", "number of 41 digits"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested more than 50 deep"),
    (b'{"a":' * 200000 + b"1" + b"}" * 200000, "nested more than 50 deep"), (b"[" * 10000000, "millions of values"),
    (b"[" + b"{}," * 300000 + b"1]", "millions of values"), (b"[" + b"1," * 3000000 + b"1]", "millions of values")])
def test_what_no_writer_means_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        loads(data)


def test_the_deepest_and_a_number_of_any_length_take_no_time():
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    begun_s = time.process_time()
    with pytest.raises(ValueError, match="number of 10000000 digits"):
        loads(b"9" * 10000000)
    assert time.process_time() - begun_s < 20        # Python 3.6 would take minutes
