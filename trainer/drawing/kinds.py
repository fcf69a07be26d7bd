"""What an array of one sample is: a picture, a mask, boxes, a class, a curve ... Pure: the array's name, dtype, shape
and values decide, and what stands beside it. It is a guess, and drawings say what was guessed."""

import re
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

EMPTY, VALUES, CLASS, CURVE, PICTURE, MASK, BOXES, HEAT_MAP, CLIP, CHANNELS = (
    "empty", "values", "class", "curve", "picture", "mask", "boxes", "heat map", "clip", "channels")

MAX_VALUES = 16              # numbers that are shown as numbers
MAX_CLASSES = 64             # different numbers in a mask that is called one
MAX_UNNAMED_CLASSES = 32     # ... in one that is known by its values alone
MAX_LINES = 4                # of one curve
MIN_PICTURE_SIDE = 8         # of a picture without an axis for colours
LOOKED_AT = 1 << 18          # elements by which an array is judged

_PICTURE_NAME = re.compile(r"image|picture|photo|img|frame|gr[ae]y|pixels|face|crop")
_MASK_NAME = re.compile(r"mask|segm|^seg|label|class|target|annot|trimap")
_CLASS_NAME = re.compile(r"label|class|categor|target|^y$")
_CLIP_NAME = re.compile(r"clip|video|frames|sequence")
_BOX_NAME = re.compile(r"box|rect|roi")


class Kind(NamedTuple):
    """``layout``: of PICTURE, "first" if its colours are its first axis; of MASK, "one-hot" if its last axis is for the
    classes; of CLASS, "one-hot", "shares" or "each", a number for each of several things."""
    kind: str
    layout: str = ""


class Figures(NamedTuple):
    """Of the elements of an array, or of so many of them as are looked at."""
    low: float               # of those that are finite; 0 if none is
    high: float
    nan: int
    infinite: int
    is_all: bool             # no element was left out

    @property
    def finite(self) -> bool:
        """Whether each element is a number."""
        return not self.nan and not self.infinite


