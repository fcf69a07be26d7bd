"""What a worker of stoker-check tells about a file, and which rows of a table name files; on real files."""

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image

from stoker.inspection.checking import facts, fields
from stoker.inspection.checking.data import Options, open_data
from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.options import DECODERS
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.sources.table import Table
from stoker.workers import images
from stoker.workers.generators.registry import apply_limits
from tests.support import bad_pictures
from tests.support.bad_pictures import photo
from tests.support.formats import WEBP_IS_SAFE

ARRAYS = (ArraySpec("facts", "int64", (len(fields.FIELDS),)),)
SIZE = (12, 20)


@pytest.fixture(autouse=True)
def usual_limits(named_formats):
    yield
    apply_limits(job("/"))


def job(root, **options):
    return Job(generator="x:y", arrays=ARRAYS, batch_size=100, seed=0, data_root=str(root), image_size=SIZE,
               **dict(dict(decode="fastest", formats=("jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm")), **options))


def look(root, names=None, function=facts.facts, **options):
    """name -> its facts by name, and name -> why it is bad."""
    names = sorted(os.listdir(str(root))) if names is None else names
    a_job = job(root, **options)
    apply_limits(a_job)
    lease = Lease(1, 0, 0, False, tuple(Sample(number, name, -1) for number, name in enumerate(names)))
    output, = function.__wrapped__(iter([lease]), a_job)
    bad = {names[skip.index]: skip.reason for skip in output.skipped}
    good = [name for name in names if name not in bad]
    return {name: dict(zip(fields.FIELDS, row)) for name, row in zip(good, output.arrays[0].tolist())}, bad


def test_the_facts_of_ordinary_pictures(tmp_path):
    for suffix in ("jpg", "png", "bmp"):
        photo(3).save(str(tmp_path / ("a." + suffix)))
    good, bad = look(tmp_path)
    assert not bad
    for name, format_name in (("a.jpg", "JPEG"), ("a.png", "PNG"), ("a.bmp", "BMP")):
        own = good[name]
        assert (own["width"], own["height"], own["orientation"], own["flags"]) == (64, 48, 1, 0)
        assert fields.FORMATS[own["format"]] == format_name and fields.MODES[own["mode"]] == "RGB"
        assert own["bytes"] == (tmp_path / name).stat().st_size
        assert all(own["ns_" + decode] > 0 for decode in DECODERS)         # the first ones are always measured
    same = [[good[name][key] for key in ("pixels_1", "pixels_2")] for name in ("a.png", "a.bmp", "a.jpg")]
    assert same[0] == same[1] != same[2]
    assert good["a.png"]["file_1"] != good["a.bmp"]["file_1"]


@pytest.mark.parametrize("decode", DECODERS)
def test_the_sums_are_those_of_the_pixels_that_a_run_makes(tmp_path, decode):
    """Of a PNG, which no run decodes at reduced scale, to the last bit."""
    photo(5, (300, 400)).save(str(tmp_path / "a.png"))
    good, _ = look(tmp_path, decode=decode)
    pixels = np.asarray(images.load(str(tmp_path / "a.png"), SIZE, decode)).astype(np.int64)
    for channel, name in enumerate(fields.CHANNELS):
        assert good["a.png"]["sum_" + name] == pixels[..., channel].sum()
        assert good["a.png"]["square_" + name] == (pixels[..., channel] ** 2).sum()


def test_unusual_pictures_are_told_apart(tmp_path):
    for name, write in bad_pictures.ODD.items():
        write(str(tmp_path / name))
    Image.new("RGB", (64, 48), (7, 8, 9)).save(str(tmp_path / "blank.jpg"))
    Image.new("I;16", (64, 48), 40000).save(str(tmp_path / "blank-16.png"))
    nearly = np.full((480, 640, 3), 255, np.uint8)
    nearly[240, 320] = 0
    Image.fromarray(nearly).save(str(tmp_path / "one-dot.png"))
    good, bad = look(tmp_path)
    webp = {"animated.webp", "rgba.webp"} if WEBP_IS_SAFE else set()
    assert set(bad) == {"animated.webp", "rgba.webp"} - webp
    with_flag = {flag: {name for name, own in good.items() if own["flags"] & flag}
                 for flag in (fields.ANIMATED, fields.TRANSPARENT, fields.DEEP, fields.BLANK, fields.TRUNCATED)}
    assert with_flag == {
        fields.ANIMATED: {"animated.gif", "animated.png", "two-pictures.jpg"} | webp - {"rgba.webp"},
        fields.TRANSPARENT: {"transparent-palette.png", "la.png"} | webp - {"animated.webp"},
        fields.DEEP: {"grey-16-bit.png", "float.tif", "blank-16.png"},
        fields.BLANK: {"blank.jpg", "blank-16.png", "one-pixel.png", "some-text.png"}, fields.TRUNCATED: set()}
    assert {name for name, own in good.items() if fields.MODES[own["mode"]] == "CMYK"} == {"cmyk.jpg", "ycck.jpg"}
    assert (good["turned.jpg"]["orientation"], good["turned.png"]["orientation"]) == (6, 8)
    assert fields.FORMATS[good["png-named.jpg"]["format"]] == "PNG"


