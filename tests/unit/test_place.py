"""Places in files as texts: each comes back as it was, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.storage.place import MAX_BYTES, Place, place_of

PATHS = st.text("ab/.é1 +:", min_size=1, max_size=12).filter(lambda path: "//" not in path and path[-1] != "/")


@given(PATHS, st.integers(0, 1 << 39), st.integers(0, 1 << 32))
def test_the_bytes_of_a_file_in_a_file(path, offset, length):
    assert place_of(str(Place(path, offset, length))) == Place(path, offset, length)


@given(PATHS, st.sampled_from(["|u1", "<f4", ">i8"]), st.lists(st.integers(0, 300), max_size=3))
def test_raw_numbers(path, dtype, shape):
    length = int(dtype[2:])
    for side in shape:
        length *= side
    place = Place(path, 128, length, dtype, tuple(shape))
    assert place_of(str(place)) == place


@given(PATHS, st.integers(0, 1 << 40), st.sampled_from(["images", "/a/b", "a:b", "a b"]))
def test_an_item_of_a_dataset(path, item, dataset):
    place = Place(path, item, 0, "", (), dataset)
    assert place_of(str(place)) == place


@pytest.mark.parametrize("text", [
    "a/b.jpg", "a//b.jpg", "//1+2", "a//1+2x", "a//-1+2", "a//1+", "a//1+2:|u1", "a//1+2:|u1:3", "a//1+2:|O8:2",
    "a//1+8:|u8:1", "a//1+4:<f4:x1", "a//1+1:|u1:1x1x1x1x1x1x1x1x1", "a//hdf5:1:", "a//hdf5:x:images", "a//1+2\n",
    "a//%d+1" % MAX_BYTES, "a//12345678901234+1"])
def test_what_is_no_place(text):
    assert place_of(text) is None
