"""Which files of a folder count, by their names, and which classes they have: folders of systems, patterns, suffixes,
Unicode forms, and folders that are parts of a dataset."""

import os
import unicodedata

import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.orders import balanced, open_order, weighted
from stoker.pipeline.sources.content import MAX_NAMED, MAX_SUFFIXES, TRIED
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.file_names import EXCLUDED, SYSTEM, SYSTEM_FOLDERS
from stoker.pipeline.sources.folder import HIDDEN, NO_IMAGE, NO_IMAGES, is_usual, scan_folder
from stoker.pipeline.sources.identity import difference, identity
from stoker.pipeline.sources.layout import part_of
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.splits import open_splits
from stoker.pipeline.sources.reading import files
from stoker.pipeline.storage.folder import BadFile, check_root, read_file, resolve
from stoker.pipeline.text import normal_form
from stoker.trainer.feed import log_left_out
from stoker.trainer.run import prepare

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
PHOTOS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")


def tree(root, *paths, content=b""):
    for path in paths:
        whole = os.path.join(os.fsencode(str(root)), path.encode("utf-8", "surrogateescape"))
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "wb") as file:
            file.write(content)
    return str(root)


def sentence_of(call, *arguments, **options):
    with pytest.raises((ConfigError, DatasetError)) as caught:
        call(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable()
    return sentence


# -------------------------------------------------------------------------------- what is no user's data

@pytest.mark.parametrize("name", ["@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX",
                                  "#recycle", "@Recycle", "$Recycle.Bin", "~snapshot", "FOUND.000", ".snapshot",
                                  ".Trashes", ".thumbnails", ".ipynb_checkpoints", ".AppleDouble"])
def test_folders_of_systems_are_no_classes_and_hold_no_samples(tmp_path, name):
    without = scan_folder(tree(tmp_path, *PHOTOS))
    root = tree(tmp_path, name + "/1.jpg", "cat/" + name + "/1.jpg", "dog/deep/er/" + name + "/in/1.jpg",
                "dog/deep/er/2.jpg")
    os.remove(os.path.join(root, "dog/deep/er/2.jpg"))
    data = scan_folder(root)
    assert data.paths == without.paths and data.classes == ("cat", "dog")
    assert data.fingerprint() == without.fingerprint()
    why = HIDDEN if name.startswith(".") else SYSTEM
    assert [path for path, reason in data.left_out if reason == why] == sorted(
        [name, "cat/" + name, "dog/deep/er/" + name])
    assert "%s: 3, such as " % why in data.summary()
    for options in (dict(label_word="1"), dict(labels=False)):
        assert scan_folder(root, **options).paths == without.paths


def test_resource_forks_and_thumbnails_are_no_samples(tmp_path):
    assert scan_folder(tree(tmp_path, *PHOTOS, "cat/._1.jpg", "dog/Thumbs.db", "cat/.thumb.jpg")).paths == PHOTOS


def test_names_that_only_resemble_those_of_systems_count(tmp_path):
    names = ("eaDir", "lost_and_found", "recycle", "snapshot", "tmp", "recycle.bin")
    assert scan_folder(tree(tmp_path, *(name + "/1.jpg" for name in names))).classes == tuple(sorted(names))


def test_a_folder_within_one_of_a_system_can_be_the_data(tmp_path):
    assert len(scan_folder(tree(tmp_path / "lost+found", *PHOTOS))) == 3


def test_an_older_checkpoint_is_told_what_is_left_out_now(tmp_path):
    """Before, @eaDir was a class, and in each class a folder of thumbnails."""
    root = tree(tmp_path, *PHOTOS)
    then = Dataset(root, ("@eaDir", "cat", "dog"), ("@eaDir/1.jpg", "cat/1.jpg", "cat/2.jpg", "cat/@eaDir/1.jpg",
                                                   "dog/1.jpg"), (0, 1, 1, 1, 2), ())
    told = difference(identity(then), then.row_hashes(), scan_folder(root))
    assert "other classes ('@eaDir' is missing); 3 samples instead of 5" in told


# ---------------------------------------------------------------------------------------------- patterns

@pytest.mark.parametrize("exclude, left", [
    ("*_copy.*", ("cat/1.jpg", "dog/deep/2.jpg", "dog/old/3.jpg")),
    (["*_copy.*", "old"], ("cat/1.jpg", "dog/deep/2.jpg")),
    ("dog/old", ("cat/1.jpg", "cat/1_copy.jpg", "dog/deep/2.jpg")),
    ("./dog/old/", ("cat/1.jpg", "cat/1_copy.jpg", "dog/deep/2.jpg")),
    (("dog/*/2.jpg", "dog/old/[0-9].jpg", "nothing"), ("cat/1.jpg", "cat/1_copy.jpg")),
    ("*.jp?", ()), ("OLD", ("cat/1.jpg", "cat/1_copy.jpg", "dog/deep/2.jpg", "dog/old/3.jpg"))])
def test_patterns_of_paths_and_names(tmp_path, exclude, left):
    root = tree(tmp_path, "cat/1.jpg", "cat/1_copy.jpg", "dog/deep/2.jpg", "dog/old/3.jpg")
    if not left:
        sentence = sentence_of(scan_folder, root, labels=False, exclude=exclude)
        assert "%s*.jp?: 4, such as cat/1.jpg" % EXCLUDED in sentence
        return
    data = scan_folder(root, labels=False, exclude=exclude)
    assert data.paths == left
    assert {path for path, why in data.left_out if why.startswith(EXCLUDED)} <= {
        "cat/1_copy.jpg", "dog/old", "dog/old/3.jpg", "dog/deep/2.jpg"}
    assert len(left) == 4 or "left out: " in data.summary()


def test_a_class_that_is_excluded(tmp_path):
    root = tree(tmp_path, *PHOTOS, "rest/1.jpg")
    data = scan_folder(root, exclude="rest")
    assert data.classes == ("cat", "dog") and (("rest", EXCLUDED + "rest") in data.left_out)
    assert data.fingerprint() != scan_folder(root).fingerprint()


def test_a_pattern_that_matches_nothing_is_told(tmp_path, caplog):
    root = tree(tmp_path, *PHOTOS)
    scan_folder(root, exclude=["cat/1*", "dgo", "old/*"])
    assert "nothing in %s matches exclude dgo, old/*" % root in caplog.text


def test_a_pattern_in_another_unicode_form(tmp_path):
    root = tree(tmp_path, *PHOTOS, NFD + "/1.jpg")
    assert scan_folder(root, exclude=NFC).classes == ("cat", "dog")


@pytest.mark.parametrize("exclude", ["", "/", "/photos/old", "../old", "a/../b", [1], 7, b"old", [None]])
def test_what_is_no_pattern(tmp_path, exclude):
    assert "exclude must be " in sentence_of(scan_folder, tree(tmp_path, *PHOTOS), exclude=exclude)


def test_patterns_and_suffixes_are_for_folders(tmp_path):
    tree(tmp_path, "log.csv", "rows.jsonl", "list.txt", content=b"path\n1.jpg\n")
    for data, what in (("log.csv", "the file {}/log.csv, a table of rows"), ([{"x": 1}], "a list"),
                       (["a.jpg"], "a list"), ("rows.jsonl", "the file {}/rows.jsonl, a list of rows"),
                       (7, "a number of samples (7)"), ("list.txt", "the file {}/list.txt, a list of paths")):
        data = str(tmp_path / data) if isinstance(data, str) else data
        what = " is for a folder of images, and the data is %s: " % what.format(tmp_path)
        assert "exclude= (--exclude)" + what in sentence_of(open_source, data, exclude="a")
        assert "suffixes= (--suffix)" + what in sentence_of(open_source, data, suffixes=[".x"])
    assert open_source(7, exclude=None, suffixes=None) is not None


def test_none_is_no_pattern_and_no_suffix(tmp_path):
    assert scan_folder(tree(tmp_path, *PHOTOS), exclude=None, suffixes=None).paths == PHOTOS


def test_classes_of_an_iterator(tmp_path):
    root = tree(tmp_path, *PHOTOS, "held/cat/1.jpg", "held/dog/1.jpg")
    assert scan_folder(root, classes=iter(["dog", "cat"])).classes == ("dog", "cat")
    run = prepare(root, classes=iter(["dog", "cat"]), validation=os.path.join(root, "held"))
    assert run.datasets.validation.classes == ("dog", "cat") and run.datasets.validation.labels == (1, 0)
    for classes in (7, iter([7]), iter([])):
        assert "classes must " in sentence_of(scan_folder, root, classes=classes)
    assert "a set has no order" in sentence_of(scan_folder, root, classes={"cat", "dog"})


def test_a_class_that_is_named_counts_though_it_is_called_as_a_system_s_folder(tmp_path):
    root = tree(tmp_path, *PHOTOS, "found.000/1.jpg", "dog/found.000/1.jpg", "lost+found/1.jpg")
    data = scan_folder(root, classes=["cat", "dog", "found.000"])
    assert data.paths == PHOTOS + ("found.000/1.jpg",)
    training, validation = open_splits(data, root, 0, classes=["cat", "dog", "found.000"])
    assert validation.paths == data.paths


def test_patterns_hold_for_validation_too(tmp_path):
    tree(tmp_path, *PHOTOS, *("held/" + path for path in ("cat/1.jpg", "dog/1_copy.jpg", "dog/1.jpg")))
    training = open_source(str(tmp_path), classes=["cat", "dog"], exclude="*_copy*")
    splits = open_splits(training, str(tmp_path / "held"), 0, classes=["cat", "dog"], exclude="*_copy*")
    assert splits.validation.paths == ("held/cat/1.jpg", "held/dog/1.jpg")


def test_patterns_of_files(tmp_path, monkeypatch, caplog):
    tree(tmp_path, *PHOTOS, "cat/@eaDir/1.jpg", "dog/1_copy.jpg", "@eaDir/1.jpg")
    monkeypatch.chdir(str(tmp_path))
    assert files("**/*.jpg").paths == PHOTOS + ("dog/1_copy.jpg",)
    data = files("**/*.jpg", exclude=["*_copy*", "cat/2.jpg"])
    assert data.paths == ("cat/1.jpg", "dog/1.jpg") and len(data.left_out) == 4
    assert "%s: 2, such as @eaDir/1.jpg" % SYSTEM in data.summary()
    assert files("@eaDir/*.jpg").paths == ("1.jpg",)                  # who names it wants it
    assert files(["cat/@eaDir/1.jpg", "dog/1.jpg"]).paths == ("cat/@eaDir/1.jpg", "dog/1.jpg")
    assert files(["cat/2.jpg", "dog/1.jpg"], exclude="cat").paths == ("dog/1.jpg",)
    assert "all 4 files below %s are left out: excluded by *" % tmp_path in sentence_of(files, "*/?.jpg", exclude="*")
    files("*/*.jpg", exclude="dgo")
    assert "matches exclude dgo" in caplog.text


# ---------------------------------------------------------------------------------------------- suffixes

@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jif", ".JFIF"])
def test_suffixes_of_jpegs(tmp_path, suffix):
    assert len(scan_folder(tree(tmp_path, *PHOTOS, "dog/2" + suffix))) == 4


def test_jpegs_with_other_suffixes_are_named_and_taken(tmp_path):
    root = tree(tmp_path, *PHOTOS)
    tree(root, *("cat/%02d.JPG_" % number for number in range(12)), "dog/bare", "dog/x.jpg.1", content=JPEG)
    tree(root, "dog/y.sav", content=b"\x89PNG\r\n\x1a\n")
    tree(root, "dog/notes.txt", "dog/z.heic", content=b"\0\0\0\x18ftypheic")
    data = scan_folder(root)
    lines = data.summary().splitlines()
    assert data.paths == PHOTOS
    assert ("  JPEG with the suffix .JPG_ (suffixes=['.JPG_'] or --suffix .JPG_ takes it): 12, such as cat/00.JPG_"
            in lines)
    assert "  JPEG without a suffix (suffixes=[''] or --suffix '' takes it): dog/bare" in lines
    assert "  JPEG with the suffix .1 (suffixes=['.1'] or --suffix .1 takes it): dog/x.jpg.1" in lines
    assert "  PNG with the suffix .sav (suffixes=['.sav'] or --suffix .sav takes it): dog/y.sav" in lines
    assert "  %s: 2, such as dog/notes.txt" % NO_IMAGE in lines
    taken = scan_folder(root, suffixes=[".JPG_", "sav"])
    assert len(taken) == 3 + 12 + 1 and "JPG_" not in "".join(path for path, _ in taken.left_out)
    assert len(scan_folder(root, suffixes=".jpg_")) == 15
    assert scan_folder(root, suffixes=[""]).paths[-1] == "dog/bare"


def test_only_some_of_many_files_are_opened(tmp_path, monkeypatch):
    root = tree(tmp_path, *PHOTOS, *("cat/%03d.dat" % number for number in range(200)))
    tree(root, *("dog/%03d.%03d" % (number, number) for number in range(100)), content=JPEG)
    tree(root, "cat/190.dat", content=JPEG)
    opened, really = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *flags: opened.append(path) or really(path, *flags))
    data = scan_folder(root)
    assert len(opened) == TRIED + MAX_SUFFIXES - 1
    assert len(data.summary().splitlines()) == 3 + 1 + MAX_NAMED + 2
    assert "  picture with one of %d more suffixes (--suffix takes each)" % (MAX_SUFFIXES - MAX_NAMED) in data.summary()
    assert ("  file with the suffix .dat; 1 of 20 tried are JPEGs (suffixes=['.dat'] or --suffix .dat takes all): 200, "
            "such as cat/000.dat" in data.summary().splitlines())


