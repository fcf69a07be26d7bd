"""Pictures with more than 8 bits per channel: files of every format that has some, written by hand where PIL writes
none, and what each way to decode makes of them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stoker.pipeline.protocol.messages import CUT, UNSCALED, Remark
from stoker.pipeline.storage import folder as storage
from stoker.pipeline.storage.folder import resolve
from stoker.workers import images, remarks
from stoker.workers.generators.pictures import readers_of, with_cache
from stoker.workers.readers import Readers
from tests.support import caching
from tests.support.bad_pictures import chunk
from tests.support.caching import job

pytestmark = pytest.mark.usefixtures("named_formats")

SCALED = ("fast", "fastest", "sampled")
RAMP = (np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) * 21).astype(np.uint16)       # up to 64491
UPPER = (RAMP >> 8).astype(np.uint8)


def png(values):
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def tiff(pixels, bits, kind=1, order="<", span=()):
    """An uncompressed TIFF of one strip, 64 x 48 pixels. ``kind``: its SampleFormat; ``span``: its SMinSampleValue and
    SMaxSampleValue, as floats."""
    tags = [(256, 3, 64), (257, 3, 48), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1),
            (278, 3, 48), (279, 4, len(pixels)), (339, 3, kind)]
    tags += [(340 + number, 11, value) for number, value in enumerate(span)]
    begin = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind_of_value, value in tags:
        value = begin if tag == 273 else value
        packed = struct.pack(order + {3: "Hxx", 4: "I", 11: "f"}[kind_of_value], value)
        entries += struct.pack(order + "HHI", tag, kind_of_value, 1) + packed
    return ((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4)
            + pixels)


def twelve_bits(values):
    """Two numbers in three bytes, as ``tiff`` has them."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return np.packbits(bits.reshape(values.shape[0], -1), axis=1).tobytes()


#: name -> the file's content, and the grey values that it stands for.
FILES = {
    "16.png": (png(RAMP), UPPER),
    "16.tif": (tiff(RAMP.tobytes(), 16), UPPER),
    "16-big.tif": (tiff(RAMP.astype(">u2").tobytes(), 16, order=">"), UPPER),
    "12.tif": (tiff(twelve_bits(RAMP >> 4), 12), UPPER),
    "signed.tif": (tiff((RAMP.astype(np.int32) - 32768).astype("<i2").tobytes(), 16, 2), UPPER),
    "signed-big.tif": (tiff((RAMP.astype(np.int32) - 32768).astype(">i2").tobytes(), 16, 2, ">"), UPPER),
    "32.tif": (tiff((RAMP.astype(np.uint32) << 16).tobytes(), 32), UPPER),
    "signed-32.tif": (tiff(((RAMP.astype(np.int64) << 16) - (1 << 31)).astype("<i4").tobytes(), 32, 2), UPPER),
    "16.pgm": (b"P5\n64 48\n65535\n" + RAMP.astype(">u2").tobytes(), UPPER),
    "10.pgm": (b"P5 # maximum 1023\n64 48 1023\n" + (RAMP >> 6).astype(">u2").tobytes(),
               (np.rint((RAMP >> 6) / 1023 * 65535).astype(np.uint16) >> 8).astype(np.uint8)),
    "ranged.tif": (tiff((RAMP.astype(np.float32) / 64491 - 0.5).tobytes(), 32, 3, span=(-0.5, 0.5)),
                   (RAMP / 64491 * 255 + 0.5).astype(np.uint8)),
}
UNRANGED = tiff(np.linspace(-9, 300, 48 * 64).astype(np.float32).tobytes(), 32, 3)


@pytest.fixture(autouse=True)
def no_remarks():
    remarks.take()
    yield
    remarks.take()


@pytest.fixture(params=sorted(FILES))
def deep(request, tmp_path):
    content, grey = FILES[request.param]
    (tmp_path / request.param).write_bytes(content)
    return resolve(str(tmp_path), request.param), grey.astype(int)


@pytest.mark.parametrize("decode", SCALED)
def test_scaled_modes_take_the_upper_8_bits(deep, decode):
    """The ramp comes out as a ramp from black to white: it was white, or bad where it is larger than the size."""
    path, grey = deep
    same = np.asarray(images.load(path, (48, 64), decode)).astype(int)
    assert abs(same - grey[..., None]).max() <= 1 and same.min() == 0 and same.max() > 240
    small = np.asarray(images.load(path, (8, 8), decode)).astype(int)
    tolerance = 30 if decode == "sampled" else 6
    assert abs(small[..., 0] - grey.reshape(8, 6, 8, 8).mean(axis=(1, 3))).max() <= tolerance
    assert np.array_equal(small[..., 0], small[..., 1]) and np.array_equal(small[..., 0], small[..., 2])
    assert images.load(path, (100, 90), decode).size == (90, 100)
    assert remarks.take() == ()


def test_exact_is_pils_expression_and_remarked_once(deep):
    path, _ = deep
    for size in ((48, 64), (8, 8), (100, 90)):
        with Image.open(path) as image:
            wanted = image.resize(size[::-1]).convert("RGB")
        assert images.load(path, size, "exact").tobytes() == wanted.tobytes()
    assert remarks.take() == (Remark(CUT, path.decode()[len(path.root) + 1:]),)
    assert remarks.take() == ()


def test_numbers_that_fit_into_8_bits_are_not_cut(tmp_path):
    """Such as numbers of classes in 16 bits."""
    (tmp_path / "classes.png").write_bytes(png((RAMP % 200)))
    images.load(str(tmp_path / "classes.png"), (48, 64), "exact")
    assert remarks.take() == ()


