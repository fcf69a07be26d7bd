"""What arrays look like: each is shown as what it is, and none makes an error."""

import io

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from stoker.pipeline.arrays import ITEM_BYTES, ArraySpec, UpTo
from stoker.pipeline.batch import Batch
from stoker.trainer.drawing import kinds
from stoker.trainer.drawing import boxes
from stoker.trainer.drawing import pixels
from stoker.trainer.drawing.pictures import MAX_TEXT, View, png_of, views, views_of


def batch_of(sizes=None, upto=(), **arrays):
    """A batch of the arrays. ``upto``: the names of those whose first side differs."""
    specs = tuple(ArraySpec(name, array.dtype.name, tuple(
        UpTo(max(1, side)) if name in upto and axis == 0 else side for axis, side in enumerate(array.shape[1:])))
        for name, array in arrays.items())
    return Batch(0, 0, True, (0,), tuple(arrays.values()), (), "w", 1, 0.0, used_indices=(0,), specs=specs,
                 sizes=sizes or {})


def view_of(value, name="x", classes=(), beside=None, max_side=160):
    """How the one sample ``value`` looks."""
    arrays = {} if beside is None else {"picture": beside[np.newaxis]}
    return views(batch_of(**arrays, **{name: value[np.newaxis]}), 0, max_side, classes)[-1]


def pixels_of(view):
    return np.asarray(Image.open(io.BytesIO(view.png)))


def random(*shape, high=256, dtype=np.uint8):
    return np.random.RandomState(0).randint(0, high, shape).astype(dtype)


COLOURED = random(24, 32, 3)


def test_a_picture_of_bytes_is_shown_as_it_is():
    view = view_of(COLOURED)
    assert view.kind == "picture" and view.text == ""
    assert np.array_equal(pixels_of(view), COLOURED)


def test_a_large_picture_is_made_smaller():
    assert pixels_of(view_of(random(640, 320, 3))).shape == (160, 80, 3)


@pytest.mark.parametrize("change, text", [
    (lambda x: x / np.float32(255), "float32, 0..1 (here 0..1)"),
    (lambda x: x.astype(np.float64) / 127.5 - 1, "float64, -1..1 (here -1..1)"),
    (lambda x: x.astype(np.float16), "float16, 0..255 (here 0..255)"),
    (lambda x: x.astype(np.float32) / 51 - 2, "float32, stretched from -2..3"),
    (lambda x: x.astype(np.uint16) * 257, "uint16, 0..65535 (here 0..65535)"),
    (lambda x: x.astype(np.int64) - 1000, "int64, stretched from -1000..-745"),
    (lambda x: x.astype(np.int32), "int32, 0..255 (here 0..255)")])
def test_numbers_of_other_ranges_are_the_same_picture(change, text):
    coloured = COLOURED.copy()
    coloured[0, 0], coloured[0, 1] = 0, 255
    view = view_of(change(coloured))
    assert view.kind == "picture" and view.text == text
    assert np.abs(pixels_of(view).astype(int) - coloured).max() <= 1


def test_the_samples_of_a_batch_have_one_scale():
    dark = np.stack([np.zeros((16, 16, 3), np.float32), np.full((16, 16, 3), 200, np.float32)])
    dark[0] += 0.5
    first, = views(batch_of(image=dark), 0)
    assert pixels_of(first).max() <= 1 and first.text == "float32, 0..255 (here 0.5..0.5)"


def test_what_is_no_number_has_a_colour_of_its_own():
    value = COLOURED.astype(np.float32) / 255
    value[3, 4, 0], value[5, 6] = np.nan, np.inf
    view = view_of(value)
    assert view.text.endswith("; 1 NaN, 3 infinite")
    assert tuple(pixels_of(view)[3, 4]) == tuple(pixels_of(view)[5, 6]) == pixels.NO_NUMBER