def test_what_cannot_be_opened_is_no_picture(tmp_path):
    root = tree(tmp_path, *PHOTOS)
    os.mkfifo(os.path.join(root, "dog", "pipe"))
    assert dict(scan_folder(root).left_out) == {"dog/pipe": NO_IMAGE}


def test_a_class_with_other_suffixes_only(tmp_path):
    root = tree(tmp_path, "cat/1.jpg")
    tree(root, "dog/1.JPG_", content=JPEG)
    sentence = sentence_of(scan_folder, root)
    assert "a single class, 'cat'" in sentence and "--suffix .JPG_ takes it): dog/1.JPG_" in sentence
    assert scan_folder(root, suffixes=[".JPG_"]).classes == ("cat", "dog")


@pytest.mark.parametrize("suffixes", [["a/b"], [1], 7, ["."]])
def test_what_is_no_suffix(tmp_path, suffixes):
    assert "suffixes must be " in sentence_of(scan_folder, tree(tmp_path, *PHOTOS), suffixes=suffixes)


def test_a_program_logs_what_the_command_line_prints(tmp_path, caplog):
    caplog.set_level("INFO", "stoker")
    tree(tmp_path / "photos", *PHOTOS, "cat/notes.txt", ".DS_Store")
    tree(tmp_path / "held", *PHOTOS, "@eaDir/1.jpg")
    data, held = str(tmp_path / "photos"), str(tmp_path / "held")
    for level, jpegs in (("INFO", ()), ("WARNING", ("cat/1.JPG_",))):
        tree(data, *jpegs, content=JPEG)
        run = prepare(data, validation=held)
        caplog.clear()
        log_left_out(data, run.source)
        log_left_out(held, run.datasets.validation)
        first, second = caplog.records
        assert first.levelname == level and second.levelname == "INFO"
        printed = run.summary()
        for record in (first, second):
            assert record.getMessage().partition(": ")[2] in printed
        assert ("--suffix .JPG_" in first.getMessage()) == bool(jpegs) and "@eaDir" in second.getMessage()
    caplog.clear()
    log_left_out([{"x": 1}], open_source([{"x": 1}]))
    assert not caplog.records


