"""What a file is that is neither the picture nor the array it should be, by its first bytes: why it is bad.

A download that failed, a placeholder of Git LFS or a photo of a phone in HEIC look alike in a list of bad files
otherwise. The answer depends on the content alone, not on the version of PIL.
"""

import re

PICTURE, ARRAY = "a picture", "an npy or npz file"      # what a file should be
_OTHER = "{other}"      # in what follows: that it is none of the right formats; {wanted}: PICTURE or ARRAY
_NOT_OF = {PICTURE: ", not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM", ARRAY: ", not an npy or npz file"}
_ZEROS = 512        # bytes that are looked at
#: A brand of a file of ISO's media format (ISO/IEC 14496-12) -> what it is.
_BRANDS = [(re.compile(pattern), kind) for pattern, kind in [
    (rb"avi[fs]", "AVIF"), (rb"hei[cxms]|hev[cxms]", "HEIC"), (rb"jxl ", "JPEG XL"), (rb"crx ", "a raw photo (CR3)")]]
_ANY_BRAND = (b"mif1", b"msf1", b"miaf")    # of several kinds of pictures: those with which it is compatible tell
#: How a file begins -> what it is. The first that matches counts.
_BEGINNINGS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in [
    (rb"version https://git-lfs\.github\.com/", "a placeholder of Git LFS, not {wanted}: git lfs pull"),
    (rb"(\.\./)*(\.git/annex|/annex)/objects/", "a placeholder of git-annex, not {wanted}: git annex get"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!--.{0,400}?-->\s*)?(<!doctype html|<html|<head|<body|<script)",
     "an HTML page, not {wanted}"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml.{0,400}?\?>\s*)?(<!--.{0,400}?-->\s*)?(<!doctype svg.{0,400}?>\s*)?<svg",
     "SVG" + _OTHER),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(\?xml|error)", "XML, not {wanted}"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "JPEG XL" + _OTHER),
    (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", "JPEG 2000" + _OTHER),
    (rb"\x00\x05\x16[\x00\x07]\x00", "a file that macOS writes beside another one (AppleDouble)"),
    (rb"8BPS", "Photoshop (PSD)" + _OTHER),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript" + _OTHER),
    (rb"%PDF-", "PDF" + _OTHER),
    (rb"\x00\x00[\x01\x02]\x00[\x01-\xff]\x00", "an icon or cursor (ICO)" + _OTHER),
    (rb"v/1\x01", "OpenEXR" + _OTHER),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR" + _OTHER),
    (rb"SIMPLE  =", "FITS" + _OTHER),
    (rb".{128}DICM", "DICOM" + _OTHER),
    (rb"DDS ", "DDS" + _OTHER),
    (rb"qoif", "QOI" + _OTHER),
    (rb"P[Ff]\s+\d+\s+\d+\s", "PFM" + _OTHER),
    (rb"(II\+\x00|MM\x00\+)", "BigTIFF, which not every version of Pillow opens"),
    (rb"\x93NUMPY", "a numpy array, not {wanted}"),
    (rb"\x89HDF", "HDF5, not {wanted}"),
    (rb"PK[\x03\x05]", "a zip archive, not {wanted}"),
    (rb"\x1f\x8b", "compressed by gzip, not {wanted}"),
    (rb"Rar!|7z\xbc\xaf|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive, not {wanted}"),
    (rb"RIFF....(AVI |WAVE)|\x1aE\xdf\xa3|OggS|ID3", "a video or sound, not {wanted}"),
    (rb"\xd0\xcf\x11\xe0", "a file of Windows or Office (such as Thumbs.db), not {wanted}"),
    (rb"\s*[{\[]\s*[\"{\[]", "JSON, not {wanted}"),
]]


def kind_of(data: bytes, wanted: str = PICTURE) -> str:
    """What the file with the content ``data`` is, as a reason why it is not ``wanted``, PICTURE or ARRAY; '' if its
    first bytes do not tell."""
    if not data:
        return "empty file"
    beginning = data[:4096]
    if not any(beginning[:_ZEROS]):
        return "nothing but zero bytes" if not any(data) else "it begins with %d zero bytes" % _ZEROS
    if beginning[4:8] == b"ftyp":
        kind = _media(beginning) + _OTHER
    else:
        kind = next((kind for pattern, kind in _BEGINNINGS if pattern.match(beginning)), "")
    return kind.format(wanted=wanted, other=_NOT_OF[wanted])


def _media(beginning: bytes) -> str:
    """What a file of ISO's media format is, by its brand, or those behind it, with which it is compatible."""
    major, end = beginning[8:12], min(int.from_bytes(beginning[:4], "big"), len(beginning))
    brands = [major]
    if major in _ANY_BRAND:
        brands += [beginning[begin:begin + 4] for begin in range(16, end, 4)]
    found = [kind for brand in brands for pattern, kind in _BRANDS if pattern.match(brand)]
    return found[0] if found else "HEIC" if major in _ANY_BRAND else "a video"
