"""What the arrays of a batch look like: for the status page, and for ``stoker-show``. Only draws; decodes nothing.

``kinds`` decides what each array is, ``pixels`` makes it one of bytes, and this module makes PNG files of them.
"""

import io
import struct
import zlib
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from stoker.pipeline.arrays import ArraySpec
from stoker.pipeline.batch import Batch
from stoker.pipeline.text import printable, printable_path
from stoker.trainer.drawing import kinds
from stoker.trainer.drawing import pixels
from stoker.trainer.drawing.boxes import corners

MAX_SIDE = 160       # of a picture, in pixels
MAX_TEXT = 160       # letters of a text
MAX_BOXES = 100      # that are drawn
MIN_SIDE = 8         # of a drawing that is no picture: a heat map of one row could not be seen
_BOXES_ON = 128      # pixels: a picture smaller than this is made larger before boxes are drawn
_OVERSAMPLED = 4     # a picture of more than so many times the wanted sides is thinned before it is made smaller
_FILTERS: Any = getattr(Image, "Resampling", Image)     # where the filters are since Pillow 9.1, and before
_BOX_COLOURS = ((255, 64, 64), (64, 220, 64), (80, 160, 255), (255, 200, 0), (255, 90, 255), (0, 230, 230))


class View(NamedTuple):
    """One array of one sample, as people see it."""
    name: str        # of the array
    kind: str        # one of ``kinds``: "picture", "mask", "boxes", "curve", "class", "values" ...
    png: bytes       # a PNG file; b"" if there is no picture of it
    text: str        # its values or figures, in a line


class _Array(NamedTuple):
    """An array of one sample, and what it is drawn with."""
    value: "np.ndarray"
    scale: Callable[[], pixels.Scale]    # of all samples of the batch
    layout: str                      # see ``kinds.Kind``
    max_side: int
    classes: Sequence[str]
    behind: "Optional[Tuple[np.ndarray, Callable[[], pixels.Scale]]]"   # the picture on which boxes are drawn


def views(batch: Batch, row: int, max_side: int = MAX_SIDE, classes: Optional[Sequence[str]] = None,
          level: int = 1) -> List[View]:
    """Each array of row ``row`` of ``batch``, in their order; pictures have at most ``max_side`` pixels a side.

    ``classes``: the names of the classes; None: those of the batch's data. ``level``: how well the PNG files are
    compressed, from 0 to 9; 0 takes a tenth of the time of 1.
    """
    return views_of(batch, (row,), max_side, classes, level)[0]


def views_of(batch: Batch, rows: Iterable[int], max_side: int = MAX_SIDE, classes: Optional[Sequence[str]] = None,
             level: int = 1) -> List[List[View]]:
    """``views`` of several rows, in less time than one by one."""
    if classes is None:
        classes = batch.source.classes if batch.source is not None else ()
    scales = [_once(array) for array in batch.arrays]
    return [_views(batch, row, scales, max_side, classes, level) for row in rows]


def _once(array: "np.ndarray") -> Callable[[], pixels.Scale]:
    """The scale of an array, which is found when it is first needed."""
    found: List[pixels.Scale] = []

    def scale() -> pixels.Scale:
        if not found:
            found.append(pixels.Scale(array))
        return found[0]
    return scale


def _views(batch: Batch, row: int, scales: Sequence[Callable[[], pixels.Scale]], max_side: int, classes: Sequence[str],
           level: int) -> List[View]:
    values = [own_part(batch, spec, row) for spec in batch.specs]
    coloured = [place for place, value in enumerate(values) if kinds.is_colour_picture(value)]
    beside = [values[place].shape[:2] for place in coloured]
    behind = (values[coloured[0]], scales[coloured[0]]) if coloured else None
    found = []
    for spec, scale, value in zip(batch.specs, scales, values):
        kind, layout = kinds.kind_of(spec.name, value, beside, len(classes), 0 in spec.upto)
        pixel, text = _DRAWN[kind](_Array(value, scale, layout, max_side, classes, behind))
        png = b"" if pixel is None else png_of(pixel, max_side, kind == kinds.PICTURE, level)
        found.append(View(spec.name, kind, png, shortened(text)))
    return found


def own_part(batch: Batch, spec: ArraySpec, row: int) -> "np.ndarray":
    """Row ``row`` of an array, without what pads it to the longest sample of its batch."""
    value = np.asarray(batch[spec.name][row])
    if not spec.upto or spec.name not in batch.sizes:
        return value
    part = [slice(None)] * value.ndim
    for axis, size in zip(spec.upto, np.atleast_1d(batch.sizes[spec.name][row]).tolist()):
        part[axis] = slice(0, max(0, size))
    return value[tuple(part)]


