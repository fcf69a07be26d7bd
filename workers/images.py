"""One picture: load it in the wanted size, and augment it.

Sizes are (height, width), as in arrays; PIL's own are (width, height). ``storage.folder`` says when BadFile is raised.
"""

import io
import os
import random
import re
import warnings
from operator import index
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import DECODERS, FAST, FASTEST, SAMPLED
from stoker.pipeline.protocol.messages import CUT, UNSCALED
from stoker.pipeline.storage.folder import BadFile, SamplePath, bad_content
from stoker.pipeline.storage.store import Version
from stoker.workers import deep, fetching, foreign, formats, headers, jpeg, limits, raw, remarks
from stoker.workers.picture_limits import limit_memory, limited
from stoker.workers.raw import Content, Pixels
from stoker.workers.stopwatch import timed

_FILTERS: Any = getattr(Image, "Resampling", Image)     # where the filters are since Pillow 9.1, and before
_TRANSPOSE: Any = getattr(Image, "Transpose", Image)    # where these constants are since Pillow 9, and before

#: decode -> (the least size, in multiples of the target, to which a JPEG is reduced while it is decoded; the filter for
#: the rest). The first is Pillow's ``reducing_gap``. benchmarks/quality.py compares each with 'exact'.
_SCALED = {FAST: (2.0, _FILTERS.BICUBIC), FASTEST: (1.0, _FILTERS.BILINEAR), SAMPLED: (0.7, _FILTERS.NEAREST)}
#: EXIF's orientation -> the transposition that makes the picture upright, as in PIL's ``ImageOps.exif_transpose``.
_TRANSPOSITIONS = {2: _TRANSPOSE.FLIP_LEFT_RIGHT, 3: _TRANSPOSE.ROTATE_180, 4: _TRANSPOSE.FLIP_TOP_BOTTOM,
                   5: _TRANSPOSE.TRANSPOSE, 6: _TRANSPOSE.ROTATE_270, 7: _TRANSPOSE.TRANSVERSE, 8: _TRANSPOSE.ROTATE_90}
_SIDEWAYS = [_TRANSPOSITIONS[orientation] for orientation in (5, 6, 7, 8)]

