"""Record files and URLs at the doors: what a path is by its suffix, what is refused, and what a record keeps of it."""

import argparse
import io
import json
import logging
import os
import tarfile
import zipfile

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError, DatasetError, StokerError
from stoker.pipeline.joining import worker_command
from stoker.pipeline.options import StreamOptions
from stoker.pipeline.sources.data_files import is_pattern, open_file, open_records, suffix_of
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.reading import csv, jsonl
from stoker.pipeline.sources.records.source import RecordSource
from stoker.pipeline.sources.splits import open_splits
from stoker.pipeline.sources.table import Table
from stoker.trainer.data_options import add_csv, add_records, name_of_data, opened
from stoker.trainer.feed import roots_of
from stoker.trainer.record.arguments import Arguments, Places, described
from stoker.trainer.run import prepare

PICTURE = b"\xff\xd8\xff picture"


def write_tar(path, first, count, label=True):
    with tarfile.open(str(path), "w") as tar:
        for number in range(first, first + count):
            parts = [("jpg", PICTURE + b"%d" % number)] + [("cls", b"%d" % (number % 2))] * label
            for end, data in parts:
                member = tarfile.TarInfo("%05d.%s" % (number, end))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with record files, and a folder of pictures."""
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(3):
        write_tar(tmp_path / ("train-%03d.tar" % number), 4 * number, 4)
    write_tar(tmp_path / "val.tar", 100, 1)
    with zipfile.ZipFile(str(tmp_path / "photos.zip"), "w") as archive:
        for name in ("cat/1.jpg", "dog/2.jpg"):
            archive.writestr(name, PICTURE)
    np.save(str(tmp_path / "x.npy"), np.zeros((6, 4, 4, 3), np.uint8))
    np.save(str(tmp_path / "y.npy"), np.arange(6) % 2)
    for path in ("photos/0/1.jpg", "photos/1/2.jpg", "folder.tar/0/1.jpg", "folder.tar/1/2.jpg"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(PICTURE)
    for name in ("bare-00000-of-00001", "x.tar.gz", "x.parquet"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def sentence_of(call, *arguments, **options):
    with pytest.raises(StokerError) as caught:
        call(*arguments, **options)
    assert isinstance(caught.value, (ConfigError, DatasetError))
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence.replace(os.getcwd(), "")) < 700
    return sentence


# ------------------------------------------------------------------------------------------------------------- sources

@pytest.mark.parametrize("data, count, classes", [
    ("train-*.tar", 12, ("0", "1")), ("train-{000..001}.tar", 8, ("0", "1")), ("train-00[12].tar", 8, ("0", "1")),
    ("val.tar", 1, ("0",)), ("photos.zip", 2, ("cat", "dog")), ("x.npy", 6, ())])
def test_record_files_by_their_suffix(data, count, classes, here):
    source = open_source(data)
    assert isinstance(source, RecordSource)
    assert (len(source), source.classes, source.root) == (count, classes, str(here))
    assert source.has_paths and "//" in source.samples([0])[0].path


def test_options_of_record_files(here):
    assert open_source("train-*.tar", classes=["even", "odd"]).classes == ("even", "odd")
    assert open_source("train-*.tar", labels=False).classes == ()
    source = open_source(str(here / "train-000.tar"), root=str(here.parent))
    assert source.samples([0])[0].path.startswith(here.name + "/train-000")
    assert open_source("train-000.tar", root=str(here)).root == str(here)          # relative patterns start there
    source = stoker.tar("train-*.tar")
    assert open_source(source) is source
    assert open_source(source, root=str(here.parent)).root == str(here.parent)
    assert "does not contain" in sentence_of(open_source, source, root=str(here / "photos"))


def test_a_folder_of_record_files_says_what_to_give(here):
    os.makedirs("records/deep")
    os.link("train-000.tar", "records/deep/train-000.tar")
    pattern = str(here / "records" / "deep" / "*.tar")
    for options in ({}, {"labels": False}):
        assert "; these are record files: give %r" % pattern in sentence_of(open_source, "records", **options)
    assert len(open_source(pattern)) == 4
    assert "record files" not in sentence_of(open_source, "photos/0/")


def test_a_folder_of_files_without_a_suffix_says_what_to_give(here):
    os.makedirs("parts")
    os.link("train-000.tar", "parts/train-00000-of-00002")
    pattern = str(here / "parts" / "train-*-of-00002")
    assert "; if these are TFRecord files, give stoker.tfrecord(%r), or %r --records tfrecord" % (
        pattern, pattern) in sentence_of(open_source, "parts")


def test_a_folder_with_the_suffix_of_a_file_wins(here):
    assert open_source("folder.tar").paths == ("0/1.jpg", "1/2.jpg")


@pytest.mark.parametrize("data, options, sentence", [
    ("bare-*", {}, "is a pattern, and files that match one are given as stoker.files('bare-*'); record files whose"),
    ("bare-{00000..00001}-of-00001", {}, "stoker.tfrecord('bare-{00000..00001}-of-00001')"),
    ("bare-00000-of-00001", {}, "is a file, and its name does not say what it holds"),
    ("x.tar.gz", {}, "x.tar.gz is compressed, or holds samples in another way"),
    ("x.parquet", {}, "convert it with stoker-pack"),
    ("none-*.tar", {}, "no file matches none-*.tar"),
    ("none.tar", {}, "none.tar"),
    ("x.h5", {}, "Stoker must know which of its datasets has the samples: give stoker.hdf5('x.h5', \"NAME\")"),
    ("train-*.tar", {"label_word": "cat"}, "label_word= (--label-word) is for a folder of images"),
    ("train-*.tar", {"exclude": "x"}, "exclude= (--exclude) is for a folder of images, and the data is the file train"),
    ("train-*.tar", {"generator": "numerical"}, "needs a number of records"),
    (["train-000.tar", "train-001.tar"], {},
     "the data is a list of record files: give stoker.tar([...]); or stoker.files([...]) if each file is one sample"),
    ("http://127.0.0.1:9/photos", {}, "is on a web server, which does not list its folders"),
    ("http://127.0.0.1:9/x.tar?key=1", {}, "take it out"),
    ("s3://user:word@bucket/photos", {}, "take it out"),
    ("s3://user:word@bucket/x.csv", {}, "take it out"),
    ("ftp://bucket/photos", {}, "does not read ftp://"),
    ("s3:///photos", {}, "must name a bucket"),
    (["s3://bucket/1.jpg"], {"root": "s3://other"}, "is not in s3://other as the others are"),
    (["s3://bucket/1.jpg"], {"root": "/"}, "is the URL s3://bucket/1.jpg, and all files of a run lie below one"),
    (["1.jpg"], {"root": "s3://user:word@bucket"}, "take it out")])
def test_refusals(data, options, sentence, here):
    found = sentence_of(open_source, data, **options)
    assert sentence in found and "user:word" not in found and "key=1" not in found


def test_rows_and_lists_with_urls(here):
    (here / "log.csv").write_text("path,y\n1.jpg,2\n")
    (here / "log.jsonl").write_text('{"path": "1.jpg"}\n')
    (here / "list.txt").write_text("s3://bucket/a/1.jpg\ns3://bucket/b/2.jpg\n")
    for read, name in ((csv, "log.csv"), (jsonl, "log.jsonl")):
        assert read(name, root="S3://bucket/photos/").root == "s3://bucket/photos"
        assert read(name).root == str(here)
    assert open_source("log.csv", root="gs://bucket").root == "gs://bucket"
    data = open_source("list.txt")
    assert (data.root, data.paths) == ("s3://bucket", ("a/1.jpg", "b/2.jpg"))
    assert open_source("list.txt", root="s3://bucket").paths == data.paths
    assert "not below the root s3://bucket/a" in sentence_of(open_source, "list.txt", root="s3://bucket/a")
    assert open_source([{"x": 1}], root="s3://bucket").root == "s3://bucket"
    assert open_source(5, root="s3://bucket").root == "s3://bucket"
    data = Dataset("s3://bucket/a", (), ("1.jpg",), (-1,), ())
    assert open_source(data, root="s3://bucket").paths == ("a/1.jpg",)
    assert "does not contain" in sentence_of(open_source, data, root="s3://other")


def test_probes_of_rows_ask_a_store_for_a_few_files_only(monkeypatch):
    from stoker.pipeline.sources import remote
    from stoker.pipeline.storage.store import Entry, Gone, Unavailable, Version
    asked = []

    class Store:
        def size(self, path):
            asked.append(path)
            if path.startswith("away"):
                raise Unavailable("away")
            if path.startswith("gone"):
                raise Gone("gone")
            return Entry(path, Version(1, (0, 0, 0, 0)))
    monkeypatch.setattr(remote, "store_of", lambda root: Store())

    def probes(*names):
        del asked[:]
        return Table.of([{"path": name, "word": "cat", "odd": "../x.jpg", "y": 5} for name in names],
                        "s3://bucket/a").probes(8)
    assert probes(*("%d.jpg" % number for number in range(50))) == ("0.jpg", "7.jpg") and len(asked) == 2
    assert probes("s3://bucket/a/1.jpg", "s3://other/2.jpg") == ("1.jpg",)
    assert probes(*("gone/%d.jpg" % number for number in range(50))) == () and len(asked) <= 8
    assert probes("away/1.jpg", "2.jpg", "3.jpg") == () and len(asked) == 1


# ---------------------------------------------------------------------------------------------- training and validation

def test_validation_of_record_files(here, caplog):
    training = open_source("train-*.tar")
    part = open_splits(training, 0.25, 1)
    assert (len(part.training), len(part.validation)) == (8, 4) or len(part.validation) == 2
    found = open_splits(training, "val.tar", 1)
    assert found.validation.classes == ("0", "1") and len(found.validation) == 1
    found = open_splits(training, open_source("val.tar"), 1)
    assert found.validation.classes == ("0", "1")
    found = open_splits(training, "photos", 1)
    assert found.validation.classes == ("0", "1") and found.validation.root == found.training.root == str(here)
    assert found.validation.paths == ("photos/0/1.jpg", "photos/1/2.jpg")
    found = open_splits(open_source("photos"), "train-*.tar", 1)
    assert (found.training.paths[0], len(found.validation)) == ("photos/0/1.jpg", 12)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        open_splits(training, "train-001.tar", 1)
    assert "4 of the 4 samples for validation are trained on too, such as train-001.tar//" in caplog.text


def test_a_part_of_record_files_is_recorded_by_the_list_of_its_samples(here):
    whole = open_source("train-*.tar")
    parts = whole.split(0.25, 1)
    run = prepare(parts.training, validation=parts.validation)
    kept = described(run, StreamOptions())["arguments"]
    assert kept["data"] == kept["validation"] == {"listed": str(here)}
    assert whole.below("/").opened_by is None
    run = prepare(whole.split(0.0, 1).training)
    assert "records" in described(run, StreamOptions())["arguments"]["data"]


def test_a_class_that_only_validation_has_is_an_error_as_in_folders(here):
    with zipfile.ZipFile("val.zip", "w") as archive:
        for name in ("dog/1.jpg", "eel/2.jpg"):
            archive.writestr(name, PICTURE)
    with pytest.raises(DatasetError, match=r"that training lacks \(in val.zip\), and training has \(cat, dog\)"):
        open_splits(open_source("photos.zip"), "val.zip", 1)
    for found in (open_splits(open_source("photos.zip", classes=["cat", "dog"]), "val.zip", 1, classes=["cat", "dog"]),
                  open_splits(stoker.zip("photos.zip", classes=["cat", "dog"]), "val.zip", 1)):
        assert found.validation.labels.tolist() == [1] and found.validation.left_out


def test_roots_of_training_and_validation():
    def data(root):
        return Dataset(root, (), ("1.jpg",), (-1,), ())
    found = open_splits(data("s3://bucket/a/train"), data("s3://bucket/a/val"), 1)
    assert found.training.root == found.validation.root == "s3://bucket/a" and found.validation.paths == ("val/1.jpg",)
    assert roots_of(found) == ("s3://bucket/a",)
    for other in ("s3://other/val", "/data/val", "gs://bucket/a/val"):
        assert "workers have one root: copy them into one store" in sentence_of(
            open_splits, data("s3://bucket/a/train"), data(other), 1)


# -------------------------------------------------------------------------------------------------------- command lines

def parsed(*given):
    parser = argparse.ArgumentParser()
    add_csv(parser.add_argument)
    add_records(parser.add_argument)
    parser.add_argument("--root")
    parser.add_argument("--columns", type=lambda text: text.split(","))
    return parser.parse_args(list(given))


def test_options_of_the_command_line(here):
    assert opened("train-*.tar", parsed()) == "train-*.tar"
    assert opened("photos", parsed("--records", "tar"), is_data=False) == "photos"
    source = opened("train-*.tar", parsed("--label-field", "none"))
    assert source.classes == () and source.opened_by["options"]["label"] is None
    source = opened("train-*.tar", parsed("--columns", "cls", "--label-field", "none", "--image-field", "jpg"))
    assert source.rows([1])[0]["cls"] in (1, "1", b"1")
    assert opened("train-*.tar", parsed("--records", "tar"), True, ["even", "odd"]).classes == ("even", "odd")
    assert opened("train-*.tar", parsed("--records", "tar"), True, None, False).classes == ()
    assert opened("x.npy", parsed("--label-field", "y.npy")).classes == ("0", "1")
    os.rename("val.tar", "bare-of-1")
    assert len(opened("bare-of-1", parsed("--records", "tar"))) == 1
    assert len(opened("bare-of-1", parsed("--records", "tar"), is_data=False)) == 1
    assert "--image-field is for record files, and DATA is photos" in sentence_of(
        opened, "photos", parsed("--image-field", "x"))
    assert opened("photos", parsed("--image-field", "x"), is_data=False) == "photos"
    assert opened(0.2, parsed("--image-field", "x"), is_data=False) == 0.2


def test_a_folder_in_an_archive(here):
    with zipfile.ZipFile("a.zip", "w") as archive:
        for number in range(4):
            archive.writestr("top/photos/%s/%d.jpg" % ("ab"[number % 2], number), b"\xff\xd8\xff")
    given = parsed("--folder", "top/photos")
    assert opened("a.zip", given).classes == ("a", "b")
    assert opened("a.zip", given, is_data=False).classes == ("a", "b"), "the validation data are such a file, too"
    assert len(opened("x.npy", given, is_data=False)) == 6 and opened("photos", given, is_data=False) == "photos"
    assert "folder= is for tar and zip files, and the data is x.npy" in sentence_of(opened, "x.npy", given)
    assert "--folder is for record files, and DATA is photos" in sentence_of(opened, "photos", given)
    assert "(top), and" in sentence_of(open_file, "a.zip", None) and "give folder='top/photos'" in sentence_of(
        open_records, "zip", "a.zip", None, None, {"folder": "top"})


@pytest.mark.parametrize("data, name", [
    ("photos", "photos"), ("photos/", "photos"), ("log.csv", "log"), ("a/train-*.tar", "train"),
    ("train-{000..099}.tar", "train"), ("train-*-of-00010", "train-of-00010"), ("a/*.tar", "a"), ("a/**/*.tar", "a"),
    ("s3://bucket/photos/", "photos"), ("s3://bucket", "bucket"), ("s3://bucket/a/log.csv", "log"),
    ("s3://bucket/a/{0..3}.tfrecord", "a"), ("http://host:80/x.tar", "x"), ("*.tar", "here")])
def test_names_of_runs(data, name, here, monkeypatch):
    (here / "here").mkdir()
    monkeypatch.chdir(str(here / "here"))
    assert name_of_data(data) == name


def test_suffixes_and_patterns(here):
    assert suffix_of("s3://bucket/X.TFRecords") == ".tfrecords" and suffix_of("x{0,1}.tar") == ".tar"
    assert suffix_of("folder.tar") == "" and suffix_of("x.jpg") == "" and suffix_of("s3://bucket/a") == ""
    assert is_pattern("a*") and is_pattern("a{0..9}") and is_pattern("a{b,c}") and not is_pattern("a{b}")


def test_the_command_of_workers_names_the_url():
    assert "--data s3://bucket/a" in worker_command("tcp://127.0.0.1:1", None, (), "s3://bucket/a")
    assert "--data 's3://bucket/a b'" in worker_command("tcp://host:1", None, (), "s3://bucket/a b")
    assert "--data" not in worker_command("tcp://127.0.0.1:1", None, (), "/data")
    assert "--data DIR" in worker_command("tcp://host:1", None, (), "/data")


# -------------------------------------------------------------------------------------------------------------- records

@pytest.mark.parametrize("data", ["train-*.tar", ["train-000.tar", "train-002.tar"]])
@pytest.mark.parametrize("is_opened", [True, False])
def test_a_run_over_record_files_is_opened_again(data, is_opened, here, tmp_path_factory, monkeypatch):
    if is_opened or isinstance(data, list):
        data = stoker.tar(data, classes=["even", "odd"], columns=["cls"])
    run = prepare(data, validation="val.tar")
    saved = json.loads(json.dumps(described(run, StreamOptions())))
    moved = tmp_path_factory.mktemp("moved")
    monkeypatch.chdir(str(moved))
    found = Arguments(saved)
    again = prepare(found.data("data", Places(found.below)), validation=found.data("validation", Places(found.below)))
    assert again.fingerprint() == run.fingerprint() and again.source.columns == run.source.columns
    for name in os.listdir(str(here)):
        if name.endswith(".tar") and os.path.isfile(str(here / name)):
            os.rename(str(here / name), str(moved / name))
    places = Places(found.below, str(moved))
    again = prepare(found.data("data", places), validation=found.data("validation", places))
    assert again.fingerprint() == run.fingerprint() and again.source.root == str(moved)


def test_places_of_recorded_data():
    places = Places("/data/a", "s3://bucket/b")
    assert places.of("/data/a") == "s3://bucket/b" and places.of("/data/a/x.tar") == "s3://bucket/b/x.tar"
    assert places.of("/data/ab/x.tar") == "/data/ab/x.tar"
    places = Places("s3://bucket/b", "/data/a")
    assert places.of("s3://bucket/b/x/y.tar") == "/data/a/x/y.tar" and places.of("s3://bucket/bc") == "s3://bucket/bc"
    assert Places("/data", None).of("/data/x") == "/data/x" and Places("", "/x").of("/data") == "/data"
    assert Places("/", "/mnt").of("/data/x") == "/mnt/data/x"


def test_urls_are_recorded_as_they_are():
    data = Dataset("s3://bucket/a", ("x", "y"), ("x/1.jpg", "y/2.jpg"), (0, 1), ())
    saved = described(prepare(data), StreamOptions())
    assert saved["below"] == "s3://bucket/a" and saved["arguments"]["data"] == {"listed": "s3://bucket/a"}


def test_records_that_are_gone_have_places_behind_any_file(here):
    source = stoker.tar("train-*.tar")
    gone = source.with_gone([1])
    assert gone.samples([0]) == source.samples([0]) and gone.fingerprint() == source.fingerprint()
    assert gone.samples([1])[0].path.startswith("train-000.tar//549755813888+")
    assert b"549755813888" in gone.samples([1])[0].packed or not gone.packs
