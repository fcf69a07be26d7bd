"""Sample functions: what they get, what they may return, and the sentences for what they may not."""

import os
import random
import re
import sys
import threading
import warnings
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from PIL import Image

from stoker.pipeline import functions as stoker
from stoker.pipeline.arrays import UpTo, declared, framed
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import WorkerOptions
from stoker.pipeline.plan import hashed_bytes, produced_indices, sample_random, sample_seed
from stoker.pipeline.protocol.batch_arrays import check_arrays
from stoker.pipeline.protocol.messages import Job, Lease, Produced, Sample, Skipped
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.generators import calls
from stoker.workers.generators.output import check
from stoker.workers.generators.registry import Producer, _check_declared, open_producer
from stoker.workers.generators.rows import FunctionError
from stoker.workers.generators.sample import call_for_samples

SEED = 11


def job_for(function, root="", **fields):
    """The job that the trainer makes for ``function``."""
    return Job("mine:" + function.__name__, function.arrays, 8, SEED, "exact", str(root),
               rows=function.rows, **fields)


def lease_of(samples, epoch=0, training=True, replacements=()):
    return Lease(1, 17, epoch, training, tuple(samples), tuple(replacements))


def numbered(*indices):
    return [Sample(index, "", -1) for index in indices]


def run(function, samples, root="", epoch=0, training=True, replacements=(), **fields):
    """The checked output for one lease, as it would leave the worker and enter the trainer."""
    job, lease = job_for(function, root, **fields), lease_of(samples, epoch, training, replacements)
    output, = call_for_samples(function, iter([lease]), job)
    output = check(output, lease, job, fresh=True)
    frames = tuple(array.tobytes() for array in output.arrays)
    produced = Produced("run", 1, 17, len(output.arrays[0]), output.skipped, 0.0, frames, rows=output.rows)
    received = check_arrays(produced, job, [sample.index for sample in lease.samples],
                            [sample.index for sample in lease.replacements])
    for array, same in zip(output.arrays, received):
        assert array.flags.c_contiguous and array.dtype == same.dtype and array.shape == same.shape
        np.testing.assert_array_equal(array, same)
    return output


def values(function, samples, **options):
    """The first array, as lists."""
    return run(function, samples, **options).arrays[0].tolist()