def test_bad_files_are_bad_for_the_reason_that_a_run_gives(tmp_path):
    for name, (write, _) in bad_pictures.BAD.items():
        write(str(tmp_path / name))
    for number in range(2):
        photo(number).save(str(tmp_path / ("good-%d.jpg" % number)))
    good, bad = look(tmp_path, sorted(bad_pictures.BAD) + ["good-0.jpg", "good-1.jpg"])
    assert set(good) == {"good-0.jpg", "good-1.jpg"}
    for name, reason in bad.items():
        with pytest.raises(images.BadFile) as caught:
            images.load(os.fsencode(os.path.join(str(tmp_path), name)), SIZE, "fastest")
        assert reason == str(caught.value), name


def test_truncated_pictures_that_a_run_uses(tmp_path):
    bad_pictures.BAD["truncated.jpg"][0](str(tmp_path / "cut.jpg"))
    photo(1).save(str(tmp_path / "whole.jpg"))
    assert "truncated" in look(tmp_path)[1]["cut.jpg"]
    good, bad = look(tmp_path, truncated="use")
    assert not bad and good["cut.jpg"]["flags"] == fields.TRUNCATED and not good["whole.jpg"]["flags"]


def test_a_picture_that_only_the_runs_own_way_can_decode(tmp_path, monkeypatch):
    """Decoding in full takes more memory than is permitted, decoding at reduced scale does not."""
    photo(1, (480, 640)).save(str(tmp_path / "large.jpg"), quality=90)

    def refused(*args, **kwargs):
        raise images.BadFile("takes more than 5 MB of memory to decode")
    monkeypatch.setattr(images, "converted", refused)
    good, bad = look(tmp_path)
    assert not bad and (good["large.jpg"]["width"], good["large.jpg"]["height"]) == (640, 480)
    decoded = images.decoded
    monkeypatch.setattr(images, "decoded", lambda data, size, decode, *rest: (
        refused() if decode == "exact" else decoded(data, size, decode, *rest)))
    good, bad = look(tmp_path)
    assert not bad and good["large.jpg"]["ns_exact"] == 0


def test_copies_without_their_metadata_have_equal_pixels(tmp_path):
    whole = bad_pictures.jpeg(str(tmp_path / "a.jpg"), photo(9))
    (tmp_path / "b.jpg").write_bytes(whole[:2] + b"\xff\xfe\x00\x06text" + whole[2:])
    other = np.asarray(Image.open(io.BytesIO(whole))).copy()
    Image.fromarray(other).save(str(tmp_path / "c.png"))
    other[40, 50, 1] ^= 1
    Image.fromarray(other).save(str(tmp_path / "d.png"))       # one bit of one pixel
    good, _ = look(tmp_path)
    pixels = {name: (own["pixels_1"], own["pixels_2"]) for name, own in good.items()}
    assert pixels["a.jpg"] == pixels["b.jpg"] == pixels["c.png"] != pixels["d.png"]


@pytest.mark.parametrize("decode", DECODERS)
def test_equal_pixels_are_found_in_whatever_mode_they_are_stored(tmp_path, decode):
    coloured = photo(5, (300, 400))
    grey = coloured.convert("L")
    few = coloured.quantize(16)
    hidden = np.asarray(coloured.convert("RGBA")).copy()
    hidden[100, 100, 3] = 254
    half = grey.convert("LA")
    half.putpixel((100, 100), half.getpixel((100, 100))[:1] + (254,))
    for name, picture in (
            ("colours-1", coloured), ("colours-2", coloured.convert("RGBA")), ("grey-1", grey),
            ("grey-2", grey.convert("RGB")), ("grey-3", grey.convert("LA")), ("grey-4", grey.convert("RGBA")),
            ("few-1", few), ("few-2", few.convert("RGB")), ("few-3", few.convert("RGBA")),
            ("bits-1", grey.convert("1")), ("bits-2", grey.convert("1").convert("RGB")),
            ("hidden-1", Image.fromarray(hidden)), ("half-1", half),
            ("half-2", half.convert("RGBA"))):
        picture.save(str(tmp_path / (name + ".png")))
    few.save(str(tmp_path / "few-4.gif"))
    good, bad = look(tmp_path, decode=decode)
    groups = {}
    for name, own in good.items():
        groups.setdefault((own["pixels_1"], own["pixels_2"]), []).append(os.path.splitext(name)[0])
    kinds = ("bits", 2), ("colours", 2), ("few", 4), ("grey", 4), ("half", 2), ("hidden", 1)
    assert not bad and sorted(groups.values()) == [
        ["%s-%d" % (kind, number + 1) for number in range(count)] for kind, count in kinds]