def test_odd_names_are_printable(tmp_path):
    root = tree(tmp_path, *PHOTOS, "cat/b\n.jpg")
    tree(root, "dog/2.\x1b[1m", content=JPEG)
    for options in ({}, dict(exclude="*\n*")):
        assert all(line.isprintable() for line in scan_folder(root, **options).summary().split("\n"))


def test_what_is_a_usual_loss():
    assert all(map(is_usual, (HIDDEN, SYSTEM, NO_IMAGE, NO_IMAGES, EXCLUDED + "x")))
    assert not any(map(is_usual, ("JPEG with the suffix .JPG_ (...)", "cannot be read: Permission denied")))


# ----------------------------------------------------------------------------------------- Unicode forms

@pytest.mark.parametrize("word", [NFC, NFD])
@pytest.mark.parametrize("name", [NFC, NFD])
def test_a_label_word_in_any_unicode_form(tmp_path, word, name):
    data = scan_folder(tree(tmp_path, name + "/1.jpg", "other/2_%s.jpg" % name, "other/cafe.jpg"), word)
    assert [label for _, label in sorted(zip(data.paths, data.labels))] == [1, 1, 0] and data.classes == ("other", word)


def test_a_letter_without_its_accent_is_another_word(tmp_path):
    """As in form NFC; in form NFD, 'cafe' is a part of 'café'."""
    assert scan_folder(tree(tmp_path, NFD + "/1.jpg", "cafe/1.jpg"), "cafe").labels in ((1, 0), (0, 1))


