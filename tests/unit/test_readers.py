"""Readers on real files: every kind of picture, bad ones, and paths of every kind. Arrays: ``test_npy.py``."""

import errno
import os
import pathlib
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile, close_kept
from stoker.workers import images, stopwatch
from stoker.workers.readers import Readers
from tests.support.caching import Host, draw, job

pytestmark = pytest.mark.usefixtures("named_formats")

SIZE = (12, 20)
GREY16 = (np.arange(60 * 80, dtype=np.uint32).reshape(60, 80) * 13).astype(np.uint16)      # up to 62387
LABELS = np.random.RandomState(1).randint(0, 7, (60, 80)).astype(np.uint8)


def colours():
    y, x = np.mgrid[0:60, 0:80]
    return Image.fromarray(np.stack([x * 3, y * 4, 255 - x - y], axis=-1).astype(np.uint8))


def labels():
    """A palette picture whose numbers say nothing about its colours."""
    picture = Image.fromarray(LABELS).convert("P")
    picture.putpalette([(37 * number + 11 * channel) % 256 for number in range(256) for channel in range(3)])
    picture.putdata(LABELS.reshape(-1).tolist())
    return picture


def sixteen():
    return Image.frombytes("I;16", (80, 60), GREY16.astype("<u2").tobytes())


