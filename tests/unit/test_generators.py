"""The three generators and the example, on real files; what ``find`` and ``check`` let through."""

import os
import random
import sys
import textwrap
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import ConfigError, ProtocolError, UnfitWorker
from stoker.pipeline.functions import Skip
from stoker.pipeline.options import GENERATORS, WorkerOptions
from stoker.pipeline.plan import produced_indices, sample_random
from stoker.pipeline.protocol.messages import Job, Lease, Sample, Skipped
from stoker.pipeline.storage import folder
from stoker.workers import images
from stoker.workers.generators import example, numerical, pictures
from stoker.workers.generators.output import Output, batch_of, check
from stoker.workers.generators.registry import find, find_augmentation, open_producer
from stoker.workers.generators.rows import FunctionError
from tests.support import bad_pictures

HEIGHT, WIDTH = 12, 20
IMAGES = (ArraySpec("images", "uint8", (HEIGHT, WIDTH, 3)), ArraySpec("labels", "int32", (1,)))
NUMBERS = (ArraySpec("features", "float32", (10,)), ArraySpec("labels", "int32", (1,)))


def job(generator="image", root="", arrays=IMAGES, seed=11, decode="exact", batch_size=4):
    return Job(generator=generator, arrays=arrays, batch_size=batch_size, seed=seed, decode=decode,
               data_root=str(root), image_size=(HEIGHT, WIDTH))


def lease(samples, position=0, epoch=0, training=True):
    return Lease(lease=position + 1, position=position, epoch=epoch, training=training, samples=tuple(samples))


def one(generator, a_lease, a_job):
    output, = generator(iter([a_lease]), a_job)
    return check(output, a_lease, a_job)


def content(output):
    return [(array.dtype.name, array.shape, array.tobytes()) for array in output.arrays], output.skipped


@pytest.fixture
def photos(tmp_path):
    """Ten good pictures, no two alike, and three bad files; samples by index."""
    samples = []
    for index in range(10):
        y, x = np.mgrid[0:30, 0:44]
        pixels = np.stack([x * 5 + index * 3, y * 8, (x + y) * 3 - index * 9], axis=-1) % 256
        name = "%d.png" % index
        Image.fromarray(pixels.astype(np.uint8)).save(str(tmp_path / name))
        samples.append(Sample(index, name, index % 3))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    samples += [Sample(10, "text.jpg", 0), Sample(11, "folder.jpg", 1), Sample(12, "gone.jpg", 2)]
    return samples


# -------------------------------------------------------------------------------------- the pictures

@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_image_yields_pictures_and_labels_in_the_leases_order(photos, tmp_path, decode):
    chosen = [photos[i] for i in (7, 2, 9, 0)]
    output = one(pictures.image, lease(chosen), job(root=tmp_path, decode=decode))
    pixels, labels = output.arrays
    assert pixels.dtype == np.uint8 and pixels.shape == (4, HEIGHT, WIDTH, 3) and pixels.flags.c_contiguous
    assert labels.dtype == np.int32 and labels.tolist() == [[1], [2], [0], [0]]
    for row, sample in zip(pixels, chosen):
        assert np.array_equal(row, images.load(str(tmp_path / sample.path), (HEIGHT, WIDTH), decode))
    assert output.skipped == ()


def test_no_file_is_bad_where_the_whole_folder_is_missing(photos, tmp_path):
    leases = iter([lease(photos[:4]), lease(photos[4:8])])
    outputs = pictures.image(leases, job(root=tmp_path))
    assert next(outputs).skipped == ()
    os.rename(str(tmp_path), str(tmp_path) + ".away")
    folder.close_kept()
    try:
        with pytest.raises(UnfitWorker, match="is not there on"):
            next(outputs)
    finally:
        os.rename(str(tmp_path) + ".away", str(tmp_path))


