"""The parser of tf.train.Example: every form that protobuf allows, and bytes of any kind."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.sources.records.protobuf import (
    BYTES, FLOAT, INT64, Malformed, features, floats, int64s, spans, varint)
from tests.support import tfrecords as made

MANY = 1 << 30
FLOATS = st.floats(width=32, allow_nan=False)
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(st.lists(st.binary(max_size=200), max_size=4), st.lists(INTS, max_size=6),
                   st.lists(FLOATS, max_size=6))
EXAMPLES = st.dictionaries(st.text(max_size=140), VALUES, max_size=6)


def values_of(block, found):
    if found.kind == BYTES:
        return [block[first:last] for first, last in spans(block, found, MANY)]
    return floats(block, found) if found.kind == FLOAT else int64s(block, found, MANY) if found.kind == INT64 else []


def read(block, begin=0, end=None, wanted=None):
    found = features(block, begin, len(block) if end is None else end, wanted)
    return {name.decode(): values_of(block, each) for name, each in found.items()}


@settings(deadline=None)
@given(EXAMPLES, st.booleans(), st.binary(max_size=9), st.binary(max_size=9))
def test_what_is_written_is_read(example, packed, before, after):
    content = made.example(example, packed)
    block = before + content + after
    assert read(block, len(before), len(before) + len(content)) == example
    for name in list(example)[:1]:
        assert read(block, len(before), len(before) + len(content), {name.encode()}) == {name: example[name]}


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(content):
    try:
        read(content)
    except Malformed:
        pass


@settings(deadline=None)
@given(EXAMPLES, st.data())
def test_any_change_of_an_example_is_read_or_malformed(example, data):
    content = bytearray(made.example(example))
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[:data.draw(st.integers(0, len(content)))])
    try:
        for name, values in read(content).items():
            assert sum(len(value) if isinstance(value, bytes) else 1 for value in values) <= len(content), name
    except Malformed:
        pass
    except UnicodeDecodeError:       # of the test: the name is none
        pass


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_numbers(number):
    content = made.varint(number)
    assert varint(b"\xff" + content + b"\x01", 1, 1 + len(content)) == (number, 1 + len(content))
    with pytest.raises(Malformed):
        varint(content, 0, len(content) - 1)


@pytest.mark.parametrize("content", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\x80" * 1000, b""])
def test_a_number_ends_within_64_bits(content):
    with pytest.raises(Malformed):
        varint(content, 0, len(content))


def test_fields_of_other_messages_are_passed_over_or_refused():
    name, value = made.field(1, b"a"), made.field(2, made.feature([7]))
    others = (made.field(9, b"xyz") + made.field(10, 5) + made.varint(11 << 3 | 5) + b"1234"
              + made.varint(12 << 3 | 1) + b"12345678")
    entry = others + value + others + name + others             # in another order
    inside = others + made.field(1, entry) + others
    assert read(others + made.field(1, inside) + others) == {"a": [7]}
    assert read(made.field(1, made.field(1, name + others)), wanted={b"a"}) == {"a": []}
    assert read(made.field(1, made.field(1, value))) == {"": [7]}                          # the default name
    assert read(made.field(1, b"") + made.field(1, made.field(1, name + value))) == {"a": [7]}
    odd = made.field(1, made.field(1, name + made.field(2, made.field(3, made.field(1, 1) + made.field(1, b"\x02\x03")
                                                                      + others))))
    assert read(odd) == {"a": [1, 2, 3]}                        # packed and not packed
    for wrong, words in ((made.field(2, b"") + made.field(1, inside), "SequenceExample"),
                         (made.varint(1 << 3 | 3), "no message has"), (made.varint(1 << 3 | 6), "no message has"),
                         (made.varint(2), "no message has"), (made.field(1, inside)[:-1], "beyond"),
                         (made.varint(11 << 3 | 5) + b"123", "beyond"),
                         (made.field(1, made.field(1, name + value + value)), "two values"),
                         (made.field(1, 2 * made.field(1, name + value)), "twice"),
                         (made.field(1, made.field(1, name + made.field(2, 2 * made.feature([7])))), "two lists")):
        with pytest.raises(Malformed, match=words):
            read(wrong)


def test_no_number_takes_memory_that_the_bytes_do_not_have():
    for size in (1 << 20, 1 << 40, (1 << 64) - 1):
        for content in (made.varint(1 << 3 | 2) + made.varint(size),
                        made.field(1, made.varint(1 << 3 | 2) + made.varint(size)),
                        made.field(1, made.field(1, made.varint(1 << 3 | 2) + made.varint(size)))):
            with pytest.raises(Malformed):
                read(content)
    with pytest.raises(Malformed, match="part of one"):
        read(made.field(1, made.field(1, made.field(1, b"a") + made.field(2, made.field(2, made.field(
            1, struct.pack("<f", 1.0) + b"x"))))))


def test_lists_are_read_no_further_than_asked_for():
    block = made.example({"a": list(range(1000)), "b": [b"x"] * 1000})
    found = features(block, 0, len(block))
    assert int64s(block, found[b"a"], 2) == [0, 1] and len(spans(block, found[b"b"], 2)) == 2