def test_every_mode_of_colours_has_the_upper_bits_and_others_have_all(deep):
    path, grey = deep
    readers = Readers(job(path.root.decode(), size=(48, 64), decode="exact"))
    name = path.decode()[len(path.root) + 1:]
    for mode in ("RGB", "L", "RGBA", "YCbCr"):
        for picture in (readers.image(name, mode=mode), readers.image(name, (48, 64), mode, "nearest")):
            assert abs(np.asarray(picture.convert("L")).astype(int) - grey).max() <= 1
    whole = np.asarray(readers.image(name, mode="F")).astype(np.float64)
    assert len(np.unique(whole)) > 256
    as_stored = readers.image(name, mode=None)
    assert as_stored.mode in ("I", "I;16", "F") and len(np.unique(np.asarray(as_stored))) > 256


@pytest.mark.parametrize("decode", SCALED)
def test_floats_without_a_range_are_cut_as_exact_cuts_them_and_remarked(tmp_path, decode):
    (tmp_path / "float.tif").write_bytes(UNRANGED)
    path = resolve(str(tmp_path), "float.tif")
    exact = np.asarray(images.load(path, (48, 64), "exact"))
    assert remarks.take() == (Remark(CUT, "float.tif"),)
    assert np.array_equal(images.load(path, (48, 64), decode), exact) and exact.max() == 255
    assert remarks.take() == (Remark(UNSCALED, "float.tif"),)


@pytest.mark.parametrize("span", [(0.5, 0.5), (1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf")), (0.0,)])
def test_a_range_that_is_none(tmp_path, span):
    (tmp_path / "float.tif").write_bytes(tiff(RAMP.astype(np.float32).tobytes(), 32, 3, span=span))
    images.load(str(tmp_path / "float.tif"), (48, 64), "fast")
    assert [remark.kind for remark in remarks.take()] == [UNSCALED]


@pytest.mark.parametrize("content, decode, kind", [(FILES["16.png"][0], "exact", CUT), (UNRANGED, "fast", UNSCALED)])
def test_a_picture_with_a_remark_is_not_cached_so_each_run_remarks_it(tmp_path, monkeypatch, content, decode, kind):
    monkeypatch.setattr(storage, "_RACY_S", 0.0)        # the files are new
    (tmp_path / "data").mkdir()
    for name, data in (("a.png", content), ("b.png", content), ("plain.png", png(RAMP % 200))):
        (tmp_path / "data" / name).write_bytes(data)
    host = caching.Host(tmp_path / "cache")
    a_job = job(tmp_path / "data", decode=decode)
    try:
        for hits in (0, 1):                     # the plain one
            for read in (lambda cache, name: caching.batch(a_job.data_root, [name], decode=decode),
                         lambda cache, name: readers_of(with_cache(a_job, cache)).image(name, caching.SIZE)):
                cache = host.worker()
                for name in ("a.png", "b.png", "plain.png"):
                    read(cache, name)
                assert [(each.kind, each.path) for each in remarks.take()] == [(kind, "a.png")]
                assert cache.hits == hits
                hits = 1
    finally:
        host.end()


def test_values_out_of_their_range_and_not_numbers(tmp_path):
    values = np.tile(np.array([-1e38, -1, 0, 0.5, 1, 2, np.inf, np.nan], np.float32), 48 * 8)
    (tmp_path / "float.tif").write_bytes(tiff(values.tobytes(), 32, 3, span=(0, 1)))
    row = np.asarray(images.load(str(tmp_path / "float.tif"), (48, 64), "fast"))[0, :8, 0]
    assert row.tolist() == [0, 0, 0, 128, 255, 255, 255, 0]


def test_upright(tmp_path):
    """A turned PNG of 16 bits."""
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    content = png(RAMP)
    (tmp_path / "turned.png").write_bytes(content[:-12] + chunk(b"eXIf", exif) + content[-12:])
    (tmp_path / "plain.png").write_bytes(content)
    for decode in SCALED:
        plain = np.asarray(images.load(str(tmp_path / "plain.png"), (48, 64), decode))
        turned = np.asarray(images.load(str(tmp_path / "turned.png"), (64, 48), decode, True))
        assert np.array_equal(turned, np.rot90(plain, -1))


def test_lab_pictures_work_in_every_mode_or_are_bad(tmp_path):
    Image.new("LAB", (20, 10), (50, 3, 9)).save(str(tmp_path / "lab.tif"))
    readers = Readers(job(str(tmp_path), size=(8, 8)))
    opens = set()
    for mode in images.MODES:
        try:
            opens.add(readers.image("lab.tif", mode=mode).mode == mode)
        except Exception as error:      # Pillow 8 converts it to nothing
            opens.add(type(error).__name__)
    assert opens in ({True}, {"BadFile"})


@pytest.mark.parametrize("rows", [1, 5, 47])
def test_parts_of_some_rows_make_the_same_picture(monkeypatch, rows):
    """A PGM of 64 megapixels took 1.8 GB when all of it was made at once."""
    floats = np.linspace(-9, 300, 48 * 64).astype("<f4").tobytes()
    files = [png(RAMP), tiff(floats, 32, 3, span=(-9.0, 300.0)), tiff(RAMP.astype("<u2").tobytes(), 16),
             b"P5\n64 48\n64500\n" + RAMP.astype(">u2").tobytes()]
    whole = [images.decoded(data, (48, 64), "fastest").tobytes() for data in files]
    monkeypatch.setattr("stoker.workers.deep._PART", 64 * rows)
    assert [images.decoded(data, (48, 64), "fastest").tobytes() for data in files] == whole
    assert len(set(whole[0])) > 100
