"""The sample pictures: the same each time, worth learning from, and never at the cost of anybody's files."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources import sample_data
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.sources.sample_data import CLASSES, MARKER, main, picture, write


def contents(folder):
    """{path below folder: bytes} of every file in it."""
    found = {}
    for below, _, names in os.walk(str(folder)):
        for name in names:
            path = os.path.join(below, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, str(folder))] = file.read()
    return found


def test_a_set_is_a_dataset_of_two_classes(tmp_path):
    folder = str(tmp_path / "new" / "set")
    assert write(folder, count=7, seed=3)
    data = scan_folder(folder)
    assert data.classes == CLASSES and data.labels == (0, 0, 0, 0, 1, 1, 1)
    assert data.left_out == ((MARKER, "hidden: its name begins with a dot"),)
    assert os.listdir(str(tmp_path / "new")) == ["set"]
    sizes = set()
    for path in data.paths:
        with Image.open(os.path.join(folder, path)) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert 80 <= min(image.size) and max(image.size) <= 200
            sizes.add(image.size)
    assert len(sizes) == 7


def test_the_tutorials_label_rule_agrees(tmp_path):
    write(str(tmp_path / "set"), count=6)
    by_folder, by_word = scan_folder(str(tmp_path / "set")), scan_folder(str(tmp_path / "set"), "positive")
    assert (by_folder.paths, by_folder.labels) == (by_word.paths, by_word.labels)


def test_the_same_count_and_seed_give_the_same_bytes(tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        write(str(tmp_path / name), count=6, seed=seed)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert sorted(one) == sorted(three)
    assert not {one[path] for path in one} & {three[path] for path in three}


def test_a_picture_does_not_depend_on_the_count(tmp_path):
    write(str(tmp_path / "few"), count=4)
    write(str(tmp_path / "more"), count=6)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert all(more[path] == few[path] for path in few if path != MARKER)


def test_a_picture_is_the_same_everywhere():
    # sines may differ in their last bit between versions of numpy, so a pixel by one; a changed recipe by far more
    image = picture(0, 0)
    assert image.dtype == np.uint8 and image.shape == GOLDEN_SHAPE
    assert np.abs(image.mean(axis=(0, 1)) - GOLDEN_MEAN).max() < 0.05


def test_only_the_direction_of_stripes_tells_the_class():
    # upright stripes make brightness change more along a row, lengthwise ones down a column
    ratios = {name: [] for name in CLASSES}
    colours = {name: [] for name in CLASSES}
    for index in range(40):
        image = picture(index, seed=1).astype(float)
        across, down = (np.abs(np.diff(image.mean(axis=2), axis=axis)) for axis in (1, 0))
        ratios[CLASSES[index % 2]].append(across.mean() / down.mean())
        colours[CLASSES[index % 2]].append(image.mean())
    assert np.median(ratios["positive"]) > 1.1 * np.median(ratios["negative"])
    assert abs(np.mean(colours["positive"]) - np.mean(colours["negative"])) < 20


GOLDEN_SHAPE = (128, 161, 3)
GOLDEN_MEAN = (90.879, 126.855, 107.996)


# ------------------------------------------------------------------------- a folder that exists already

def test_a_second_time_is_quick_and_changes_nothing(tmp_path, monkeypatch):
    folder = str(tmp_path / "set")
    write(folder, count=4)
    before = contents(folder)
    monkeypatch.setattr(sample_data, "picture", None)  # drawing would fail
    assert not write(folder, count=4)
    assert contents(folder) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert write(str(tmp_path / "set"), count=2)


def test_other_files_stay_untouched(tmp_path):
    (tmp_path / "precious.txt").write_text("my data")
    with pytest.raises(ConfigError, match="holds other files"):
        write(str(tmp_path), count=2)
    assert contents(tmp_path) == {"precious.txt": b"my data"}


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "set").write_text("my data")
    assert main([str(tmp_path / "set"), "--count", "2"]) == 2
    assert "set is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("count, seed", [(4, 1), (6, 0)])
def test_another_set_stays_untouched(tmp_path, count, seed):
    folder = str(tmp_path / "set")
    write(folder, count=4, seed=0)
    before = contents(folder)
    with pytest.raises(ConfigError, match="another sample set .*'count': 4, 'seed': 0}, wanted .*: %d, 'seed': %d}"
                       % (count, seed)):
        write(folder, count, seed)
    assert contents(folder) == before


@pytest.mark.parametrize("marker", ["", "[]", '{"count": 4}'])
def test_a_marker_that_is_none_of_ours(tmp_path, marker):
    (tmp_path / MARKER).write_text(marker)
    with pytest.raises(ConfigError):
        write(str(tmp_path), count=4)


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def interrupted(index, seed):
        if index == 3:
            raise KeyboardInterrupt
        return picture(index, seed)
    monkeypatch.setattr(sample_data, "picture", interrupted)
    assert main([str(tmp_path / "set"), "--count", "6"]) == 130
    assert os.listdir(str(tmp_path)) == []
    assert "was not made" in capsys.readouterr().err


def test_two_at_once_make_one_set(tmp_path, monkeypatch):
    folder = str(tmp_path / "set")

    def overtaken(index, seed):
        if index == 1:
            monkeypatch.setattr(sample_data, "picture", picture)
            write(folder, count=2)
        return picture(index, seed)
    monkeypatch.setattr(sample_data, "picture", overtaken)
    write(folder, count=2)
    assert os.listdir(str(tmp_path)) == ["set"]
    assert json.loads((tmp_path / "set" / MARKER).read_text())["count"] == 2


# -------------------------------------------------------------------------------------- the command line

def test_command_line(tmp_path, capsys):
    folder = str(tmp_path / "set")
    assert main([folder, "--count", "2", "--seed", "9"]) == 0
    assert capsys.readouterr().out == "%s: 2 pictures\n" % folder
    assert main([folder, "--count", "2", "--seed", "9"]) == 0
    assert capsys.readouterr().out == "%s: 2 pictures, already there\n" % folder


@pytest.mark.parametrize("count", ["1", "0", "-5"])
def test_command_line_error(tmp_path, capsys, count):
    assert main([str(tmp_path / "set"), "--count", count]) == 2
    assert "set was not made: count must be at least 2" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []


def test_a_set_that_lost_a_picture_is_reported(tmp_path):
    folder = str(tmp_path / "set")
    write(folder, count=4)
    os.remove(os.path.join(folder, "positive", "000001.jpg"))
    with pytest.raises(ConfigError, match="should hold 4 pictures and holds 3"):
        write(folder, count=4)