def test_bad_files_are_left_out_and_named(photos, tmp_path):
    chosen = [photos[i] for i in (10, 3, 11, 12, 5)]
    output = one(pictures.image, lease(chosen), job(root=tmp_path))
    pixels, labels = output.arrays
    assert pixels.shape == (2, HEIGHT, WIDTH, 3) and pixels.flags.c_contiguous
    assert labels.tolist() == [[0], [2]]
    assert np.array_equal(pixels[1], images.load(str(tmp_path / "5.png"), (HEIGHT, WIDTH), "exact"))
    assert output.skipped == (Skipped(10, "UnidentifiedImageError: cannot identify image file"),
                              Skipped(11, "IsADirectoryError: is a directory"),
                              Skipped(12, "FileNotFoundError: no such file"))


@pytest.mark.parametrize("generator", [pictures.image, pictures.augmented, example.grayscale])
def test_a_batch_of_nothing_but_bad_files_is_empty_and_of_the_right_shape(photos, tmp_path, generator):
    output = one(generator, lease(photos[10:]), job(root=tmp_path))
    assert [(array.dtype.name, array.shape) for array in output.arrays] == [
        ("uint8", (0, HEIGHT, WIDTH, 3)), ("int32", (0, 1))]
    assert [item.index for item in output.skipped] == [10, 11, 12]


@pytest.mark.parametrize("generator", [pictures.image, pictures.augmented, example.grayscale])
@pytest.mark.parametrize("own, replacements, bad, used", [
    ((10, 3, 11, 5), (1, 12, 2, 4), (10, 11, 12), (1, 3, 2, 5)),
    ((0, 1, 2, 3), (10, 4), (), (0, 1, 2, 3)),
    ((10, 3, 11, 12), (1,), (10, 11, 12), (1, 3)),
    ((10, 3), (11, 12), (10, 11, 12), (3,)),
    ((10, 11), (12, 9), (10, 11, 12), (9,)),
])
def test_bad_files_are_replaced_in_their_place(photos, tmp_path, generator, own, replacements, bad, used):
    a_job = job("augmented", tmp_path)
    a_lease = replace(lease([photos[i] for i in own], epoch=2), replacements=tuple(photos[i] for i in replacements))
    output = one(generator, a_lease, a_job)
    assert tuple(item.index for item in output.skipped) == bad
    assert produced_indices(own, replacements, bad, len(output.arrays[0])) == used
    alone = one(generator, lease([photos[i] for i in used], epoch=2), a_job)      # augmented by its own index
    assert content(alone)[0] == content(output)[0]


def test_a_generator_must_put_replacements_in_the_place_of_bad_samples():
    pixels, labels = arrays(3)
    a_lease = replace(lease(THREE), replacements=(Sample(8, "d", 0),))
    check(Output((pixels, labels), (Skipped(5, "bad"),)), a_lease, job())
    check(Output((pixels[:2], labels[:2]), (Skipped(5, "bad"), Skipped(8, "bad"))), a_lease, job())
    for count, bad in ((2, (5,)), (3, (5, 6))):
        with pytest.raises(ValueError, match=r"as are in the lease \(it has 1 replacements for bad samples: use "
                                             "generators.output.batch_of"):
            check(Output((pixels[:count], labels[:count]), tuple(Skipped(one, "bad") for one in bad)), a_lease, job())


@pytest.mark.parametrize("row, error", [
    (np.zeros((HEIGHT, WIDTH), np.uint8), "'0.png': array 'images' is of shape .12, 20., must be .12, 20, 3."),
    (np.full((HEIGHT, WIDTH, 3), 0.5), "'images' is of dtype float64 and has 0.5, which uint8 cannot hold"),
])
def test_batch_of_takes_no_row_that_the_job_does_not_want(photos, row, error):
    with pytest.raises((ValueError, TypeError), match=error):
        batch_of(lease(photos[:1]), job(), lambda sample: (row, [sample.label]))


def test_pictures_are_turned_if_the_job_says_so(tmp_path):
    bad_pictures.ODD["turned.jpg"](str(tmp_path / "turned.jpg"))
    a_lease = lease([Sample(0, "turned.jpg", 0)])
    for exif_rotate in (False, True):
        a_job = replace(job(root=tmp_path), exif_rotate=exif_rotate)
        pixels = one(pictures.image, a_lease, a_job).arrays[0][0]
        assert np.array_equal(pixels, images.load(str(tmp_path / "turned.jpg"), (HEIGHT, WIDTH), "exact", exif_rotate))


