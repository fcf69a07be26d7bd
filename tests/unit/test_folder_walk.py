"""Folders with several names: each is entered once, under the same name on every host."""

import itertools
import os

import pytest

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources import folder as folder_module, folder_walk
from stoker.pipeline.sources.file_names import ANOTHER_NAME, SAME_CLASS
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.opening import open_source
from stoker.pipeline.sources.reading import files
from stoker.pipeline.sources.folder_walk import LOOP, MAX_ENTRIES, PROGRESS_S, Walk
from stoker.trainer.run import prepare
from tests.support.processes import Log


def tree(root, *names):
    for name in names:
        path = os.path.join(str(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    return str(root)


def link(root, name, target):
    path = os.path.join(str(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def walked(root, **options):
    """The folders that are entered, in order, and what is left out."""
    walk = Walk(str(root), **options)
    entered = []
    for path, entries in walk:
        entered.append(path)
        for entry in entries:
            if entry.is_dir():
                walk.add(os.path.join(path, entry.name), entry.is_symlink())
    return entered, sorted(walk.left_out)


def chained(root, depth):
    """Class folders a and b, and below a so many folders with two links each to the next."""
    tree(root, "a/1.jpg", "b/1.jpg", "deep/%02d/end.jpg" % depth)
    for number in range(depth):
        for name in ("left", "right"):
            link(root, "deep/%02d/%s" % (number, name), "../%02d" % (number + 1))
    return str(root)


def test_two_links_in_each_of_many_folders_do_not_double_the_scan(tmp_path):
    root = chained(tmp_path / "photos", 35)
    data = scan_folder(root)
    assert data.paths == ("a/1.jpg", "b/1.jpg", "deep/35/end.jpg")
    assert sum(why == ANOTHER_NAME for _, why in data.left_out) == 70


def test_from_outside_too_and_by_a_pattern(tmp_path):
    chained(tmp_path / "elsewhere", 35)
    root = tree(tmp_path / "photos", "a/1.jpg", "b/1.jpg")
    link(root, "c", "../elsewhere/deep/00")
    assert scan_folder(root, follow_links=True).paths == ("a/1.jpg", "b/1.jpg", "c/" + "left/" * 35 + "end.jpg")
    with Log() as log:
        assert files(os.path.join(root, "**", "*.jpg")).paths == (
            "a/1.jpg", "b/1.jpg", "c/" + "left/" * 35 + "end.jpg")
        assert log.having("35 names of folders below %s, such as c/" % root)
    with pytest.raises(DatasetError, match="no file matches"):
        files(os.path.join(root, "**", "*.none"))


def test_the_own_name_counts_and_else_the_first_one(tmp_path):
    tree(tmp_path / "elsewhere", "in/1.jpg")
    root = tree(tmp_path / "photos", "m/1.jpg")
    link(root, "a", "m")
    link(root, "z", "../elsewhere")
    link(root, "y", "../elsewhere")
    link(root, "b/in", "../../elsewhere/in")
    link(root, "m/up", "..")
    assert walked(root) == (["", "m", "b", "b/in", "y"], [
        ("a", ANOTHER_NAME), ("m/up", LOOP), ("y/in", ANOTHER_NAME), ("z", ANOTHER_NAME)]) or walked(root) == (
            ["", "b", "m", "b/in", "y"], [
                ("a", ANOTHER_NAME), ("m/up", LOOP), ("y/in", ANOTHER_NAME), ("z", ANOTHER_NAME)])


def test_the_order_in_which_a_host_lists_names_makes_no_difference(tmp_path, monkeypatch):
    root = tree(tmp_path / "photos", "a/1.jpg", "b/1.jpg", "c/d/1.jpg")
    for name, target in (("a/x", "../c"), ("b/x", "../c/d"), ("e", "a"), ("f", "c/d"), ("c/up", "../a")):
        link(root, name, target)
    tree(tmp_path / "elsewhere", "p/q/1.jpg")
    for name, target in (("g", "p/q"), ("b/g", "../elsewhere/p"), ("a/h", "../../elsewhere")):
        link(root, name, "../elsewhere/" + target if "/" not in name else
             os.path.join(str(tmp_path), "elsewhere", target if "elsewhere" not in target else "p"))
    seen = set()
    listed = os.scandir
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 37):
        def shuffled(path, order=order):
            with listed(path) as entries:
                found = sorted(entries, key=lambda entry: (order[sum(map(ord, entry.name)) % 6], entry.name))

            class Entries(list):
                def __enter__(self):
                    return self

                def __exit__(self, *exc_info):
                    pass
            return Entries(found)
        monkeypatch.setattr(folder_walk.os, "scandir", shuffled)
        data = scan_folder(root, follow_links=True)
        seen.add((data.paths, data.left_out))
        monkeypatch.undo()
    assert len(seen) == 1


def test_folders_with_equal_numbers_are_entered_if_no_link_leads_there(tmp_path, monkeypatch):
    """On some file systems, the inode numbers of folders are all the same."""
    root = tree(tmp_path / "photos", "a/x/1.jpg", "b/1.jpg")
    stat = os.stat

    def same(path, *args, **options):
        found = stat(path, *args, **options)
        return os.stat_result((found.st_mode, 1, 1) + tuple(found)[3:])
    monkeypatch.setattr(folder_walk.os, "stat", same)
    assert scan_folder(root).paths == ("a/x/1.jpg", "b/1.jpg")


def test_too_many_entries_are_one_sentence(tmp_path, monkeypatch):
    root = tree(tmp_path / "photos", "a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")
    monkeypatch.setattr(folder_module, "MAX_ENTRIES", 6)
    assert len(scan_folder(root)) == 4
    monkeypatch.setattr(folder_module, "MAX_ENTRIES", 5)
    with pytest.raises(DatasetError, match="%s has more than 5 files and folders, .* it stopped in [ab]: give a smaller"
                       % root):
        scan_folder(root)
    monkeypatch.setattr(folder_walk, "ENTRIES_AT_ONCE", 2)           # in the midst of a large folder, too
    for number in range(100):
        tree(root, "a/%d.jpg" % number)
    with pytest.raises(DatasetError, match="more than 5 files"):
        scan_folder(root)
    assert MAX_ENTRIES == 50000000


def test_a_long_scan_tells_where_it_is(tmp_path):
    root = tree(tmp_path / "photos", *("%d/1.jpg" % number for number in range(9)))
    times = itertools.count(0.0, PROGRESS_S / 2)
    with Log() as log:
        walked(root, now=lambda: next(times))
        lines = log.having("scanning %s: " % root)
    assert 2 <= len(lines) <= 6 and "files and folders so far, now in " in lines[0]


def test_a_class_that_is_a_link_to_another_one(tmp_path):
    root = tree(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    link(root, "kitten", "cat")
    data = scan_folder(root)
    assert data.classes == ("cat", "dog") and data.left_out == (("kitten", SAME_CLASS),)
    with pytest.raises(DatasetError, match="no image of kitten, .*link to the folder of another class.*: kitten"):
        scan_folder(root, classes=["cat", "dog", "kitten"])
    assert open_source(root, labels=False).left_out == (("kitten", ANOTHER_NAME),)


def test_a_checkpoint_by_which_each_name_counted_goes_on(tmp_path):
    root = tree(tmp_path / "photos", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/@eaDir/1.jpg")
    link(root, "kitten", "cat")
    link(root, "dog/again", "../cat")
    options = dict(image_size=8, batch_size=2)
    now = prepare(root, **options)
    assert now.source.paths == ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
    for rules, system in ((1, ()), (2, ("dog/@eaDir/1.jpg",))):
        then = scan_folder(root, former=rules)
        assert then.classes == ("cat", "dog", "kitten") and then.paths == tuple(sorted((
            "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/again/1.jpg", "dog/again/2.jpg", "kitten/1.jpg",
            "kitten/2.jpg") + system))
        run = prepare(root, recorded={"dataset": then.fingerprint()}, **options)
        assert run.source.paths == then.paths and "with several names" in run.notes[0], run.notes
    for other in (None, now.source.fingerprint(), "other"):
        assert prepare(root, recorded={"dataset": other}, **options).source.paths == now.source.paths


def test_a_scan_by_former_rules_has_an_end(tmp_path, monkeypatch):
    root = chained(tmp_path / "photos", 35)
    monkeypatch.setattr(folder_module, "FORMER_MAX_ENTRIES", 1000)
    assert len(prepare(root, image_size=8, batch_size=2, recorded={"dataset": "other"}).source) == 3


def test_ctrl_c_ends_a_scan_at_once(tmp_path, monkeypatch):
    root = tree(tmp_path / "photos", "a/1.jpg", "b/1.jpg")

    def interrupted(path):
        raise KeyboardInterrupt
    monkeypatch.setattr(folder_walk.os, "scandir", interrupted)
    for scan in (scan_folder, lambda path: files(os.path.join(path, "**"))):
        with pytest.raises(KeyboardInterrupt):
            scan(root)