def sixteen_png(path):
    """Not by Pillow, whose older versions write no I;16."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in GREY16)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 16, 0, 0, 0, 0))
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines))
                                   + chunk(b"IEND", b""))


def sixteen_big_endian_tiff(path):
    """An uncompressed TIFF with one strip, 'MM'."""
    tags = [(256, 80), (257, 60), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 10 * 12 + 4), (277, 1), (278, 60),
            (279, 9600), (339, 1)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    pathlib.Path(path).write_bytes(b"MM\0*\0\0\0\x08" + struct.pack(">H", len(tags)) + entries + bytes(4)
                                   + GREY16.astype(">u2").tobytes())


def with_orientation(path, orientation):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + bytes(4)
    colours().save(path, quality=95, exif=exif)


#: name -> (how it is written, the mode in which it is stored)
FILES = {
    "rgb.jpg": (lambda path: colours().save(path, quality=95), "RGB"),
    "grey.jpg": (lambda path: colours().convert("L").save(path), "L"),
    "cmyk.jpg": (lambda path: colours().convert("CMYK").save(path), "CMYK"),
    "turned.jpg": (lambda path: with_orientation(path, 6), "RGB"),
    "rgb.png": (lambda path: colours().save(path), "RGB"),
    "rgba.png": (lambda path: colours().convert("RGBA").save(path), "RGBA"),
    "la.png": (lambda path: colours().convert("LA").save(path), "LA"),
    "bits.png": (lambda path: colours().convert("1").save(path), "1"),
    "labels.png": (lambda path: labels().save(path), "P"),
    "labels.gif": (lambda path: labels().save(path), "P"),
    "grey.bmp": (lambda path: colours().convert("L").save(path), "L"),
    "16.png": (sixteen_png, "I;16"),
    "16.tif": (lambda path: sixteen().save(path), "I;16"),
    "16-big.tif": (sixteen_big_endian_tiff, "I;16"),
    "32.tif": (lambda path: Image.fromarray(GREY16.astype(np.int32) * 5 - 9).save(path), "I"),
    "float.tif": (lambda path: Image.fromarray(GREY16.astype(np.float32) / 7).save(path), "F"),
}


#: Not every Pillow resizes them as they are, so that the generator 'image' takes them for bad files with some.
SIXTEEN = {"16.png", "16.tif", "16-big.tif"}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name, (write, _) in FILES.items():
        write(str(root / name))
    return root


@pytest.fixture
def readers(root):
    return Readers(job(root, size=SIZE))


# ---------------------------------------------------------------------------------------------------------- pictures

@pytest.mark.parametrize("decode", ["exact", "fast", "fastest", "sampled"])
@pytest.mark.parametrize("exif_rotate", [False, True])
def test_a_size_gives_what_the_generator_image_gives(root, decode, exif_rotate):
    readers = Readers(job(root, decode=decode, exif_rotate=exif_rotate))
    for name in sorted(set(FILES) - SIXTEEN):
        for size in (SIZE, (33, 33)):
            wanted = images.load(str(root / name), size, decode, exif_rotate)
            found = readers.image(name, size=size)
            assert (found.mode, found.size) == ("RGB", size[::-1]) and found.tobytes() == wanted.tobytes()
            grey = readers.image(name, size, mode="L")
            assert grey.mode == "L" and grey.tobytes() == wanted.convert("L").tobytes()


def test_sizes(readers):
    wanted = readers.image("rgb.png", (20, 20)).tobytes()
    for size in (20, np.int64(20), [20, 20], np.array([20, 20])):
        assert readers.image("rgb.png", size).tobytes() == wanted
    assert readers.image("rgb.png").size == readers.image("rgb.png", mode=None).size == (80, 60)


@pytest.mark.parametrize("name", sorted(FILES))
def test_as_it_is_stored(root, readers, name):
    picture = readers.image(name, mode=None)
    assert (picture.mode, picture.size) == (FILES[name][1], (80, 60))
    values = np.asarray(picture)
    if picture.mode == "I;16":
        assert values.dtype == np.uint16 and np.array_equal(values, GREY16)
    elif picture.mode == "P":
        assert values.dtype == np.uint8 and np.array_equal(values, LABELS)
    else:
        with Image.open(str(root / name)) as plain:
            assert np.array_equal(values, np.asarray(plain))
    small = readers.image(name, SIZE, mode=None)
    assert small.mode == FILES[name][1] and small.size == SIZE[::-1]
    assert set(np.asarray(small).reshape(len(small.tobytes()) and 240, -1).T[0].tolist()) <= set(
        values.reshape(4800, -1).T[0].tolist())


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_mode_and_filter_works_for_every_picture(readers, name):
    """On every Pillow: else a batch would depend on which worker made it."""
    for mode in images.MODES:
        as_image = name in SIXTEEN and mode in ("RGB", "L")      # without a filter
        for resample in (None,) * (not as_image) + tuple(images.RESAMPLE):
            picture = readers.image(name, SIZE, mode=mode, resample=resample)
            assert (picture.mode, picture.size) == (mode, SIZE[::-1])
        assert readers.image(name, mode=mode).size == (80, 60)
    for resample in images.RESAMPLE:
        assert readers.image(name, SIZE, mode=None, resample=resample).mode == FILES[name][1]


def test_a_filter_means_all_pixels_converted_and_then_resized(root, readers):
    for name in ("rgb.jpg", "labels.png", "rgba.png"):
        with Image.open(str(root / name)) as picture:
            for resample, constant in images.RESAMPLE.items():
                wanted = picture.convert("RGB").resize(SIZE[::-1], constant).tobytes()
                assert readers.image(name, SIZE, resample=resample).tobytes() == wanted
                assert readers.image(name, SIZE, resample=constant).tobytes() == wanted
    assert readers.image("rgba.png", SIZE, "RGBA").tobytes() == readers.image("rgba.png", SIZE, "RGBA",
                                                                            "bicubic").tobytes()


def test_sixteen_bits_in_other_modes_and_sizes(readers):
    for name in SIXTEEN:
        assert np.array_equal(np.asarray(readers.image(name, mode="F")), GREY16.astype(np.float32))
        assert np.array_equal(np.asarray(readers.image(name, mode="I")), GREY16)
        nearest = np.asarray(readers.image(name, (30, 40), mode=None))
        assert np.array_equal(nearest, np.asarray(readers.image(name, (30, 40), "F")))
        smooth = np.asarray(readers.image(name, (30, 40), None, "bilinear"))
        assert smooth.dtype == np.uint16 and abs(smooth[10, 10].astype(int) - nearest[10, 10]) < 13 * 90
    assert np.asarray(readers.image("32.tif", mode="I;16")).max() == 65535      # clipped, not wrapped
    grey = readers.image("grey.bmp")
    assert np.array_equal(np.asarray(readers.image("grey.bmp", mode="I;16")), np.asarray(grey.convert("L")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_in_every_mode(root, orientation):
    from PIL import ImageOps
    with_orientation(str(root / "turned.jpg"), orientation)
    readers = Readers(job(root, exif_rotate=True))
    with Image.open(str(root / "turned.jpg")) as picture:
        wanted = ImageOps.exif_transpose(picture)
        assert readers.image("turned.jpg").tobytes() == wanted.tobytes()
        assert readers.image("turned.jpg", mode="HSV").tobytes() == wanted.convert("HSV").tobytes()
        assert readers.image("turned.jpg", SIZE, resample="box").tobytes() == wanted.resize(SIZE[::-1], 4).tobytes()


@pytest.mark.parametrize("options, sentence", [
    (dict(size=0), "size must be a number of pixels or .height, width., each from 1 to 65536, not 0"),
    (dict(size=(3, -1)), "not .3, -1."), (dict(size=(3.0, 3)), "size must"), (dict(size=(1, 2, 3)), "size must"),
    (dict(size=1 << 40), "size must"), (dict(size="64"), "size must"), (dict(size=64.0), "size must"),
    (dict(mode="rgb"), "mode must be None .* or one of RGB, .*, not 'rgb'"), (dict(size=8, mode="BGR"), "mode must"),
    (dict(size=8, resample="cubic"), "resample must be one of nearest, box, .*, not 'cubic'"),
    (dict(size=8, resample=17), "resample must"), (dict(size=8, resample=True), "resample must"),
])
def test_arguments_that_cannot_be_right(readers, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        readers.image("rgb.png", **options)


def test_bad_pictures(root, readers):
    whole = (root / "rgb.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(whole[:-300])
    (root / "text.jpg").write_text("no picture")
    png = (root / "16.png").read_bytes()
    (root / "cut.png").write_bytes(png[:len(png) // 2])
    (root / "folder.jpg").mkdir()
    for name in ("cut.jpg", "text.jpg", "cut.png", "gone.jpg", "folder.jpg"):
        reasons = set()
        for options in ({}, {"size": SIZE}, {"mode": None}, {"size": SIZE, "mode": "F"},
                        {"size": 9, "resample": "box"}):
            with pytest.raises(BadFile) as caught:
                readers.image(name, **options)
            assert caught.value.path == name
            reasons.add(str(caught.value))
        assert len(reasons) == 1 or name.startswith("cut")


def test_the_time_is_counted(readers):
    stopwatch.take()
    for read in (lambda: readers.image("rgb.jpg"), lambda: readers.image("rgb.jpg", SIZE)):
        read()
        spent = stopwatch.take()
        assert spent.storage_s > 0 and spent.decode_s > 0
    readers.bytes("rgb.jpg")
    readers.file("rgb.jpg")
    spent = stopwatch.take()
    assert spent.storage_s > 0 and spent.decode_s == 0


# ------------------------------------------------------------------------------------------------------------- cache

@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", 0.0)       # the files of a test are made the moment before
    host = Host(tmp_path / "cache")
    yield host
    host.end()


def test_the_cache_serves_sizes_that_take_turns_and_shares_entries_with_image(root, host, monkeypatch):
    for number in range(8):
        draw(root / ("%d.png" % number), number)
    names = sorted(set(os.listdir(str(root))) - SIXTEEN - {"float.tif"})     # which has a remark, and is not kept
    sizes = [SIZE, (30, 30), (24, 32)]
    plain = Readers(job(root))
    wanted = {(name, size): plain.image(name, size).tobytes() for name in names for size in sizes}
    host.batch(root, names, size=SIZE)                          # the generator's
    for hits in (len(names), 3 * len(names)):
        cache = host.worker()
        readers = Readers(job(root), cache)
        for name in names:
            for size in sizes:
                assert readers.image(name, size).tobytes() == wanted[name, size]
        assert cache.hits == hits and cache.gets == 3 * len(names)
    assert host.batch(root, names, size=(24, 32))[1] == len(names)      # and the other way
    monkeypatch.setattr(images, "read", None)
    assert Readers(job(root), host.worker()).image("0.png", (30, 30), "L").mode == "L"
    with pytest.raises(TypeError):                              # it would have read the file
        Readers(job(root), host.worker()).image("0.png", (30, 30), resample="bilinear")


def test_a_cached_picture_is_the_callers_own(root, host):
    Readers(job(root), host.worker()).image("rgb.png", SIZE)
    readers = Readers(job(root), host.worker())
    first = readers.image("rgb.png", SIZE)
    first.paste((0, 0, 0), (0, 0, 9, 9))
    assert readers.image("rgb.png", SIZE).tobytes() == Readers(job(root)).image("rgb.png", SIZE).tobytes()


# ------------------------------------------------------------------------------------------------------- other readers

def test_bytes_open_and_file(root, readers, monkeypatch, tmp_path):
    (root / "sub").mkdir()
    (root / "sub" / "a.bin").write_bytes(b"abc\n\0\xff")
    assert readers.bytes("sub/a.bin") == b"abc\n\0\xff"
    with readers.open("sub/a.bin") as file:
        assert file.readline() == b"abc\n" and file.read() == b"\0\xff"
    assert readers.file("sub/a.bin") == str(root / "sub" / "a.bin")
    monkeypatch.chdir(tmp_path)
    assert Readers(job("data")).file("sub/a.bin") == str(root / "sub" / "a.bin")
    assert Readers(job("data/../data/")).bytes(pathlib.PurePosixPath("sub", "a.bin")) == readers.bytes(b"sub/a.bin")


def test_a_file_of_any_size_has_a_path(root, readers):
    """For code that opens it itself: it may read a part of it only."""
    (root / "film.h5").write_bytes(b"")
    os.truncate(str(root / "film.h5"), folder.MAX_FILE_BYTES + 1)
    assert readers.file("film.h5") == str(root / "film.h5")
    with pytest.raises(BadFile, match="more than 1073741824 bytes"):
        readers.bytes("film.h5")


@pytest.mark.parametrize("name", ["caf\u00e9.bin", "caf\udce9.bin"])
def test_names_of_any_encoding(root, readers, name):
    with open(os.path.join(os.fsencode(str(root)), name.encode("utf-8", "surrogateescape")), "wb") as file:
        file.write(b"1")
    assert readers.bytes(name) == b"1"
    with open(readers.file(name), "rb") as file:
        assert file.read() == b"1"
    with pytest.raises(BadFile) as caught:
        readers.bytes("no" + name)
    assert caught.value.path == "no" + name


READ = [lambda readers, path: readers.image(path), lambda readers, path: readers.image(path, 8),
        lambda readers, path: readers.numpy(path), lambda readers, path: readers.bytes(path),
        lambda readers, path: readers.open(path), lambda readers, path: readers.file(path)]


@pytest.mark.parametrize("read", READ)
def test_no_reader_leaves_the_data_folder(root, readers, read, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "zero").symlink_to("/dev/zero")
    (root / "inside").symlink_to("rgb.png")
    os.mkfifo(str(root / "pipe"))
    for name, reason in (("out", "a link that leads out of the data folder"), ("up/secret", "a link that leads out"),
                         ("zero", "not a regular file"), ("pipe", "not a regular file"),
                         ("gone", "FileNotFoundError: no such file"), ("rgb.png/x", "NotADirectoryError: "),
                         ("x" * 300, "OSError: name too long")):
        with pytest.raises(BadFile, match="^" + reason) as caught:
            read(readers, name)
        assert caught.value.path == name
    for path in ("../secret", "a/../../secret", "..", "", "/", "/etc/passwd", str(tmp_path / "secret"), "a\0b",
                 "\ud800", str(root) + "/../secret", str(root), str(root) + "-other/x", "//etc/passwd"):
        with pytest.raises(ConfigError, match="is not below the data folder .*/data, .*root=$"):
            read(readers, path)
    with pytest.raises(TypeError, match="the path of a file to read is nan, of type float: it must be a str"):
        read(readers, float("nan"))


def test_links_out_if_the_job_follows_them(root, tmp_path):
    (tmp_path / "other").write_text("other")
    (root / "out").symlink_to(tmp_path / "other")
    assert Readers(job(root, follow_links=True)).bytes("out") == b"other"


def test_absolute_paths_below_the_data_folder(root, tmp_path):
    (root / "a b.bin").write_bytes(b"1")
    (tmp_path / "link").symlink_to(root)
    for data_root in (str(root), str(root) + "/", str(tmp_path / "link")):
        readers = Readers(job(data_root))
        paths = [str(root / "a b.bin"), "/" + str(root / "a b.bin"), str(root) + "/.//a b.bin"]
        if "link" in data_root:
            paths.append(str(tmp_path / "link" / "a b.bin"))
        for path in paths:
            assert readers.bytes(path) == b"1"
        with pytest.raises(BadFile) as caught:
            readers.bytes(str(root / "gone"))
        assert caught.value.path == "gone"


def test_absolute_paths_as_the_trainer_names_the_folder(root):
    readers = Readers(job(root, trainer_root="/mnt/driving/"))
    for path in ("/mnt/driving/rgb.png", str(root / "rgb.png"), "rgb.png"):
        assert readers.image(path).size == (80, 60)
    for path in ("/mnt/driving-2/rgb.png", "/mnt/driving/../rgb.png", "/mnt/rgb.png", "mnt/driving/../../rgb.png"):
        with pytest.raises(ConfigError, match="is not below the data folder"):
            readers.image(path)


def test_backslashes(root, readers):
    (root / "a\\b").write_bytes(b"1")
    assert readers.bytes("a\\b") == b"1"
    for path in ("IMG\\1.jpg", "C:\\data\\IMG\\1.jpg"):
        with pytest.raises(BadFile) as caught:
            readers.image(path, 8)
        assert str(caught.value) == ("FileNotFoundError: no such file; the path has backslashes, and this host takes "
                                     "only '/'")
        assert caught.value.path == path


def test_a_missing_folder_is_not_the_files_fault(root, tmp_path, host):
    for cache in (None, host.worker()):
        for read in READ:
            with pytest.raises(ConfigError, match="nowhere is not there on .*--data"):
                read(Readers(job(tmp_path / "nowhere"), cache), "a.jpg")
            with pytest.raises(ConfigError, match="the file 'a.jpg' cannot be read, for the run has no data folder: "):
                read(Readers(job(""), cache), "a.jpg")


def test_no_file_handles_left_is_not_the_files_fault(readers):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        for read in READ:
            with pytest.raises(OSError) as caught:
                read(readers, "rgb.png")
            assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_file_stays_open(root, readers):
    (root / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(99))
    close_kept()
    before, kept = len(os.listdir("/proc/self/fd")), []
    for read in READ:
        for name in ("rgb.png", "bad.npz", "gone"):
            try:
                kept.append(read(readers, name))
            except BadFile as error:
                kept.append(error)
    close_kept()            # the folder
    assert len(os.listdir("/proc/self/fd")) == before