def sentence(function, samples=None, error=FunctionError, **options):
    """The sentence with which it fails."""
    with pytest.raises(error) as caught:
        run(function, samples or numbered(17), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def returns(value, declaration, **options):
    @stoker.sample({"x": declaration}, **options)
    def given(sample, random):
        return {"x": value}
    return given


@pytest.fixture
def photos(tmp_path):
    """Samples of six pictures of 20 x 30 pixels, and of three bad files, numbers 6 to 8."""
    for index in range(6):
        pixels = np.full((20, 30, 3), index * 40, np.uint8)
        pixels[:, :15] += 5
        Image.fromarray(pixels).save(str(tmp_path / ("%d.png" % index)))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    return [Sample(index, "%d.png" % index, index % 3) for index in range(6)] + [
        Sample(6, "text.png", 0), Sample(7, "folder.png", 1), Sample(8, "gone.png", 2)]


# ------------------------------------------------------------------------------------ what a function gets

def test_a_function_gets_a_sample_with_all_that_it_needs(photos, tmp_path):
    seen = []

    @stoker.sample({"x": "int32"})
    def look(sample, random):
        seen.append((sample.row, sample.index, sample.epoch, sample.training, sample.path, sample.label,
                     sample.partners, sample.shared, sample.file))
        assert isinstance(sample.file, str) and open(sample.file, "rb").read() == sample.bytes()
        with sample.open() as file:
            assert file.read() == sample.bytes("4.png")
        return {"x": sample.index}
    assert values(look, [photos[4]], root=tmp_path, epoch=3, training=False) == [4]
    assert seen == [("4.png", 4, 3, False, "4.png", 1, (), None, str(tmp_path / "4.png"))]


def test_a_function_that_does_what_image_does_gives_the_same_pixels(photos, tmp_path):
    from stoker.workers.generators.pictures import image

    @stoker.sample({"images": ("uint8", (12, 20, 3)), "labels": ("int32", (1,))})
    def same(sample, random):
        return {"images": sample.image(size=(12, 20)), "labels": [sample.label]}
    for decode in ("exact", "fastest"):
        job = replace(job_for(same, tmp_path), decode=decode, image_size=(12, 20))
        lease = lease_of(photos, replacements=[photos[2], photos[0]])
        mine, = call_for_samples(same, iter([lease]), job)
        theirs, = image(iter([lease]), job)
        assert mine.skipped == theirs.skipped and len(mine.skipped) == 3
        for array, other in zip(mine.arrays, theirs.arrays):
            assert array.dtype == other.dtype and np.array_equal(array, other)


@pytest.mark.parametrize("row, columns, expected", [
    (["a.png", 0.5, True], ("path", "angle", "flag"), {"path": "a.png", "angle": 0.5, "flag": True}),
    ({"name": "a", "boxes": [[1, 2], [3, 4]]}, (), {"name": "a", "boxes": [[1, 2], [3, 4]]}),
    (None, (), None),
])
def test_a_row_is_what_the_source_packed(row, columns, expected):
    seen = []

    @stoker.sample({"x": "int32"})
    def look(sample, random):
        seen.extend([sample.row, sample.row])
        return {"x": 0}
    run(look, [Sample(0, "", -1, msgpack.packb(row, use_bin_type=True))], columns=columns)
    assert seen == [expected, expected]


def test_a_row_that_is_not_used_is_not_unpacked():
    assert values(returns(1, "int32"), [Sample(0, "", -1, b"\xc1 no msgpack")]) == [1]


def test_a_number_has_neither_row_nor_path_nor_label():
    @stoker.sample({"x": "int32"})
    def row(sample, random):
        return {"x": -1 if sample.row is None else 0}

    @stoker.sample({"x": "int32"})
    def path(sample, random):
        return {"x": len(sample.path)}

    @stoker.sample({"x": "int32"})
    def label(sample, random):
        return {"x": sample.label}
    assert values(row, numbered(17)) == [-1]
    assert sentence(path).startswith("function 'mine:path': sample 17 has no path: its source has rows, not files")
    assert "'mine:label': sample 17 has no label" in sentence(label)

    @stoker.sample({"x": "int32"})
    def picture(sample, random):
        return {"x": sample.image().size[0]}
    assert "sample 17 has no path" in sentence(picture)


def test_partners_are_samples_with_the_same_readers(photos, tmp_path):
    @stoker.sample({"x": ("uint8", (2, 3)), "y": ("int32", (2,))})
    def pair(sample, random):
        other, = sample.partners
        assert (other.epoch, other.training, other.shared) == (2, True, "both")
        return (np.stack([np.asarray(each.image())[0, 0] for each in (sample, other)]),
                [other.index, other.label])
    pair.setup = lambda job: "both"
    own = photos[1]._replace(partners=(photos[5],))
    x, y = run(pair, [own], root=tmp_path, epoch=2).arrays
    assert x.tolist() == [[[45] * 3, [205] * 3]] and y.tolist() == [[5, 2]]


# ---------------------------------------------------------------------------------------- random numbers

@stoker.sample({"x": ("float64", (6,))})
def draws(sample, random_given):
    # as in old code, which mixes all of them; the one that is handed over is Python's own
    return {"x": [random_given.random(), np.random.rand(), random.random(), np.random.permutation(1000)[0],
                  random.choice(range(100)), random.gauss(0, 1)]}


def test_random_numbers_are_a_function_of_seed_epoch_index_and_repeat():
    first = values(draws, numbered(5, 6))
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)         # keeps a second number for the next call
    assert values(draws, numbered(6, 9, 5)) == [first[1], values(draws, numbered(9))[0], first[0]]
    others = [values(draws, numbered(5), epoch=1)[0], values(draws, [Sample(5, "", -1, repeat=1)])[0], first[1]]
    assert all(x != y for other in others for x, y in zip(other, first[0]))


def test_the_given_generator_has_the_numbers_of_sample_random():
    for repeat in (0, 2):
        expected = sample_random(SEED, 3, 5, repeat).random()
        assert values(draws, [Sample(5, "", -1, repeat=repeat)], epoch=3)[0][0] == expected


def test_a_samples_seed_is_a_hash_of_its_key():
    for key in ((0, 0, 0, 0), (-7, 3, 1 << 40, 0), (1 << 62, 0, 12, 3), (np.int64(5), 1, np.int32(9), 1)):
        expected = int.from_bytes(hashed_bytes(("sample",) + key[:3 + bool(key[3])], 8), "little")
        assert sample_seed(*key) == expected


def test_random_numbers_are_the_same_on_every_python_and_numpy():
    assert [round(x, 12) for x in values(draws, numbered(5))[0][:4]] == GOLDEN


GOLDEN = [0.226956801418, 0.916578174782, 0.708755798358, 195.0]