def test_a_label_word_in_other_case_is_told(tmp_path):
    root = tree(tmp_path, "Positive/1.jpg", "x/POSITIVE.jpg", "x/1.jpg")
    sentence = sentence_of(scan_folder, root, "positive")
    assert "'positive' is in none of the 3 paths" in sentence and "(in 2 in other upper and lower case)" in sentence


@pytest.mark.parametrize("given, there", [(NFC, NFD), (NFD, NFC)])
def test_class_names_in_any_unicode_form(tmp_path, given, there):
    root = tree(tmp_path, there + "/1.jpg", "tea/1.jpg", "rest/1.jpg")
    data = scan_folder(root, classes=["tea", given])
    assert data.classes == ("tea", given)
    assert dict(zip(data.paths, data.labels)) == {there + "/1.jpg": 1, "tea/1.jpg": 0}


def test_names_under_an_ascii_locale(tmp_path):
    """There, Python 3.6 has surrogate escapes for all bytes of names that are not ASCII."""
    escaped = NFD.encode().decode("ascii", "surrogateescape")
    assert normal_form(escaped) == normal_form(NFC) == NFC and normal_form("\ud800") == "\ud800"
    assert normal_form("caf\udce9") == "caf\udce9"


def test_a_validation_folder_in_another_unicode_form(tmp_path):
    tree(tmp_path, "photos/%s/1.jpg" % NFC, "photos/tea/1.jpg", "held/%s/1.jpg" % NFD, "held/tea/1.jpg")
    training, validation = open_splits(scan_folder(str(tmp_path / "photos")), str(tmp_path / "held"), 0)
    assert {path.rpartition("/")[0][5:]: label for path, label in zip(validation.paths, validation.labels)} == {
        NFD: training.classes.index(NFC), "tea": training.classes.index("tea")}


