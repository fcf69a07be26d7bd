"""One picture: find it, load it in the size wanted, augment it. Image in, image out, randomness handed in.

The content of a batch must depend on nothing but the job, or a run is not repeatable and two workers disagree. So
what may be skipped is decided here, and narrowly: ``BadImage`` means that the *file* is bad, now, later and on
every host. Trouble of the moment (no file handles left, a disk that fails, no memory) is raised as it is: the step
fails and is tried again, perhaps elsewhere.

Sizes are (height, width), as arrays have them; PIL's own are (width, height).
"""

import errno
import functools
import io
import os
import random
import re
import socket
import stat
import time
import warnings
from typing import Any, Optional, Sequence, Tuple, Union

from PIL import Image, ImageEnhance, ImageOps, UnidentifiedImageError

from pipeline.errors import ConfigError, ProtocolError
from workers import jpeg
from workers.stopwatch import timed

#: What the operating system says about a path that is no readable file, wherever and whenever it is tried.
_BAD_PATH = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "a part of the path is no directory",
    errno.EISDIR: "is a directory",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENAMETOOLONG: "name too long",
}

_FILTERS: Any = getattr(Image, "Resampling", Image)     # where the filters are since Pillow 9.1, and before

#: decode -> (to no less than how many times the target a JPEG is reduced while it is decoded, the filter then). The
#: gap is Pillow's own ``reducing_gap``. Measured against 'exact' with the same filter in benchmarks/quality.py.
_SCALED = {"fast": (2.0, _FILTERS.BICUBIC), "fastest": (1.0, _FILTERS.BILINEAR), "sampled": (0.7, _FILTERS.NEAREST)}

#: The largest file that is read: more than the largest picture that PIL decodes takes, uncompressed.
MAX_FILE_BYTES = 1 << 30

#: EXIF's orientation -> what makes such a picture upright, as in PIL's ``ImageOps.exif_transpose``.
_TRANSPOSE: Any = getattr(Image, "Transpose", Image)    # where they are since Pillow 9, and before
_TURNS = {2: _TRANSPOSE.FLIP_LEFT_RIGHT, 3: _TRANSPOSE.ROTATE_180, 4: _TRANSPOSE.FLIP_TOP_BOTTOM,
          5: _TRANSPOSE.TRANSPOSE, 6: _TRANSPOSE.ROTATE_270, 7: _TRANSPOSE.TRANSVERSE, 8: _TRANSPOSE.ROTATE_90}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]

#: PIL's names of what is opened, the most frequent first; MPO comes as JPEG.
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]

_REASON_CHARS = 200

#: A file changed so lately may change again without another time to show for it.
_RACY_S = 2.0

#: Whether a job may have links followed that lead out of the data folder: this process's own command line says so.
may_follow_links = False


class BadImage(Exception):
    """This file will never be a picture: skip the sample. ``str(error)`` is a one-line reason.

    The reason holds no path, address or state of a decoder: the same file gives the same reason on every host.
    """

    def __init__(self, kind: str, fact: str = "") -> None:
        fact = " ".join(re.sub(r"<[^>]*>|\(\d+ bytes not processed\)", "", fact).split())
        super().__init__(("%s: %s" % (kind, fact) if fact else kind)[:_REASON_CHARS])


class Place(bytes):
    """The path of a sample's file, and the folder that it may not lead out of, if any."""

    root = b""


def resolve(root: str, path: str, follow_links: bool = False) -> Place:
    """The place of a sample's file: ``path`` ('/' between its parts) below ``root``.

    As bytes, for on Python 3.6 under ``LANG=C`` a str with other than ASCII letters opens nothing. Undecodable
    names travel as surrogate escapes (PEP 383). ``load`` follows a link within the root, and one that leads out of
    it with ``follow_links`` alone, which is the job's wish.

    Raises ProtocolError if ``path`` is empty, absolute, holds a '..' or is no file name at all: a worker opens
    nothing but files below its data root, whatever a lease says. Raises ConfigError if this host has no such root:
    every file in it would else be taken for one that is gone; or if this worker's own command line does not permit
    to follow links.
    """
    if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ProtocolError("a lease names the file %r: a sample's path must be relative, without '..'" % (path,))
    try:
        folder, name = root.encode("utf-8", "surrogateescape"), path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ProtocolError("a lease names the file %r under %r: that is no file name" % (path, root)) from error
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError("the dataset's folder %s is not there on %s, or not for this user: mount it, or say where it "
                          "is with the worker's --data" % (root, socket.gethostname()))
    place = Place(os.path.join(folder, name))
    if follow_links and not may_follow_links:
        raise ConfigError("the run follows links that lead out of %s, which this worker on %s may not: start it with "
                          "--follow-links" % (root, socket.gethostname()))
    if not follow_links:
        place.root = folder
    return place


def check_root(root: str, probes: Sequence[str]) -> None:
    """Raises ConfigError if there is none of ``probes``, some paths of the dataset, below ``root``: every file would
    be taken for one that is gone."""
    if probes and not any(os.path.lexists(resolve(root, path)) for path in probes):
        raise ConfigError("%s on %s is not the dataset's folder: of %d files that should be there, such as %r, there "
                          "is none; say where it is with the worker's --data"
                          % (root, socket.gethostname(), len(probes), probes[0]))


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


@timed("storage")
def read(path: Union[str, bytes]) -> Tuple[bytes, Optional[os.stat_result]]:
    """The content of the file, and its status: None if it changed meanwhile or just before, when another content may
    have the same. Raises as ``load`` does: BadImage also for what is no regular file, is too large, or leads out of the
    root of a Place."""
    # The whole file at once: a failing read can then not be taken for bad content, and no handle outlives this.
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file")  # opening a pipe would wait for ever, and a device may do anything
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)    # a pipe by now? without waiting
        try:
            if isinstance(path, Place) and path.root and not within(path, fd):
                raise BadImage("a link that leads out of the data folder")
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise BadImage("a file of more than %d bytes" % MAX_FILE_BYTES)
            settled = time.time() - status.st_ctime > _RACY_S
            data = os.read(fd, status.st_size + 1)
            if len(data) != status.st_size:     # more than one call reads, or its size is changing
                with open(fd, "rb", 0, closefd=False) as file:
                    data += file.read()
            return data, status if settled and _version(os.fstat(fd)) == _version(status) else None
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _BAD_PATH:
            raise
        raise BadImage(type(error).__name__, _BAD_PATH[error.errno]) from error


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
        except (BadImage, MemoryError, ImportError):
            raise
        except OSError as error:
            if error.errno is not None:  # not of the content, which is in memory: PIL wanted something of the host
                raise
            if "out of memory" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise BadImage(type(error).__name__, str(error)) from error
        except Exception as error:  # PIL raises nearly anything on bad content, down to KeyError and struct.error
            raise BadImage(type(error).__name__, str(error)) from error


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


def _version(status: os.stat_result) -> Tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def within(place: Place, fd: int) -> bool:
    """Whether the open file lies below the root: looked at when it is open, for a link can change in between."""
    try:
        real = os.readlink(b"/proc/self/fd/%d" % fd)
    except OSError:                     # no /proc here
        real = os.path.realpath(bytes(place))
    if real.startswith(_real(place.root)):
        return True
    _real.cache_clear()                 # the root may be a link itself, to another folder by now
    return real.startswith(_real(place.root))


@functools.lru_cache(maxsize=16)
def _real(folder: bytes) -> bytes:
    return os.path.join(os.path.realpath(folder), b"")


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