def test_a_function_that_leaves_a_thread_running_is_an_error():
    ends, threads = threading.Event(), []

    @stoker.sample({"x": "int32"})
    def starts(sample, random):
        threads.append(threading.Thread(target=ends.wait, name="loader", daemon=True))
        threads[-1].start()
        return {"x": 0}
    try:
        for _ in range(2):          # also when the producer was made anew
            assert "'mine:starts' left the thread 'loader' running" in sentence(starts)
        assert "left the thread 'loader' running" in sentence(returns(1, "int32"))
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def test_threads_that_end_and_those_of_a_setup_or_of_stoker_are_none_of_its():
    ends, threads = threading.Event(), []

    def start(name="any"):
        threads.append(threading.Thread(target=ends.wait, name=name, daemon=True))
        threads[-1].start()
        return threads[-1]

    @stoker.sample({"x": "int32"}, setup=lambda job: start())
    def starts(sample, random):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        if sample.index == 1:
            start("stoker-cache")
        return {"x": 0}
    start()
    try:
        calls._permitted.update(threading.enumerate())      # as if all had run before this process's first call
        assert values(starts, numbered(0, 1, 2)) == [0, 0, 0]
    finally:
        ends.set()
        for thread in threads:
            thread.join()


# --------------------------------------------------------------------------------------------- values

