"""The part of ``stoker-check`` that runs in workers: the facts of each file, and thumbnails of suspicious ones.

A file is bad by the rule of the workers, and if a picture kills or starves the process that opens it, the trainer's
side isolates it as in any run. Each picture is decoded in full, once: a run with ``decode`` "fast" may decode a JPEG at
reduced scale. Where the full decoding and a run could disagree, a run's own decoding decides: after an error, and for
pictures of unusual modes.
"""

from __future__ import generator_stop

import hashlib
import io
import time
import zlib
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np
from PIL import Image, ImageFile

import stoker
from stoker.inspection.checking.fields import (ANIMATED, BLANK, DEEP, FIELDS, FORMATS, MODES, THUMBNAIL, TRANSPARENT,
                                               TRUNCATED, number_of)
from stoker.pipeline.options import DECODERS, EXACT, FAST, FASTEST, SAMPLED
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import BadFile, check_root, resolve
from stoker.workers import deep, headers, images, jpeg
from stoker.workers.generators.output import Output, batch_of
from stoker.workers.picture_limits import limit_memory, limited
from stoker.workers.raw import Content, Pixels

#: Modes whose resizing and conversion to RGB cannot fail once the picture is decoded.
_ORDINARY = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK")
_FILTERS: Any = images.RESAMPLE
#: decode -> how ``image.resize`` is called with a picture that is decoded in full: as in ``workers/images.py``.
_RESIZE: Dict[str, Dict[str, Any]] = {
    EXACT: dict(resample=_FILTERS["bicubic"]), FAST: dict(resample=_FILTERS["bicubic"], reducing_gap=2.0),
    FASTEST: dict(resample=_FILTERS["bilinear"], reducing_gap=1.0), SAMPLED: dict(resample=_FILTERS["nearest"])}
_VALUES = np.arange(256, dtype=np.int64)
_STRIP_PIXELS = 1 << 22         # of a picture that are hashed at a time, to take little memory
_BLANK_RANGE = 4                # of the values of each channel at the wanted size, in a picture of one colour
_BLANK_NOISE = 24               # of those at its own size: JPEG's artefacts
#: Each way to decode is measured for the first pictures of a worker, and then while it takes this share of its time.
_MEASURED_FIRST, _MEASURED_MOST, _MEASURED_SHARE = 3, 500, 0.02


@stoker.generator({"facts": ("int64", (len(FIELDS),))})
def facts(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """The facts of each file, see ``fields.py``."""
    check_root(job.data_root, job.probes)
    worker = _Worker(job)
    for lease in leases:
        yield batch_of(lease, job, lambda sample: (worker.facts_of(sample),))


@stoker.generator({"thumbnail": ("uint8", (THUMBNAIL, THUMBNAIL, 3)), "size": ("int32", (2,))})
def thumbnails(leases: Iterable[Lease], job: Job) -> Iterator[Output]:
    """A small copy of each picture in the upper left of its array, and its (height, width)."""
    def thumbnail(sample: Sample) -> Sequence[Any]:
        data = images.read(resolve(job.data_root, sample.path, job.follow_links))[0]
        picture = images.converted(data, None, "RGB", None, job.exif_rotate, sample.path)
        scale = min(1.0, THUMBNAIL / max(picture.size))
        width, height = (max(1, int(side * scale)) for side in picture.size)
        pixels = np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8)
        pixels[:height, :width] = np.asarray(picture.resize((width, height), **_RESIZE[FASTEST]))
        return pixels, np.array([height, width], np.int32)

    check_root(job.data_root, job.probes)
    for lease in leases:
        yield batch_of(lease, job, thumbnail)


class _Worker:
    """One worker process. It also measures the ways to decode, for some pictures that are spread over the data."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._measured, self._measured_s = 0, 0.0
        self._start_s = _cpu_s()

    def facts_of(self, sample: Sample) -> List[int]:
        """The numbers of ``FIELDS``. Raises BadFile as a run's generator would."""
        job = self._job
        path = resolve(job.data_root, sample.path, job.follow_links)
        content, _ = images.read(path)
        data, name = (content.data, "") if isinstance(content, Pixels) else (content, headers.format_of(content))
        image, flags, size = self._decoded(content, sample.path)
        orientation = _orientation(image)
        flags |= _is_animated(image, data, name) * ANIMATED | _has_sixteen_bits(image, data, name) * DEEP
        colours = None
        if image.mode in _ORDINARY:
            colours, is_transparent = _colours(image)
            flags |= is_transparent * TRANSPARENT
            resized = _resized(colours, job.height_width, job.decode)
        else:       # a run's own decoding decides, and makes the pixels
            resized = images.decoded(content, job.height_width, job.decode, job.exif_rotate, sample.path)
        counts = np.array(resized.histogram(), np.int64).reshape(3, 256)     # a tenth of the time of sums by numpy
        if all(int(np.ptp(np.flatnonzero(each))) <= _BLANK_RANGE for each in counts) and _is_blank(colours or image):
            flags |= BLANK
        key = _key_of_pixels(colours or image, bool(flags & TRANSPARENT), resized, job.decode)
        return (list(size) + [len(data), number_of(name, FORMATS), number_of(image.mode, MODES), orientation]
                + [flags] + _halves(hashlib.blake2b(data, digest_size=16)) + _halves(key)
                + counts.dot(_VALUES).tolist() + counts.dot(_VALUES * _VALUES).tolist()
                + self._times(sample.path, path, bool(flags & DEEP)))

    def _decoded(self, data: Content, path: str) -> Tuple[Image.Image, int, Tuple[int, int]]:
        """The picture in its own mode, TRUNCATED if it is, and the job uses such pictures, and its (width, height)."""
        uses_truncated = ImageFile.LOAD_TRUNCATED_IMAGES
        if uses_truncated:
            try:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                image = images.converted(data, None, None, None, path=path)
                return image, 0, image.size
            except BadFile:
                pass
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image = images.converted(data, None, None, None, path=path)
            return image, uses_truncated * TRUNCATED, image.size
        except BadFile:
            # It raises the same, unless only a decoding at reduced scale is possible, as by its memory.
            job = self._job
            image = images.decoded(data, job.height_width, job.decode, job.exif_rotate, path)
            return image, 0, isinstance(data, bytes) and jpeg.size_of(data) or image.size

    def _times(self, name: str, path: Any, is_deep: bool) -> List[int]:
        """What each way to decode takes for this file, in nanoseconds of CPU time; 0 if it is not measured."""
        job, spent_s = self._job, _cpu_s() - self._start_s
        if is_deep or self._measured >= _MEASURED_MOST or (
                self._measured >= _MEASURED_FIRST and self._measured_s > _MEASURED_SHARE * spent_s):
            return [0] * len(DECODERS)
        self._measured += 1
        times = []
        try:
            for decode in DECODERS:
                before_s = _cpu_s()
                images.decoded(images.read(path)[0], job.height_width, decode, job.exif_rotate, name).tobytes()
                times.append(max(1, int((_cpu_s() - before_s) * 1e9)))
        except BadFile:             # one that the run's own way can decode, and another one cannot
            return [0] * len(DECODERS)
        self._measured_s += sum(times) / 1e9
        return times