#: What a picture can be converted to; the first ones are colours, which may be averaged.
_COLOURS = ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr", "HSV")
_DEEP = ("I", "I;16", "F")
MODES = _COLOURS + ("P", "1") + _DEEP
#: The filters to resize with, by the names that readers take.
RESAMPLE: Dict[str, Any] = {name: getattr(_FILTERS, name.upper()) for name in
                            ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")}
MAX_SIDE = 1 << 16      # of a resized picture, in pixels
NO_PICTURE = "the record has no picture, or an empty one"
_NO_MEMORY = "decoder error -9"     # what PIL says if a library gets no memory (IMAGING_CODEC_MEMORY)


def read(path: Union[str, bytes], keep: bool = True) -> Tuple[Content, Optional[Version]]:
    """The content of a picture's file, or the picture itself where the path leads to raw numbers, and the file's
    version: see ``fetching.read``."""
    most_bytes, advice = limits.max_file_bytes(), "; max_file_mb (--max-file-mb) permits more"
    if isinstance(path, SamplePath) and path.place is not None:
        if raw.is_raw(path):
            return raw.picture(path, most_bytes, advice)
        if not path.place.length:
            raise BadFile(NO_PICTURE)
    return fetching.read(path, most_bytes, advice, keep)


def load(path: Union[str, bytes], size: Tuple[int, int], decode: str,
         exif_rotate: bool = False) -> Image.Image:
    """The picture in ``path`` as an RGB image of ``size`` (height, width); its aspect ratio is not kept. Example:
    ``stoker.load("photos/left/017.jpg", (64, 64), "fastest")``. What ``stoker.resolve`` returns may also lead to a
    picture in a record file or in a store, or to raw numbers, uint8 [height, width] or with 1, 3 or 4 channels.

    ``decode`` is one of

    - 'exact': to the last bit the result of ``Image.open(path).resize((width, height)).convert('RGB')``;
    - 'fast': a JPEG is reduced by 2, 4 or 8 while it is decoded, and any opaque picture by whole factors before it is
      resized, in both cases to at least twice ``size``, as by Pillow's ``Image.thumbnail``. This is close to exact; but
      a palette is converted to colours first and then averaged, where 'exact' picks single pixels;
    - 'fastest': the same, to at least ``size``, and with a bilinear filter (antialiased) instead of a bicubic one;
    - 'sampled': a JPEG is reduced to at least 0.7 of ``size``, and single pixels of the result are picked: no
      antialiasing, as in TensorFlow's ``resize_bilinear``, and about as close to exact as that.

    Of a picture with more than 8 bits per channel they give the upper 8 (``deep.eight_bits``), and 'exact' gives what
    PIL makes of it, which is mostly white.

    With ``exif_rotate`` the picture is made upright before it is resized, as by ``ImageOps.exif_transpose``; invalid
    EXIF data is ignored. PIL itself makes a TIFF file upright in any case.

    Raises BadFile if the file is at fault; OSError or MemoryError if this host or this moment is; ConfigError if raw
    numbers are no picture.
    """
    return decoded(read(path)[0], size, decode, exif_rotate, path)


@timed("decode")
@limited
def decoded(data: Content, size: Tuple[int, int], decode: str, exif_rotate: bool = False, path: Union[str, bytes] = ""
            ) -> Image.Image:
    """The picture in ``data``, which ``read`` gave: see ``load``. ``path``: the file, or its name in remarks. Raises
    ConfigError if ``decode`` is unknown."""
    try:
        if decode in _SCALED and isinstance(data, bytes) and data[:3] == headers.JPEG and formats.opens_jpegs() and (
                not exif_rotate or b"Exif\0" not in data):
            gap, resample = _SCALED[decode]
            reduced = jpeg.reduced(data, _least(size, gap))
            if reduced is not None:         # nearly always
                image, box = reduced
                return image.resize(size[::-1], resample, box=box, reducing_gap=max(1.0, gap))
        # Warnings concern the file (a large one, a strange palette); under ``python -W error`` they would make it bad.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, _format_of(data), size, decode, exif_rotate, path)
    except ConfigError:
        raise
    except Exception as error:      # PIL raises nearly any type for bad content, even KeyError and struct.error
        raise _bad(error, data) from error


@timed("decode")
@limited
def converted(data: Content, size: Optional[Tuple[int, int]], mode: Optional[str], resample: Union[None, str, int],
              exif_rotate: bool = False, path: str = "") -> Image.Image:
    """The picture in ``data``, decoded in full, converted to ``mode`` and then resized.

    - ``size``: (height, width), or None for its own;
    - ``mode``: one of MODES, or None for that in which it is stored. 16 bits of grey are 'I;16' with any Pillow, with
      all their values, which 'I' and 'F' have too; the other modes have the upper 8 bits. Pixels of mode 'P' are
      numbers of a palette's colours;
    - ``resample``: one of RESAMPLE, or PIL's constant; None is 'bicubic' for colours, and 'nearest', which makes no new
      values, for mode None and for 'P', '1', 'I', 'I;16', 'F'. PIL takes 'nearest' for 'P' and '1' in any case.

    Raises BadFile if the content is at fault, ValueError if an argument is.
    """
    if mode is not None and mode not in MODES:
        raise ValueError("mode must be None (as the picture is stored) or one of %s, not %r" % (", ".join(MODES), mode))
    if resample is None:
        resample = "bicubic" if mode in _COLOURS else "nearest"
    chosen = RESAMPLE.get(resample, resample)  # type: ignore[arg-type]      # one of PIL's constants is no key
    if isinstance(resample, bool) or chosen not in RESAMPLE.values():
        raise ValueError("resample must be one of %s, not %r" % (", ".join(RESAMPLE), resample))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _opened(data, _format_of(data))
            transposition = _TRANSPOSITIONS.get(orientation(image)) if exif_rotate else None
            if mode is not None and mode not in _DEEP:
                image = _eight_bits(image, data, path)
            image.load()
            if image.mode == "LAB" and mode not in (None, "RGB"):       # the one mode to which PIL converts it
                image = image.convert("RGB")
            # Older Pillows open a PNG of 16 bits as mode I, and resize no I;16.
            is_sixteen = image.mode.startswith("I;16") or image.mode == "I" and image.format == "PNG"
            if image.mode.startswith("I;16") or mode == "I;16":
                image = image.convert("I")
            if mode not in (None, "I;16", image.mode):
                image = image.convert(mode)
            if transposition is not None:
                image = image.transpose(transposition)
            if size is not None:
                image = image.resize(size[::-1], chosen)
            return _sixteen_bits(image) if mode == "I;16" or mode is None and is_sixteen else image
        except Exception as error:
            raise _bad(error, data) from error


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """``image`` (mode I) as mode I;16. Older Pillows would cut its values at 32767."""
    values = np.asarray(image).clip(0, 65535).astype("<u2")
    return Image.frombytes("I;16", image.size, values.tobytes())


def height_width(size: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """(height, width) from a reader's argument: one number is a square. Raises ValueError."""
    try:
        height, width = map(index, size if hasattr(size, "__iter__") else (size, size))
        if 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE:
            return height, width
    except (TypeError, ValueError):         # of no length two, or not of whole numbers
        pass
    raise ValueError("size must be a number of pixels or (height, width), each from 1 to %d, not %r" % (MAX_SIDE, size))


@timed("augment")
def augment(image: Image.Image, random: random.Random) -> Image.Image:
    """``image`` (RGB), varied in half of all cases: brightness and contrast each by a factor of 0.8 to 1.2, and half of
    the varied ones also flipped left to right.

    Always draws four numbers, with ``random.random()``, whose numbers are the same in every version of Python.
    """
    varied = random.random() < 0.5
    brightness = 0.8 + 0.4 * random.random()
    contrast = 0.8 + 0.4 * random.random()
    flipped = random.random() < 0.5
    if not varied:
        return image
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    return ImageOps.mirror(image) if flipped else image


def _format_of(data: Content) -> str:
    """PIL's name of the picture's format; '' if it has none. Raises BadFile if the job does not open it here."""
    return "" if isinstance(data, Pixels) else formats.check(data)


def _least(size: Tuple[int, int], gap: float) -> Tuple[int, int]:
    """(width, height) to which a picture may be reduced before it is resized to ``size``."""
    return max(1, int(gap * size[1])), max(1, int(gap * size[0]))


def _decode(data: Content, name: str, size: Tuple[int, int], decode: str, exif_rotate: bool, path: Union[str, bytes]
            ) -> Image.Image:
    """What PIL's plugins make of ``data``, of a picture of the format ``name``."""
    if decode not in DECODERS:
        raise ConfigError("decode must be one of %s, not %r" % (", ".join(DECODERS), decode))
    height, width = size
    if decode not in _SCALED:
        image = _opened(data, name)
        transposition = _TRANSPOSITIONS.get(orientation(image)) if exif_rotate else None
        upright = image if transposition is None else image.transpose(transposition)
        resized = upright.resize((width, height))
        if deep.is_cut(resized):
            remarks.make(CUT, _name(path))
        return resized.convert("RGB")
    gap, resample = _SCALED[decode]
    image = _opened(data, name)
    transposition = _TRANSPOSITIONS.get(orientation(image)) if exif_rotate else None
    if transposition in _SIDEWAYS:
        height, width = width, height
    drafted = image.draft(None, _least((height, width), gap))
    box = drafted[1] if drafted else None   # the part of the reduced image that is picture, in fractions of a pixel
    image = _eight_bits(image, data, path)
    if image.mode in ("1", "P", "PA"):      # PIL could only pick single pixels of these
        image = image.convert("L" if image.mode == "1" else "RGB")
    # Where a picture is nearly transparent, reducing loses its colours by rounding; and Pillow 8 does not reduce it.
    reducing_gap = None if image.mode in ("LA", "RGBA") else max(1.0, gap)
    image = image.resize((width, height), resample, box=box, reducing_gap=reducing_gap)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image if transposition is None else image.transpose(transposition)


def _eight_bits(image: Image.Image, data: Content, path: Union[str, bytes]) -> Image.Image:
    """``image`` as it is, or the upper 8 bits if it has more. Numbers whose range the file does not tell remain as they
    are, and PIL cuts them later."""
    if not deep.is_deep(image) or isinstance(data, Pixels):
        return image
    upper = deep.eight_bits(image, data)
    if upper is None:
        remarks.make(UNSCALED, _name(path))
    return upper or image


def _name(path: Union[str, bytes]) -> str:
    """The file's name in remarks."""
    if isinstance(path, SamplePath):
        return os.fsdecode(path.key if path.root is None else path.key[len(os.path.join(path.root, b"")):])
    return os.fsdecode(path)


def _bad(error: Exception, data: Content) -> BadFile:
    """What ``error`` says about the content ``data``. Raises it if this host is at fault."""
    kind = ""
    if isinstance(error, UnidentifiedImageError) and isinstance(data, bytes):
        kind = foreign.kind_of(data)
    reason = _reason(error)
    if isinstance(error, OSError) and reason == _NO_MEMORY:
        raise MemoryError(reason) from error
    return BadFile(kind) if kind else bad_content(error, reason)


def _reason(error: Exception) -> str:
    """What PIL says, in the same words with any version of it, and which option permits the file."""
    text = re.sub(r", could be decompression bomb.*| for PngImagePlugin.*| \(\d+ bytes not processed\)"
                  r"|(?<=\d)\.0(?= pixels)", "", str(error))
    if re.match(r"-\d+$", text):
        text = "decoder error " + text
    return text.replace("Data Too Large", "data too large") + limits.advice(error)


def _opened(data: Content, name: str) -> Image.Image:
    limit_memory()
    if isinstance(data, Pixels):
        headers.check_size(data.size)
        return Image.frombytes(data.mode, data.size, data.data)
    if not name:
        raise UnidentifiedImageError("cannot identify image file")
    headers.check(data, name)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except UnidentifiedImageError:
        if name != "JPEG" or b"Exif\0" not in data:
            raise
        # Older Pillows do not open a JPEG whose EXIF data is broken; newer ones ignore such data, and so it is here.
        image = Image.open(io.BytesIO(data.replace(b"Exif\0", b"exif\0", 1)), formats=[name])
    headers.check_size(image.size)
    if name == "TIFF":
        image.load()           # PIL makes it upright while it loads it; Pillow 8 would resize it by its sides before
    return image


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of ``image``, 1 to 8: how it must be turned. 1: it is upright, or its EXIF data is invalid."""
    if image.format == "TIFF":
        return 1                        # PIL has done it
    if image.format not in ("JPEG", "MPO"):
        image.load()                    # EXIF data may come behind the pixels; raises if the pixels are bad
    try:
        content = image.info.get("exif", b"")
        headers.check_tags(content[6:] if content.startswith(b"Exif\0\0") else content, "EXIF data")
        exif = Image.Exif()             # image.getexif() of newer Pillows reads XMP if there is no EXIF data
        exif.load(content)
        found: Any = exif.get(0x0112)
        return int(found) if found in _TRANSPOSITIONS else 1
    except MemoryError:
        raise
    except Exception:                   # here too, PIL raises nearly any type
        return 1