def test_a_short_last_batch(photos, tmp_path):
    leases = [lease(photos[0:4]), lease(photos[4:8], 1), lease(photos[8:10], 2)]
    outputs = list(pictures.image(iter(leases), job(root=tmp_path)))
    assert [len(output.arrays[0]) for output in outputs] == [4, 4, 2]


def test_generators_ask_for_a_lease_only_when_they_have_delivered_the_last(photos, tmp_path):
    """One Output for each lease, in order: the worker relies on it for who gets which."""
    for generator, a_job in ((pictures.image, job(root=tmp_path)), (pictures.augmented, job(root=tmp_path)),
                             (example.grayscale, job(root=tmp_path))):
        taken = []
        leases = (taken.append(i) or lease(photos[i:i + 1], i) for i in range(3))
        for delivered, _ in enumerate(generator(leases, a_job)):
            assert len(taken) == delivered + 1
        assert len(taken) == 3


def test_a_lease_that_names_a_file_outside_of_the_root_fails(tmp_path):
    with pytest.raises(ProtocolError):
        one(pictures.image, lease([Sample(0, "../x.png", 0)]), job(root=tmp_path))


def test_trouble_of_the_host_is_not_skipped(photos, tmp_path, monkeypatch):
    def no_memory(*arguments):
        raise MemoryError()

    monkeypatch.setattr(images, "load", no_memory)
    with pytest.raises(MemoryError):
        one(pictures.image, lease(photos[:2]), job(root=tmp_path))


# -------------------------------------------------------------------------------------- augmentation

def test_augmented_is_image_with_augment_seeded_by_seed_epoch_and_index(photos, tmp_path):
    a_job = job("augmented", tmp_path)
    plain = one(pictures.image, lease(photos[:10]), a_job).arrays[0]
    for epoch in (0, 1):
        varied = one(pictures.augmented, lease(photos[:10], epoch=epoch), a_job).arrays[0]
        for index, row in enumerate(varied):
            chance = sample_random(a_job.seed, epoch, index)
            assert np.array_equal(row, images.augment(Image.fromarray(plain[index]), chance))


def test_augmented_differs_by_epoch_and_seed_and_not_by_anything_else(photos, tmp_path):
    def pixels(epoch=0, seed=11, position=0, samples=photos[:10]):
        a_job = job("augmented", tmp_path, seed=seed)
        return one(pictures.augmented, lease(samples, position, epoch), a_job).arrays[0]

    first = pixels()
    assert not np.array_equal(first, pixels(epoch=1))
    assert not np.array_equal(first, pixels(seed=12))
    assert np.array_equal(first, pixels(position=99))
    assert np.array_equal(first[::-1], pixels(samples=photos[:10][::-1]))  # a sample's, not a batch's, randomness


def test_evaluation_is_never_augmented(photos, tmp_path):
    a_job = job("augmented", tmp_path)
    evaluation = lease(photos[:10], training=False)
    plain = one(pictures.image, evaluation, a_job)
    assert content(one(pictures.augmented, evaluation, a_job)) == content(plain)


@pytest.mark.parametrize("generator", [pictures.image, pictures.augmented, example.grayscale])
def test_the_same_lease_gives_the_same_bytes_whatever_was_in_between(photos, tmp_path, generator):
    a_job = job(root=tmp_path, decode="fast")
    wanted = lease(photos[2:6] + photos[11:12], 3, epoch=2)
    other = lease(photos[5:9] + photos[10:11], 4, epoch=1)
    alone = content(one(generator, wanted, a_job))
    random.seed(0)
    np.random.seed(0)
    outputs = list(generator(iter([other, wanted, other, other, wanted]), a_job))
    assert content(outputs[1]) == content(outputs[4]) == alone
    assert content(outputs[0]) != alone


# ------------------------------------------------------------------------------- the user's augmentation

def varied(function, a_lease, a_job):
    return one(partial(pictures.image, vary=function), a_lease, replace(a_job, augment="mine:vary"))