@pytest.mark.parametrize("value, declaration, expected", [
    (1.5, "float32", 1.5),
    (1, "float32", 1.0),
    (True, "float32", 1.0),
    (0.1, "float32", float(np.float32(0.1))),
    (1 << 53, "float64", float(1 << 53)),
    (np.float64(1e-300), "float32", 0.0),
    (float("inf"), "float16", float("inf")),
    (7, "uint8", 7), (np.int64(-5), "int8", -5), (True, "int32", 1), (np.uint64(9), "int16", 9), (3.0, "int32", 3),
    (1, "bool", True), (0, "bool", False), (np.bool_(True), "bool", True), (1.0, "bool", True),
    ([1, 2], ("int64", (2,)), [1, 2]), ([7], ("uint8", 1), [7]),
    ([True], ("int32", 1), [1]), ([7], ("float32", 1), [7]),
    ((1, 2), ("int64", 2), [1, 2]),
    ([[1.5], [2]], ("float32", (2, 1)), [[1.5], [2.0]]),
    ([True, False], ("bool", 2), [True, False]),
    (np.arange(12)[::-2], ("uint16", 6), [11, 9, 7, 5, 3, 1]),
    (np.array([1, 2], ">i4"), ("int32", 2), [1, 2]),
    (np.arange(20, dtype=np.int64), ("uint8", 20), list(range(20))),
    (np.zeros((0,)), ("float32", UpTo(3)), []),
    (np.array([(1 << 63) - 1]), ("int64", 1), [(1 << 63) - 1]),
    (np.array([65504.0]), ("float16", 1), [65504.0]),
], ids=repr)
def test_a_value_that_loses_nothing_is_converted(value, declaration, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(returns(value, declaration), numbered(0)) == [expected]


@pytest.mark.parametrize("value, declaration, message", [
    (256, "uint8", "dtype int64 and has 256, which uint8 cannot hold$"),
    ([256], ("uint8", 1), "dtype int64 and has 256, which uint8 cannot hold"),
    (-1, "uint8", "has -1, which uint8 cannot hold"),
    (-1, "uint16", "has -1, which uint16 cannot hold"),
    (0.5, "int32", "float64 and has 0.5, which int32 cannot hold; declare float32, or round and convert it$"),
    (-1.5, "int8", "declare float32, or round and convert it$"),
    (float("nan"), "int32", "has nan, which int32 cannot hold; declare float32$"),
    (float("inf"), "int64", "has inf, which int64 cannot hold"),
    (2.0 ** 63, "int64", "which int64 cannot hold$"),
    (2 ** 63, "int64", "uint64 and has 9223372036854775808, which int64 cannot hold"),
    (float("nan"), "bool", "has nan, which bool cannot hold"),
    (2, "bool", "has 2, which bool cannot hold"),
    (1e39, "float32", "has 1e[+]39, which float32 cannot hold"),
    (70000, "float16", "has 70000, which float16 cannot hold"),
    ((1 << 24) + 1, "float32", "has 16777217, which float32 cannot hold"),
    ((1 << 53) + 1, "float64", "has 9007199254740993, which float64 cannot hold"),
    (np.array([0, 300], np.uint16), ("uint8", 2), "uint16 and has 300"),
    (np.array([1 << 63], np.uint64), ("int64", 1), "has 9223372036854775808, which int64"),
    (np.arange(300), ("uint8", 300), "has 256, which uint8"),
    (np.arange(300) - 299, ("uint8", 300), "has -299, which uint8"),
    (np.array([0.5], np.float16), ("int64", 1), "float16 and has 0.5"),
    (np.array([1.5] * 20), ("int8", 20), "has 1.5"),
    (1j, "float32", "complex"),
    ("7", "int32", "the text '7', must be int32$"),
    (b"7", "int32", "a bytes"),
    (None, "int32", "None"),
    ({}, "int32", "a dict of which numpy makes an array of dtype object"),
    ([[1], [1, 2]], ("int32", (2, 2)), "a list of which numpy makes"),
    ([1, "a"], ("int32", 2), "the text 'a', must be int32$"),
    ([[], [("8,8", "9")]], ("float32", (2, 2)), "makes no array|the text '8,8'"),
    ((["8,8", "9"],), ("float32", (1, 2)), "the text '8,8', must be float32$"),
    ([1 << 80], ("int32", 1), "a list of which numpy makes an array of dtype object"),
    (np.array(["a"]), ("int32", 1), "dtype <U1, must be int32"),
    (np.zeros(3, np.complex64), ("float32", 3), "dtype complex64, must be float32"),
    ([1, 2], "int32", r"of shape \[2\], must be \[\]"),
    (1, ("int32", 1), r"of shape \[\], must be \[1\]"),
    (np.zeros((2, 3)), ("float32", (3, 2)), r"of shape \[2, 3\], must be \[3, 2\]"),
    (np.zeros((21, 2)), ("float32", (UpTo(20), 2)), r"of shape \[21, 2\], must be \[UpTo\(20\), 2\]"),
    (np.zeros((3, 3)), ("float32", (UpTo(20), 2)), r"of shape \[3, 3\], must be \[UpTo\(20\), 2\]"),
    (np.zeros(3), ("float32", (UpTo(20), 2)), r"of shape \[3\], must be \[UpTo\(20\), 2\]"),
    (np.array([7.5]), ("int32", UpTo(2)), "has 7.5, which int32 cannot hold"),
], ids=lambda value: repr(value)[:40])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")      # of numpy, about the lists of different lengths
def test_a_value_that_does_not_fit_is_told_with_function_sample_and_array(value, declaration, message):
    text = sentence(returns(value, declaration))
    assert re.match("function 'mine:given', sample 17: array 'x' (is|has) .*(%s)" % message, text), text


def test_a_text_is_told_with_its_field():
    @stoker.sample({"x": "float32"})
    def area(sample, random):
        return sample.row["Fl\u00e4che"]
    row = {"file": "a.jpg", "Fl\u00e4che": "8,88"}
    told = "array 'x' is the text '8,88', must be float32; the field 'Fl\u00e4che' of the row is text"
    assert sentence(area, [Sample(17, "", -1, msgpack.packb(row))]).endswith(told)
    packed = msgpack.packb(list(row.values()))
    assert sentence(area, [Sample(17, "", -1, packed)], columns=tuple(row)).endswith(
        told + ", because not all cells of that column are numbers")


def test_a_picture_is_an_array():
    @stoker.sample({"rgb": ("uint8", (2, 3, 3)), "grey": ("uint8", (2, 3)), "deep": ("uint16", (2, 3)),
                    "alpha": ("uint8", (2, 3, 4)), "bits": ("bool", (2, 3)), "float": ("float32", (2, 3, 3))})
    def pictures(sample, random):
        rgb = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
        deep = Image.fromarray(np.full((2, 3), 40000, np.uint16))
        return rgb, rgb.convert("L"), deep, rgb.convert("RGBA"), rgb.convert("L").point(lambda x: x > 9, "1"), rgb
    arrays = run(pictures, numbered(0)).arrays
    assert arrays[0].reshape(-1).tolist() == list(range(18)) and arrays[5].reshape(-1).tolist() == list(range(18))
    assert arrays[1].shape == (1, 2, 3) and (arrays[2] == 40000).all()
    assert arrays[3][0, 1, 2].tolist() == [15, 16, 17, 255]
    assert arrays[4].tolist() == [[[False, False, False], [True, True, True]]]

    @stoker.sample({"clip": ("uint8", (4, 2, 3, 3))})
    def clip(sample, random):
        return {"clip": [Image.new("RGB", (3, 2 + (sample.index == 5 and i == 3)), (i, i, i)) for i in range(4)]}
    assert run(clip, numbered(0)).arrays[0][0, :, 1, 2, 0].tolist() == [0, 1, 2, 3]
    assert "array 'clip' is a list of which numpy makes no array" in sentence(clip, numbered(5))

    @stoker.sample({"rgb": ("uint8", (2, 3, 3))})
    def other(sample, random):
        return {"rgb": Image.new("L", (3, 2))}
    assert "array 'rgb' is of shape [2, 3], must be [2, 3, 3]" in sentence(other)


def test_nan_is_allowed_in_floats():
    for dtype in ("float16", "float32", "float64"):
        assert np.isnan(values(returns(float("nan"), dtype), numbered(0))[0])


@pytest.mark.parametrize("returned, expected", [
    ({"b": 2, "a": 1}, (1, 2)), ((1, 2), (1, 2)), ([1, 2], (1, 2)),
])
def test_arrays_are_returned_as_a_dict_or_in_the_declared_order(returned, expected):
    @stoker.sample({"a": "int32", "b": "int64"})
    def mine(sample, random):
        return returned
    a, b = run(mine, numbered(0, 1)).arrays
    assert (a.tolist(), b.tolist()) == ([expected[0]] * 2, [expected[1]] * 2)


@pytest.mark.parametrize("returned, shape", [
    (np.array([3, 4]), 2), ([3, 4], 2), ((3, 4), 2), ((np.array([3, 4]),), 2), ({"a": [3, 4]}, 2), ([3], 1), ((3,), 1),
    (3, ()), ((3,), ()), ([[3, 4]], (1, 2)),
])
def test_a_single_array_may_be_returned_as_it_is(returned, shape):
    @stoker.sample({"a": ("int32", shape)})
    def mine(sample, random):
        return returned
    numbers = np.array(values(mine, numbered(0))).reshape(-1).tolist()
    assert numbers in ([3, 4], [3])


@pytest.mark.parametrize("returned, message", [
    (None, "it returned None, must return a dict of 'a', 'b'; to leave a sample out, raise stoker.Skip"),
    ({"a": 1}, "it returned no 'b'; declared are 'a', 'b'"),
    ({"a": 1, "c": 2}, "it returned no 'b' and an undeclared 'c'; declared are 'a', 'b'"),
    ({"a": 1, "b": 2, "c": 3}, "it returned an undeclared 'c'; declared are 'a', 'b'"),
    ({}, "it returned no 'a', 'b'"),
    ((1,), "it returned a tuple of 1, must return 2 arrays: 'a', 'b'"),
    ((1, 2, 3), "it returned a tuple of 3, must return 2 arrays"),
    (7, "it returned an int, must return a dict"),
    (np.zeros((2, 3)), "it returned an array float64 [2, 3], must return a dict"),
])
def test_what_is_not_returned_as_declared_is_told(returned, message):
    @stoker.sample({"a": "int32", "b": "int64"})
    def mine(sample, random):
        return returned
    text = sentence(mine, [Sample(3, "left/3.png", 0)])
    assert text.startswith("function 'mine:mine', sample 'left/3.png': ") and message in text


def test_the_batch_does_not_share_memory_with_what_was_returned():
    kept = np.zeros(3, np.float32)

    @stoker.sample({"x": ("float32", 3)})
    def reuses(sample, random):
        kept[:] = sample.index
        return {"x": kept}
    assert values(reuses, numbered(1, 2)) == [[1.0] * 3, [2.0] * 3]


# ------------------------------------------------------------------------------------ sides that differ

def test_sides_that_differ_are_padded_to_the_longest_of_the_batch_and_told():
    @stoker.sample({"boxes": ("float32", (UpTo(20, pad=-1), 4)), "n": "int32", "text": ("int64", UpTo(9)),
                    "area": ("uint8", (UpTo(5), 2, UpTo(6)))})
    def boxes(sample, random):
        n = sample.index
        return {"boxes": np.full((n, 4), n), "n": n, "text": list(range(n + 1)), "area": np.full((n, 2, n + 1), n)}
    output = run(boxes, numbered(2, 0, 3))
    assert [spec.name for spec in framed(boxes.arrays)] == ["boxes", "n", "text", "area", "boxes.sizes", "text.sizes",
                                                            "area.sizes"]
    padded, n, text, area, sizes, text_sizes, area_sizes = output.arrays
    assert padded.shape == (3, 3, 4) and padded.dtype == np.float32
    assert padded[:, :, 0].tolist() == [[2, 2, -1], [-1, -1, -1], [3, 3, 3]]
    assert n.tolist() == sizes.tolist() == [2, 0, 3] and sizes.dtype == np.int32
    assert text.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [0, 1, 2, 3]] and text_sizes.tolist() == [3, 1, 4]
    assert area.shape == (3, 3, 2, 4) and area_sizes.tolist() == [[2, 3], [0, 1], [3, 4]]
    assert area[0].tolist() == [[[2, 2, 2, 0]] * 2] * 2 + [[[0] * 4] * 2]