def test_colours_as_the_first_axis():
    view = view_of(np.moveaxis(COLOURED, 2, 0))
    assert view.kind == "picture" and view.text == "colours are the first axis"
    assert np.array_equal(pixels_of(view), COLOURED)


def test_the_fourth_channel_is_shown_beside_the_colours():
    value = random(10, 12, 4)
    shown = pixels_of(view_of(value))
    assert np.array_equal(shown[:, :12], value[..., :3])
    assert np.array_equal(shown[:, 12 + pixels.GAP:, 1], value[..., 3])


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey(shape):
    value = random(*shape)
    view = view_of(value)
    assert view.kind == "picture" and np.array_equal(pixels_of(view)[..., 2], value.reshape(20, 30))


@pytest.mark.parametrize("name, value, beside", [
    ("mask", random(24, 32, high=3), None), ("y", random(24, 32, high=21), COLOURED),
    ("labels", random(24, 32, 1, high=3, dtype=np.int32), None), ("m", random(24, 32, high=2, dtype=bool), None),
    ("segmentation", random(24, 32, high=5, dtype=np.float32), None),
    ("mask", np.eye(5, dtype=np.uint8)[random(24, 32, high=5)], COLOURED)])
def test_masks_are_in_colours_of_their_classes(name, value, beside):
    view = view_of(value, name, beside=beside)
    assert view.kind == "mask" and "%" in view.text
    colours = {tuple(colour) for colour in pixels_of(view).reshape(-1, 3).tolist()}
    assert len(colours) == (5 if value.ndim == 3 and value.shape[2] == 5 else len(np.unique(value)))


def test_a_mask_that_is_made_smaller_has_no_mixed_colours():
    view = view_of(random(500, 500, high=4), "mask", max_side=50)
    allowed = {tuple(colour) for colour in pixels.PALETTE[:4].tolist()}
    assert pixels_of(view).shape[0] == 50
    assert {tuple(colour) for colour in pixels_of(view).reshape(-1, 3).tolist()} <= allowed


def test_the_shares_of_classes_in_a_mask():
    value = np.zeros((10, 10), np.uint8)
    value[:2], value[2, 0] = 7, 255
    assert view_of(value, "mask").text == "0 black: 79 %, 7 grey: 20 %, 255 light grey: 1 %"
    assert len(set(pixels.NAMES)) == len(pixels.NAMES) < len(pixels.PALETTE) and pixels.mask_colour(21) == ""


@pytest.mark.parametrize("name, value", [
    ("depth", random(24, 32).astype(np.float32) / 7), ("x", random(24, 32, high=1000, dtype=np.int32))])
def test_other_planes_are_heat_maps(name, value):
    view = view_of(value, name, beside=COLOURED)
    assert view.kind == "heat map" and view.text.startswith("%s 24 x 32, 0.." % value.dtype)
    assert pixels_of(view).shape == (24, 32, 3)


@pytest.mark.parametrize("rows, dtype, says", [
    ([[2, 3, 9, 20], [10, 0, 31, 5]], np.int32, "left, top, right, bottom, in pixels"),
    ([[0.1, 0.2, 0.5, 0.9]], np.float32, "left, top, right, bottom, as shares of the sides"),
    ([[3, 2, 20, 30], [0, 0, 23, 31]], np.float32, "top, left, bottom, right, in pixels"),
    ([[3, 60, 20, 90], [0, 0, 9, 9]], np.float64,
     "left, top, right, bottom, in pixels, which leads out of the picture"),
    ([[20, 12, 10, 10]], np.int64, "left, top, width, height, in pixels"),
    ([[0.9, 0.9, 0.2, 0.2]], np.float16, "centre x and y, width, height, as shares of the sides")])
def test_boxes_are_drawn_onto_the_first_picture(rows, dtype, says):
    black = np.zeros((24, 32, 3), np.uint8)
    view = view_of(np.array(rows, dtype), "boxes", beside=black)
    assert view.kind == "boxes"
    assert view.text.startswith("%d box" % len(rows)) and view.text.endswith("read as " + says)
    assert pixels_of(view).max() > 200