def test_the_users_augmentation_gets_resized_pictures_and_seeded_numbers_in_training_only(photos, tmp_path):
    def vary(picture, chance):
        assert picture.mode == "RGB" and picture.size == (WIDTH, HEIGHT)
        noise = [chance.random(), random.random(), np.random.rand()]
        return Image.fromarray((np.asarray(picture) * noise[0] * 0.5 + noise[1] * 50 + noise[2] * 50).astype(np.uint8))
    a_job = job(root=tmp_path)
    plain = one(pictures.image, lease(photos[:4]), a_job)
    assert content(varied(vary, lease(photos[:4], training=False), a_job)) == content(plain)
    first = varied(vary, lease(photos[:4], epoch=2), a_job)
    expected = sample_random(a_job.seed, 2, 3)
    noise = [expected.random(), expected.random()]
    rest = first.arrays[0][3] - (plain.arrays[0][3] * noise[0] * 0.5 + noise[1] * 50)
    assert -1 < rest.min() and rest.max() < 50          # of numpy's number
    random.seed(1)
    np.random.seed(1)
    again = varied(vary, lease(photos[2:4] + photos[:2], epoch=2), a_job)
    assert np.array_equal(first.arrays[0], again.arrays[0][[2, 3, 0, 1]])
    assert not np.array_equal(first.arrays[0], varied(vary, lease(photos[:4]), a_job).arrays[0])


def test_an_augmentation_may_skip_samples_and_bad_files_are_left_out(photos, tmp_path):
    def vary(picture, chance):
        if np.asarray(picture).max() > 0 and chance.random() < 0.5:
            raise Skip("dark")
        return picture
    output = varied(vary, lease(photos), job(root=tmp_path))
    chosen = [item.index for item in output.skipped if item.chosen]
    assert chosen == [index for index in range(10) if sample_random(11, 0, index).random() < 0.5]
    assert 0 < len(chosen) < 9
    assert [item.index for item in output.skipped if not item.chosen] == [10, 11, 12]


@pytest.mark.parametrize("returned, came", [
    (None, "a NoneType"), (np.zeros((HEIGHT, WIDTH, 3), np.uint8), r"an array uint8 \[12, 20, 3\]"),
    (Image.new("L", (WIDTH, HEIGHT)), "a picture of mode L and 20 x 12 pixels"),
    (Image.new("RGB", (HEIGHT, WIDTH)), "a picture of mode RGB and 12 x 20 pixels"),
], ids=["None", "array", "grey", "turned"])
def test_an_augmentation_must_return_a_picture_that_fits(photos, tmp_path, returned, came):
    with pytest.raises(FunctionError, match="augment function 'mine:vary', sample '0.png': it returned " + came +
                       ", must return a PIL picture of mode RGB and 20 x 12 pixels"):
        varied(lambda picture, chance: returned, lease(photos[:1]), job(root=tmp_path))


@pytest.mark.parametrize("error, text", [
    (KeyError("no"), "KeyError: 'no'"), (SystemExit(3), "it called sys.exit(3): let it raise an error")])
def test_an_augmentation_that_raises_is_told_with_its_sample_and_line(photos, tmp_path, error, text):
    def vary(picture, chance):
        raise error
    with pytest.raises(FunctionError) as caught:
        varied(vary, lease(photos[:1]), job(root=tmp_path))
    assert str(caught.value) == "augment function 'mine:vary', sample '0.png': %s (test_generators.py, line %d)" % (
        text, vary.__code__.co_firstlineno + 1)
    assert caught.value.__cause__ is error


def test_image_needs_no_labels(photos, tmp_path):
    output = one(pictures.image, lease(photos[:2]), job(root=tmp_path, arrays=IMAGES[:1]))
    assert [array.shape for array in output.arrays] == [(2, HEIGHT, WIDTH, 3)]


# ----------------------------------------------------------------------------------- generated records

def records(numbers, seed=11, epoch=0, training=True):
    samples = [Sample(index, str(number), 0) for index, number in enumerate(numbers)]
    return one(numerical.numerical, lease(samples, epoch=epoch, training=training),
               job("numerical", arrays=NUMBERS, seed=seed)).arrays