def looked_at(value: "np.ndarray", most: int = LOOKED_AT) -> "np.ndarray":
    """``value``, or some of its elements if they are many: as a view, taken evenly along its longest axes."""
    while value.size > most:
        axis = int(np.argmax(value.shape))
        step = min(value.shape[axis], -(-value.size // most))
        value = value[(slice(None),) * axis + (slice(None, None, max(2, step)),)]
    return value


def figures(value: "np.ndarray") -> Figures:
    """Least and largest value, and how many are none."""
    seen = looked_at(value)
    nan = infinite = 0
    if seen.dtype.kind == "f":
        finite = np.isfinite(seen)
        nan = int(np.count_nonzero(np.isnan(seen)))
        infinite = seen.size - int(np.count_nonzero(finite)) - nan
        seen = seen[finite]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    return Figures(low, high, nan, infinite, value.size <= LOOKED_AT)


def class_numbers(value: "np.ndarray") -> Optional[Tuple[int, ...]]:
    """The different numbers in ``value`` if it may be a mask: whole numbers from -1 to 255; else None."""
    seen = looked_at(value)
    if not seen.size or seen.dtype.kind not in "buif":
        return None
    if seen.dtype.kind == "f":
        with np.errstate(all="ignore"):
            if not (np.isfinite(seen).all() and (seen == np.floor(seen)).all()):
                return None
    if seen.min() < -1 or seen.max() > 255:
        return None
    counts = np.bincount(seen.reshape(-1).astype(np.int64) + 1)
    return tuple(int(number) - 1 for number in np.flatnonzero(counts))


def kind_of(name: str, value: "np.ndarray", beside: Sequence[Tuple[int, int]] = (), classes: int = 0,
            varying: bool = False) -> Kind:
    """What ``value``, the array ``name`` of one sample, is.

    ``beside``: (height, width) of the pictures in colour that the same sample has. ``classes``: how many the data has.
    ``varying``: the first axis differs from sample to sample.
    """
    name = name.lower()
    if not value.size:
        return Kind(EMPTY)
    if value.ndim <= 1:
        return _vector(name, value.reshape(-1), classes)
    if value.ndim == 2:
        return _plane(name, value, beside, varying)
    if value.ndim == 3:
        return _volume(name, value, beside)
    return Kind(CLIP)


def is_colour_picture(value: "np.ndarray") -> bool:
    """Whether ``value`` is a picture in colour by its shape alone: masks and boxes beside it belong to it."""
    return value.ndim == 3 and value.shape[-1] in (3, 4) and bool(value.size)


def _vector(name: str, value: "np.ndarray", classes: int) -> Kind:
    is_label = _CLASS_NAME.search(name) is not None
    numbers = class_numbers(value) if value.size <= LOOKED_AT else None
    if classes and value.size == 1 and is_label and value.dtype.kind in "iu" and 0 <= value[0] < classes:
        return Kind(CLASS)
    if value.size > 1 and (value.size == classes or is_label) and value.dtype.kind != "b":
        seen = figures(value)
        if numbers in ((0, 1), (1,)) and int(value.sum()) == 1:
            return Kind(CLASS, "one-hot")
        if value.size == classes and value.dtype.kind == "f" and seen.finite and seen.low >= 0 and (
                abs(float(value.sum(dtype=np.float64)) - 1) < 1e-2):
            return Kind(CLASS, "shares")
    if classes and is_label and 1 < value.size <= MAX_VALUES and value.dtype.kind in "iu" and (
            value.min() >= 0 and value.max() < classes):
        return Kind(CLASS, "each")
    is_short = value.size <= MAX_VALUES or value.dtype.kind == "b" or is_text(value)
    return Kind(VALUES if is_short else CURVE)


def is_text(value: "np.ndarray") -> bool:
    """Whether the bytes of a vector can be read as ASCII."""
    if value.dtype != np.uint8 or not 8 <= value.size <= LOOKED_AT:
        return False
    return bool(((value >= 32) & (value < 127) | (value == 9) | (value == 10) | (value == 13)).all())


def _plane(name: str, value: "np.ndarray", beside: Sequence[Tuple[int, int]], varying: bool) -> Kind:
    height, width = value.shape
    is_box = _BOX_NAME.search(name) is not None
    if value.dtype.kind != "b" and beside and (width == 4 and (is_box or varying) or is_box and width in (5, 6)):
        return Kind(BOXES)
    if _is_mask(name, value, beside):
        return Kind(MASK)
    large = min(height, width) >= MIN_PICTURE_SIDE
    named = _PICTURE_NAME.search(name) is not None
    if value.dtype == np.uint8 and (large or named) or large and (named or value.dtype == np.uint16):
        return Kind(PICTURE)
    if value.size <= MAX_VALUES:
        return Kind(VALUES)
    return Kind(CURVE if min(height, width) <= MAX_LINES and max(height, width) > MAX_VALUES else HEAT_MAP)


def _is_mask(name: str, value: "np.ndarray", beside: Sequence[Tuple[int, int]]) -> bool:
    """``value``: [height, width]."""
    if value.dtype.kind == "b":
        return value.size > MAX_VALUES
    fits, named = value.shape in beside, _MASK_NAME.search(name) is not None
    if not (fits or named) or _PICTURE_NAME.search(name) or value.size <= MAX_VALUES and not fits:
        return False
    numbers = class_numbers(value)
    return numbers is not None and len(numbers) <= (MAX_CLASSES if named else MAX_UNNAMED_CLASSES)


def _volume(name: str, value: "np.ndarray", beside: Sequence[Tuple[int, int]]) -> Kind:
    height, width, depth = value.shape
    if depth == 1 and _is_mask(name, value[..., 0], beside):
        return Kind(MASK)
    if 2 <= depth <= MAX_CLASSES and _MASK_NAME.search(name) and value.shape[:2] in beside and _is_one_hot(value):
        return Kind(MASK, "one-hot")
    if depth in (1, 3, 4):
        return Kind(PICTURE)
    if height in (1, 3) and min(width, depth) >= MIN_PICTURE_SIDE and not _CLIP_NAME.search(name):
        return Kind(PICTURE, "first")
    return Kind(CHANNELS if depth < min(height, width) and not _CLIP_NAME.search(name) else CLIP)


def _is_one_hot(value: "np.ndarray") -> bool:
    value = looked_at(value) if value.size <= LOOKED_AT else value[:256, :256]
    return bool(((value == 0) | (value == 1)).all() and (value.astype(np.int64).sum(axis=-1) == 1).all())