def png_of(pixel: "np.ndarray", max_side: int = MAX_SIDE, smooth: bool = True, level: int = 1) -> bytes:
    """A PNG file of uint8 [height, width, 3], not larger than ``max_side``. ``smooth``: neighbours may be averaged.
    ``level``: of compression."""
    pixel = np.ascontiguousarray(pixels.thinned(pixel, _OVERSAMPLED * max_side))
    image = Image.fromarray(pixel)
    share = min(1.0, max_side / max(image.size))
    least = 1 if smooth else min(MIN_SIDE, max_side)
    size = _size(image, share, least)
    if size != image.size:
        image = image.resize(size, _FILTERS.BOX if smooth else _FILTERS.NEAREST)
        pixel = np.asarray(image)
    if level == 0:
        return _plain_png(pixel)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()


def _plain_png(pixel: "np.ndarray") -> bytes:
    """A PNG file of uint8 [height, width, 3] that is not compressed. PIL would take ten times as long, because it tries
    the filters of each row."""
    height, width = pixel.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)         # the first byte of a row: no filter
    rows[:, 1:] = pixel.reshape(height, -1)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) & 0xffffffff)
        for kind, data in chunks)


def _size(image: Image.Image, scale: float, least: int = 1) -> Tuple[int, int]:
    """(width, height) of ``image`` after scaling."""
    width, height = (max(least, int(side * scale + 0.5)) for side in image.size)
    return width, height


def shortened(text: str, most: int = MAX_TEXT) -> str:
    """``text`` in at most ``most`` letters."""
    return text if len(text) <= most else text[:most - 3] + "..."


# ---------------------------------------------------------------------------------------- what a kind is drawn and said

_Drawn = Tuple["Optional[np.ndarray]", str]


def _picture(array: _Array) -> _Drawn:
    value = np.moveaxis(array.value, 0, -1) if array.layout == "first" else array.value
    scale = array.scale()
    text = scale.text(array.value)
    if value.ndim == 3 and value.shape[-1] == 4:
        text += "; " * bool(text) + "the fourth channel is at the right"
    if array.layout == "first":
        text += "; " * bool(text) + "colours are the first axis"
    return pixels.picture(pixels.thinned(value, _OVERSAMPLED * array.max_side), scale), text


def _mask(array: _Array) -> _Drawn:
    value = array.value
    if array.layout == "one-hot":
        value = pixels.thinned(value, _OVERSAMPLED * array.max_side).argmax(axis=-1)
    elif value.ndim == 3:
        value = value[..., 0]
    if value.dtype.kind == "b":
        return pixels.mask(value), "%s true" % _percent(value.mean())
    seen = kinds.looked_at(value).astype(np.int64)
    numbers, counts = np.unique(seen, return_counts=True)
    by_size = np.argsort(-counts, kind="mergesort")
    parts = ["%s: %s" % (("%d %s" % (number, pixels.mask_colour(number))).rstrip(), _percent(count / seen.size))
             for number, count in zip(numbers[by_size[:6]].tolist(), counts[by_size[:6]].tolist())]
    more = len(numbers) - len(parts)
    return (pixels.mask(pixels.thinned(value, _OVERSAMPLED * array.max_side)),
            ", ".join(parts) + (" and %d more" % more if more else ""))


def _percent(share: float) -> str:
    return "%.0f %%" % (100 * share) if share >= 0.01 or not share else "under 1 %"


