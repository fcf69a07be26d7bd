"""What pictures say of themselves in their first bytes, compared with what PIL finds; and large ones, which PIL must
not open."""

import io
import struct
from functools import partial

import numpy as np
import pytest
from PIL import Image, features

from stoker.pipeline.options import MAX_PIXELS
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import formats, headers, images, limits
from tests.support import hostile_pictures
from tests.support.bad_pictures import HEIC, LFS, photo
from tests.support.hostile_headers import huge_webp, many_strips

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


@pytest.fixture(autouse=True)
def default_limits():
    limits.apply(Job("image", (), 1, 0, "fast", "/"))
    yield
    limits.apply(Job("image", (), 1, 0, "fast", "/"))


@pytest.fixture(autouse=True)
def all_formats(monkeypatch):
    """As if all libraries were safe: what is read here, the tests have made themselves."""
    monkeypatch.setattr(formats, "versions", lambda: {"webp": "1.6.0", "tiff": "4.7.2"})
    formats.apply()
    yield
    monkeypatch.undo()
    formats.apply()


def saved(name, image=None, **options):
    file = io.BytesIO()
    (image or photo()).save(file, name, **options)
    return file.getvalue()


def longest(data):
    """The most numbers of one tag."""
    return headers._tags(data).numbers


def webps():
    """(content, size) of every kind of WebP."""
    for width, height in ((1, 1), (64, 48), (300, 5), (1, 2000)):
        image = photo(0, (height, width))
        for options in ({}, {"lossless": True}, {"exif": b"Exif\0\0"}, {"lossless": True, "icc_profile": b"x" * 9},
                        {"save_all": True, "append_images": [photo(1, (height, width))], "duration": 9}):
            for mode in ("RGB", "RGBA"):
                yield saved("WEBP", image.convert(mode), **options), (width, height)


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_the_one_that_pil_finds(name):
    data = saved(name)
    assert headers.format_of(data) == name == Image.open(io.BytesIO(data)).format
    assert headers.format_of(data[:1]) == headers.format_of(b"") == headers.format_of(b"x" + data) == ""


@pytest.mark.parametrize("data", [HEIC, LFS, saved("EPS"), saved("ICO"), saved("TGA"), saved("PDF"),
                                  b"RIFF0000WEBPxxxx", b"P", b"P9", bytes(16)])
def test_other_files_have_none_and_pil_does_not_see_them(data, monkeypatch):
    assert headers.format_of(data) == ""
    monkeypatch.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
    with pytest.raises(BadFile):
        images.decoded(data, (8, 8), "exact")


def test_a_webp_s_size_is_the_one_that_pil_finds():
    if not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    for data, size in webps():
        assert headers.webp_size(data) == size
        if features.version("webp") >= "1.3.2":
            assert Image.open(io.BytesIO(data)).size == size
        for end in range(30):
            headers.webp_size(data[:end])           # raises nothing


@pytest.mark.parametrize("kind", ["VP8 ", "VP8L", "VP8X"])
@pytest.mark.parametrize("read", [lambda data: images.decoded(data, (8, 8), "fastest"),
                                  lambda data: images.decoded(data, (8, 8), "exact"),
                                  lambda data: images.converted(data, None, None, None)])
def test_a_webp_that_is_too_large_is_bad_before_pil_sees_it(kind, read, monkeypatch):
    """Pillow up to 12 takes the memory for the canvas, twice, as soon as it opens one."""
    monkeypatch.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
    data = huge_webp(kind)
    assert len(data) <= 34
    with pytest.raises(BadFile) as caught:
        read(data)
    pixels = 16383 * 16383
    assert str(caught.value) == ("DecompressionBombError: Image size (%d pixels) exceeds limit of %d pixels; "
                                 "max_pixels (--max-pixels) permits more" % (pixels, MAX_PIXELS))


def test_a_tiff_with_millions_of_strips_is_bad_before_pil_sees_it(monkeypatch):
    for order in "<>":
        for is_big in (False, True):
            assert longest(many_strips(1000, order, is_big)) == 1000
            data = many_strips(headers.MAX_TIFF_NUMBERS + 1, order, is_big)
            with monkeypatch.context() as patched:
                patched.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
                with pytest.raises(BadFile, match=r"^a TIFF with 262145 numbers in one tag \(limit 262144\)$"):
                    images.decoded(data, (8, 8), "exact")
    for end in range(0, 200):
        longest(many_strips(3, "<")[:end])          # raises nothing


def test_the_longest_tags_that_programs_write_are_no_reason():
    """The palette of 16 bits has 196,608 numbers; colour profiles and the like are bytes."""
    palette = struct.pack("<IHHHIII", 8, 1, 320, 3, 3 << 16, 26, 0)
    assert longest(b"II*\0" + palette) == 196608 <= headers.MAX_TIFF_NUMBERS
    if features.check("libtiff"):
        data = saved("TIFF", compression="tiff_lzw", icc_profile=bytes(1 << 20))
        assert 0 < longest(data) < 1000
        assert images.decoded(data, (8, 8), "exact").size == (8, 8)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_the_limit(name, tmp_path):
    if name == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    data = saved(name, photo(0, (40, 50)))
    for decode in ("exact", "fastest"):
        limits.apply(Job("image", (), 1, 0, decode, "/", max_pixels=2000))
        assert np.asarray(images.decoded(data, (4, 4), decode)).shape == (4, 4, 3)
        limits.apply(Job("image", (), 1, 0, decode, "/", max_pixels=1999))
        for read in (partial(images.decoded, data, (4, 4), decode), partial(images.converted, data, None, "RGB", None)):
            with pytest.raises(BadFile) as caught:
                read()
            assert str(caught.value) == ("DecompressionBombError: Image size (2000 pixels) exceeds limit of 1999 "
                                         "pixels; max_pixels (--max-pixels) permits more")


def test_tags_that_share_their_bytes_are_bad_before_pil_copies_them(monkeypatch):
    """2,000 tags of the same megabyte took 2 GB; in EXIF data, which is ignored if it is invalid, too."""
    data = hostile_pictures.tiff_shared_tags(2000, 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
        with pytest.raises(BadFile, match="^a TIFF of 10[0-9]{5} bytes whose tags have 20[0-9]{8}$"):
            images.decoded(data, (8, 8), "exact")
    picture, plain = saved("PNG", exif=b"Exif\0\0" + data), saved("PNG")
    monkeypatch.setattr(images.Image, "Exif", lambda: pytest.fail("PIL has read it"))
    assert images.decoded(picture, (8, 8), "exact", True).tobytes() == images.decoded(plain, (8, 8), "exact").tobytes()


def test_a_tile_larger_than_any_picture_is_bad_before_pil_sees_it(monkeypatch):
    """The tile of a picture of 8 x 8 pixels took a gigabyte with older Pillows."""
    monkeypatch.setattr(images.Image, "open", lambda *args, **kept: pytest.fail("PIL has opened it"))
    with pytest.raises(BadFile, match="^DecompressionBombError: Image size .268435456 pixels. exceeds limit of "
                                      "64000000 pixels"):
        images.decoded(hostile_pictures.tiff_huge_tile(1 << 14), (8, 8), "exact")
