"""Raw numbers at a place: arrays as they were stored, and pictures as if a PNG of the same pixels had been stored."""

import os

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import DECODERS
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile, resolve
from stoker.pipeline.storage.place import Place
from stoker.workers import copies, images, limits
from stoker.workers.readers import Readers
from tests.support.caching import Host, batch, job

SHAPES = [(60, 80), (60, 80, 1), (60, 80, 3), (60, 80, 4), (7, 5, 3), (1, 1), (3, 33, 20)]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    return root


def stored(root, array, name="x.npy", begin=128):
    """The text of the place of ``array``, which is put into a file."""
    with open(str(root / name), "wb") as file:
        file.write(b"\x93" * begin + array.tobytes() + b"behind")
    return str(Place(name, begin, array.nbytes, array.dtype.str, array.shape))


def pixels(shape, seed=1):
    values = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    values[..., -1:] |= 1            # with alpha 0, PIL keeps no colours
    return values


def png_of(array, path):
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)).save(
        str(path))


@pytest.mark.parametrize("dtype", "|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8 >i2 >u2 >i4 >u4 >i8 >u8 >f2 >f4 "
                                  ">f8".split())
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_an_array_comes_back_as_it_was(root, dtype, shape):
    array = (np.arange(int(np.prod(shape))).reshape(shape) % 2).astype(dtype)
    found = Readers(job(root)).numpy(stored(root, array))
    assert np.array_equal(found, array) and found.dtype == array.dtype.newbyteorder("=") and found.dtype.isnative
    assert found.flags.writeable and found.flags.c_contiguous and found.flags.owndata
    assert Readers(job(root)).bytes(stored(root, array)) == array.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decode", DECODERS)
def test_pixels_are_a_picture_as_a_png_of_them(root, shape, decode):
    array = pixels(shape)
    png_of(array, root / "x.png")
    text = stored(root, array)
    for size in ((24, 32), (9, 9), (70, 90)):
        for exif_rotate in (False, True):
            readers = Readers(job(root, decode=decode, exif_rotate=exif_rotate))
            wanted = readers.image("x.png", size)
            found = readers.image(text, size)
            assert (found.mode, found.size) == (wanted.mode, wanted.size) and found.tobytes() == wanted.tobytes()
            loaded = images.load(resolve(str(root), text), size, decode, exif_rotate)
            assert loaded.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_mode_and_filter_as_of_a_png(root, shape):
    array = pixels(shape)
    png_of(array, root / "x.png")
    text, readers = stored(root, array), Readers(job(root))
    for mode in images.MODES + (None,):
        for size, resample in ((None, None), ((20, 30), None), ((20, 30), "bilinear")):
            wanted, found = (readers.image(path, size, mode, resample) for path in ("x.png", text))
            assert (found.mode, found.size) == (wanted.mode, wanted.size) and found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("generator", ["image", "augmented"])
def test_the_generators_make_the_same_batch(root, generator):
    texts, names = [], []
    for number in range(6):
        array = pixels((40, 50, 3), number)
        texts.append(stored(root, array, "%d.npy" % number))
        names.append("%d.png" % number)
        png_of(array, root / names[-1])
    of_pictures, bad = batch(root, names, generator=generator)
    of_numbers, bad_too = batch(root, texts, generator=generator)
    assert not bad and not bad_too
    for name, text in zip(names, texts):
        assert np.array_equal(of_pictures[name], of_numbers[text])