def test_a_batch_of_empty_samples_or_of_none_has_sides_of_length_0():
    function = returns(np.zeros((0, 4)), ("float32", (UpTo(20), 4)))
    assert [array.shape for array in run(function, numbered(0, 1)).arrays] == [(2, 0, 4), (2,)]
    assert [array.shape for array in run(function, []).arrays] == [(0, 0, 4), (0,)]


# ----------------------------------------------------------------------------- several rows of a sample

@stoker.sample({"x": "int32", "y": ("float32", UpTo(4))}, rows=3)
def several(sample, random):
    return [{"x": 10 * sample.index + i, "y": [i] * i} for i in range(sample.index)]


def test_a_sample_may_make_several_rows():
    output = run(several, numbered(2, 1, 3))
    assert output.arrays[0].tolist() == [20, 21, 10, 30, 31, 32] and output.rows == (2, 1, 3)
    assert output.arrays[1].tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [2, 2]]
    assert output.arrays[2].tolist() == [0, 1, 0, 0, 1, 2]


def test_a_sample_without_rows_is_left_out_or_replaced():
    output = run(several, numbered(0, 2))
    assert output.skipped == (Skipped(0, "no rows", chosen=True),) and output.rows == (2,)
    output = run(several, numbered(0, 2), replacements=numbered(0, 3, 1))
    assert output.arrays[0].tolist() == [30, 31, 32, 20, 21] and output.rows == (3, 2)
    assert run(several, numbered(0)).rows == ()


