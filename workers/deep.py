"""Pictures with more than 8 bits per channel, made of 8 bits: the upper ones.

PIL's own conversion cuts all values at 255, so that a picture of 16 bits becomes white. PIL has such pictures in grey
only, as modes I;16, I and F; what it reads as colours, it has already made of 8 bits.
"""

import functools
import re
from typing import Any, Callable, Optional, Tuple

import numpy as np
from PIL import Image

_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _LOWEST, _HIGHEST = 258, 339, 340, 341      # tags of a TIFF
_UNSIGNED = 1       # as sample format; 2: signed
_COMMENT = re.compile(rb"#[^\r\n]*")
_PART = 1 << 20     # pixels that are made at a time


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels of ``image`` are larger numbers than bytes."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_cut(image: Image.Image) -> bool:
    """Whether PIL's conversion to 8 bits cuts values of ``image``. Floats count as cut: they may be from 0 to 1."""
    if not is_deep(image) or image.mode == "F":
        return is_deep(image)
    values = np.asarray(image if image.mode == "I" else image.convert("I"))
    return bool(values.max() > 255 or values.min() < 0)


def eight_bits(image: Image.Image, data: bytes) -> Optional[Image.Image]:
    """The picture in mode L of ``image``, which ``is_deep`` and was opened from ``data``, a file's content.

    - Whole numbers: their upper 8 bits, of as many as the format has: 12 or 16 or, in a TIFF, 32. Signed ones begin
      with black at the least number. A PGM tells its own largest value.
    - Floating-point numbers: from black to white between the values that a TIFF has as SMinSampleValue and
      SMaxSampleValue, or, in a PFM, by its scale; None if the file tells neither. Not a number is black.
    """
    largest = _raw_maxval(image, data)
    image.load()
    if image.mode == "F":
        span = _span(image)
        return None if span is None else _in_parts(image, functools.partial(_between, *span))
    return _in_parts(image, functools.partial(_upper_bits, largest, *_whole_numbers(image)))


def _in_parts(image: Image.Image, upper: Callable[[Any], Any]) -> Image.Image:
    """``upper`` of the numbers of ``image``, some rows at a time: numpy takes several times the memory of a part."""
    width, height = image.size
    result = np.empty((height, width), np.uint8)
    rows = max(1, _PART // max(1, width))
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height))) if rows < height else image
        result[top:top + rows] = upper(np.asarray(part if part.mode in ("I", "F") else part.convert("I")))
    return Image.fromarray(result)


def _upper_bits(largest: Optional[int], bits: int, is_signed: bool, values: Any) -> Any:
    if largest is not None:       # Pillow 8 leaves values as they are; newer ones scale them to 16 bits, in this way
        values = np.rint(values / largest * 65535).clip(0, 65535).astype(np.int32)
    if bits > 16:
        upper = values.view(np.uint32) >> 24
    else:
        upper = values >> bits - 8
    return (upper + (128 if is_signed else 0)).astype(np.uint8)     # of 32 bits, signed ones wrap


def _whole_numbers(image: Image.Image) -> Tuple[int, bool]:
    """How many bits a number has, and whether it is signed."""
    if image.format != "TIFF":
        return 16, False
    tags: Any = image.tag_v2      # type: ignore[attr-defined]
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return int(bits), image.mode == "I" and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] != _UNSIGNED


def _raw_maxval(image: Image.Image, data: bytes) -> Optional[int]:
    """The largest value of a PGM whose values PIL does not scale; None for other pictures. Before ``image`` is loaded.
    """
    tiles: Any = getattr(image, "tile", ())         # what decodes a part of the picture: its name, box, begin ...
    if image.format != "PPM" or image.mode != "I" or not tiles or tiles[0][0] != "raw":
        return None
    return int(_COMMENT.sub(b"", data[:tiles[0][2]]).split()[-1])


def _span(image: Image.Image) -> Optional[Tuple[float, float]]:
    """The values of black and white, if the file tells them."""
    if image.format == "PPM":         # a PFM: a sample times the scale is its brightness, as in ImageMagick
        return 0.0, 1 / float(image.info["scale"])
    try:
        tags: Any = image.tag_v2      # type: ignore[attr-defined]
        low, high = (_number(tags[tag]) for tag in (_LOWEST, _HIGHEST))
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError):    # none, or of another type
        return None
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def _number(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _between(low: float, high: float, numbers: Any) -> Any:
    with np.errstate(all="ignore"):
        values = (numbers - np.float32(low)) * np.float32(255 / (high - low))
        values = np.where(np.isnan(values), 0, values).clip(0, 255)
    return (values + np.float32(0.5)).astype(np.uint8)
