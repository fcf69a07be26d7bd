"""What a checkpoint is tied to: each argument that changes batches, and no other."""

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError
from stoker.trainer.feed import open_stream
from stoker.trainer.run import prepare

ROWS = [{"kind": "ab"[number % 2], "weight": number} for number in range(12)]


@stoker.sample({"x": "int32"})
def one(sample, random):
    return sample.index


@stoker.sample({"x": "int32"}, rows=2)
def two(sample, random):
    return [sample.index]


def fingerprint(data=ROWS, function=one, **options):
    return prepare(data, function, **dict({"batch_size": 3, "validation": 0.25}, **options)).fingerprint()


@pytest.mark.parametrize("options", [
    dict(data=ROWS[:-1]), dict(data=ROWS[1:] + ROWS[:1]), dict(data=ROWS[:-1] + [{"kind": "b", "weight": 12}]),
    dict(data=[list(row.values()) for row in ROWS]), dict(data=12, validation=3), dict(validation=None),
    dict(validation=0.5), dict(validation=ROWS[:3]), dict(validation=ROWS[3:6]), dict(validation=3), dict(function=two),
    dict(arrays={"x": "int64"}), dict(arrays={"x": ("int32", (stoker.UpTo(3),))}),
    dict(arrays={"x": ("int32", (3,))}), dict(arrays={"x": ("int32", (stoker.UpTo(3, pad=1),))}), dict(drop_last=True),
    dict(order="sequential"), dict(order=stoker.balanced("kind")), dict(order=stoker.balanced("kind", steps=4)),
    dict(order=stoker.weighted("weight")), dict(order=stoker.weighted([1] * 9)), dict(order=lambda epoch, random: [0]),
    dict(order=lambda epoch, random: [1]), dict(partners=1), dict(partners=2), dict(partners=lambda index, random: [0]),
    dict(partners=lambda index, random: [1]), dict(training=False, validation=None), dict(seed=1), dict(batch_size=5),
    dict(on_bad_image="replace")])
def test_what_changes_batches_changes_the_fingerprint(options):
    prints = [fingerprint(), fingerprint(**options)]
    assert prints[0] != prints[1] and prints == [fingerprint(), fingerprint(**options)]


@pytest.mark.parametrize("options, others", [
    ({}, dict(epochs=7)), ({}, dict(on_bad_image="raise")), ({}, dict(root="/")), ({}, dict(order=None)),
    ({}, dict(arrays={"x": "int32"})), ({}, dict(partners=None)), ({}, dict(validation=None, validation_split=0.25)),
    (dict(validation=None), dict(validation=0)), (dict(validation=None), dict(validation=0.0)),
    (dict(validation=ROWS[:3]), dict(validation=iter(ROWS[:3])))])
def test_what_changes_no_batch_does_not(options, others):
    assert fingerprint(**options) == fingerprint(**others)


def test_the_folder_of_the_program_does_not_matter(tmp_path):
    for folder in ("here", "there", "here/train", "there/train", "here/train/a", "there/train/a", "here/train/b",
                   "there/train/b"):
        (tmp_path / folder).mkdir()
        if "train/" in folder:
            (tmp_path / folder / "1.png").write_bytes(b"")
    prints = [prepare(str(folder / "train"), augment=str(folder / "program.py:vary")).fingerprint()
              for folder in (tmp_path / "here", tmp_path / "there")]
    assert prints[0] == prints[1] and prints[0]["augment"] == "program.py:vary"


@pytest.mark.parametrize("share", [0.25, np.float32(0.25), np.float64(0.25)])
def test_a_share_for_validation_by_its_older_name(share):
    run = prepare(100, "numerical", validation_split=share)
    assert (len(run.datasets.training), len(run.datasets.validation)) == (75, 25)
    assert run.fingerprint() == prepare(100, "numerical", validation=share).fingerprint()
    assert type(run.fingerprint()["validation_split"]) is float


@pytest.mark.parametrize("share, sentence", [
    (1, "must be at least 0 and below 1"), (1.0, "must be at least 0 and below 1"),
    (True, "must be a share"), ("0.2", "must be a share"), (None, "must be a share")])
def test_what_is_no_share(share, sentence):
    with pytest.raises(ConfigError, match=sentence):
        prepare(100, "numerical", validation_split=share)


def test_no_validation_is_the_same_run_however_it_is_said():
    same = prepare(100, "numerical").fingerprint()
    for none in (None, 0, 0.0):
        assert prepare(100, "numerical", validation=none).fingerprint() == same
    assert prepare(100, "numerical", validation=5).fingerprint() != same


@pytest.mark.parametrize("argument, words", [("batchsize", "'batchsize': did you mean batch_size?"),
                                             ("prefetsh", "did you mean prefetch?"),
                                             ("shuffle", "'shuffle': it has .*prefetch.*, order, ")])
def test_an_argument_that_open_stream_does_not_have(argument, words):
    with pytest.raises(TypeError, match="open_stream has no argument .*" + words):
        open_stream(3, "numerical", **{argument: 1})


def oldgen():
    yield


def plain(sample, random):
    return 1


@pytest.mark.parametrize("function, words", [(oldgen, "over leases.*takes? too many|too many positional.*stoker.batch"),
                                             (plain, "but a function: .*decorate it with @stoker.sample")])
def test_a_function_that_is_not_decorated(function, words):
    with pytest.raises(ConfigError, match=words):
        prepare(ROWS, function)
