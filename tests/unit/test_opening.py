"""Data of any kind becomes a source, and training and validation belong together."""

import os
import types

import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, DatasetError, StokerError
from stoker.pipeline.protocol.messages import Sample
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.sources import opening
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.splits import open_splits
from stoker.pipeline.sources.reading import csv, files
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.sources.table import Numbers, Table


def tree(root, *paths):
    for path in paths:
        whole = os.path.join(str(root), path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        open(whole, "wb").close()
    return str(root)


def written(path, text):
    with open(str(path), "w") as file:
        file.write(text)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with data of each kind."""
    monkeypatch.chdir(str(tmp_path))
    tree(tmp_path, "photos/cat/1.jpg", "photos/cat/2.jpg", "photos/dog/1.jpg", "photos/dog/2.jpg", "held/dog/3.jpg",
         "loose/1.jpg", "loose/deep/2.jpg")
    written(tmp_path / "log.csv", "path,y\n1.jpg,0.5\n2.jpg,1\n3.jpg,2\n")
    written(tmp_path / "log.tsv", "path\ty\n1.jpg\t0.5\n")
    written(tmp_path / "boxes.jsonl", '{"boxes": []}\n{"boxes": [[1, 2]]}\n')
    written(tmp_path / "list.txt", "photos/cat/1.jpg\n\nloose/1.jpg\n")
    return tmp_path


def sentence_of(call, *arguments, **options):
    with pytest.raises(StokerError) as caught:
        call(*arguments, **options)
    assert isinstance(caught.value, (ConfigError, DatasetError))
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable() and len(sentence) < 400
    return sentence


# ---------------------------------------------------------------------------------------- one source

def test_paths_of_folders_and_files(here):
    assert open_source("photos") == scan_folder("photos") == open_source(here / "photos/")
    assert open_source("log.csv").rows([0]) == [{"path": "1.jpg", "y": 0.5}] == open_source(here / "log.tsv").rows([0])
    assert open_source("boxes.jsonl").rows([1]) == [{"boxes": [[1, 2]]}]
    listed = open_source("list.txt")
    assert (listed.root, listed.paths, listed.classes) == (str(here), ("photos/cat/1.jpg", "loose/1.jpg"), ())
    assert open_source("log.csv", root="photos").root == str(here / "photos")
    assert open_source("list.txt", root="/data").samples([0]) == (Sample(0, "photos/cat/1.jpg", -1),)
    tree(here, "set.csv/a/1.jpg", "set.csv/b/1.jpg")
    assert open_source("set.csv").classes == ("a", "b")
    written(here / "names.txt", "")
    assert sentence_of(open_source, "names.txt").startswith("names.txt is empty")
    written(here / "names.txt", "1.jpg\n../2.jpg\n")
    assert sentence_of(open_source, "names.txt").startswith("names.txt: row 1, ")
    assert "missing.csv cannot be read" in sentence_of(open_source, "missing.csv")
    assert "missing cannot be read" in sentence_of(open_source, "missing")
    assert "stoker.files('photos/*.jpg')" in sentence_of(open_source, "photos/*.jpg")
    assert ("classes= (--classes) is for a folder of images, and the data is the file list.txt, a list of paths: "
            in sentence_of(open_source, "list.txt", classes=["cat"]))


def test_the_options_of_folders(here):
    assert open_source("photos", classes=["dog", "cat"]).classes == ("dog", "cat")
    assert open_source("loose", labels=False).paths == ("1.jpg", "deep/2.jpg")
    assert open_source("photos", label_word="dog").labels == (0, 0, 1, 1)
    assert open_source("photos", root=".").paths[0] == "photos/cat/1.jpg"
    assert "does not contain" in sentence_of(open_source, "photos", root="held")
    for data in ("log.csv", [1], 5, csv("log.csv"), open_source("photos")):
        assert "classes= (--classes) is for a folder of images" in sentence_of(open_source, data, classes=["a", "b"])
        assert "label_word= (--label-word) is for a folder of images" in sentence_of(open_source, data, label_word="a")


def test_rows_and_paths(here):
    rows = [{"x": 1}, {"x": np.float32(0.5)}]
    for data in (rows, tuple(rows), iter(rows), (row for row in rows)):
        source = open_source(data)
        assert source.rows([0, 1]) == [{"x": 1}, {"x": 0.5}] and source.root == str(here)
    assert open_source(np.eye(2)).rows([1]) == [[0.0, 1.0]]
    assert open_source(range(3)).rows([2]) == [2]
    assert open_source(rows, root="photos").root == str(here / "photos")
    for data in (["photos/cat/1.jpg", "photos/dog/1.jpg"], iter([here / "photos/cat/1.jpg", "photos/dog/1.jpg"]),
                 np.array(["photos/cat/1.jpg", "photos/dog/1.jpg"])):
        source = open_source(data)
        assert (source.root, source.paths) == (str(here / "photos"), ("cat/1.jpg", "dog/1.jpg"))
    assert open_source(["cat/1.jpg"], root="photos").samples([0]) == (Sample(0, "cat/1.jpg", -1),)
    assert "row 1 is {'x': 1}, which is no path" in sentence_of(open_source, ["a.jpg", {"x": 1}])
    # the other way round, it is a text
    assert open_source([{"x": 1}, "a"]).rows([1]) == ["a"]


def test_numbers(here):
    for number in (12, np.int64(12)):
        assert len(open_source(number)) == 12 and isinstance(open_source(number), Numbers)
        assert open_source(number, generator="numerical") == generated(12)
    assert "at least 1" in sentence_of(open_source, 0) and "at least 1" in sentence_of(open_source, -1)
    for data in ("photos", [1], True, 0.5):
        assert "needs a number of records" in sentence_of(open_source, data, generator="numerical")
    assert open_source(generated(5), generator="numerical") == generated(5)


def test_numbers_have_the_root_that_is_given_or_that_of_the_other_part(here):
    assert open_source(3).root == "" and open_source(3, root="held").root == str(here / "held")
    rows = [{"x": 1}]
    for data, validation in ((3, rows), (rows, 3), (3, 2)):
        training, evaluated = open_splits(open_source(data, root="held"), validation, 0, root="held")
        assert training.root == evaluated.root == str(here / "held") and len(training) + len(evaluated) in (4, 5)
    for data, validation in ((3, rows), (rows, 3)):
        training, evaluated = open_splits(open_source(data), validation, 0)
        assert training.root == evaluated.root == str(here)
    assert open_splits(open_source(3), 2, 0).validation.root == ""


def test_sources_go_through(here):
    table, listed = csv("log.csv"), files(["photos/cat/1.jpg"])
    assert open_source(table) is table and open_source(listed) is listed and open_source(table, root=".") is table
    moved = open_source(table, root="photos")
    assert moved.root == str(here / "photos") and moved.rows([2]) == table.rows([2]) and moved.columns == table.columns
    assert moved.summary() == table.summary()
    assert open_source(listed, root="photos").paths == ("cat/1.jpg",)
    assert "does not contain" in sentence_of(open_source, listed, root="held")
    assert "the data is a Dataset: omit root" in sentence_of(open_source, generated(3), root="held")


def test_a_list_of_files_in_utf_16(here):
    (here / "list.txt").write_bytes("photos/cat/1.jpg\n".encode("utf-16"))
    assert sentence_of(open_source, "list.txt") == (
        "list.txt, line 1 is not utf-8 (it begins as UTF-16 does): convert the file to UTF-8 from UTF-16")


def test_a_number_may_have_a_root(here):
    for data in (open_source(3, root="held"), open_source(Numbers(3), root="held")):
        assert isinstance(data, Numbers) and (len(data), data.root) == (3, str(here / "held"))
        assert data.fingerprint() == Numbers(3).fingerprint() and data.probes(8) == () and not data.has_paths
    assert open_source(3).root == "" and "root must be" in sentence_of(open_source, 3, root=5)


def test_a_text_that_is_no_path_is_refused_at_once(here):
    for data in (["1.jpg", "x" * (1 << 20)], files, ["1.jpg", "\u00e9\udcff" * 4096]):
        read = open_source if data is not files else lambda data: files(["1.jpg", "x" * 5000])
        sentence = sentence_of(read, data)
        assert "row 1 is a text of " in sentence and "a path has at most 4,096" in sentence
    assert len(open_source(["a" * 4000])) == 1


def test_an_own_source_goes_through(here):
    class Own(object):
        root, classes, columns, has_paths = "/own", (), (), False

        def samples(self, indices):
            return ()

        def fingerprint(self):
            return "f"

        def __len__(self):
            return 1
    own = Own()
    assert open_source(own) is own
    assert open_splits(own, None, 0).training is own and len(open_splits(own, 0.0, 0).validation) == 0
    assert "an Own has no method split" in sentence_of(open_splits, own, 0.5, 0)


class Series(object):
    def to_dict(self, kind):
        return {}

    def __iter__(self):
        return iter(["x", "y"])


class DataFrame(Series):
    columns = ["x", "y"]


@pytest.mark.parametrize("data, words", [
    ({"x": [1]}, "a dict: give a list of rows"), (DataFrame(), 'a DataFrame: give its rows, data.to_dict("records")'),
    (Series(), "a Series: give data.tolist()"), (np.array(5), "a ndarray: it must be a folder"),
    ({1, 2}, "a set: it has no order: give sorted(data)"), (lambda: [1], "a function: give what it returns"),
    ([], "a list without rows"), (iter(()), "without rows"), (None, "a NoneType: it must be a folder"),
    (True, "a bool: it must be"), (0.5, "a float: it must be"), (b"photos", "a bytes: it must be"),
    (types, "a module: it must be"), ([{"x": 1j}], "row 0: 'x' is a complex"), ("", "is empty"),
])
def test_what_is_no_data(data, words):
    assert words in sentence_of(open_source, data)


def old_generator(*shape):
    while True:
        yield np.zeros((4,) + shape), [np.zeros((4, 1)), np.zeros(4)][len(shape) == 1]


@pytest.mark.parametrize("data", [old_generator(2, 2, 3), old_generator(5), iter([{"x": np.zeros((4, 2))}])])
def test_a_generator_of_batches_is_not_read(data):
    """It would be read for ever."""
    sentence = sentence_of(open_source, data)
    assert "of batches" in sentence and "stoker.batch" in sentence
    assert "stoker.batch" in sentence_of(open_source, old_generator)


def test_rows_of_arrays_are_no_batches():
    for row in ({"x": np.zeros((4, 2)), "y": 1}, [np.zeros(2)], [np.zeros(()), np.zeros(3)]):
        assert len(open_source(iter([row, row]))) == 2
    assert len(open_source([[np.zeros((2, 2))]] * 2)) == 2           # a list has an end


def test_an_iterator_that_may_have_no_end_is_told(monkeypatch, caplog):
    monkeypatch.setattr(opening, "MANY_ROWS", 5)
    open_source([{"x": 1}] * 9)
    open_source(iter([{"x": 1}] * 4))
    assert not caplog.messages
    open_source({"x": number} for number in range(9))
    assert len(caplog.messages) == 1 and "given 5 rows so far" in caplog.messages[0]


# ------------------------------------------------------------------------------ classes of a folder

def test_classes_fix_the_numbers(here):
    tree(here, "photos/bee/1.jpg", "photos/bee/2.jpg", "photos/notes/read.me")
    data = scan_folder("photos", classes=["dog", "bee"])
    assert data.classes == ("dog", "bee") and data.paths == ("bee/1.jpg", "bee/2.jpg", "dog/1.jpg", "dog/2.jpg")
    assert data.labels == (1, 1, 0, 0)
    assert dict(data.left_out)["cat"] == "folder of a class that is not among the given classes"
    assert scan_folder("photos", classes=("dog",)).labels == (0, 0)
    sentence = sentence_of(scan_folder, "photos", classes=["dog", "wolf", "cow"])
    assert "has no image of wolf, cow, which classes= names" in sentence


@pytest.mark.parametrize("classes", ["dog", ["dog", "dog"], [], ["dog/1"], ["dog", 1], [""], [".git"], ["..", "dog"]])
def test_classes_that_are_no_names(here, classes):
    assert "classes must" in sentence_of(scan_folder, "photos", classes=classes)


def test_a_folder_without_labels(here):
    data = scan_folder("photos", labels=False)
    assert data.classes == () and set(data.labels) == {-1} and len(data) == 4
    assert data.samples([3]) == (Sample(3, "dog/2.jpg", -1),)
    assert data.summary() == "%s: 4 files" % (here / "photos")
    assert data.fingerprint() != scan_folder("photos").fingerprint()
    os.mkdir("void")
    assert "void has no image: give the folder" in sentence_of(scan_folder, "void", labels=False)


@pytest.mark.parametrize("options", [dict(labels=False, classes=["dog"]), dict(labels=False, label_word="dog"),
                                     dict(classes=["dog"], label_word="dog")])
def test_only_one_way_to_labels(here, options):
    assert "give only one of label_word=, classes= and labels=False" in sentence_of(scan_folder, "photos", **options)


# ------------------------------------------------------------------------------------------- splits

def test_a_share(here):
    source = scan_folder("photos")
    assert open_splits(source, 0.5, 3) == source.split(0.5, 3)
    assert open_splits(source, np.float32(0.5), 3) == source.split(0.5, 3)
    for none in (None, 0.0, 0):
        training, validation = open_splits(source, none, 3)
        assert training == source and len(validation) == 0
    training, validation = open_splits(csv("log.csv"), 0.3, 3)
    assert (len(training), len(validation)) == (2, 1) and training.columns == validation.columns == ("path", "y")
    training, validation = open_splits(files("photos/*/*.jpg"), 0.5, 3)
    assert (len(training), len(validation)) == (2, 2) and validation.labels == (-1, -1)
    for share in (1.0, -0.5, float("nan")):
        assert "fraction" in sentence_of(open_splits, source, share, 3)
    assert "must be a share, such as 0.2, or data" in sentence_of(open_splits, source, True, 3)
    sentence = sentence_of(open_splits, source, 20, 3)
    assert "validation=20 is a number of samples: a share of the data is a float below 1, such as 0.2" in sentence
    assert "number of samples" not in sentence_of(open_splits, source, [{"x": 1}], 3)


def test_a_validation_folder_has_the_classes_of_training(here):
    training, validation = open_splits(scan_folder("photos"), "held", 0)
    assert training.classes == validation.classes == ("cat", "dog")
    assert training.root == validation.root == str(here)
    assert validation.samples([0]) == (Sample(0, "held/dog/3.jpg", 1),)      # dog alone is class 0
    assert training.samples([0]) == (Sample(0, "photos/cat/1.jpg", 0),)
    training, validation = open_splits(scan_folder("photos", classes=["dog", "cat"]), here / "held", 0)
    assert validation.labels == (0,)
    tree(here, "held/emu/1.jpg")
    training, validation = open_splits(scan_folder("photos"), "held", 0, classes=["cat", "dog"])
    assert ("emu", "folder of a class that is not among the given classes") in validation.left_out
    tree(here, "other/emu/1.jpg")
    assert "no image of a class of the training data" in sentence_of(open_splits, scan_folder("photos"), "other", 0)


def test_a_validation_folder_by_word_or_without_labels(here):
    training, validation = open_splits(scan_folder("photos", "dog"), "held", 0, label_word="dog")
    assert validation.labels == (1,) and validation.classes == ("other", "dog")
    training, validation = open_splits(scan_folder("photos", labels=False), "loose", 0, labels=False)
    assert validation.paths == ("loose/1.jpg", "loose/deep/2.jpg") and validation.classes == ()
    training, validation = open_splits(files("photos/*/*.jpg"), "loose", 0)
    assert len(validation) == 2 and training.root == validation.root == str(here)


def test_folders_within_each_other(here):
    tree(here, "photos/cat/held/dog/1.jpg")
    training, validation = open_splits(scan_folder("photos"), "photos/cat/held", 0)
    assert training == scan_folder("photos") and validation.paths == ("cat/held/dog/1.jpg",)
    training, validation = open_splits(scan_folder("photos"), "photos", 0)
    assert training == validation


def test_other_rows(here):
    written(here / "held/log.csv", "path,y\n9.jpg,3\n")
    written(here / "held/other.csv", "y,path\n3,9.jpg\n")
    training, validation = open_splits(csv("log.csv"), csv("held/log.csv", root="."), 0)
    assert validation.rows([0]) == [{"path": "9.jpg", "y": 3}] and training.root == validation.root == str(here)
    assert len(open_splits(open_source("log.csv", root="photos"), "held/log.csv", 0, root="photos").validation) == 1
    sentence = sentence_of(open_splits, csv("log.csv"), "held/log.csv", 0)
    assert "below %s, those for validation below %s" % (here, here / "held") in sentence and "give root=" in sentence
    sentence = sentence_of(open_splits, csv("log.csv"), "held/other.csv", 0)
    assert "training has the columns (path, y), that for validation (y, path)" in sentence
    assert "columns (path, y), that for validation (none)" in sentence_of(open_splits, csv("log.csv"), [{"y": 1}], 0)
    training, validation = open_splits(open_source([{"x": 1}]), iter([{"x": 2}]), 0)
    assert validation.rows([0]) == [{"x": 2}]
    assert "row 0: 'x' is a complex" in sentence_of(open_splits, open_source([1]), [{"x": 1j}], 0)


def test_a_column_that_is_text_in_one_file_only_is_told(here, caplog):
    """The comparison row["code"] == "7" would be true in training only."""
    written(here / "training.csv", "code,x\n7,1\nA7,2\n")
    for content, told in (("code,x\n7,0.5\n", True), ("code,x\nB,0.5\n", False)):
        written(here / "held.csv", content)
        caplog.clear()
        open_splits(csv("training.csv"), "held.csv", 0)
        assert ("the column 'code' is text in the data for training and int in that for validation" in caplog.text
                ) == told and "'x'" not in caplog.text


def test_lists_of_paths(here):
    training, validation = open_splits(open_source(["photos/cat/1.jpg"]), ["held/dog/3.jpg"], 0)
    assert (training.root, training.paths, validation.paths) == (str(here), ("photos/cat/1.jpg",), ("held/dog/3.jpg",))
    assert "the samples for training are files" in sentence_of(open_splits, open_source(["a.jpg"]), [{"x": 1}], 0)
    assert "the classes (cat, dog), that for validation (none)" in sentence_of(
        open_splits, scan_folder("photos"), ["a.jpg"], 0)


def test_numbers_for_validation(here):
    training, validation = open_splits(open_source(10), 5, 0)
    assert (len(training), len(validation)) == (10, 5)
    training, validation = open_splits(generated(10), 5, 0, generator="numerical")
    assert validation == generated(5)
    assert "give validation a number of its own" in sentence_of(open_splits, open_source(10), 0.5, 0)
    assert "files, and those for validation are not" in sentence_of(open_splits, open_source(["a.jpg"]), 5, 0)


def test_no_validation_data(here):
    for data, words in (([], "without rows"), ("void.csv", "cannot be read"), ({}, "a dict"), (-1, "at least 1")):
        assert words in sentence_of(open_splits, open_source([1]), data, 0)


def test_a_number_for_validation_beside_rows(here):
    for data in (open_source("log.csv"), open_source([{"x": 1}], root="held"), Numbers(2), Numbers(2, str(here))):
        training, validation = open_splits(data, 3, 0)
        assert len(training) == len(data) and isinstance(validation, Numbers) and len(validation) == 3
        assert validation.root == training.root
    training, validation = open_splits(Numbers(2), open_source([1], root="held"), 0)
    assert isinstance(training, Numbers) and training.root == validation.root == str(here / "held")
    assert "training has the columns (none), that for" in sentence_of(open_splits, Numbers(2), "log.csv", 0)
    assert "are files" in sentence_of(open_splits, files("photos/*/*.jpg"), 3, 0)


# ------------------------------------------------------------------------------------- what differs

def test_difference_of_folders(here):
    then = scan_folder("photos")
    saved, hashes = identity(then), then.row_hashes()
    os.rename("photos", "moved")
    assert difference(saved, hashes, scan_folder("moved")) is None
    tree(here, "moved/cat/3.jpg")
    assert difference(saved, hashes, scan_folder("moved")) == (
        "5 samples instead of 4; 1 is new: sample 2, 'cat/3.jpg'")
    os.remove("moved/cat/1.jpg")
    os.remove("moved/cat/2.jpg")
    assert difference(saved, hashes, scan_folder("moved")) == (
        "3 samples instead of 4; 2 are gone or changed; 1 is new or changed: sample 0, 'cat/3.jpg'")
    tree(here, "moved/cat/1.jpg", "moved/cat/2.jpg")
    tree(here, "moved/bee/1.jpg")
    assert difference(saved, hashes, scan_folder("moved")).startswith("other classes ('bee' is new); 6 samples")
    swapped = Dataset(then.root, then.classes, then.paths, (1, 0, 1, 1), ())
    assert difference(saved, hashes, swapped) == (
        "1 is gone or changed; 1 is new or changed: sample 0, %r" % then.paths[0])
    turned = Dataset(then.root, then.classes, then.paths[::-1], then.labels[::-1], ())
    assert difference(saved, hashes, turned) == "the same samples are in another order"


def test_the_hashes_of_a_dataset_are_those_of_its_parts(here):
    source = scan_folder("photos")
    training, validation = source.split(0.5, 0)
    assert sorted([*training.row_hashes(), *validation.row_hashes()]) == sorted(source.row_hashes())
    assert source.row_hashes().dtype == np.uint32 and len(set(source.row_hashes())) == 4
    assert isinstance(open_source([{"x": 1}]), Table)


def test_files_without_a_folder_in_common_need_a_root(tmp_path):
    """Else workers could read all files of their hosts, which nobody asked for."""
    with pytest.raises(DatasetError, match="no folder in common but /.* root=\"/\""):
        open_source(["/a/1.png", "/b/2.png"])
    assert open_source(["/a/1.png", "/b/2.png"], "/").rows([1]) == ["b/2.png"]
    training, other = Dataset("/a", (), ("1.png",), (-1,), ()), Dataset("/b", (), ("2.png",), (-1,), ())
    with pytest.raises(ConfigError, match="the files of training and validation have no folder in common"):
        open_splits(training, other, 0)
    assert open_splits(training, other, 0, "/").validation.rows([0]) == ["b/2.png"]
