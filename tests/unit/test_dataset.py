"""The dataset: which files a scan takes, their order, the split, and the messages for the user."""

import contextlib
import os
import shutil
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.protocol.messages import Sample
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.sources.file_names import ANOTHER_NAME, EVERY_NAME, SAME_CLASS
from stoker.pipeline.sources.folder import DANGLING, HIDDEN, NO_CLASS, NO_FILE, NO_IMAGE, NO_IMAGES
from stoker.pipeline.sources.folder_walk import LOOP
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.generated import generated
from stoker.pipeline.text import printable_path


def tree(root, *paths):
    """Make these empty files below root; a path that ends in '/' is a folder."""
    for path in paths:
        whole = os.path.join(os.fsencode(str(root)), path.encode("utf-8", "surrogateescape"))
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if not path.endswith("/"):
            open(whole, "wb").close()
    return str(root)


def error_of(root, label_word=None):
    with pytest.raises(DatasetError) as caught:
        scan_folder(root, label_word)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable()
    return sentence


@contextlib.contextmanager
def without_root():
    """Root may read everything, so the test runs as an unprivileged user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A temporary folder that all users may enter, unlike pytest's."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield folder
    for below, folders, _ in os.walk(folder):
        for name in folders:
            os.chmod(os.path.join(below, name), 0o755)
    shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------ scanning

def test_each_folder_is_a_class(tmp_path):
    root = tree(tmp_path, "cat/b.jpg", "cat/a.PNG", "ant/deep/er/x.jpeg", "ant/z.gif", "bee/1.WebP")
    data = scan_folder(root)
    assert data == Dataset(root, ("ant", "bee", "cat"),
                           ("ant/deep/er/x.jpeg", "ant/z.gif", "bee/1.WebP", "cat/a.PNG", "cat/b.jpg"),
                           (0, 0, 1, 2, 2), ())
    assert len(data) == 5
    assert data.samples((3,)) == (Sample(3, "cat/a.PNG", 2),)
    assert repr(data) == "<Dataset: %s: 5 images in 3 classes>" % root


@pytest.mark.parametrize("index", [-1, 2])
def test_no_sample_outside_the_dataset(tmp_path, index):
    data = scan_folder(tree(tmp_path, "a/1.jpg", "b/1.jpg"))
    for method in (data.samples, data.rows):
        for indices in ((index,), (0, index)):
            with pytest.raises(IndexError, match="sample %d of 2: they have the numbers 0 to 1" % index):
                method(indices)


def test_samples_come_in_the_order_of_their_indices(tmp_path):
    data = scan_folder(tree(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg"))
    assert data.samples((2, 0, 1)) == (Sample(2, "b/2.jpg", 1), Sample(0, "a/1.jpg", 0), Sample(1, "b/1.jpg", 1))
    assert data.samples(()) == () and type(data.samples((1,))[0]) is Sample


def test_a_name_is_printable_under_any_locale(monkeypatch):
    # Python 3.6 under LANG=C
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("ascii", "surrogateescape"))
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    assert printable_path("Stra\u00dfe") == printable_path("Stra\udcc3\udc9fe") == "Stra\u00dfe"
    assert printable_path("a\udcff") == r"a\xff"
    assert printable_path("a\ud800") == r"a\ud800"


@pytest.mark.parametrize("suffix", "jpg jpeg png gif bmp webp tif tiff ppm pgm".split())
def test_suffixes_in_any_case(tmp_path, suffix):
    data = scan_folder(tree(tmp_path, "a/1." + suffix, "b/1." + suffix.upper()))
    assert len(data) == 2


def test_order_is_that_of_the_bytes(tmp_path):
    # a locale would sort these differently; '-' comes before '/', so the files of 'a' come after those of 'a-b'
    names = ["a/z.jpg", "a/B.jpg", "a/é.jpg", "a/\udcff.jpg", "a/日.jpg", "a-b/x.jpg", "Z/x.jpg", "é/x.jpg",
             "\udc80/x.jpg"]
    data = scan_folder(tree(tmp_path, *names))
    encoded = [os.fsencode(path) for path in data.paths]
    assert encoded == sorted(encoded) and len(encoded) == len(names)
    assert [os.fsencode(name) for name in data.classes] == [b"Z", b"a", b"a-b", b"\x80", b"\xc3\xa9"]
    assert [data.classes[label] for label in data.labels] == [path.split("/")[0] for path in data.paths]


def test_undecodable_names_survive_and_can_be_printed(tmp_path):
    data = scan_folder(tree(tmp_path, "caf\udce9/1.jpg", "b/\udcff\n.jpg", "b/\udcfe.txt", "b/2.jpg"))
    assert "caf\udce9" in data.classes and "b/\udcff\n.jpg" in data.paths
    for path in data.paths:
        assert os.path.isfile(os.path.join(data.root, path))
    for line in data.summary().splitlines():
        assert line.isprintable()
        line.encode("utf-8")
    assert "caf\\xe9" in data.summary()


def test_relative_root_becomes_absolute(tmp_path, monkeypatch):
    tree(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg")
    monkeypatch.chdir(str(tmp_path))
    assert scan_folder("photos/").root == str(tmp_path / "photos")


def test_files_that_are_left_out_have_a_reason(tmp_path):
    root = tree(tmp_path, "a/1.jpg", "b/1.jpg", "loose.jpg", "read.me", ".DS_Store", "a/.hidden.jpg",
                "a/.git/1.jpg", "a/notes.txt", "a/noise.jpg.part", "jpg", "void/", "void/in/void/", "b/empty/")
    os.mkfifo(os.path.join(root, "a", "pipe.jpg"))
    os.symlink("nowhere.jpg", os.path.join(root, "a", "broken.jpg"))
    os.symlink("self.jpg", os.path.join(root, "b", "self.jpg"))
    data = scan_folder(root)
    assert data.paths == ("a/1.jpg", "b/1.jpg")
    reasons = dict(data.left_out)
    assert len(reasons) == len(data.left_out)
    assert reasons.pop("b/self.jpg") == DANGLING
    assert reasons == {
        "loose.jpg": NO_CLASS, "read.me": NO_IMAGE, ".DS_Store": HIDDEN, "a/.hidden.jpg": HIDDEN, "a/.git": HIDDEN,
        "a/notes.txt": NO_IMAGE, "a/noise.jpg.part": NO_IMAGE, "jpg": NO_IMAGE, "void": NO_IMAGES,
        "b/empty": NO_IMAGES, "a/pipe.jpg": NO_FILE, "a/broken.jpg": DANGLING}


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    assert scan_folder(tree(tmp_path, "a/x.jpg/1.png", "b/1.png")).paths == ("a/x.jpg/1.png", "b/1.png")


def test_links_are_followed_but_not_in_loops(tmp_path):
    elsewhere = tree(tmp_path / "elsewhere", "1.jpg", "2.jpg")
    root = tree(tmp_path / "photos", "a/1.jpg")
    os.symlink(elsewhere, os.path.join(root, "b"))
    os.symlink(elsewhere, os.path.join(root, "c"))  # the same files in another class
    os.symlink(os.path.join(elsewhere, "1.jpg"), os.path.join(root, "a", "link.jpg"))
    os.symlink(root, os.path.join(root, "a", "up"))
    os.symlink(elsewhere, os.path.join(elsewhere, "itself"))
    data = scan_folder(root, follow_links=True)
    assert data.paths == ("a/1.jpg", "a/link.jpg", "b/1.jpg", "b/2.jpg")
    assert data.left_out == (("a/up", LOOP), ("b/itself", LOOP), ("c", SAME_CLASS))
    former = scan_folder(root, follow_links=True, former=EVERY_NAME)
    assert former.paths == ("a/1.jpg", "a/link.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg")
    assert former.left_out == (("a/up", LOOP), ("b/itself", LOOP), ("c/itself", LOOP))
    with pytest.raises(DatasetError, match="single class, 'a' with 1 image .*--follow-links follows it.: 3, such as"):
        scan_folder(root)


def test_links_within_the_folder_are_followed_always(tmp_path):
    root = tree(tmp_path / "photos", "a/1.jpg", "b/1.jpg")
    os.symlink(os.path.join(root, "a"), os.path.join(root, "c"))
    os.symlink("../a/1.jpg", os.path.join(root, "b", "2.jpg"))
    os.symlink("../a", os.path.join(root, "b", "in"))
    data = scan_folder(root)
    assert data.paths == ("a/1.jpg", "b/1.jpg", "b/2.jpg")
    assert data.left_out == (("b/in", ANOTHER_NAME), ("c", SAME_CLASS))


def test_an_unreadable_folder_is_left_out(open_folder):
    root = tree(open_folder, "a/1.jpg", "b/1.jpg", "b/secret/2.jpg")
    os.chmod(os.path.join(root, "b", "secret"), 0)
    with without_root():
        data = scan_folder(root)
    assert data.paths == ("a/1.jpg", "b/1.jpg")
    assert data.left_out == (("b/secret", "cannot be read: Permission denied"),)


# ---------------------------------------------------------------------------------------- label word

def test_label_word_looks_at_the_whole_path_below_the_root(tmp_path):
    root = tree(tmp_path / "positive", "positive/1.jpg", "x/positive-2.jpg", "x/3.jpg", "4_positive.jpg", "5.jpg")
    data = scan_folder(root, "positive")
    assert data.classes == ("other", "positive")
    assert dict(zip(data.paths, data.labels)) == {"positive/1.jpg": 1, "x/positive-2.jpg": 1, "x/3.jpg": 0,
                                                  "4_positive.jpg": 1, "5.jpg": 0}
    assert data.left_out == ()


@pytest.mark.parametrize("word, share", [("cat", "all"), ("dog", "none")])
def test_a_label_word_that_gives_a_single_class(tmp_path, word, share):
    sentence = error_of(tree(tmp_path, "cat/1.jpg", "x/cat.jpg"), word)
    assert repr(word) in sentence and "%s of the 2 paths" % share in sentence


def test_an_empty_label_word(tmp_path):
    with pytest.raises(ConfigError):
        scan_folder(tree(tmp_path, "a/1.jpg", "b/1.jpg"), "")


# -------------------------------------------------------------------------------------------- errors

def test_a_missing_folder(tmp_path):
    assert "no/such cannot be read (No such file or directory)" in error_of(str(tmp_path / "no" / "such"))


def test_a_file_is_no_folder(tmp_path):
    tree(tmp_path, "photos.zip")
    assert "photos.zip is not a folder: give the folder" in error_of(str(tmp_path / "photos.zip"))


def test_no_permission(open_folder):
    root = tree(open_folder, "photos/a/1.jpg", "photos/b/1.jpg") + "/photos"
    os.chmod(root, 0)
    with without_root():
        assert "photos cannot be read (Permission denied)" in error_of(root)


def test_no_name():
    assert "is empty" in error_of("")


def test_empty_folder(tmp_path):
    assert "%s has no image of a class: " % tmp_path in error_of(str(tmp_path))


def test_no_image_names_the_files_that_were_found(tmp_path):
    sentence = error_of(tree(tmp_path, "a/1.txt", "a/2.txt", "b/"))
    assert "no image of a class" in sentence and "%s: 2, such as a/1.txt" % NO_IMAGE in sentence and ".jpeg" in sentence


def test_images_in_no_folder_mention_the_label_word(tmp_path):
    sentence = error_of(tree(tmp_path, "cat1.jpg", "dog1.jpg"))
    assert "%s: 2, such as " % NO_CLASS in sentence and "--label-word" in sentence


def test_a_single_class(tmp_path):
    sentence = error_of(tree(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.heic"))
    assert "'cat' with 2 images" in sentence and "--label-word" in sentence
    assert "%s: dog" % NO_IMAGES in sentence


# --------------------------------------------------------------------------------------------- split

def made_up(labels, classes=3, root="/data"):
    paths = tuple("%05d.jpg" % i for i in range(len(labels)))
    return Dataset(root, tuple("abc"[:classes]), paths, tuple(labels), ())


@given(st.lists(st.integers(0, 2), max_size=60), st.floats(0, 0.99), st.integers(0, 2 ** 64))
def test_split_is_disjoint_complete_ordered_and_stratified(labels, fraction, seed):
    data = made_up(labels)
    training, validation = data.split(fraction, seed)
    assert (training, validation) == data.split(fraction, seed)
    assert sorted(training.paths + validation.paths) == list(data.paths)
    for part in (training, validation):
        assert list(part.paths) == sorted(part.paths)
        assert all(labels[int(path[:5])] == label for path, label in zip(part.paths, part.labels))
        assert (part.root, part.classes) == (data.root, data.classes)
        assert [sample.index for sample in part.samples(range(len(part)))] == list(range(len(part)))
    for label in range(3):
        size, chosen = labels.count(label), validation.labels.count(label)
        if fraction == 0 or size < 2:
            assert chosen == 0
        else:
            assert 1 <= chosen <= size - 1
            assert abs(chosen - fraction * size) <= 1


def test_split_at_zero_is_the_dataset_itself():
    data = made_up([0, 1, 2, 0])
    training, validation = data.split(0, 7)
    assert training == data and len(validation) == 0 and validation.classes == data.classes


def test_split_depends_on_the_seed_and_is_spread_out():
    data = made_up([0, 1] * 500, classes=2)
    one, other = (set(data.split(0.2, seed)[1].paths) for seed in (1, 2))
    assert len(one) == len(other) == 200
    assert 15 < len(one & other) < 70                        # 40 expected by chance
    assert 60 < sum(path < "00500" for path in one) < 140    # neither the beginning nor the end
    # classes are drawn independently: the same places of both would be a correlated choice
    places = [{int(path[:5]) // 2 for path in one if int(path[:5]) % 2 == label} for label in (0, 1)]
    assert len(places[0] & places[1]) < 50


def test_split_never_changes():
    # a checkpoint's training set must be this one for good, on every version of Python and numpy
    validation = made_up([0, 1, 1, 0, 2] * 4).split(0.3, 42)[1]
    assert [int(path[:5]) for path in validation.paths] == GOLDEN_SPLIT


def test_split_of_generated_records():
    training, validation = generated(100).split(0.1, 0)
    assert (len(training), len(validation)) == (90, 10)
    assert training.samples((5,))[0].index == 5


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_split_refuses_other_fractions(fraction):
    with pytest.raises(ConfigError, match="fraction"):
        made_up([0, 1]).split(fraction, 0)


# --------------------------------------------------------------------------------- generated records

def test_generated_records():
    data = generated(12)
    assert (data.root, data.classes, len(data)) == ("", ("0", "1"), 12)
    assert data.samples((11,)) == (Sample(11, "11", 0),)
    assert data.summary() == "12 generated records"


def test_generated_records_are_at_least_one():
    with pytest.raises(ConfigError, match="not 0"):
        generated(0)


# --------------------------------------------------------------------------- fingerprint and summary

def test_fingerprint_does_not_depend_on_the_folder(tmp_path):
    names = ("a/1.jpg", "b/\udcff.jpg")
    here, there = (scan_folder(tree(tmp_path / place, *names)) for place in ("here", "there"))
    assert here.root != there.root and here.fingerprint() == there.fingerprint()
    assert len(here.fingerprint()) == 16 and int(here.fingerprint(), 16) >= 0


def test_fingerprint_sees_every_change():
    datasets = [Dataset("/d", ("a", "b"), ("a/1", "b/2"), (0, 1), ()),
                Dataset("/d", ("a", "b"), ("a/1", "b/2"), (1, 0), ()),
                Dataset("/d", ("a", "b"), ("b/2", "a/1"), (0, 1), ()),
                Dataset("/d", ("a", "c"), ("a/1", "b/2"), (0, 1), ()),
                Dataset("/d", ("a",), ("b", "a/1", "b/2"), (0, 0, 0), ()),
                Dataset("/d", ("a", "b"), ("a/1b/2",), (0,), ()),
                Dataset("/d", ("a", "b"), ("a/1",), (0,), ())]
    assert len({data.fingerprint() for data in datasets}) == len(datasets)


def test_fingerprint_never_changes():
    assert made_up([0, 1, 2]).fingerprint() == GOLDEN_FINGERPRINT


def test_summary_of_a_few_classes(tmp_path):
    root = tree(tmp_path, "a/1.jpg", "bee/1.jpg", "bee/2.jpg", "a/x.txt", "a/y.txt", ".z")
    assert scan_folder(root).summary().splitlines() == [
        "%s: 3 images in 2 classes" % root,
        "  1  bee  2",
        "  0  a    1",
        "left out: 3",
        "  %s: 2, such as a/x.txt" % NO_IMAGE,
        "  %s: .z" % HIDDEN]


@pytest.mark.parametrize("classes, lines", [(10, 11), (11, 11), (1000, 11)])
def test_summary_of_many_classes_stays_short(classes, lines):
    labels = [label for label in range(classes) for _ in range(label + 1)]
    names = tuple("class%d" % label for label in range(classes))
    summary = Dataset("/d", names, ("x",) * len(labels), tuple(labels), ()).summary().splitlines()
    assert len(summary) == lines
    assert summary[1].split() == [str(classes - 1), "class%d" % (classes - 1), format(classes, ",")]
    assert summary[-1].split() == ["0", "class0", "1"]
    if classes == 1000:
        assert summary[6].split() == "... 5 to 995 in each of 991 more".split()


GOLDEN_SPLIT = [3, 8, 9, 12, 16]
GOLDEN_FINGERPRINT = "a3a4b3de1c224ab8"