def _boxes(array: _Array) -> _Drawn:
    assert array.behind is not None
    picture, picture_scale = array.behind
    height, width = picture.shape[:2]
    found, convention = corners(array.value, height, width)
    text = "%d box%s, read as %s" % (len(array.value), "es" * (len(array.value) != 1), convention)
    if array.value.shape[1] > 4:
        text += "; columns 4 and later are not drawn"
    text += pixels.not_numbers(kinds.figures(array.value))
    picture = pixels.picture(pixels.thinned(picture, _OVERSAMPLED * array.max_side)[..., :3], picture_scale())
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = min(array.max_side / max(image.size), max(1.0, _BOXES_ON // max(image.size)))
    size = _size(image, scale)
    image = image.resize(size, _FILTERS.BOX if scale < 1 else _FILTERS.NEAREST)
    draw = ImageDraw.Draw(image)
    shares = found / np.array([width, height] * 2)
    for number, box in enumerate(np.clip(shares, -1, 2)[:MAX_BOXES]):
        left, top, right, bottom = (int(share * side) for share, side in zip(box, size * 2))
        colour = _BOX_COLOURS[number % len(_BOX_COLOURS)]
        ends = (left, top), (max(left, right - 1), top), (max(left, right - 1), max(top, bottom - 1)), (
            left, max(top, bottom - 1)), (left, top)
        draw.line(ends, fill=colour)
    if len(found) > MAX_BOXES:
        text += "; the first %d are drawn" % MAX_BOXES
    return np.asarray(image), text


def _heat_map(array: _Array) -> _Drawn:
    seen = kinds.figures(array.value)
    text = "%s, %s%s" % (_named(array.value), pixels.span(seen.low, seen.high), pixels.not_numbers(seen))
    return pixels.heat(pixels.thinned(array.value, _OVERSAMPLED * array.max_side), seen.low, seen.high), text


def _curve(array: _Array) -> _Drawn:
    value, seen = array.value, kinds.figures(array.value)
    lines = [value] if value.ndim == 1 else list(value if value.shape[0] < value.shape[1] else value.T)
    text = "%s, %s%s: %s ..." % (_named(value), pixels.span(seen.low, seen.high), pixels.not_numbers(seen),
                                 _listed(value.reshape(-1)[:6]))
    return pixels.curve([line.reshape(-1) for line in lines], array.max_side, max(MIN_SIDE, array.max_side // 2)), text


def _frames(array: _Array) -> _Drawn:
    """Clips, and what has more axes."""
    value = array.value
    is_coloured = value.ndim > 3 and value.shape[-1] in (1, 3, 4)
    axes = 3 if is_coloured else 2
    count = int(np.prod(value.shape[:value.ndim - axes], dtype=np.int64))
    frames = pixels.first_frames(value, axes)
    sides = array.max_side * _OVERSAMPLED // pixels.FRAMES_A_ROW
    scale = array.scale()
    if is_coloured or value.dtype in (np.uint8, np.uint16):
        drawn, text = [pixels.picture(pixels.thinned(frame, sides), scale) for frame in frames], scale.text(value)
    else:
        seen = kinds.figures(value)
        drawn = [pixels.heat(pixels.thinned(frame, sides), seen.low, seen.high) for frame in frames]
        text = "%s, %s%s" % (_named(value), pixels.span(seen.low, seen.high), pixels.not_numbers(seen))
    which = "%d frames" % count if count <= len(frames) else "first %d of %s frames" % (len(frames), format(count, ","))
    return pixels.in_rows(drawn), which + (", " + text if text else "")


def _channels(array: _Array) -> _Drawn:
    value, seen = array.value, kinds.figures(array.value)
    count = value.shape[-1]
    drawn = [pixels.heat(pixels.thinned(value[..., channel], array.max_side), seen.low, seen.high)
             for channel in range(min(count, pixels.MAX_FRAMES))]
    which = "%d channels" % count if count <= len(drawn) else "first %d of %d channels" % (len(drawn), count)
    return pixels.in_rows(drawn), "%s, %s, %s%s" % (
        which, value.dtype.name, pixels.span(seen.low, seen.high), pixels.not_numbers(seen))


def _class(array: _Array) -> _Drawn:
    value, classes = array.value.reshape(-1), array.classes
    if array.layout == "shares":
        most = sorted(range(len(value)), key=lambda place: -float(value[place]))[:4]
        return None, ", ".join("%s %.2f" % (_class_name(place, classes), value[place])
                               for place in most if value[place] > 0)
    if array.layout == "one-hot":
        return None, _class_name(int(value.argmax()), classes) + " (one-hot)"
    return None, ", ".join(_class_name(number, classes) for number in value.tolist())


def _class_name(number: int, classes: Sequence[str]) -> str:
    return "%d: %s" % (number, printable_path(classes[number])) if number < len(classes) else "%d" % number


def _values(array: _Array) -> _Drawn:
    value = array.value
    if value.ndim == 1 and kinds.is_text(value):
        return None, "text %r" % value[:MAX_TEXT].tobytes().decode("ascii")
    if value.dtype.kind == "b" and value.ndim == 1 and value.size > 1:
        places = np.flatnonzero(value)
        return None, "%d of %s true: %s" % (len(places), format(value.size, ","), _listed(places[:24])) + (
            " ..." if len(places) > 24 else "") if len(places) else "none of %s true" % format(value.size, ",")
    return None, _listed(value.reshape(-1)) if value.ndim < 2 else "; ".join(
        _listed(line.reshape(-1)) for line in value)


def _empty(array: _Array) -> _Drawn:
    return None, "empty, %s" % _named(array.value)


def _named(value: "np.ndarray") -> str:
    return "%s %s" % (value.dtype.name, " x ".join(map(str, value.shape)))


def _listed(values: "np.ndarray") -> str:
    return " ".join("%.4g" % each if values.dtype.kind == "f" else printable(str(each)) for each in values.tolist())


_DRAWN = {kinds.EMPTY: _empty, kinds.VALUES: _values, kinds.CLASS: _class, kinds.CURVE: _curve,
          kinds.PICTURE: _picture, kinds.MASK: _mask, kinds.BOXES: _boxes, kinds.HEAT_MAP: _heat_map,
          kinds.CLIP: _frames, kinds.CHANNELS: _channels}