def test_two_classes_that_look_alike_are_told(tmp_path, caplog):
    assert len(scan_folder(tree(tmp_path, NFC + "/1.jpg", NFD + "/1.jpg")).classes) == 2
    assert "has two folders in %s, whose names differ in their Unicode form" % tmp_path in caplog.text


@pytest.mark.parametrize("asked, there, told", [
    (NFC + "/1.jpg", NFD + "/1.jpg", "in another Unicode form (NFC or NFD)"),
    ("x/%s.jpg" % NFD, "x/%s.jpg" % NFC, "in another Unicode form (NFC or NFD)"),
    ("x/1.JPG", "x/1.jpg", "with the suffix .jpg"), ("x/1.jpg", "x/1.JPG", "with the suffix .JPG"),
    ("x/1.jpg", "x/2.jpg", ""), ("y/1.jpg", "x/1.jpg", "")])
def test_a_missing_file_that_is_there_under_another_spelling(tmp_path, asked, there, told):
    root = tree(tmp_path, there)
    with pytest.raises(BadFile) as caught:
        read_file(resolve(root, asked))
    assert str(caught.value) == "FileNotFoundError: no such file" + (told and "; a file of this name is there " + told)
    with pytest.raises(ConfigError) as caught:
        check_root(root, [asked, "z/9.jpg"])
    assert ("a file of this name is there " + told in str(caught.value)) == bool(told)