def test_thumbnails_keep_the_shape(tmp_path):
    photo(0, (64, 256)).save(str(tmp_path / "wide.png"))
    photo(0, (10, 5)).save(str(tmp_path / "small.png"))
    lease = Lease(1, 0, 0, False, (Sample(0, "wide.png", -1), Sample(1, "small.png", -1)))
    side = fields.THUMBNAIL
    arrays = (ArraySpec("thumbnail", "uint8", (side, side, 3)), ArraySpec("size", "int32", (2,)))
    a_job = Job(**dict(vars(job(tmp_path)), arrays=arrays))
    output, = facts.thumbnails.__wrapped__(iter([lease]), a_job)
    assert output.arrays[1].tolist() == [[32, 128], [10, 5]] and output.arrays[0][0, 32:].max() == 0


# ------------------------------------------------------------------------------------------------------- the data

def write_table(tmp_path, lines):
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "t.csv")


def test_a_table_names_files_and_labels(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    table = write_table(tmp_path, ["file,kind", "a.jpg,2", "b.jpg,1", "../c.jpg,1", "%s/b.jpg,1" % tmp_path, "a.jpg,1"])
    data = open_data(table, None, Options(label="kind"))         # the column is found by its files
    assert data.paths == ("a.jpg", "b.jpg") and data.classes == ("1", "2") and data.labels.tolist() == [1, 0]
    assert [(problem.kind, problem.count, problem.examples) for problem in data.problems] == [
        ("rows", 1, ("row 3: 'file' is '../c.jpg'",)), ("contradictions", 1, (
            "row 5: a.jpg is '1', and '2' in an earlier row",))]
    assert open_data(table, None, Options(column="file")).labels.tolist() == [-1, -1]


def test_a_table_whose_column_is_not_clear(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    two = write_table(tmp_path, ["left,right", "a.jpg,a.jpg"])
    with pytest.raises(ConfigError, match="several columns name files .*--column"):
        open_data(two, None, Options())
    with pytest.raises(ConfigError, match="no 'middle'; it has 'left', 'right'"):
        open_data(two, None, Options(column="middle"))
    none = write_table(tmp_path, ["left,right", "b.jpg,c.jpg"])
    with pytest.raises(ConfigError, match="no column .*--root DIR"):
        open_data(none, None, Options())
    assert open_data(none, None, Options(column="left")).paths == ("b.jpg",)     # the workers find that it is missing


def test_a_label_with_too_many_values_is_no_class(tmp_path, monkeypatch):
    monkeypatch.setattr("stoker.inspection.checking.data.MAX_CLASSES", 2)
    table = write_table(tmp_path, ["path,angle", "a.jpg,0.1", "b.jpg,0.2", "%s,0.2" % ("x" * 5000), "c.jpg,0.3"])
    with pytest.raises(ConfigError, match="'angle' of .* has more than 2 different values"):
        open_data(table, None, Options(column="path", label="angle"))
    data = open_data(table, None, Options(column="path"))
    assert data.paths == ("a.jpg", "b.jpg", "c.jpg") and data.problems[0].count == 1


def test_rows_of_several_files_and_a_list_of_paths(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nb/c.jpg\n")
    assert open_data(str(tmp_path / "list.txt"), None, Options()).paths == ("a.jpg", "b/c.jpg")
    table = Table.of([{"frames": ["a.jpg", "b.jpg"], "y": None}, {"frames": ["b.jpg", 7], "y": "up"}], str(tmp_path))
    data = open_data(table, None, Options(column="frames", label="y"))
    assert data.paths == ("a.jpg", "b.jpg") and data.classes == ("None", "up")
    assert [problem.kind for problem in data.problems] == ["rows", "contradictions"]


def test_a_folder_that_a_run_refuses_is_looked_at_all_the_same(tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    data = open_data(str(tmp_path), None, Options())
    assert len(data.paths) == 4
    assert [problem.kind for problem in data.problems] == ["refused"] and "parts of a dataset" in data.problems[0].what
    data = open_data(str(tmp_path / "train"), str(tmp_path / "val"), Options())
    assert data.paths[0] == "train/cat/1.jpg" and data.training == 2 and not data.problems


def test_a_flat_folder_needs_a_word(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DatasetError, match="--no-labels"):
        open_data(str(tmp_path), None, Options())
    assert open_data(str(tmp_path), None, Options(labels=False)).paths == ("a.jpg",)
    with pytest.raises(ConfigError, match="--column is for a file of rows"):
        open_data(str(tmp_path), None, Options(labels=False, column="x"))
    with pytest.raises(DatasetError, match="cannot be read"):
        open_data(str(tmp_path / "gone"), None, Options())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no limit of CPU time for a picture")
def test_the_clock_of_the_decoding_runs_while_its_cpu_time_is_limited():
    signal.setitimer(signal.ITIMER_PROF, 60)        # as workers/picture_limits.py does for each picture
    try:
        times = [facts._cpu_s() for _ in range(1000)]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert len(set(times)) > 100        # a clock that counts in ticks gives one or two
