"""What a picture says of itself in its first bytes: its format, and how large it is. Read before PIL and the libraries
in it see the file, since some of them take the memory for a picture when they open it.

Only what PIL does not check in time is read here. PIL itself compares the sides of JPEG, PNG, GIF, BMP, TIFF and PPM
with its limit before it takes memory for pixels (workers/limits.py sets the limit).
"""

import struct
from typing import NamedTuple, Optional, Tuple

from PIL import Image

from stoker.pipeline.storage.folder import BadFile
from stoker.workers import limits

#: The formats that pipeline/sources/file_names.py looks for. The others differ between versions of Pillow, and some run
#: programs of the host (EPS: Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
JPEG = b"\xff\xd8\xff"         # and MPO
#: How a file of another format begins -> the format that PIL opens it as. WebP and PPM: see ``format_of``.
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II\0*", "TIFF"), (b"MM*\0", "TIFF"), (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"))
_WEBP = b"WEBPVP8 ", b"WEBPVP8L", b"WEBPVP8X"
_PPM = b"0123456fy"
#: Numbers of one tag of a TIFF, which PIL turns into objects of Python: 8 million of them took 2.5 GB. The longest tag
#: that programs write, the palette of a picture of 16 bits, has 196,608.
MAX_TIFF_NUMBERS = 1 << 18
MAX_REPEATED_BYTES = 1 << 20    # of tags together beyond the size of the file: PIL copies the bytes of each
_BYTES = (0, 1, 2, 6, 7)        # types of a tag whose values PIL keeps as they are: bytes and texts
#: type of a tag -> the bytes of one of its values
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_SIDES = {3: "H", 4: "I"}       # types that the side of a tile has


class _Tags(NamedTuple):
    """Of a directory of a TIFF."""
    numbers: int                # the most of one tag
    bytes: int                  # of all tags together that lie in the file
    tile: Tuple[int, int]       # (width, height); 0: it has strips


def format_of(data: bytes) -> str:
    """The format of the picture with this content, by PIL's name; '' if it is none that Stoker opens."""
    if data[:3] == JPEG:           # nearly always
        return "JPEG"
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF" and data[8:16] in _WEBP:
        return "WEBP"
    if data[:1] == b"P" and len(data) > 1 and data[1] in _PPM:
        return "PPM"
    return ""


def check(data: bytes, name: str) -> None:
    """Raises BadFile, or PIL's DecompressionBombError, for a picture of the format ``name`` that would cost too much
    memory as soon as it is opened."""
    if name == "WEBP":
        size = webp_size(data)
        if size is not None:
            check_size(size)
    elif name == "TIFF":
        check_tags(data, "a TIFF")


def check_tags(data: bytes, what: str) -> None:
    """Raises BadFile if the first directory of ``data``, a TIFF or EXIF data, promises more than it can hold."""
    tags = _tags(data)
    if tags.numbers > MAX_TIFF_NUMBERS:
        raise BadFile("%s with %d numbers in one tag (limit %d)" % (what, tags.numbers, MAX_TIFF_NUMBERS))
    if tags.bytes > len(data) + MAX_REPEATED_BYTES:
        raise BadFile("%s of %d bytes whose tags have %d" % (what, len(data), tags.bytes))
    check_size(tags.tile)


def check_size(size: Tuple[int, int]) -> None:
    """Raises PIL's DecompressionBombError if so large a picture is beyond PIL's limit. PIL checks most pictures itself,
    in these words."""
    pixels, limit = size[0] * size[1], limits.max_pixels()
    if pixels > limit:
        raise Image.DecompressionBombError("Image size (%d pixels) exceeds limit of %d pixels" % (pixels, limit))


def webp_size(data: bytes) -> Optional[Tuple[int, int]]:
    """(width, height) of a WebP's canvas, which frames cannot exceed; None if its header is damaged. Of an animation
    too: its decoder takes memory for the canvas twice, and more for the first frame."""
    if len(data) < 30:
        data = data + bytes(30 - len(data))     # a VP8L header ends earlier
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20] == 0x2F:
        bits, = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _tags(data: bytes) -> _Tags:
    """Of the first directory of a TIFF, as far as it is not damaged."""
    order = "<" if data[:1] == b"I" else ">"
    begin, count, entry = ("IQ", "Q", "HHQQ") if b"+" in data[2:4] else ("I", "H", "HHII")
    most = together = 0
    tile = {_TILE_WIDTH: 0, _TILE_HEIGHT: 0}
    try:
        offset = struct.unpack_from(order + begin, data, 4)[-1]
        entries, = struct.unpack_from(order + count, data, offset)
        offset += struct.calcsize(order + count)
        size = struct.calcsize(order + entry)
        for place in range(offset, offset + size * min(entries, 1 << 16), size):
            tag, kind, numbers, value = struct.unpack_from(order + entry, data, place)
            together += min(numbers * _TYPE_BYTES.get(kind, 0), len(data))      # PIL reads no further
            if kind not in _BYTES:
                most = max(most, numbers)
            if tag in tile and kind in _SIDES:
                tile[tag], = struct.unpack_from(order + _SIDES[kind], data, place + size - struct.calcsize(entry[-1]))
    except struct.error:            # it ends before
        pass
    return _Tags(most, together, (tile[_TILE_WIDTH], tile[_TILE_HEIGHT]))