@pytest.mark.parametrize("returned, message", [
    ({"x": 1}, "it returned a dict, must return a list of at most 2 dicts"),
    ((1,), "it returned a tuple, must return a list"),
    (None, "must return a list"),
    ([{"x": 1}] * 3, "it returned 3 rows, declared are at most 2"),
    ([{"x": 1}, {"y": 1}], "it returned no 'x' and an undeclared 'y'"),
    ([{"x": 1}, None], "it returned None"),
])
def test_rows_that_are_no_list_or_too_many_are_told(returned, message):
    @stoker.sample({"x": "int32"}, rows=2)
    def mine(sample, random):
        return returned
    assert message in sentence(mine)


def test_a_worker_with_another_number_of_rows_than_the_trainer_says_so():
    with pytest.raises(ConfigError, match="up to 3 rows of a sample on this worker, and the trainer expects up to 1:"):
        _check_declared(several, replace(job_for(several), rows=1))


# ------------------------------------------------------------------------------- samples that are left out

@stoker.sample({"x": "int32"})
def skips_odd(sample, random):
    if sample.index % 2:
        raise stoker.Skip("odd")
    return {"x": sample.index}


def test_a_sample_that_the_function_skips_is_left_out_or_replaced():
    output = run(skips_odd, numbered(1, 2, 3, 4))
    assert output.arrays[0].tolist() == [2, 4]
    assert output.skipped == (Skipped(1, "odd", chosen=True), Skipped(3, "odd", chosen=True))
    output = run(skips_odd, numbered(1, 2, 3, 4), replacements=numbered(5, 6, 8, 10))
    assert output.arrays[0].tolist() == [6, 2, 8, 4] and [item.index for item in output.skipped] == [1, 3, 5]


def test_a_skip_without_a_reason():
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        raise stoker.Skip if sample.index == 1 else stoker.Skip("no\n face", 3)
    assert run(mine, numbered(2)).skipped == (Skipped(2, "('no\\n face', 3)", chosen=True),)
    assert run(mine, numbered(1)).skipped == (Skipped(1, "no reason given", chosen=True),)


@stoker.sample({"x": ("uint8", (2, 3))})
def corner(sample, random):
    return np.stack([np.asarray(each.image())[0, 0] for each in (sample,) + (sample.partners or (sample,))])


def test_bad_files_of_readers_are_skipped_and_those_of_partners_named(photos, tmp_path):
    own = [photos[0], photos[6], photos[7], photos[8], photos[1]._replace(partners=(photos[8],)), photos[2]]
    output = run(corner, own, root=tmp_path)
    assert output.arrays[0][:, 0, 0].tolist() == [5, 85]
    assert output.skipped == (
        Skipped(6, "UnidentifiedImageError: cannot identify image file"),
        Skipped(7, "IsADirectoryError: is a directory"),
        Skipped(8, "FileNotFoundError: no such file"), Skipped(1, "FileNotFoundError: no such file", "gone.png"))


def test_a_bad_file_that_a_row_names_is_the_one_that_is_told(photos, tmp_path):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": sample.image(sample.row["picture"]).size[0]}
    samples = [Sample(index, "", -1, msgpack.packb({"picture": name}))
               for index, name in enumerate(["0.png", "gone.png"])]
    output = run(mine, samples, root=tmp_path)
    assert output.arrays[0].tolist() == [30]
    assert output.skipped == (Skipped(1, "FileNotFoundError: no such file", "gone.png"),)


def test_a_function_may_raise_bad_file_itself():
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        raise BadFile("not a picture", "it has no header")
    assert run(mine, numbered(4)).skipped == (Skipped(4, "not a picture: it has no header"),)