def test_numerical_records_are_a_function_of_seed_and_number_alone():
    features, labels = records([5, 6, 7])
    again_features, again_labels = records([7, 5], epoch=3, training=False)
    assert np.array_equal(features[[2, 0]], again_features)
    assert np.array_equal(labels[[2, 0]], again_labels)
    assert not np.array_equal(features, records([5, 6, 7], seed=12)[0])
    assert features.dtype == np.float32 and features.shape == (3, 10)
    assert labels.dtype == np.int32 and labels.shape == (3, 1)


# As computed on Python 3.6 with numpy 1.16 and on Python 3.13 with numpy 2.5.
GOLDEN_FEATURES = [0.24484336376190186, 0.6915519833564758, 0.3244745135307312]
GOLDEN_LABELS = [0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0]


def test_numerical_records_are_the_same_on_every_python_and_numpy():
    features, labels = records(range(32), seed=1)
    assert features[0, :3].tolist() == GOLDEN_FEATURES
    assert labels[:, 0].tolist() == GOLDEN_LABELS


def test_numerical_features_are_uniform_and_labels_balanced():
    features, labels = records(range(4000))
    assert features.min() >= 0 and features.max() <= 1
    assert np.abs(features.mean(axis=0) - 0.5).max() < 0.03
    assert np.abs(features.var(axis=0) - 1 / 12.0).max() < 0.01
    assert 0.45 < labels.mean() < 0.55


def test_logistic_regression_learns_the_labels_to_about_nine_in_ten_and_no_better():
    features, labels = records(range(6000))
    x = np.hstack([features - 0.5, np.ones((6000, 1))])
    weights = np.zeros((11, 1))
    for _ in range(300):
        predicted = 1 / (1 + np.exp(-x[:4000].dot(weights)))
        weights -= 5.0 * x[:4000].T.dot(predicted - labels[:4000]) / 4000
    accuracy = ((x[4000:].dot(weights) > 0) == labels[4000:]).mean()
    assert 0.86 < accuracy < 0.93
    assert accuracy > max(labels[4000:].mean(), 1 - labels[4000:].mean()) + 0.3


def test_numerical_takes_an_empty_lease():
    features, labels = records([])
    assert features.shape == (0, 10) and labels.shape == (0, 1)


# ------------------------------------------------------------------------------------------ example

def test_the_example_yields_grey_crops_that_vary_in_training_only(photos, tmp_path):
    a_job = job("stoker.workers.generators.example:grayscale", tmp_path)
    training, evaluation = lease(photos[:10]), lease(photos[:10], training=False)
    pixels, labels = one(example.grayscale, training, a_job).arrays
    assert np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    assert labels[:, 0].tolist() == [sample.label for sample in photos[:10]]
    still = one(example.grayscale, evaluation, a_job).arrays[0]
    later = lease(photos[:10], epoch=5, training=False)
    assert np.array_equal(still, one(example.grayscale, later, a_job).arrays[0])
    assert not np.array_equal(pixels, still)
    assert not np.array_equal(pixels, one(example.grayscale, lease(photos[:10], epoch=1), a_job).arrays[0])


def test_the_example_is_found_when_allowed():
    name = "stoker.workers.generators.example:grayscale"
    assert find(name, [name]) is example.grayscale


# --------------------------------------------------------------------------------------------- find

def test_the_three_are_found_by_name():
    assert [find(name, []) for name in ("numerical", "image", "augmented")] == [
        numerical.numerical, pictures.image, pictures.augmented]
    for name in GENERATORS:
        assert find(name, []).__name__ == name


def test_a_job_that_follows_links_needs_the_permission_of_this_worker():
    plain, strict = replace(job(), data_root="/data"), WorkerOptions("tcp://trainer:5555", data="/data")
    following = replace(plain, follow_links=True)
    open_producer(plain, strict)
    open_producer(following, replace(strict, follow_links=True))
    with pytest.raises(ConfigError, match="this worker on .* may not: start it with --follow-links"):
        open_producer(following, strict)
    open_producer(replace(following, data_root=""), strict)        # it opens no files