def test_a_column_in_another_unicode_form(tmp_path):
    table = open_source(tree(tmp_path, "log.csv", content=("n,%s\n1,2\n3,4\n" % NFD).encode()) + "/log.csv")
    for order in (balanced(NFC), weighted(NFC)):
        assert open_order(order, table, 1, 0)
    assert "no field 'tea'" in sentence_of(open_order, balanced("tea"), table, 1, 0)


def test_a_pattern_of_files_in_another_unicode_form(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    tree(tmp_path, NFD + "/1.jpg")
    for pattern in (NFC + "/*.jpg", "*/../%s/*.jpg" % NFC):
        assert "but one does whose name is in another Unicode form" in sentence_of(files, pattern)
    assert "Unicode" not in sentence_of(files, "tea/*.jpg")


# ---------------------------------------------------------------------------- parts of a dataset as classes

@pytest.mark.parametrize("name, part", [
    ("train", "training"), ("TRAIN", "training"), ("training_set", "training"), ("train2017", "training"),
    ("trainset", "training"), ("seg_train", "training"), ("val", "validation"), ("Valid", "validation"),
    ("validation", "validation"), ("dev", "validation"), ("eval", "validation"), ("val-images", "validation"),
    ("test", "test"), ("Testing", "test"), ("cat", ""), ("trainer", ""), ("contest", ""), ("train station", ""),
    ("valve", ""), ("test_train", ""), ("trainA", ""), ("", "")])
def test_names_of_parts(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize("parts, command", [
    (("train", "val"), "train --validation-data {}/val"), (("valid", "test"), "valid --validation-data {}/test"),
    (("Training", "Testing"), "Training --validation-data {}/Testing"),
    (("train", "test", "val"), "train --validation-data {}/val"),
    (("train2017", "val2017", "notes"), "train2017 --validation-data {}/val2017"),
    (("bus", "test", "train"), "train --validation-data {}/test")])
def test_parts_of_a_dataset_are_no_classes(tmp_path, monkeypatch, parts, command):
    tree(tmp_path, *("photos/%s/%s/1.jpg" % (part, name) for part in parts for name in ("cat", "dog")))
    monkeypatch.chdir(str(tmp_path))
    for given in ("photos", "photos/"):
        sentence = sentence_of(scan_folder, given)
        assert "hold the same sub-folders (cat, dog)" in sentence
        assert "stoker-train photos/" + command.format("photos") in sentence
        assert "open_stream('photos/%s', validation='photos/" % command.split()[0] in sentence
    # the two remedies
    everything = sentence.partition("name all classes (classes=[...] or --classes ")[2].partition(")")[0].split(",")
    assert scan_folder("photos", classes=everything).classes == tuple(sorted(parts))     # numbered as before
    named = [part for part in parts if part_of(part)][:2]
    assert scan_folder("photos", classes=named).classes == tuple(named)
    training, validation = open_splits(scan_folder("photos/" + named[0]), "photos/" + named[1], 0)
    assert training.classes == validation.classes == ("cat", "dog")


@pytest.mark.parametrize("paths", [
    ("train/1.jpg", "car/1.jpg"), ("train/red/1.jpg", "car/red/1.jpg"), ("train/ice/1.jpg", "test/crash/1.jpg"),
    ("train/red/1.jpg", "training/red/1.jpg")])
def test_classes_called_like_a_part(tmp_path, paths):
    assert len(scan_folder(tree(tmp_path, *paths)).classes) == 2


def test_a_part_beside_the_classes(tmp_path, monkeypatch):
    tree(tmp_path, *("photos/%s%s/1.jpg" % (part, name) for part in ("", "val/") for name in ("cat", "dog")))
    monkeypatch.chdir(str(tmp_path))
    sentence = sentence_of(scan_folder, "photos")
    assert "the folder val in photos holds the same folders as photos itself (cat, dog)" in sentence
    assert "stoker-train photos --exclude val --validation-data photos/val" in sentence
    assert "open_stream('photos', exclude='val', validation='photos/val')" in sentence
    run = prepare("photos", exclude="val", validation="photos/val")
    assert run.source.classes == ("cat", "dog") and len(run.datasets.training) == len(run.datasets.validation) == 2
    assert sentence.endswith("if it is a class, name all classes (classes=[...] or --classes cat,dog,val)")
    assert len(scan_folder("photos", classes=["cat", "dog", "val"])) == 4


def test_parts_by_a_label_word_are_told(tmp_path, caplog):
    tree(tmp_path, *("%s/%s/1.jpg" % (part, name) for part in ("train", "val") for name in ("cat", "dog")))
    assert len(scan_folder(str(tmp_path), "dog")) == 4
    assert "the folders train and val in %s are parts of a dataset, and their images are" % tmp_path in caplog.text


def test_parts_without_folders_are_told(tmp_path, caplog):
    assert scan_folder(tree(tmp_path, "train/1.jpg", "val/1.jpg")).classes == ("train", "val")
    assert "are called train, val: are these parts of a dataset?" in caplog.text


def test_a_single_folder_around_the_classes_is_named(tmp_path):
    root = tree(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg")
    assert sentence_of(scan_folder, root).endswith("if the classes are the folders in %s/photos, give that" % root)


# --------------------------------------------------------------------------------------------- validation

def test_a_validation_folder_without_a_class_has_the_numbers_of_training(tmp_path, caplog):
    tree(tmp_path, *("photos/%s/1.jpg" % name for name in "abc"), "held/b/1.jpg", "held/c/1.jpg")
    data, held = str(tmp_path / "photos"), str(tmp_path / "held")
    for given, chosen in ((None, "abc"), (["c", "b", "a"], "cba"), (["b", "c"], "bc")):
        caplog.clear()
        run = prepare(data, classes=given, validation=held)
        training, validation = run.datasets
        for part in (training, validation):
            assert part.classes == tuple(chosen)
            assert all(part.classes[label] == path.split("/")[-2] for path, label in zip(part.paths, part.labels))
        assert ("no image of the classes (a)" in caplog.text) == ("a" in chosen)
    assert prepare(held, classes=list("abc"), training=False).source.labels == (1, 2)     # a stream of its own


def test_a_class_that_training_lacks_is_an_error(tmp_path):
    tree(tmp_path, "photos/cat/1.jpg", "photos/dog/1.jpg", "held/cat/1.jpg", "held/emu/1.jpg", "held/fox/1.jpg")
    data, held = scan_folder(str(tmp_path / "photos")), str(tmp_path / "held")
    sentence = sentence_of(open_splits, data, held, 0)
    assert "has the classes (emu, fox), and training has (cat, dog)" in sentence
    splits = open_splits(data, held, 0, classes=["cat", "dog"])       # chosen by the user
    assert len(splits.validation) == 1


def test_a_scanned_dataset_gets_the_numbers_of_training(tmp_path):
    tree(tmp_path, *("photos/%s/1.jpg" % name for name in "abc"), "held/b/1.jpg", "held/c/1.jpg")
    training, validation = open_splits(scan_folder(str(tmp_path / "photos")), scan_folder(str(tmp_path / "held")), 0)
    assert validation.classes == ("a", "b", "c") and validation.labels == (1, 2)
    assert "the classes (b, c), that for validation (a, b, c)" in sentence_of(
        open_splits, scan_folder(str(tmp_path / "held")), scan_folder(str(tmp_path / "photos")), 0)


def test_samples_in_both_parts_are_told(tmp_path, caplog):
    root = tree(tmp_path, "cat/1.jpg", "cat/held/cat/1.jpg", "dog/1.jpg")
    open_splits(scan_folder(root), os.path.join(root, "cat/held"), 0)
    assert "1 of the 1 samples for validation are trained on too, such as cat/held/cat/1.jpg" in caplog.text
    caplog.clear()
    open_splits(scan_folder(root, exclude="held"), os.path.join(root, "cat/held"), 0, exclude="held")
    assert "trained on too" not in caplog.text


def test_the_summary_has_the_numbers_of_the_classes(tmp_path):
    summary = scan_folder(tree(tmp_path, *PHOTOS), classes=["dog", "cat"]).summary().splitlines()
    assert summary[1:] == ["  1  cat  2", "  0  dog  1"]


def test_system_folders_are_in_lower_case():
    assert all(name == name.lower() and not name.startswith(".") for name in SYSTEM_FOLDERS)
