"""A run goes on with the samples that its checkpoint knows: the same plan, the same numbers, what is gone marked."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.orders import balanced
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.sample_list import ListError, packed_list
from stoker.pipeline.sources.table import Numbers
from stoker.trainer import cli
from stoker.trainer.parser import train_parser
from stoker.trainer.record.known_samples import (DATASET_CHANGED, KnownSamples, are_listed, has_changed, known_samples,
                                          recorded_hashes)
from stoker.trainer.run import prepare


def known_of(run):
    """What a checkpoint of ``run`` has beside it."""
    record = json.loads(json.dumps(run.fingerprint()))
    return known_samples(record, packed_list(run.source, run.datasets.validation if run.more["validation"] else None))


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    names = ["%s/%02d.jpg" % (name, number) for name in ("cat", "dog") for number in range(10)]
    return tmp_path / "photos", pictures(tmp_path / "photos", *names)


def batches(run):
    """Of each position, the samples by their names."""
    return [[[sample.name for sample in run.datasets.of(planned.training).samples(indices)]
             for indices in (planned.indices, planned.replacements)]
            for planned in map(run.plan.at, range(run.plan.positions))]


def gone(run):
    return {part.samples([index])[0].name for part in run.datasets for index in part.gone}


OPTIONS = dict(batch_size=4, epochs=2, seed=3, on_bad_image="replace")


@pytest.mark.parametrize("more", [dict(), dict(validation=0.3), dict(order=balanced()), dict(partners=2),
                                  dict(drop_last=True)], ids=str)
def test_a_folder_of_which_files_are_gone_and_to_which_others_came(photos, more):
    folder, data = photos
    options = dict(OPTIONS, **more)
    then = prepare(data, **options)
    known = known_of(then)
    assert prepare(data, known=known, **options).notes == ()
    (folder / "cat" / "05.jpg").unlink()
    pictures(folder, "cat/99.jpg", "ant/1.jpg")
    assert prepare(data, **options).fingerprint() != then.fingerprint()
    now = prepare(data, known=known, **options)
    assert now.fingerprint() == then.fingerprint() and batches(now) == batches(then) and gone(now) == {"cat/05.jpg"}
    assert now.source.classes == ("cat", "dog") and now.source.root == data
    assert now.notes == ("the data has changed (20 -> 21 samples; 1 is gone: cat/05.jpg; 2 are new, the first of them: "
                         "ant/1.jpg; other classes ('ant' is new)): going on with the 20 samples that the checkpoint "
                         "knows; what is gone counts as bad; what is new is not used",)


def test_a_class_that_is_gone(photos):
    folder, data = photos
    pictures(folder, "ant/1.jpg")
    then = prepare(data, **OPTIONS)
    shutil.rmtree(str(folder / "ant"))
    now = prepare(data, known=known_of(then), **OPTIONS)
    assert now.source.classes == ("ant", "cat", "dog") and gone(now) == {"ant/1.jpg"} and batches(now) == batches(then)


def test_all_classes_but_one_are_gone(photos, tmp_path):
    """A folder with one class is refused otherwise."""
    folder, data = photos
    then = prepare(data, **OPTIONS)
    known = known_of(then)
    shutil.rmtree(str(folder / "cat"))
    with pytest.raises(DatasetError, match="a single class"):
        prepare(data, **OPTIONS)
    for more in ({}, {"classes": ["cat", "dog"]}):
        now = prepare(data, known=known, **dict(OPTIONS, **more))
        assert now.fingerprint() == then.fingerprint() and batches(now) == batches(then) and len(gone(now)) == 10


def test_what_an_error_of_the_data_says_where_there_is_a_checkpoint(tmp_path):
    assert has_changed(str(tmp_path)) == has_changed(str(tmp_path / "none")) == ""
    (tmp_path / "stoker.json").write_text(json.dumps({"classes": {"dog": 1, "a cat\x1b": 0}}))
    assert has_changed(str(tmp_path)).endswith(" was made with the classes a cat\\x1b, dog: put the former data back")
    (tmp_path / "stoker-samples.gz").write_bytes(b"")
    assert has_changed(str(tmp_path), True, ["dog", "a cat\x1b"]).endswith(
        "or go on with the samples that it knows (--dataset-changed keep)")
    assert "--dataset-changed" not in has_changed(str(tmp_path))       # keep is impossible, or was given
    assert has_changed(str(tmp_path), True, ["dog", "a ca"]) == ""     # a slip in --classes
    for text in ("", "[]", "{}", '{"classes": 3}'):
        (tmp_path / "stoker.json").write_text(text)
        assert isinstance(has_changed(str(tmp_path)), str)


def test_which_errors_say_that_the_data_has_changed(photos, tmp_path):
    """Only those that a change of the data can cause, and not those of a mistyped option or name."""
    folder, data = photos
    place = tmp_path / "run"
    place.mkdir()
    (place / "stoker.json").write_text(json.dumps({"classes": {"cat": 0, "dog": 1}}))
    (place / "stoker-samples.gz").write_bytes(b"")
    np.save(str(tmp_path / "x.npy"), np.zeros((6, 8, 8, 3), np.uint8))
    np.save(str(tmp_path / "y.npy"), np.zeros(5, np.int64))
    with tarfile.open(str(tmp_path / "x.tar"), "w") as file:
        for name in ("0.jpg", "0.cls"):
            file.addfile(tarfile.TarInfo(name))
    (tmp_path / "none.csv").write_text("path,label\n")

    def sentence(*options):
        with pytest.raises(DatasetError) as caught:
            cli._prepared(train_parser().parse_args([str(option) for option in options]), str(place))
        return str(caught.value)
    for options in (["none.zip"], ["none"], ["none-*.tar"], ["x.tar", "--image-field", "jpeg"],
                    ["x.npy", "--label-field", tmp_path / "y.npy"]):
        assert "changed" not in sentence(tmp_path / options[0], *options[1:])
    assert "changed" not in sentence(data, "--classes", "cat,dgo")
    assert "changed" not in sentence(data, "--label-word", "bird")
    assert sentence(tmp_path / "none.csv").endswith("with the classes cat, dog: put the former data back")
    (folder / "dog").rename(tmp_path / "dog")
    for options in ([], ["--classes", "cat,dog"]):
        assert sentence(data, *options).endswith("or go on with the samples that it knows (--dataset-changed keep)")
    (folder / "cat").rename(tmp_path / "cat")
    assert sentence(data).endswith("with the classes cat, dog: put the former data back")


def test_a_folder_that_was_moved_and_changed(photos, tmp_path):
    folder, data = photos
    known = known_of(prepare(data, **OPTIONS))
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved" / "cat" / "00.jpg").unlink()
    now = prepare(str(tmp_path / "moved"), known=known, **OPTIONS)
    assert now.source.root == str(tmp_path / "moved") and gone(now) == {"cat/00.jpg"}


def test_validation_data_that_has_changed(photos, tmp_path):
    _, data = photos
    held = pictures(tmp_path / "held", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
    then = prepare(data, validation=held, **OPTIONS)
    known = known_of(then)
    (tmp_path / "held" / "cat" / "2.jpg").unlink()
    now = prepare(data, validation=held, known=known, **OPTIONS)
    assert now.fingerprint() == then.fingerprint() and batches(now) == batches(then) and gone(now) == {"held/cat/2.jpg"}
    assert now.notes[0].startswith("the validation data has changed (3 -> 2 samples; 1 is gone: held/cat/2.jpg)")


def test_a_label_word(photos):
    folder, data = photos
    options = dict(OPTIONS, label_word="cat")
    then = prepare(data, **options)
    (folder / "dog" / "03.jpg").rename(folder / "dog" / "03cat.jpg")
    now = prepare(data, known=known_of(then), **options)
    assert gone(now) == {"dog/03.jpg"} and now.fingerprint() == then.fingerprint()


def test_rows_that_were_edited_appended_and_removed(tmp_path):
    file = tmp_path / "log.csv"
    lines = ["path,x"] + ["%d.jpg,%d" % (number, number) for number in range(20)]
    file.write_text("\n".join(lines) + "\n")
    options = dict(OPTIONS, generator="mine:function", arrays={"x": "float32"},
                   order=balanced(lambda row: row["x"] % 3))
    then = prepare(str(file), **options)
    lines[3], lines[8:9] = "2.jpg,77", []
    file.write_text("\n".join(lines + ["new.jpg,0.5"]) + "\n")        # and the column is of floats now
    now = prepare(str(file), known=known_of(then), **options)
    assert now.fingerprint() == then.fingerprint()
    assert sorted(now.source.gone) == [2, 7] and now.source.rows([2]) == [{"path": "2.jpg", "x": 2}]
    assert "changed (2 are gone, the first of them: row 2" in now.notes[0]


def test_a_number_of_samples():
    options = dict(OPTIONS, generator="mine:function", arrays={"x": "float32"})
    then = prepare(20, **options)
    now = prepare(18, known=known_of(then), **options)
    assert now.fingerprint() == then.fingerprint() and gone(now) == {"sample 18", "sample 19"}


def test_what_cannot_be_kept(photos):
    folder, data = photos
    then = prepare(data, **OPTIONS)
    record, packed = then.fingerprint(), packed_list(then.source, None)
    (folder / "cat" / "05.jpg").unlink()
    for lists, words in ((None, "it is old"), (packed[:-9], "it is torn or damaged"), (packed_list(Numbers(3), None),
                                                                                       "it is of other data")):
        with pytest.raises(ConfigError, match=words):
            prepare(data, known=known_samples(record, lists, "it is old"), **OPTIONS)
        with pytest.raises(ListError):
            known_samples(record, lists, "it is old").changes("dataset", prepare(data, **OPTIONS).source)
    shutil.rmtree(str(folder))
    pictures(folder, "cat/1.gif", "dog/1.gif")
    with pytest.raises(DatasetError, match="not one of the 20 samples that the checkpoint knows"):
        prepare(data, known=known_of(then), **OPTIONS)


def test_whether_a_list_is_of_all_samples(photos):
    run = prepare(photos[1], **OPTIONS)
    record, packed = run.fingerprint(), packed_list(run.source, None)
    assert are_listed(record, io.BytesIO(packed)) and isinstance(known_samples(record, packed), KnownSamples)
    assert not are_listed(dict(record, validation="0123456789abcdef"), io.BytesIO(packed))
    for other in (b"", packed[:-1], packed_list(Numbers(3), None), packed_list(None, run.source)):
        assert not are_listed(record, io.BytesIO(other))
    assert DATASET_CHANGED == ("refuse", "keep")


# ---------------------------------------------------------------------------------------------------- former releases

def of_former_rules(folder, *paths):
    """The hash that a release had of the folder which took these files."""
    names = sorted({path.split("/")[0] for path in paths})
    return Dataset(folder, tuple(names), paths, tuple(names.index(path.split("/")[0]) for path in paths),
                   ()).fingerprint()


def test_a_checkpoint_by_former_rules_goes_on(photos):
    """Before, thumbnails in @eaDir counted, and no .jfif."""
    folder, data = photos
    plain = sorted("%s/%02d.jpg" % (name, number) for name in ("cat", "dog") for number in range(10))
    pictures(folder, "cat/@eaDir/1.jpg", "cat/@eaDir/2.jpg", "cat/zz.jfif")
    former = sorted(plain + ["cat/@eaDir/1.jpg", "cat/@eaDir/2.jpg"])
    now = prepare(data, **OPTIONS)
    assert "cat/zz.jfif" in now.source.paths and len(now.source) == 21 and now.notes == ()
    saved = of_former_rules(data, *former)
    run = prepare(data, recorded={"dataset": saved}, **OPTIONS)
    assert list(run.source.paths) == former and run.source.fingerprint() == run.fingerprint()["dataset"] == saved
    assert run.notes == ("the checkpoint is of an older release, and the run goes on with its 22 samples of the data: "
                         "2 files in folders of the system count, such as cat/@eaDir/1.jpg; 1 file .jpe, .jfif or .jif"
                         ", such as cat/zz.jfif, does not; in a new --checkpoint-dir, it is the other way round",)
    for other in (None, now.source.fingerprint(), of_former_rules(data, *former[1:]), 7):
        assert batches(prepare(data, recorded={"dataset": other}, **OPTIONS)) == batches(now)
    record = dict(run.fingerprint(), dataset=saved)
    known = known_samples(json.loads(json.dumps(record)), None, "it is old")
    assert prepare(data, known=known, recorded=known.hashes, **OPTIONS).notes == run.notes       # with "keep", too


def test_a_class_by_former_rules(photos):
    folder, data = photos
    pictures(folder, "@eaDir/1.jpg")
    former = sorted(["@eaDir/1.jpg"] + list(prepare(data, **OPTIONS).source.paths))
    run = prepare(data, recorded={"dataset": of_former_rules(data, *former)}, **OPTIONS)
    assert run.source.classes == ("@eaDir", "cat", "dog") and "1 file in folders of the system" in run.notes[0]


@pytest.mark.parametrize("both", [False, True])
def test_validation_data_by_former_rules(photos, tmp_path, both):
    """A class of its own did not count there."""
    folder, data = photos
    held = ["cat/1.jpg", "dog/1.jpg", "dog/@eaDir/1.jpg"]
    pictures(tmp_path / "held", "@eaDir/1.jpg", *held)
    options = dict(OPTIONS, validation=str(tmp_path / "held"))
    then = prepare(data, **options)
    validation = Dataset(str(tmp_path), ("cat", "dog"), tuple("held/" + path for path in held), (0, 1, 1), ())
    recorded = {"dataset": then.source.fingerprint(), "validation": validation.fingerprint()}
    if both:
        pictures(folder, "cat/@eaDir/1.jpg")
        recorded["dataset"] = of_former_rules(data, *sorted(then.source.paths + ("cat/@eaDir/1.jpg",)))
    run = prepare(data, recorded=recorded, **options)
    assert run.datasets.validation.paths == validation.paths and len(run.notes) == 1 + both
    assert "3 samples of the validation data: 1 file in folders" in run.notes[-1]
    assert {key: run.fingerprint()[key] for key in recorded} == recorded
    assert len(run.datasets.training) == 20 + both


def test_the_hashes_that_a_checkpoint_has(tmp_path):
    assert recorded_hashes(str(tmp_path)) == recorded_hashes(str(tmp_path / "none")) == {}
    for text, hashes in (("", {}), ("[]", {}), ("{}", {}), ('{"dataset": "ab", "x": 1}', {"dataset": "ab",
                                                                                          "validation": None})):
        (tmp_path / "stoker.json").write_text(text)
        assert recorded_hashes(str(tmp_path)) == hashes
