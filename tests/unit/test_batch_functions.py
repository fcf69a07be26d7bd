"""Batch functions: old generators as they are, called once for each lease; and what they must not return."""

import random
import re
import threading
import warnings
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from PIL import Image

from stoker.pipeline import functions as stoker
from stoker.pipeline.arrays import UpTo
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.plan import produced_indices, sample_random
from stoker.pipeline.protocol.batch_arrays import check_arrays
from stoker.pipeline.protocol.messages import Job, Lease, Produced, Sample, Skipped
from stoker.pipeline.storage.folder import BadFile
from stoker.workers.generators.batch import call_for_batches
from stoker.workers.generators.output import check
from stoker.workers.generators.rows import FunctionError

SEED = 11


def numbered(*indices):
    return [Sample(index, "", -1) for index in indices]


def run(function, samples, root="", epoch=0, training=True, replacements=(), **fields):
    """The checked output for one lease, as it would leave the worker and enter the trainer."""
    job = Job("mine:" + function.__name__, function.arrays, 8, SEED, "exact", str(root), may_skip=function.may_skip)
    job, lease = replace(job, **fields), Lease(1, 17, epoch, training, tuple(samples), tuple(replacements))
    output, = call_for_batches(function, iter([lease]), job)
    output = check(output, lease, job, fresh=True)
    produced = Produced("run", 1, 17, len(output.arrays[0]), output.skipped, 0.0,
                        tuple(array.tobytes() for array in output.arrays), missing=output.missing)
    received = check_arrays(produced, job, [sample.index for sample in lease.samples],
                            [sample.index for sample in lease.replacements])
    for array, same in zip(output.arrays, received):
        assert array.flags.c_contiguous and array.dtype == same.dtype
        np.testing.assert_array_equal(array, same)
    return output


