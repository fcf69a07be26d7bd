"""One picture: find it, load it in the size wanted, augment it. Image in, image out, randomness handed in.

The content of a batch must depend on nothing but the job, or a run is not repeatable and two workers disagree. So
what may be skipped is decided here, and narrowly: ``BadImage`` means that the *file* is bad, now, later and on
every host. Trouble of the moment (no file handles left, a disk that fails, no memory) is raised as it is: the step
fails and is tried again, perhaps elsewhere.

Sizes are (height, width), as arrays have them; PIL's own are (width, height).
"""

import io
import random
import warnings
from typing import Any, Tuple, Union

from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import jpeg
from stoker.workers.stopwatch import timed


_FILTERS: Any = getattr(Image, "Resampling", Image)     # where the filters are since Pillow 9.1, and before

#: decode -> (to no less than how many times the target a JPEG is reduced while it is decoded, the filter then). The
#: gap is Pillow's own ``reducing_gap``. Measured against 'exact' with the same filter in benchmarks/quality.py.
_SCALED = {"fast": (2.0, _FILTERS.BICUBIC), "fastest": (1.0, _FILTERS.BILINEAR), "sampled": (0.7, _FILTERS.NEAREST)}


#: EXIF's orientation -> what makes such a picture upright, as in PIL's ``ImageOps.exif_transpose``.
_TRANSPOSE: Any = getattr(Image, "Transpose", Image)    # where they are since Pillow 9, and before
_TURNS = {2: _TRANSPOSE.FLIP_LEFT_RIGHT, 3: _TRANSPOSE.ROTATE_180, 4: _TRANSPOSE.FLIP_TOP_BOTTOM,
          5: _TRANSPOSE.TRANSPOSE, 6: _TRANSPOSE.ROTATE_270, 7: _TRANSPOSE.TRANSVERSE, 8: _TRANSPOSE.ROTATE_90}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]

#: PIL's names of what is opened, the most frequent first; MPO comes as JPEG.
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]


read = timed("storage")(folder.read)


def load(path: Union[str, bytes], size: Tuple[int, int], decode: str, exif_rotate: bool = False) -> Image.Image:
    """The picture in ``path`` as an RGB image of ``size`` (height, width); its shape is not kept.

    ``decode`` is one of

    - 'exact': to the last bit what ``Image.open(path).resize((width, height)).convert('RGB')`` gives;
    - 'fast': a JPEG is reduced by 2, 4 or 8 while it is decoded, anything opaque by whole factors before it is
      resized, in both cases to at least twice ``size``. The way of Pillow's ``Image.thumbnail``, and close to
      exact; but a palette is resolved first and then averaged, where 'exact' picks single pixels;
    - 'fastest': the same, to at least ``size``, and the filter is bilinear (antialiased) where the others' is bicubic;
    - 'sampled': a JPEG is reduced to at least 0.7 of ``size``, and from what is there single pixels are picked: no
      antialiasing, as in TensorFlow's ``resize_bilinear``, and about as close to exact as that.

    With ``exif_rotate`` the picture is turned upright before it is resized, and 'exact' is what
    ``ImageOps.exif_transpose(Image.open(path)).resize((width, height)).convert('RGB')`` gives. EXIF data that makes no
    sense turns nothing. A TIFF file is turned by PIL itself, with or without: once, where Pillow 8 would do it twice.

    Raises BadImage if the file is at fault; OSError, MemoryError if this host or this moment is.
    """
    return decoded(read(path)[0], size, decode, exif_rotate)


