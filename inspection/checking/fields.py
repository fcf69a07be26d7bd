"""What a worker tells about one good file: whole numbers, in this order. Both sides import it; it decodes nothing."""

from typing import Tuple

from stoker.pipeline.options import DECODERS

#: Names of formats and modes by their numbers in the facts.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "other")
MODES = ("RGB", "L", "RGBA", "LA", "P", "PA", "1", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F", "RGBX",
         "RGBa", "La", "other")

#: Flags, bits of one number.
ANIMATED, TRANSPARENT, DEEP, BLANK, TRUNCATED = (1 << bit for bit in range(5))

CHANNELS = ("red", "green", "blue")
#: width, height: in pixels, as stored. bytes: of the file. orientation: 1 to 8 by EXIF, 1 without. file_1, file_2: 128
#: bits of a hash of the file's content; pixels_1, pixels_2: of all its pixels. sum, square: of the values 0 to 255 of
#: each channel at the wanted size, and of their squares. ns: CPU time in nanoseconds that reading and decoding it to
#: the wanted size took, in each way to decode; 0: not measured.
FIELDS: Tuple[str, ...] = (
    ("width", "height", "bytes", "format", "mode", "orientation", "flags", "file_1", "file_2", "pixels_1", "pixels_2")
    + tuple("sum_" + name for name in CHANNELS) + tuple("square_" + name for name in CHANNELS)
    + tuple("ns_" + name for name in DECODERS))
PLACE = {name: number for number, name in enumerate(FIELDS)}

THUMBNAIL = 128      # pixels of a side of a thumbnail, in which the picture keeps its aspect ratio


def number_of(name: str, names: Tuple[str, ...]) -> int:
    """The place of ``name`` in ``names``, whose last one stands for all others."""
    return names.index(name) if name in names else len(names) - 1