def test_boxes_as_rows_and_columns():
    assert boxes.corners(np.array([[5, 20, 15, 70]]), 40, 80)[1].startswith(boxes.XY) is False
    found, says = boxes.corners(np.array([[5, 20, 15, 70]]), 40, 80)
    assert says.startswith(boxes.YX) and found.tolist() == [[20, 5, 70, 15]]


def test_padding_is_not_shown():
    """Of two samples, one has two boxes and the other none; and a row of bytes."""
    batch = batch_of(
        {"boxes": np.array([2, 0], np.int32), "text": np.array([3, 20], np.int32)}, ("boxes", "text"),
        picture=np.stack([COLOURED, COLOURED]), boxes=np.full((2, 7, 4), 5, np.float32),
        text=np.arange(40).reshape(2, 20))
    first, second = views(batch, 0), views(batch, 1)
    assert first[1].text.startswith("2 boxes") and second[1].text == "empty, float32 0 x 4"
    assert first[2].text == "0 1 2" and second[2].kind == "curve"


@pytest.mark.parametrize("name, value, classes, text", [
    ("label", np.array([1], np.int32), ("cat", "dog"), "1: dog"),
    ("label", np.array(1, np.int64), ("cat", "dog"), "1: dog"),
    ("label", np.array([2], np.int32), ("cat", "dog"), "2"),
    ("steering", np.array(0.25, np.float32), ("cat", "dog"), "0.25"),
    ("y", np.array([0, 1, 0]), (), "1 (one-hot)"),
    ("x", np.array([0, 0, 1], np.float32), ("a", "b", "c<script>"), "2: c<script> (one-hot)"),
    ("target", np.array([0.25, 0.75], np.float32), ("cat", "dog"), "1: dog 0.75, 0: cat 0.25"),
    ("label", np.array([0, 1, 1]), ("cat", "dog"), "0: cat, 1: dog, 1: dog"),
    ("name", np.array([0], np.int32), ("new\nline",), "0"),
    ("label", np.array([0], np.int32), ("new\nline\udcff",), "0: new\\nline\\xff")])
def test_classes_have_names(name, value, classes, text):
    assert view_of(value, name, classes).text == text


@pytest.mark.parametrize("value, kind, text", [
    (np.arange(4, dtype=np.float32) / 3, "values", "0 0.3333 0.6667 1"),
    (np.arange(4).reshape(2, 2), "values", "0 1; 2 3"),
    (np.array(True), "values", "True"),
    (np.arange(40) % 13 == 5, "values", "3 of 40 true: 5 18 31"),
    (np.zeros(99, bool), "values", "none of 99 true"),
    (np.frombuffer(b"a line of text\n", np.uint8), "values", "text 'a line of text\\n'"),
    (np.arange(1000), "curve", "int64 1000, 0..999: 0 1 2 3 4 5 ..."),
    (np.full(20, np.nan), "curve", "float64 20, 0..0; 20 NaN: nan nan nan nan nan nan ..."),
    (np.zeros((300, 2)), "curve", "float64 300 x 2, 0..0: 0 0 0 0 0 0 ..."),
    (np.zeros((0, 4)), "empty", "empty, float64 0 x 4"),
    (random(16, 8, 8, 3), "clip", "first 8 of 16 frames"),
    (random(5, 8, 9, 10, dtype=np.int32), "clip", "first 8 of 40 frames, int32 5 x 8 x 9 x 10, 0..255"),
    (random(16, 16, 7), "channels", "7 channels, uint8, 0..255")])
def test_other_arrays(value, kind, text):
    view = view_of(value)
    assert (view.kind, view.text) == (kind, text)
    assert bool(view.png) == (kind not in ("values", "class", "empty"))


def test_frames_are_in_rows():
    clip = random(3, 10, 12, 3)
    shown = pixels_of(view_of(clip))
    assert shown.shape == (10, 3 * 12 + 2 * pixels.GAP, 3)
    assert np.array_equal(shown[:, 12 + pixels.GAP:24 + pixels.GAP], clip[1])