@timed("decode")
def decoded(data: bytes, size: Tuple[int, int], decode: str, exif_rotate: bool = False) -> Image.Image:
    """The picture in ``data``, a file's content: see ``load``. Raises ConfigError if there is no such ``decode``."""
    if decode != "exact" and decode not in _SCALED:
        raise ConfigError("decode must be exact or one of %s, not %r" % (", ".join(_SCALED), decode))
    # Warnings are about the file (a large one, a strange palette) and would be printed for every such picture;
    # under ``python -W error`` they would even decide what is skipped.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(data, size, decode, exif_rotate)
        except (BadFile, MemoryError, ImportError):
            raise
        except OSError as error:
            if error.errno is not None:  # not of the content, which is in memory: PIL wanted something of the host
                raise
            if "out of memory" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise BadFile(type(error).__name__, str(error)) from error
        except Exception as error:  # PIL raises nearly anything on bad content, down to KeyError and struct.error
            raise BadFile(type(error).__name__, str(error)) from error


@timed("augment")
def augment(image: Image.Image, random: random.Random) -> Image.Image:
    """``image`` (RGB), in half of all cases varied: brightness and contrast each by a factor of 0.8 to 1.2, and
    half of those flipped left to right as well.

    Draws four numbers, always and in this order: varied or not, brightness, contrast, flipped or not. All are from
    ``random.random()``, the one method whose numbers no version of Python may change.
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


def _decode(data: bytes, size: Tuple[int, int], decode: str, exif_rotate: bool) -> Image.Image:
    height, width = size
    if decode == "exact":
        image, turn = _turned(data, exif_rotate)
        return (image if turn is None else image.transpose(turn)).resize((width, height)).convert("RGB")
    gap, resample = _SCALED[decode]
    turn, short, box = None, None, None  # box: the part of the reduced image that is picture, in fractions of a pixel
    if not exif_rotate or b"Exif\0" not in data:
        short = jpeg.reduced(data, _times(gap, width, height))
    if short is not None:
        image, box = short
    else:
        image, turn = _turned(data, exif_rotate)
        if turn in _SIDEWAYS:
            height, width = width, height
        drafted = image.draft(None, _times(gap, width, height))
        box = drafted[1] if drafted else None
        if image.mode in ("1", "P", "PA"):  # else PIL can but pick single pixels
            image = image.convert("L" if image.mode == "1" else "RGB")
    # Where a picture is nearly transparent, reducing loses its colours to rounding; and Pillow 8 does not do it.
    reducing_gap = None if image.mode in ("LA", "RGBA") else max(1.0, gap)
    image = image.resize((width, height), resample, box=box, reducing_gap=reducing_gap)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _times(gap: float, width: int, height: int) -> Tuple[int, int]:
    return max(1, int(gap * width)), max(1, int(gap * height))


def _turned(data: bytes, exif_rotate: bool) -> Tuple[Image.Image, Any]:
    """The picture, opened, and which of PIL's transpositions makes it upright, if that is wanted and needed."""
    image = _opened(data)
    if image.format == "TIFF":
        image.load()           # PIL turns it as it loads it, and Pillow 8 would resize it by the sides it had before
    return image, _turn(image) if exif_rotate else None


def _opened(data: bytes) -> Image.Image:
    # Only what pipeline/dataset.py looks for: what else a Pillow can open differs from one to the next, and some of it
    # runs programs of the host (EPS: Ghostscript).
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        if not data.startswith(b"\xff\xd8") or b"Exif\0" not in data:
            raise
        # to older Pillows a JPEG whose EXIF data is broken is no JPEG: here they pass over it, as newer ones do
        return Image.open(io.BytesIO(data.replace(b"Exif\0", b"exif\0", 1)), formats=_FORMATS)


def _turn(image: Image.Image) -> Any:
    """Which of PIL's transpositions makes ``image`` upright; None for none, or if its EXIF data makes no sense."""
    if image.format == "TIFF":
        return None                     # PIL did it
    if image.format not in ("JPEG", "MPO"):
        image.load()                    # EXIF data may come behind the pixels; of bad pixels, this is to complain
    try:
        exif = Image.Exif()              # not image.getexif(), which newer Pillows make of XMP where there is no EXIF
        exif.load(image.info.get("exif", b""))
        return _TURNS.get(exif.get(0x0112))  # type: ignore[arg-type]
    except MemoryError:
        raise
    except Exception:                   # PIL raises nearly anything here too
        return None