def test_an_augmentation_is_found_when_allowed_and_goes_with_image_only(user_module):
    name = user_module("def vary(picture, random):\n    return picture\n\nnumber = 7") + ":vary"
    own = replace(job(), augment=name)
    assert open_producer(own, WorkerOptions("tcp://trainer:5555", allow_generators=(name,))).makes_fresh
    with pytest.raises(ConfigError, match="augment '%s': this worker does not allow it .*--allow-generator %s"
                       % (name, name)):
        open_producer(own, WorkerOptions("tcp://trainer:5555"))
    with pytest.raises(ConfigError, match="augment '%s' goes only with the generator 'image', not with 'augm" % name):
        open_producer(replace(own, generator="augmented"),
                      WorkerOptions("tcp://trainer:5555", allow_generators=(name,)))
    number = name.replace("vary", "number")
    with pytest.raises(ConfigError, match="augment '%s': must be a function of a picture .* is a int" % number):
        find_augmentation(number, [number])


DECLARED = """
    import numpy as np
    from stoker.pipeline import functions
    from stoker.workers.generators.output import Output, batch_of

    @functions.sample({"x": "int32"})
    def each(sample, random):
        return {"x": sample.index}

    @functions.batch({"x": "int32"})
    def all_of_them(samples, random):
        return {"x": [sample.index for sample in samples]}

    @functions.generator({"x": "int32"})
    def over_leases(leases, job):
        for lease in leases:
            yield batch_of(lease, job, lambda sample: [sample.index])
"""


def test_declared_functions_are_found_and_called_as_they_are_declared(user_module):
    module = user_module(DECLARED)
    for name, fresh in (("each", True), ("all_of_them", True), ("over_leases", False)):
        name = "%s:%s" % (module, name)
        a_job = job(name, arrays=(ArraySpec("x", "int32", ()),))
        producer = open_producer(a_job, WorkerOptions("tcp://trainer:5555", allow_generators=(name,)))
        output = check(producer.produce(lease(THREE)), lease(THREE), a_job, producer.makes_fresh)
        assert output.arrays[0].tolist() == [4, 5, 6] and producer.makes_fresh is fresh


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Writes a module that can be imported; gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(text):
        name = "stoker_user_module_%d" % len(names)
        (tmp_path / (name + ".py")).write_text(textwrap.dedent(text))
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_a_module_that_is_not_allowed_is_not_even_imported(user_module):
    name = user_module("raise SystemExit('imported')") + ":mine"
    with pytest.raises(ConfigError) as caught:
        find(name, ["other:thing"])
    assert "--allow-generator %s" % name in str(caught.value) and "other:thing" in str(caught.value)


@pytest.mark.parametrize("name", ["pictures", "", "module:", ":function"])
def test_an_unknown_name_says_what_there_is(name):
    with pytest.raises(ConfigError, match="numerical, image, augmented"):
        find(name, [name])


@pytest.mark.parametrize("text, message", [
    ("def other(leases, job):\n    yield", "has no mine"),
    ("def mine(leases, job):\n    return []",
     "no generator function .* but a function: to have it called for each sample or batch, decorate it with @stoker"),
    ("class mine:\n    pass", "no generator function"),
    ("def mine():\n    yield", "must be one over leases, def mine.leases, job.: .*call an old generator"),
    ("def mine(files, size, shuffle):\n    yield", "missing a required argument: 'shuffle'.*stoker.batch"),
    ("import surely_no_such_module", "surely_no_such_module"),
    ("def mine(:", "SyntaxError"),
    ("1 / 0", "ZeroDivisionError"),
])
def test_what_is_wrong_with_the_users_module_is_said(user_module, text, message):
    name = user_module(text) + ":mine"
    with pytest.raises(ConfigError, match="^cannot load the function|no generator function|over leases"):
        find(name, [name])
    with pytest.raises(ConfigError, match=message):
        find(name, [name])


def test_a_missing_module_is_said():
    with pytest.raises(ConfigError, match="importing surely_no_such_module on this worker failed: ModuleNotFoundError"):
        find("surely_no_such_module:mine", ["surely_no_such_module:mine"])


