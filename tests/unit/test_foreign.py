"""What a file is, by its first bytes, and that no picture that PIL opens is affected."""

import io
import struct

import pytest

from stoker.pipeline.storage.folder import BadFile
from stoker.workers import foreign, images, npy
from tests.support.bad_pictures import HEIC, LFS, photo
from tests.support.formats import WEBP_IS_SAFE

OTHER = ", not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"


def media(brand, *compatible, then=b""):
    length = 16 + 4 * max(2, len(compatible))
    return (struct.pack(">I4s4sI", length, b"ftyp", brand, 0) + b"".join(compatible)).ljust(length, b"\0") + then + \
        bytes(300)


KINDS = [
    (b"", "empty file"),
    (bytes(3), "nothing but zero bytes"),
    (bytes(10000), "nothing but zero bytes"),
    (bytes(4096) + b"\xff", "it begins with 512 zero bytes"),
    (LFS, "a placeholder of Git LFS, not a picture: git lfs pull"),
    (b"../../.git/annex/objects/X/Y/SHA256E-s1--a.jpg\n", "a placeholder of git-annex, not a picture: git annex get"),
    (HEIC, "HEIC" + OTHER), (media(b"mif1"), "HEIC" + OTHER), (media(b"avif"), "AVIF" + OTHER),
    (media(b"mif1", b"mif1", b"avif", b"miaf"), "AVIF" + OTHER),
    (media(b"msf1", b"iso8", b"avis"), "AVIF" + OTHER),
    (media(b"mif1", b"mif1", b"heic"), "HEIC" + OTHER), (media(b"heic", b"mif1", b"avif"), "HEIC" + OTHER),
    (media(b"mif1", b"mif1", b"miaf", then=b"avif"), "HEIC" + OTHER), (b"\0\0\0\x18ftypmi", "a video" + OTHER),
    (media(b"isom"), "a video" + OTHER), (media(b"isom", b"avif"), "a video" + OTHER),
    (media(b"qt  "), "a video" + OTHER),
    (media(b"crx "), "a raw photo (CR3)" + OTHER),
    (b"<!DOCTYPE html>\n<html>", "an HTML page, not a picture"), (b"\n <HTML><body>", "an HTML page, not a picture"),
    (b"\xef\xbb\xbf<!-- saved --><html>", "an HTML page, not a picture"),
    (b"<?xml version=\"1.0\"?>\n<svg width=\"3\"", "SVG" + OTHER), (b"<svg xmlns=", "SVG" + OTHER),
    (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "XML, not a picture"),
    (b"{\"error\": \"not found\"}", "JSON, not a picture"),
    (b"\xff\x0a\x12\x34", "JPEG XL" + OTHER), (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000" + OTHER),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "a file that macOS writes beside another one (AppleDouble)"),
    (b"8BPS\0\1", "Photoshop (PSD)" + OTHER), (b"%!PS-Adobe-3.0 EPSF", "PostScript" + OTHER),
    (b"%PDF-1.7", "PDF" + OTHER),
    (b"\0\0\1\0\2\0\x10\x10", "an icon or cursor (ICO)" + OTHER), (b"v/1\1\2", "OpenEXR" + OTHER),
    (bytes(128) + b"DICM\2", "DICOM" + OTHER), (b"PF\n3 2\n-1.0\n", "PFM" + OTHER),
    (b"\x93NUMPY\1\0", "a numpy array, not a picture"), (b"PK\3\4", "a zip archive, not a picture"),
    (b"\x1f\x8b\x08", "compressed by gzip, not a picture"),
    (b"RIFF\1\2\3\4AVI LIST", "a video or sound, not a picture"),
    (b"no picture\n", ""), (b"x", ""), (b"\xff\xd8\xff", ""), (b"RIFF\1\2\3\4WEBP", ""), (b"GIF89a", ""),
    (b"PF a text", ""),
    (bytes(100) + b"\1", ""),
]


@pytest.mark.parametrize("content, kind", KINDS, ids=[repr(content[:12]) for content, _ in KINDS])
def test_the_kind_of_a_file(content, kind):
    assert foreign.kind_of(content) == kind


@pytest.mark.parametrize("content, kind", KINDS, ids=[repr(content[:12]) for content, _ in KINDS])
def test_it_is_the_reason_with_every_way_to_decode(content, kind):
    reasons = set()
    for decode in ("exact", "fast", "fastest", "sampled"):
        with pytest.raises(BadFile) as caught:
            images.decoded(content, (8, 8), decode)
        reasons.add(str(caught.value))
    with pytest.raises(BadFile) as caught:
        images.converted(content, None, "L", None)
    assert reasons == {str(caught.value)} and kind in str(caught.value) and len(str(caught.value)) <= 200


@pytest.mark.parametrize("content, kind", KINDS, ids=[repr(content[:12]) for content, _ in KINDS])
def test_an_array_s_reason_says_what_it_is_too_and_nothing_of_pictures(content, kind):
    if content.startswith((b"\x93NUMPY", b"PK")):
        return
    with pytest.raises(BadFile) as caught:
        npy.array_of(content)
    wanted = kind.replace(OTHER, ", not an npy or npz file").replace("not a picture", "not an npy or npz file")
    assert str(caught.value) == (wanted or "not an npy or npz file") and "picture" not in str(caught.value)


def test_a_picture_in_a_file_with_another_suffix_is_opened():
    """Only what PIL refuses is looked at."""
    for kind in ("WEBP",) * WEBP_IS_SAFE + ("PNG", "GIF"):
        file = io.BytesIO()
        photo().save(file, kind)
        assert images.decoded(file.getvalue(), (8, 8), "fast").size == (8, 8)
    with pytest.raises(BadFile, match="^HEIC, not JPEG"):
        images.decoded(HEIC, (8, 8), "fast")