def sentence(function, samples=None, **options):
    with pytest.raises(FunctionError) as caught:
        run(function, samples or numbered(17, 18, 19), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def returns(value, declaration, **options):
    @stoker.batch({"x": declaration}, **options)
    def given(samples, random):
        return {"x": value}
    return given


@pytest.fixture
def photos(tmp_path):
    """Samples of eight pictures, of two bad ones (8, 9), of one that is not there (10) and of a text (11)."""
    for index in range(8):
        Image.fromarray(np.full((20, 30, 3), index * 30, np.uint8)).save(str(tmp_path / ("%d.png" % index)))
    (tmp_path / "8.png").write_text("no picture")
    data = (tmp_path / "7.png").read_bytes()
    (tmp_path / "9.png").write_bytes(data[:len(data) // 2])
    (tmp_path / "11.txt").write_text("words")
    return [Sample(index, "%d.%s" % (index, "txt" if index == 11 else "png"), index % 2) for index in range(12)]


# ------------------------------------------------------------------------ old generators, as in any tutorial

def image_data_generator(paths, batch_size, size):
    """As it is in old programs."""
    while True:
        order = np.random.permutation(len(paths))
        for start in range(0, len(paths) - batch_size + 1, batch_size):
            x, y = [], []
            for i in order[start:start + batch_size]:
                picture = Image.open(paths[i]).resize(size[::-1]).convert("RGB")
                pixels = np.array(picture) / 255.0
                if random.random() < 0.5:
                    pixels = pixels[:, ::-1]
                x.append(pixels + np.random.normal(0, 0.01))
                y.append(float(paths[i].endswith("3.png")))
            yield np.array(x), np.array(y).reshape(-1, 1)


@stoker.batch({"x": ("float32", (4, 6, 3)), "y": ("int32", (1,))})
def old(samples, random):
    return next(image_data_generator([sample.file for sample in samples], len(samples), (4, 6)))


def test_an_old_generator_runs_as_it_is_and_is_repeatable(photos, tmp_path):
    output = run(old, photos[:6], root=tmp_path)
    x, y = output.arrays
    assert (x.shape, x.dtype, y.dtype, y.sum()) == ((6, 4, 6, 3), np.float32, np.int32, 1)
    random.seed(5)
    np.random.seed(5)
    again = run(old, photos[:6], root=tmp_path)
    assert all(np.array_equal(one, other) for one, other in zip(output.arrays, again.arrays))
    for other in (run(old, photos[:6], root=tmp_path, epoch=1), run(old, photos[:6], root=tmp_path, seed=12),
                  run(old, photos[:1] + photos[2:7], root=tmp_path)):
        assert not np.array_equal(output.arrays[0], other.arrays[0])


def test_the_numbers_are_those_of_the_leases_first_sample():
    @stoker.batch({"x": "float64"})
    def draws(samples, given):
        return [given.random() for _ in samples]
    samples = [Sample(3, "", -1, repeat=2), Sample(1, "", -1)]
    chance = sample_random(SEED, 4, 3, 2)
    assert run(draws, samples, epoch=4).arrays[0].tolist() == [chance.random(), chance.random()]


def in_order_of(paths):
    """An old generator that keeps the order, opens files itself, and raises whatever PIL raises."""
    while True:
        yield np.array([np.array(Image.open(path).resize((1, 1)))[0, 0, 0] for path in paths])


def opens_its_files(samples, random):
    root = samples[0]._job.data_root
    return next(in_order_of(["%s/%s" % (root, sample.path) for sample in samples])) + random.random() * 0


plain = stoker.batch({"x": "float32"})(opens_its_files)


@pytest.mark.parametrize("own, replacements, bad, used", [
    ((0, 1, 2), (), (), (0, 1, 2)),
    ((0, 8, 2), (), (8,), (0, 2)),
    ((8, 9, 10), (), (8, 9, 10), ()),
    ((0, 8, 9), (4, 5), (8, 9), (0, 4, 5)),
    ((8, 1, 9), (10, 5, 6), (8, 9, 10), (5, 1, 6)),
    ((8, 1), (9, 10), (8, 9, 10), (1,)),
    ((8, 1, 8, 2), (3, 3), (8,), (3, 1, 3, 2)),
])
def test_bad_files_behind_an_exception_are_left_out_or_replaced(photos, tmp_path, own, replacements, bad, used):
    output = run(plain, [photos[i] for i in own], root=tmp_path, replacements=[photos[i] for i in replacements])
    assert tuple(sorted(item.index for item in output.skipped)) == bad
    assert output.arrays[0].tolist() == [index * 30.0 for index in used]
    assert produced_indices(own, replacements, bad, len(used)) == used
    reasons = {8: "UnidentifiedImageError: cannot identify image file", 10: "FileNotFoundError: no such file"}
    assert all(item.reason == reasons.get(item.index, item.reason) and not item.path and not item.chosen
               for item in output.skipped)


def test_the_second_call_draws_the_same_numbers(photos, tmp_path):
    drawn = []

    @stoker.batch({"x": "float32"})
    def mine(samples, given):
        drawn.append((given.random(), np.random.rand(), random.random(), len(samples)))
        return opens_its_files(samples, given)
    run(mine, photos[7:11], root=tmp_path, replacements=photos[:2])
    assert [numbers[3] for numbers in drawn] == [4, 3]
    assert drawn[0][:3] == drawn[1][:3] and drawn[0][0] == sample_random(SEED, 0, 7).random()
    del drawn[:]
    run(mine, photos[8:11], root=tmp_path, replacements=photos[:2])      # the first is bad: still its numbers
    assert {numbers[0] for numbers in drawn} == {sample_random(SEED, 0, 8).random()}


def test_an_exception_with_no_bad_file_behind_it_is_the_functions(photos, tmp_path):
    @stoker.batch({"x": "float32"})
    def mine(samples, random):
        return [1 / (sample.index - 1) for sample in samples]
    for samples in (photos[:3], numbered(0, 1, 2), [photos[1], photos[8]], [photos[1], photos[11]]):
        assert re.match(r"function 'mine:mine', batch at position 17: ZeroDivisionError: .* by zero "
                        r"\(test_batch_functions.py, line %d\)$" % (mine.__wrapped__.__code__.co_firstlineno + 2),
                        sentence(mine, samples, root=tmp_path))


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_trouble_of_the_host_is_no_bad_file(photos, tmp_path, error):
    @stoker.batch({"x": "float32"})
    def mine(samples, random):
        raise error
    with pytest.raises(FunctionError) as caught:
        run(mine, photos[7:10], root=tmp_path)
    assert caught.value.__cause__ is error


def test_a_file_that_a_reader_finds_bad_is_that_of_its_sample(photos, tmp_path):
    @stoker.batch({"x": "float32"})
    def mine(samples, random):
        return [np.asarray(each.image("%d.png" % each.index))[0, 0, 0] for sample in samples
                for each in (sample.partners or (sample,))]
    nameless = [Sample(index, "", -1) for index in (3, 8, 4)]
    output = run(mine, nameless, root=tmp_path)
    assert output.arrays[0].tolist() == [90, 120]
    assert output.skipped == (Skipped(8, "UnidentifiedImageError: cannot identify image file", "8.png"),)
    paired = [photos[0]._replace(partners=(photos[1],)), photos[2]._replace(partners=(photos[10],))]
    output = run(mine, paired, root=tmp_path)
    assert output.arrays[0].tolist() == [30] and output.skipped == (
        Skipped(2, "FileNotFoundError: no such file", "10.png"),)


def test_a_bad_partner_behind_an_exception_is_named(photos, tmp_path):
    @stoker.batch({"x": "float32"})
    def mine(samples, random):
        return opens_its_files([sample.partners[0] for sample in samples], random)
    paired = [photos[0]._replace(partners=(photos[8],)), photos[2]._replace(partners=(photos[3],))]
    assert run(mine, paired, root=tmp_path).skipped == (
        Skipped(0, "UnidentifiedImageError: cannot identify image file", "8.png"),)


def test_a_bad_file_that_no_file_explains_is_raised(photos, tmp_path):
    @stoker.batch({"x": "float32"})
    def mine(samples, random):
        raise BadFile("strange")
    assert "BadFile: strange (test_" in sentence(mine, photos[:2], root=tmp_path)


# ------------------------------------------------------------------------------------------ what it returns

@pytest.mark.parametrize("value, declaration, expected", [
    ([1, 2, 3], "int32", [1, 2, 3]),
    (np.arange(3.0), "float32", [0, 1, 2]),
    (np.array([0.0, 1.0, 0.0]), "uint8", [0, 1, 0]),
    ((1, 2, 3), "int32", [1, 2, 3]),
    ([[1], [2], [3]], ("int32", 1), [[1], [2], [3]]),
    ([np.array([1, 2]), [3, 4], (5, 6)], ("int32", 2), [[1, 2], [3, 4], [5, 6]]),
    ([True, False, True], "bool", [True, False, True]),
    (np.asarray(Image.new("1", (2, 3), 1)), ("bool", 2), [[True, True]] * 3),
    ([Image.new("L", (2, 1), 7)] * 3, ("uint8", (1, 2)), [[[7, 7]]] * 3),
], ids=repr)
def test_arrays_have_a_row_for_each_sample(value, declaration, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (returns(value, declaration), stoker.batch({"x": declaration})(lambda samples, random: value)):
            assert run(given, numbered(1, 2, 3)).arrays[0].tolist() == expected


def test_sides_that_differ_come_as_a_list_of_rows_or_as_an_array():
    words = returns([[1, 2], [], np.array([3])], ("int32", UpTo(5, pad=-1)))
    padded, sizes = run(words, numbered(1, 2, 3)).arrays
    assert padded.tolist() == [[1, 2], [-1, -1], [3, -1]] and sizes.tolist() == [2, 0, 1]
    padded, sizes = run(returns(np.ones((3, 2, 4)), ("int32", (UpTo(5), 4))), numbered(1, 2, 3)).arrays
    assert padded.shape == (3, 2, 4) and sizes.tolist() == [2, 2, 2]
    assert "array 'x': row 1 is of shape [6]" in sentence(
        returns([[1], [0] * 6], ("int32", UpTo(5)))).replace("row 1: array 'x'", "array 'x': row 1")


@pytest.mark.parametrize("value, declaration, message", [
    (np.zeros((3, 2)), ("float32", 3), r"array 'x' is of shape \[3, 2\], must be \[3, 3\]"),
    (np.zeros((4, 2)), ("float32", 2), "array 'x' has 4 rows for 3 samples"),
    (np.zeros((2, 2)), ("float32", 2), "it returned 2 rows for 3 samples: declare it with may_skip=True"),
    (7, "int32", "array 'x' is a single number, must have a row for each of 3 samples"),
    ([1, 2, 300], "uint8", "array 'x' is of dtype int64 and has 300, which uint8 cannot hold"),
    (["a", "b", "c"], "uint8", "array 'x' has the text 'a', must be uint8"),
    ([np.zeros(2), np.zeros(2), np.zeros(3)], ("float32", 2), r"row 2: array 'x' is of shape \[3\], must be \[2\]"),
    ([np.zeros(2), np.zeros(2), None], ("float32", 2), "row 2: array 'x' is None, must be float32"),
    (None, "int32", "array 'x' is None"),
])
def test_what_does_not_fit_is_told_with_function_position_and_array(value, declaration, message):
    text = sentence(returns(value, declaration))
    assert re.match("function 'mine:given', batch at position 17: " + message, text), text


@pytest.mark.parametrize("returned, message", [
    (None, "it returned None, must return a dict of 'x', 'y'"),
    ({"x": [1]}, "it returned no 'y'"),
    ({"x": [1], "y": [2], "z": [3]}, "an undeclared 'z'"),
    (([1, 2, 3],), "it returned a tuple of 1, must return 2 arrays"),
    (([1, 2, 3], [1, 2]), "array 'y' has 2 rows, and 'x' has 3"),
    (iter([1]), "it returned a list_iterator"),
])
def test_what_is_not_returned_as_declared_is_told(returned, message):
    @stoker.batch({"x": "int32", "y": "int32"})
    def mine(samples, random):
        return returned
    assert message in sentence(mine) and "stoker.Skip" not in sentence(mine)     # which is for a sample


def test_a_text_is_told_with_its_field():
    @stoker.batch({"x": ("float32", (1,))})
    def areas(samples, random):
        return [[sample.row["area"]] for sample in samples]
    rows = [Sample(index, "", -1, msgpack.packb({"area": value})) for index, value in enumerate((1.5, "k.A.", "2,5"))]
    assert sentence(areas, rows).endswith("array 'x' has the text 'k.A.', must be float32; the field 'area' of the row "
                                          "is text")


def test_fewer_rows_are_counted_as_missing_if_that_is_declared():
    @stoker.batch({"x": "int32"}, may_skip=True)
    def odd(samples, random):
        return [sample.index for sample in samples if sample.index % 2]
    output = run(odd, numbered(1, 2, 3, 4, 5))
    assert output.arrays[0].tolist() == [1, 3, 5] and output.missing == 2
    output = run(odd, numbered(2, 4))
    assert output.arrays[0].tolist() == [] and output.missing == 2
    assert "it returned 1 rows for 2 samples: the trainer does not" in sentence(odd, numbered(1, 2), may_skip=False)
    more = returns([1, 2, 3], "int32", may_skip=True)
    assert "array 'x' has 3 rows for 2 samples" in sentence(more, numbered(1, 2))


def test_missing_ones_and_bad_ones_are_told_apart(photos, tmp_path):
    @stoker.batch({"x": "float32"}, may_skip=True)
    def mine(samples, random):
        return opens_its_files(samples, random)[1:]
    output = run(mine, photos[6:9], root=tmp_path)
    assert output.missing == 1 and [item.index for item in output.skipped] == [8]
    assert output.arrays[0].tolist() == [210.0]


def test_the_batch_does_not_share_memory_with_what_was_returned():
    kept = np.zeros((2, 3), np.float32)

    @stoker.batch({"x": ("float32", 3)})
    def mine(samples, random):
        return kept
    assert not np.may_share_memory(run(mine, numbered(1, 2)).arrays[0], kept)


def test_an_empty_lease_calls_nothing():
    assert run(returns(1 / 3, ("float32", (UpTo(3), 2))), []).arrays[0].shape == (0, 0, 2)


# --------------------------------------------------------------------------------------------- other rules

def test_a_function_that_ends_skips_or_leaves_threads_is_told():
    ends, threads = threading.Event(), []

    @stoker.batch({"x": "int32"})
    def stops(samples, random):
        return next(iter(()))

    @stoker.batch({"x": "int32"})
    def skips(samples, random):
        raise stoker.Skip("all")

    @stoker.batch({"x": "int32"})
    def exits(samples, random):
        raise SystemExit(3)

    @stoker.batch({"x": "int32"})
    def starts(samples, random):
        threads.append(threading.Thread(target=ends.wait, name="loader", daemon=True))
        threads[0].start()
        return [1, 2, 3]
    assert "a StopIteration came out of it: a generator on which it calls next() had ended" in sentence(stops)
    assert "Skip: all: only a sample function may raise Skip; return fewer rows" in sentence(skips)
    assert "position 17: it called sys.exit(3): let it raise an error (test_" in sentence(exits)
    try:
        assert "function 'mine:starts' left the thread 'loader' running" in sentence(starts)
    finally:
        ends.set()
        threads[0].join()


def test_setup_is_shared_by_all_samples():
    @stoker.batch({"x": "int32"}, setup=lambda job: job.seed)
    def mine(samples, random):
        return [sample.shared for sample in samples]
    assert run(mine, numbered(1, 2)).arrays[0].tolist() == [SEED, SEED]

    def broken(job):
        raise KeyError("no")
    mine.setup = broken
    assert re.match(r"function 'mine:mine', its setup broken: KeyError: 'no' \(test_batch_functions.py, line \d+\)",
                    sentence(mine, numbered(1), columns=("another", "job")))


def test_samples_tell_what_the_lease_says(photos, tmp_path):
    seen = []

    @stoker.batch({"x": "int32"})
    def mine(samples, random):
        seen.extend((each.index, each.epoch, each.training, each.path, each.label, each.row) for each in samples)
        return [0] * len(samples)
    run(mine, photos[2:4], root=tmp_path, epoch=5, training=False)
    assert seen == [(2, 5, False, "2.png", 0, "2.png"), (3, 5, False, "3.png", 1, "3.png")]


def test_a_worker_with_the_wrong_folder_says_so(tmp_path):
    with pytest.raises(ConfigError, match="is not the dataset's folder"):
        run(returns([1], "int32"), numbered(0), root=tmp_path, probes=("left/0.png",))