def test_a_bad_file_that_old_code_opens_itself_is_found(photos, tmp_path):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        with Image.open(os.path.join(str(tmp_path), sample.path)) as picture:
            return {"x": picture.size[0]}
    output = run(mine, photos[4:7] + photos[8:], root=tmp_path)
    assert output.arrays[0].tolist() == [30, 30] and [item.index for item in output.skipped] == [6, 8]


def test_an_index_that_repeats_is_bad_in_all_its_places():
    @stoker.sample({"x": "int32"})
    def second_time(sample, random):
        if sample.index == 5 and sample._sample.repeat == 1:
            raise stoker.Skip("only now")
        return {"x": sample.index}
    lease = [Sample(5, "", -1), Sample(1, "", -1), Sample(5, "", -1, repeat=1), Sample(5, "", -1, repeat=2)]
    output = run(second_time, lease)
    assert output.arrays[0].tolist() == [1] and output.skipped == (Skipped(5, "only now", chosen=True),)
    # one that is in its place already turns out to be bad as a replacement
    lease = [Sample(5, "", -1), Sample(1, "", -1), Sample(9, "", -1)]
    replacements = [Sample(5, "", -1, repeat=1)] + numbered(7, 5, 8)

    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        if sample.index == 9:
            raise stoker.Skip("never")
        return second_time(sample, random)
    output = run(mine, lease, replacements=replacements)
    assert [item.index for item in output.skipped] == [9, 5] and output.arrays[0].tolist() == [7, 1, 8]
    assert produced_indices((5, 1, 9), (5, 7, 5, 8), (9, 5), 3) == (7, 1, 8)


def test_whichever_samples_are_bad_the_batch_is_what_the_plan_says():
    chance = random.Random(3)
    for _ in range(300):
        own = [Sample(chance.randrange(6), "", -1, repeat=chance.randrange(3)) for _ in range(4)]
        replacements = [Sample(chance.randrange(9), "", -1, repeat=chance.randrange(3))
                        for _ in range(chance.randrange(6))]
        bad = {(chance.randrange(9), chance.randrange(3)) for _ in range(chance.randrange(8))}

        @stoker.sample({"x": "int32", "several": ("int32", (UpTo(9),))})
        def mine(sample, random, bad=bad):
            if (sample.index, sample._sample.repeat) in bad:
                raise stoker.Skip("bad")
            return {"x": sample.index, "several": [sample.index] * sample.index}
        output = run(mine, own, replacements=replacements)
        expected = produced_indices([sample.index for sample in own], [sample.index for sample in replacements],
                                    [item.index for item in output.skipped], len(output.arrays[0]))
        assert tuple(output.arrays[0].tolist()) == tuple(output.arrays[2].tolist()) == expected


# ------------------------------------------------------------------------------------------------- setup

def test_setup_runs_once_for_each_job_and_is_shared():
    jobs = []

    def load(job):
        jobs.append(job)
        return {"offset": 100 * len(jobs), "chance": [random.random(), np.random.rand()]}

    chances = []

    @stoker.sample({"x": "int32"}, setup=load)
    def mine(sample, random):
        chances.append(tuple(sample.shared["chance"]))
        return {"x": sample.index + sample.shared["offset"]}
    assert values(mine, numbered(1, 2)) == values(mine, numbered(1, 2)) == [101, 102]
    assert values(mine, numbered(1), columns=("another", "job")) == [201]
    assert len(jobs) == 2 and len(set(chances)) == 1, "the random numbers are seeded"


def test_a_setup_that_fails_is_named():
    def load(job):
        return open("/no/such/file")

    @stoker.sample({"x": "int32"}, setup=load)
    def mine(sample, random):
        raise AssertionError("never called")
    text = sentence(mine)
    assert re.match(r"function 'mine:mine', its setup load: FileNotFoundError: .*/no/such/file.* "
                    r"\(test_sample_functions.py, line \d+\)$", text), text


# -------------------------------------------------------------------------------------------- other errors

def cause(function, samples, **options):
    """What it raised itself."""
    with pytest.raises(FunctionError) as caught:
        run(function, samples, **options)
    return caught.value.__cause__


def test_an_exception_of_the_function_is_told_with_its_sample_and_line(photos, tmp_path):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": 1 // (sample.index - 3)}
    assert type(cause(mine, photos[:5], root=tmp_path)) is ZeroDivisionError
    line = mine.__wrapped__.__code__.co_firstlineno + 2
    for samples, name in ((photos[:5], "'3.png'"), (numbered(3), "3")):
        assert re.match(r"function 'mine:mine', sample %s: ZeroDivisionError: .* by zero \(test_sample_functions.py, "
                        r"line %d\)$" % (name, line), sentence(mine, samples, root=tmp_path))


