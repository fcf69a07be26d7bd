"""JPEGs by the short way: what PIL's plugin learns from a file's head, in Python and anew for each file (tables,
profiles, EXIF), takes a tenth of the time that a small picture costs, and scaled decoding needs two numbers of it.

Only for plain ones: three components of eight bits, as nearly all are. Anything else, and whatever does not decode
without complaint, is the plugin's business, which also knows what to say about it.
"""

import struct
from typing import Optional, Tuple

from PIL import Image

_SEGMENT = struct.Struct(">BBH")           # 0xff, what it is, its length
_FRAME = struct.Struct(">BHHB")            # of a frame's segment: bits, height, width, components
_FRAMES = (0xC0, 0xC1, 0xC2)               # baseline, extended, progressive; the rest is rare
_BEFORE = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xFE)) | frozenset(range(0xE0, 0xF0))   # what may stand before it
_MAX_PIXELS = 1 << 26                     # beyond, PIL may think it a decompression bomb

Box = Tuple[float, float, float, float]


def size_of(data: bytes) -> Optional[Tuple[int, int]]:
    """(width, height) of a plain JPEG; None if ``data`` is something else."""
    if data[:2] != b"\xff\xd8":
        return None
    place, end = 2, len(data) - 10
    while place < end:
        mark, kind, length = _SEGMENT.unpack_from(data, place)
        if mark != 0xFF:
            return None
        if kind in _FRAMES:
            bits, height, width, components = _FRAME.unpack_from(data, place + 4)
            plain = bits == 8 and components == 3 and 0 < width * height <= _MAX_PIXELS
            return (width, height) if plain else None
        if kind not in _BEFORE or length < 2:
            return None
        place += 2 + length
    return None


def reduced(data: bytes, wanted: Tuple[int, int]) -> Optional[Tuple[Image.Image, Box]]:
    """The picture, RGB, decoded at 1/8, 1/4, 1/2 or all of its size, to no less than ``wanted`` (width, height), and
    the part of it that is picture, in fractions of a pixel: as after ``Image.draft(None, wanted)``, to the last bit.
    None if this is no plain JPEG, or does not decode."""
    size = size_of(data)
    if size is None:
        return None
    most = min(size[0] // wanted[0], size[1] // wanted[1])
    scale = 8 if most >= 8 else 4 if most >= 4 else 2 if most >= 2 else 1
    rounded = (size[0] + scale - 1) // scale, (size[1] + scale - 1) // scale
    image = Image.new("RGB", rounded, None)      # not filled: all of it is written
    try:
        # the decoder's own arguments: how pixels are packed, in which colours (as they come), scale, no hasty DCT
        image.frombytes(data, "jpeg", ("RGB", "", scale, 0))
    except (ValueError, OSError):
        return None
    return image, (0, 0, size[0] / scale, size[1] / scale)