def _cpu_s() -> float:
    # That of the thread: while a process has a limit of CPU time, the kernel counts its own only at each tick, of
    # 4 to 10 ms, which is longer than a decoding takes.
    return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)


def _halves(digest: Any) -> List[int]:
    return np.frombuffer(digest.digest(), "<i8").tolist()


def _key_of_pixels(image: Image.Image, is_transparent: bool, resized: Image.Image, decode: str) -> Any:
    """A hash that is equal for equal pixels, also if one picture is grey or opaque, and the other has colours or alpha.
    ``resized``: the picture at the wanted size, in RGB if its mode is an ordinary one: more than a CRC's 32 bits."""
    if image.mode in ("RGBA", "LA") and not is_transparent:
        image = image.convert("RGB")
        resized = _resized(image, resized.size[::-1], decode)       # with alpha, pictures are resized in another way
    mode = {"L": "RGB", "LA": "RGBA"}.get(image.mode, image.mode)
    key = hashlib.blake2b(repr((mode, image.size, _crc(image, mode))).encode("ascii"), digest_size=16)
    key.update(resized.tobytes())
    return key


def _crc(image: Image.Image, mode: str) -> int:
    """The CRC-32 of the picture's pixels in ``mode``."""
    width, height = image.size
    rows, crc = max(1, _STRIP_PIXELS // width), 0
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        crc = zlib.crc32((strip if strip.mode == mode else strip.convert(mode)).tobytes(), crc)
    return crc


def _colours(image: Image.Image) -> Tuple[Image.Image, bool]:
    """The picture in a mode that can be averaged, and whether one of its pixels is transparent."""
    has_key = "transparency" in image.info      # a transparent colour, or a palette with opacities
    if image.mode == "P":
        image = image.convert("RGBA" if has_key else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGBA", "LA"):
        return image, _least_alpha(image) < 255
    return image, has_key


def _least_alpha(image: Image.Image) -> int:
    extrema: Any = image.getchannel("A").getextrema()
    return int(extrema[0])


def _resized(image: Image.Image, size: Tuple[int, int], decode: str) -> Image.Image:
    arguments = dict(_RESIZE[decode])
    if image.mode in ("LA", "RGBA"):
        arguments.pop("reducing_gap", None)
    resized = image.resize(size[::-1], **arguments)
    return resized if resized.mode == "RGB" else resized.convert("RGB")


def _is_blank(image: Image.Image) -> bool:
    """Whether a picture that seems to have one colour at the wanted size has so at its own."""
    extrema: Any = image.getextrema()
    if image.mode in ("RGBA", "LA"):
        extrema = extrema[:-1]
    ranges: Any = [extrema] if not isinstance(extrema[0], tuple) else extrema
    return all(high - low <= (0 if deep.is_deep(image) else _BLANK_NOISE) for low, high in ranges)


def _has_sixteen_bits(image: Image.Image, data: bytes, name: str) -> bool:
    """Whether the file has more than 8 bits per channel."""
    if name == "PNG":
        return data[24:25] == b"\x10"       # in its header
    if name == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return deep.is_deep(image) or max(tags.get(258, (8,))) > 8      # BitsPerSample
    return deep.is_deep(image)


@limited
def _orientation(image: Image.Image) -> int:
    return images.orientation(image)


def _is_animated(image: Image.Image, data: bytes, name: str) -> bool:
    """Whether the file has several pictures."""
    if name in ("GIF", "TIFF"):
        return _has_second(data, name)
    return image.format == "MPO" or bool(getattr(image, "is_animated", False))


@limited
def _has_second(data: bytes, name: str) -> bool:
    limit_memory()
    try:
        Image.open(io.BytesIO(data), formats=[name]).seek(1)
        return True
    except MemoryError:
        raise
    except Exception:           # EOFError, or whatever PIL raises for what follows the first picture
        return False