def test_the_cache_keeps_each_place_for_itself(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_RACY_S", 0.0)
    one, other = pixels((30, 40, 3), 1), pixels((30, 40, 3), 2)
    (root / "x.npy").write_bytes(one.tobytes() + other.tobytes())
    texts = [str(Place("x.npy", begin, one.nbytes, "|u1", one.shape)) for begin in (0, one.nbytes)]
    host = Host(tmp_path / "cache")
    try:
        first, hits = host.batch(root, texts)
        again, hits_again = host.batch(root, texts)
        assert (hits, hits_again) == (0, 2) and not np.array_equal(first[texts[0]], first[texts[1]])
        assert all(np.array_equal(first[text], again[text]) for text in texts)
    finally:
        host.end()


@pytest.mark.parametrize("array", [np.zeros(10, np.float32), np.zeros((8, 8), np.int8), np.zeros((8, 8), np.bool_),
                                   np.zeros((8, 8, 2), np.uint8), np.zeros((2, 8, 8, 3), np.uint8),
                                   np.zeros((), np.uint8), np.zeros((0, 8, 3), np.uint8), np.zeros((8, 8), ">u2")])
def test_numbers_that_are_no_picture_are_the_jobs_fault_not_the_files(root, array):
    text = stored(root, array)
    for make in (lambda: Readers(job(root)).image(text), lambda: Readers(job(root)).image(text, 8),
                 lambda: batch(root, [text])):
        with pytest.raises(ConfigError, match="x.npy are no picture: they are .* of shape .*sample.numpy"):
            make()


def test_limits_hold(root, monkeypatch):
    text = stored(root, pixels((64, 64, 3)))
    a_job = job(root, max_pixels=64 * 64 - 2)
    limits.apply(a_job)
    try:
        with pytest.raises(BadFile, match="exceeds limit of .* pixels; max_pixels"):
            Readers(a_job).image(text, 8)
    finally:
        limits.apply(job(root))
    monkeypatch.setattr(limits, "_max_file_bytes", 100)
    with pytest.raises(BadFile, match="a file of more than 100 bytes; max_file_mb"):
        Readers(job(root)).image(text, 8)
    os.truncate(str(root / "x.npy"), 500)
    for read in (Readers(job(root)).numpy, Readers(job(root)).bytes):
        with pytest.raises(BadFile, match="the file ends before this record"):
            read(text)


def test_formats_of_pictures_have_nothing_to_do_with_it(root):
    from stoker.workers import formats
    text = stored(root, pixels((64, 64, 4)))
    formats.apply(("jpeg",))
    try:
        assert Readers(job(root)).image(text, 8).size == (8, 8)
    finally:
        formats.apply()


def test_a_record_without_a_picture_is_bad(root):
    (root / "a.tar").write_bytes(bytes(100))
    for make in (lambda: Readers(job(root)).image("a.tar//50+0"),
                 lambda: images.load(resolve(str(root), "a.tar//50+0"), (8, 8), "fast")):
        with pytest.raises(BadFile, match="^the record has no picture, or an empty one$"):
            make()
    assert Readers(job(root)).bytes("a.tar//50+0") == b""         # an empty text
    assert batch(root, ["a.tar//50+0"])[1] == {"a.tar//50+0": images.NO_PICTURE}


def test_numbers_have_no_keys(root):
    with pytest.raises(ValueError, match="raw numbers have no keys"):
        Readers(job(root)).numpy(stored(root, np.zeros(3)), key="x")


def test_what_h5py_reads(root):
    """See test_hdf5.py."""
    pytest.importorskip("h5py")
    (root / "x.h5").write_bytes(b"")
    with pytest.raises(BadFile, match="HDF5: it is no HDF5 file"):
        Readers(job(root)).numpy("x.h5//hdf5:3:images")


@pytest.mark.parametrize("decode", DECODERS)
def test_pixels_that_h5py_reads_are_a_picture_as_a_png_of_them(root, decode, monkeypatch, tmp_path):
    monkeypatch.setattr(copies, "_folder", None)
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path))
    h5py = pytest.importorskip("h5py")
    array = np.stack([pixels((40, 50, 3), seed) for seed in range(3)])
    with h5py.File(str(root / "x.h5"), "w") as file:
        file.create_dataset("images", data=array, compression="gzip")
    readers = Readers(job(root, decode=decode))
    for number in range(3):
        png_of(array[number], root / "x.png")
        text = "x.h5//hdf5:%d:images" % number
        assert readers.image(text, (24, 32)).tobytes() == readers.image("x.png", (24, 32)).tobytes()
        assert np.array_equal(readers.numpy(text), array[number])
        assert np.array_equal(np.load(readers.file(text)), array[number])
    copies.remove_all()