@pytest.mark.parametrize("status, text", [(3, "3"), (None, ""), ("no vocabulary", "'no vocabulary'")])
def test_an_exit_is_an_error_of_the_function_and_not_the_end_of_the_worker(status, text):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        sys.exit(status)
    assert re.match(r"function 'mine:mine', sample 17: it called sys.exit\(%s\): let it raise an error \(test_" % text,
                    sentence(mine))
    mine.setup = sys.exit
    assert sentence(mine).startswith("function 'mine:mine', its setup exit: it called sys.exit(Job(")


@pytest.mark.parametrize("row, columns, has", [
    ([1, 2], ("a", "b \udcff"), r"'a', 'b \udcff'"), ({"c": 1}, (), "'c'"), ({}, (), "nothing")])
def test_a_missing_column_is_told_with_those_that_there_are(row, columns, has):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": sample.row["nope"]}
    samples = [Sample(17, "", -1, msgpack.packb(row, use_bin_type=True))]
    text = sentence(mine, samples, columns=columns)
    assert text.startswith("function 'mine:mine', sample 17: KeyError: 'nope': the row of sample 17 has %s (te" % has)
    for looked_up in (dict.keys, dict.values):       # one that the row has, and a text of the row in another dict
        other = stoker.sample({"x": "int32"})(lambda sample, random, of=looked_up: {}[list(of(sample.row))[0]])
        packed = [Sample(17, "", -1, msgpack.packb({"a": "b"}, use_bin_type=True))]
        assert "the row of" not in sentence(other, packed)


def test_a_row_that_is_none_is_told():
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": sample.row["nope"]}
    assert "is not subscriptable: sample.row is None (test_" in sentence(mine, numbered(17))


def test_partners_that_were_not_asked_for_are_told():
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": sample.partners[0].index}
    assert "sample 17: IndexError: tuple index out of range: a sample has partners if open_stream gets partners= (te" \
        in sentence(mine)
    other = stoker.sample({"x": "int32"})(lambda sample, random: sample.partners and [][sample.index])
    assert "open_stream" not in sentence(other, [Sample(1, "", -1, partners=(Sample(2, "", -1),))])


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), OSError(24, "Too many open files")])
def test_trouble_of_the_host_is_no_bad_file(photos, tmp_path, error):
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        raise error
    assert cause(mine, [photos[6]], root=tmp_path) is error


def test_a_generator_that_ended_is_told():
    @stoker.sample({"x": "int32"})
    def mine(sample, random):
        return {"x": next(iter([]))}
    assert "sample 17: a StopIteration came out of it" in sentence(mine)


def test_a_lease_gives_the_same_bytes_whatever_was_before():
    wanted, other = lease_of(numbered(3, 1, 2)), lease_of(numbered(7, 8), epoch=1)
    job = job_for(draws)
    alone, = call_for_samples(draws, iter([wanted]), job)
    outputs = list(call_for_samples(draws, iter([other, wanted, other, wanted]), job))
    assert [output.arrays[0].tobytes() == alone.arrays[0].tobytes() for output in outputs] == [False, True, False, True]


def test_a_producer_knows_that_the_arrays_are_fresh():
    from functools import partial

    def own(leases, job):
        yield
    assert Producer(partial(call_for_samples, draws), job_for(draws)).makes_fresh
    assert not Producer(own, job_for(draws)).makes_fresh


def test_a_worker_with_the_wrong_folder_says_so(tmp_path):
    with pytest.raises(ConfigError, match="is not the dataset's folder"):
        run(returns(1, "int32"), numbered(0), root=tmp_path, probes=("left/0.png",))




def test_a_trainer_that_expects_other_arrays_is_told(monkeypatch):
    """As one that could not import the function, and takes it for a generator of images and labels."""
    monkeypatch.setattr("stoker.workers.generators.registry._load", lambda what, name, allowed: one)
    job = Job("mine:one", declared({"images": "uint8", "labels": "int32"}), 1, 0, "fast", "")
    with pytest.raises(ConfigError, match="declares the arrays x .* on this worker, .* expects images .*lab"):
        open_producer(job, WorkerOptions("tcp://127.0.0.1:5555"))
    with pytest.raises(ConfigError, match=r"declares the arrays x float32 \(\) .* expects x float32 \(3,\): give"):
        open_producer(Job("mine:one", declared({"x": ("float32", (3,))}), 1, 0, "fast", ""),
                      WorkerOptions("tcp://127.0.0.1:5555"))
    open_producer(Job("mine:one", declared({"x": "float64"}), 1, 0, "fast", ""), WorkerOptions("tcp://127.0.0.1:5555"))


@stoker.sample({"x": "float32"})
def one(each, random):
    return {"x": 1.0}