# -------------------------------------------------------------------------------------------- check

THREE = [Sample(4, "a", 0), Sample(5, "b", 1), Sample(6, "c", 0)]


def arrays(n=3):
    return np.zeros((n, HEIGHT, WIDTH, 3), np.uint8), np.zeros((n, 1), np.int32)


def test_check_lets_right_batches_through():
    pixels, labels = arrays()
    assert check(Output((pixels, labels)), lease(THREE), job(), fresh=True).arrays[0] is pixels
    pixels, labels = arrays(1)
    checked = check(Output([pixels, labels], [Skipped(4, "bad"), Skipped(6, "bad")]), lease(THREE), job())
    assert checked.skipped == (Skipped(4, "bad"), Skipped(6, "bad"))


def test_check_makes_arrays_contiguous():
    pixels = np.arange(HEIGHT * WIDTH * 9, dtype=np.uint8).reshape((3, WIDTH, HEIGHT, 3)).transpose((0, 2, 1, 3))
    assert not pixels.flags.c_contiguous
    checked = check(Output((pixels, arrays()[1])), lease(THREE), job()).arrays[0]
    assert checked.flags.c_contiguous and np.array_equal(checked, pixels)


def test_check_copies_what_a_user_s_generator_may_fill_again():
    output = Output(arrays())
    checked = check(output, lease(THREE), job()).arrays
    assert not any(np.may_share_memory(mine, theirs) for mine, theirs in zip(checked, output.arrays))
    assert np.may_share_memory(check(output, lease(THREE), job(), fresh=True).arrays[0], output.arrays[0])


def test_check_makes_bools_of_any_bytes():
    bools = np.array([[3, 0], [0, 255], [1, 2]], np.uint8).view(np.bool_).T.copy().T
    checked = check(Output((bools,)), lease(THREE), job(arrays=(ArraySpec("x", "bool", (2,)),))).arrays[0]
    assert checked.view(np.uint8).tolist() == [[1, 0], [0, 1], [1, 1]] and checked.flags.c_contiguous


WORDS = ArraySpec("words", "int32", (UpTo(4, pad=-1),))


def test_batch_of_pads_rows_whose_sides_differ_and_skips_what_is_to_be_skipped():
    def make(sample):
        if sample.index == 5:
            raise Skip("why not")
        return [list(range(sample.index - 4)), sample.label]
    a_job = job("mine:own", arrays=(WORDS, ArraySpec("label", "int64", ())))
    output = check(batch_of(lease(THREE), a_job, make), lease(THREE), a_job)
    assert [array.tolist() for array in output.arrays] == [[[-1, -1], [0, 1]], [0, 0], [0, 2]]
    assert output.skipped == (Skipped(5, "why not", chosen=True),)
    with pytest.raises(FunctionError, match=r"generator 'mine:own', sample 'a': array 'words' is of shape \[5\], must "
                                            r"be \[UpTo\(4, pad=-1\)\]"):
        batch_of(lease(THREE), a_job, lambda sample: [range(5), 0])
    with pytest.raises(ValueError, match="'a': 1 rows, must be 2: 'words', 'label'"):
        batch_of(lease(THREE), a_job, lambda sample: [0])


def padded(shape, sizes, **fields):
    return Output((np.zeros(shape, np.int32), np.array(sizes, np.int32)), **fields)


