"""What a checkpoint is tied to: each argument that changes batches, and no other."""

import pytest

import stoker
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
