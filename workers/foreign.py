"""What a file is that PIL cannot identify as a picture, by its first bytes: the reason why it is bad.

A download that failed, a placeholder of Git LFS or a photo of a phone in HEIC look alike in a list of bad files
otherwise. The answer depends on the content alone, not on the version of PIL.
"""

import re

_OTHER = ", not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
_ZEROS = 512        # bytes that are looked at
#: The brand behind "ftyp" in a file of ISO's media format (ISO/IEC 14496-12) -> what it is.
_BRANDS = [(rb"avi[fs]", "AVIF"), (rb"heic|heix|hevc|hevx|heim|heis|hevm|hevs|mif1|msf1", "HEIC"),
           (rb"jxl ", "JPEG XL"), (rb"crx ", "a raw photo (CR3)"), (rb"", "a video")]
#: How a file begins -> what it is. The first that matches counts.
_BEGINNINGS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in [
    (rb"version https://git-lfs\.github\.com/", "a placeholder of Git LFS, not a picture: git lfs pull"),
    (rb"(\.\./)*(\.git/annex|/annex)/objects/", "a placeholder of git-annex, not a picture: git annex get"),
    *[(rb"....ftyp(%s)" % brand, kind + _OTHER) for brand, kind in _BRANDS],
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!--.{0,400}?-->\s*)?(<!doctype html|<html|<head|<body|<script)",
     "an HTML page, not a picture"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml.{0,400}?\?>\s*)?(<!--.{0,400}?-->\s*)?(<!doctype svg.{0,400}?>\s*)?<svg",
     "SVG" + _OTHER),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(\?xml|error)", "XML, not a picture"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "JPEG XL" + _OTHER),
    (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", "JPEG 2000" + _OTHER),
    (rb"\x00\x05\x16[\x00\x07]\x00", "a file that macOS writes beside a picture (AppleDouble)"),
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
    (rb"\x93NUMPY", "a numpy array, not a picture"),
    (rb"\x89HDF", "HDF5, not a picture"),
    (rb"PK[\x03\x05]", "a zip archive, not a picture"),
    (rb"\x1f\x8b", "compressed by gzip, not a picture"),
    (rb"Rar!|7z\xbc\xaf|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive, not a picture"),
    (rb"RIFF....(AVI |WAVE)|\x1aE\xdf\xa3|OggS|ID3", "a video or sound, not a picture"),
    (rb"\xd0\xcf\x11\xe0", "a file of Windows or Office (such as Thumbs.db), not a picture"),
    (rb"\s*[{\[]\s*[\"{\[]", "JSON, not a picture"),
]]


def kind_of(data: bytes) -> str:
    """What the file with the content ``data`` is, as a reason why it is no picture; '' if its first bytes do not tell.
    """
    if not data:
        return "empty file"
    beginning = data[:4096]
    if not any(beginning[:_ZEROS]):
        return "nothing but zero bytes" if not any(data) else "it begins with %d zero bytes" % _ZEROS
    return next((kind for pattern, kind in _BEGINNINGS if pattern.match(beginning)), "")