@pytest.mark.parametrize("output, message", [
    (padded((3, 2), [2, 0, 1]), None),
    (padded((3, 0), [0, 0, 0]), None),
    (padded((3, 5), [5, 0, 1]), r"'words' is of shape \[3, 5\], must be \[n, UpTo\(4, pad=-1\)\]"),
    (padded((3, 2), [1, 0, 1]), r"'words' has sides of \[2\], must be padded to its longest sample, which is \[1\]"),
    (padded((3, 2), [2, -1, 1]), "must be padded to its longest"),
    (padded((3, 2), [[2], [0], [1]]), r"'words.sizes' is of shape \[3, 1\], must be \[n\]"),
    (Output((np.zeros((3, 2), np.int32),)), "yielded 1 arrays, must be 2: words, words.sizes"),
    (padded((4, 2), [2, 0, 1, 1], rows=(1, 2, 1)), None),
    (padded((4, 2), [2, 0, 1, 1], rows=(1, 3)), r"rows are \(1, 3\), must be 1 to 2 for each sample, 4 together"),
    (padded((3, 2), [2, 0, 1], rows=(1, 0, 2)), "must be 1 to 2 for each sample"),
    (padded((4, 2), [2, 0, 1, 1], rows=(2, 2)), "2 samples and 0 skipped, must be 3 together"),
    (padded((2, 2), [2, 0], missing=1), None),
    (padded((2, 2), [2, 0], missing=2), "4 samples and 0 skipped, must be 3 together"),
    (padded((2, 2), [2, 0], missing=-1), "missing is -1, must be 0 unless"),
])
def test_check_looks_at_sides_that_differ_rows_and_missing_ones(output, message):
    a_job = replace(job("mine:own", arrays=(WORDS,)), rows=2, may_skip=True)
    if message is None:
        check(output, lease(THREE), a_job)
        return
    with pytest.raises(ValueError, match=message):
        check(output, lease(THREE), a_job)


def test_only_a_job_that_permits_it_may_miss_samples():
    with pytest.raises(ValueError, match="missing is 1, must be 0 unless the function is declared with may_skip=True"):
        check(padded((2, 2), [2, 0], missing=1), lease(THREE), job("mine:own", arrays=(WORDS,)))


PIXELS, LABELS = arrays()


@pytest.mark.parametrize("output, message", [
    ((PIXELS, LABELS), r"yielded a tuple, must be an Output\(arrays, skipped\)"),
    (None, "yielded a NoneType"),
    (Output((PIXELS,)), "position 17: yielded 1 arrays, must be 2: images, labels"),
    (Output(PIXELS), "arrays are a ndarray, must be a tuple"),
    (Output((PIXELS.tolist(), LABELS)), "'images' is a list, must be a numpy array"),
    (Output((PIXELS / 255.0, LABELS)), "'images' is of dtype float64, must be uint8"),
    (Output((PIXELS, LABELS.astype(np.int64))), "'labels' is of dtype int64, must be int32"),
    (Output((PIXELS, LABELS.astype(">i4"))), "'labels' is of dtype >i4, must be int32"),
    (Output((PIXELS.transpose((0, 2, 1, 3)), LABELS)),
     r"'images' is of shape \[3, 20, 12, 3\], must be \[n, 12, 20, 3\]"),
    (Output((PIXELS, LABELS[:, 0])), r"'labels' is of shape \[3\], must be \[n, 1\]"),
    (Output((PIXELS, np.array(1, np.int32))), r"'labels' is of shape \[\]"),
    (Output((PIXELS, LABELS[:2])), "different lengths: 'images' 3, 'labels' 2"),
    (Output((PIXELS[:2], LABELS[:2])), "2 samples and 0 skipped, must be 3 together"),
    (Output((PIXELS, LABELS), (Skipped(4, "bad"),)), "3 samples and 1 skipped, must be 3 together"),
    (Output((PIXELS[:2], LABELS[:2]), (Skipped(9, "bad"),)), "skipped the sample 9, which is not in the lease"),
    (Output((PIXELS[:1], LABELS[:1]), (Skipped(5, "bad"), Skipped(5, "bad"))), "sample 5, .* skipped before"),
    (Output((PIXELS[:2], LABELS[:2]), ((4, "bad"),)), r"skipped holds \(4, 'bad'\), must be Skipped"),
    (Output((PIXELS[:2], LABELS[:2]), (Skipped(4, ValueError("bad")),)), "must be Skipped"),
    (Output((PIXELS[:2], LABELS[:2]), 1), "skipped is a int, must be a tuple of Skipped"),
])
def test_check_says_what_is_wrong(output, message):
    with pytest.raises(ValueError, match=message) as caught:
        check(output, lease(THREE, position=17), job("my.module:mine"))
    assert str(caught.value).startswith("generator 'my.module:mine', batch at position 17: ")
