"""Long leases are walked through before anything of them is built: the form, and what they would cost."""

import tracemalloc
from contextlib import suppress
from unittest import mock

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipeline.errors import ProtocolError
from stoker.pipeline.protocol import walking
from stoker.pipeline.protocol.codec import LEASE_COST_BYTES, decode_from_trainer, encode
from stoker.pipeline.protocol.messages import Lease, Sample, Skipped, Stop
from stoker.pipeline.protocol.walking import SAMPLE_BYTES, SHORT_BYTES, check_cost
from tests.conftest import EFFORT
from tests.unit.test_codec import ANY_FROM_TRAINER


@pytest.fixture
def every(monkeypatch):
    """Each message counts as a long one."""
    monkeypatch.setattr(walking, "SHORT_BYTES", 0)


def lease(samples, partners=0, replacements=0, row=b"", known=0):
    def made(count, own=()):
        return tuple(Sample(number, "%d.jpg" % number, -1, row, 0, own) for number in range(count))
    return Lease(1, 2, 3, True, made(samples, made(partners)), made(replacements), known=tuple(
        Skipped(number, "kills", deadly=True) for number in range(known)))


@pytest.mark.parametrize("one, counts", [(lease(1), 1), (lease(5), 5), (lease(5, 3), 20), (lease(5, 3, 7), 27),
                                         (lease(2, row=b"\x90" * 1000), 2),
                                         (lease(5, 3, 7, known=4), 31)])
def test_the_samples_partners_and_replacements_count(every, one, counts):
    header, = encode(one)
    check_cost(header, counts * SAMPLE_BYTES + len(header))
    with pytest.raises(ProtocolError, match="the samples of a lease would take more than 0 MB .*--max-batch-mb"):
        check_cost(header, counts * SAMPLE_BYTES + len(header) - 1)
    assert decode_from_trainer([header]) == one


def test_a_lease_of_no_sample_costs_its_bytes(every):
    header, = encode(lease(0))
    check_cost(header, 0)


def changed(position, value):
    """A lease with another value at a place."""
    message = msgpack.unpackb(encode(lease(2, 1))[0], raw=False)
    at = message
    for index in position[:-1]:
        at = at[index]
    at[position[-1]] = value
    return msgpack.packb(message, use_bin_type=True)


@pytest.mark.parametrize("position, value", [
    ((0,), []), ((1,), [[]]), ((1,), 7), ((2,), [1]), ((2, 0), {}), ((2, 3), [[]]), ((2, 4), 5), ((2, 4, 1), "x"),
    ((2, 4, 1), [[], "x"]), ((2, 4, 1, 1), [[]]), ((2, 4, 1), ["x"]), ((2, 4, 0), [1]), ((2, 4, 3), {1: []}),
    ((2, 4, 5), [1, 1]), ((2, 4, 5, 1), [1]), ((2, 4, 5, 0, 3), [[]]), ((2, 4, 5, 0, 3), [b"", b""]),
    ((2, 4, 5, 0, 5), [[]]), ((2, 5), [[1]]), ((2, 6), []),
    ((2, 8), [[1]]), ((2, 8), 1), ((2, 8), [[1, [], "", True, True]])], ids=str)
def test_a_long_message_in_another_form_is_refused(every, position, value):
    with pytest.raises(ProtocolError):
        check_cost(changed(position, value), 1 << 30)


def test_what_follows_and_what_is_missing(every):
    header, = encode(lease(2))
    with pytest.raises(ProtocolError):
        check_cost(header[:-9], 1 << 30)
    with pytest.raises(ProtocolError, match="'stop' has"):
        check_cost(encode(Stop("x" * 100))[0], 1 << 30)


@pytest.mark.parametrize("value", [
    [[]] * SHORT_BYTES, [7, "lease", [[]] * SHORT_BYTES], [7, "lease", [1, 0, 0, True, [[]] * SHORT_BYTES, [], False,
                                                                         False, [], 0, 0.0]],
    [7, "lease", [1, 0, 0, True, [[1 << 40] * (LEASE_COST_BYTES // SAMPLE_BYTES + 1), [], [], [], [], []], [], False,
                  False, [], 0, 0.0]],
    [7, "welcome", ["xy"] * SHORT_BYTES]], ids=["lists", "fields", "samples", "many", "welcome"])
def test_a_hostile_message_is_refused_before_it_takes_memory(value):
    header = msgpack.packb(value, use_bin_type=True)
    assert len(header) > SHORT_BYTES
    del value

    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode_from_trainer([memoryview(header)])
        assert tracemalloc.get_traced_memory()[1] < 2 * len(header) + (4 << 20)
    finally:
        tracemalloc.stop()


@settings(max_examples=100 * EFFORT)
@given(ANY_FROM_TRAINER, st.data())
def test_whatever_comes_is_a_lease_within_the_cost_or_refused(message, data):
    header = bytearray(encode(message)[0])
    with mock.patch.object(walking, "SHORT_BYTES", 0):
        if isinstance(message, Lease):
            check_cost(bytes(header), 1 << 30)
        else:
            with pytest.raises(ProtocolError):
                check_cost(bytes(header), 1 << 30)
        for _ in range(3):
            header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
        with suppress(ProtocolError):
            check_cost(bytes(header), 1 << 30)


def test_a_short_message_is_not_walked_through():
    check_cost(msgpack.packb([[]] * 1000), 0)