def test_a_curve_goes_from_low_to_high():
    shown = pixels_of(view_of(np.linspace(0, 1, 500)))
    ink = (shown == np.array(pixels.INK[0])).all(axis=2)
    rows = [np.flatnonzero(column).mean() for column in ink.T]
    assert rows[0] > 75 and rows[-1] < 5 and np.all(np.diff(rows) <= 0)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 17, 40]), max_size=4) | st.lists(
    st.integers(0, 3), max_size=8)
NAMES = st.sampled_from(["x", "image", "mask", "label", "boxes", "frames", "y", "target"])


@given(st.data(), st.sampled_from(sorted(ITEM_BYTES)), SHAPES, NAMES, st.sampled_from([1, 30, 160]))
def test_no_array_makes_an_error(data, dtype, shape, name, max_side):
    """Of any dtype and shape, of any bytes: NaN, infinite and the largest numbers too; beside a picture or not."""
    random_state = np.random.RandomState(data.draw(st.integers(0, 2 ** 32 - 1)))
    count = int(np.prod([2] + shape, dtype=np.int64))
    item = np.dtype(dtype)
    content = data.draw(st.sampled_from(["bytes", "small", "same", "extreme", "shares"]))
    if content == "bytes":
        raw = random_state.bytes(count * item.itemsize)
        array = np.frombuffer(raw, np.uint8) > 99 if dtype == "bool" else np.frombuffer(raw, item)
    elif content == "extreme" and item.kind != "b":
        ends = [np.finfo(item).max, np.finfo(item).min, np.nan, np.inf, np.finfo(item).tiny] if item.kind == "f" else [
            np.iinfo(item).max, np.iinfo(item).min, 0]
        array = np.array(ends, item)[random_state.randint(0, len(ends), count)]
    else:
        array = random_state.uniform(0, {"small": 4, "shares": 1}.get(content, 0), count).astype(item)
    array = array[:count].reshape([2] + shape)
    beside = data.draw(st.booleans())
    upto = [name] if shape and shape[0] and data.draw(st.booleans()) else []
    sizes = {name: np.array([shape[0], data.draw(st.integers(0, shape[0]))], np.int32)} if upto else {}
    batch = batch_of(sizes, upto, **dict({"first": random(2, 9, 8, 3)} if beside else {}, **{name: array}))
    for row in range(2):
        view = views(batch, row, max_side, data.draw(st.sampled_from([(), ("a",), tuple("abcde")])))[-1]
        assert isinstance(view, View) and view.name == name and len(view.text) <= MAX_TEXT
        if view.png:
            width, height = Image.open(io.BytesIO(view.png)).size
            assert 1 <= width <= max(max_side, 8) and 1 <= height <= max(max_side, 8)
        else:
            assert view.text


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_a_png_has_at_most_the_wanted_sides(height, width, smooth):
    assert max(Image.open(io.BytesIO(png_of(random(height, width, 3), 16, smooth))).size) <= 16


@pytest.mark.parametrize("shape", [(1, 1, 3), (24, 32, 3), (300, 7, 3)])
def test_a_png_without_compression_is_the_same_picture(shape):
    value = random(*shape)
    one, two = (np.asarray(Image.open(io.BytesIO(png_of(value, 64, level=level)))) for level in (0, 1))
    assert np.array_equal(one, two)


def test_several_rows_at_once():
    batch = batch_of(image=random(3, 9, 8, 3) / np.float32(7), label=np.arange(3))
    assert views_of(batch, (2, 0)) == [views(batch, 2), views(batch, 0)]


def test_a_large_array_is_judged_by_a_part_of_it():
    value = np.zeros((1 << 22, 3), np.uint8)
    assert kinds.looked_at(value).size <= kinds.LOOKED_AT and not kinds.figures(value).is_all
