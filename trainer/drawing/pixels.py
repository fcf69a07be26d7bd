"""Arrays as pixels: uint8 [height, width, 3]. Pure, and bounded: of a large array, only what is seen is converted."""

from itertools import islice
from typing import List, Sequence, Tuple

import numpy as np

from stoker.trainer.drawing.kinds import Figures, figures, looked_at

NO_NUMBER = (255, 0, 255)        # the colour of NaN and of infinite values
PAPER, INK, GRID = (250, 250, 250), ((31, 119, 180), (214, 89, 14), (44, 140, 44), (190, 40, 60)), (215, 215, 215)
SCALED_BY = 1 << 16              # elements of a batch by which its range is found
MAX_FRAMES, FRAMES_A_ROW, GAP = 8, 4, 2
#: The colours of a heat map, from low to high: some of matplotlib's viridis.
_HEAT = np.array([(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129),
                  (92, 200, 99), (170, 220, 50), (253, 231, 37)], np.float32)
#: The colours of the classes 0, 1 ... of a mask; those of Kenneth Kelly's list of 1965 that differ most.
PALETTE = np.array([(0, 0, 0), (255, 179, 0), (128, 62, 117), (0, 125, 52), (166, 189, 215), (193, 0, 32),
                    (206, 162, 98), (129, 112, 102), (255, 104, 0), (246, 118, 142), (0, 83, 138), (255, 122, 92),
                    (83, 55, 122), (255, 142, 0), (179, 40, 81), (244, 200, 0), (127, 24, 13), (147, 170, 0),
                    (89, 51, 21), (241, 58, 19), (35, 44, 22)], np.uint8)
#: The first of them in words, of which no two are alike.
NAMES = ("black", "amber", "purple", "green", "light blue", "red", "sand", "grey", "orange", "pink", "blue", "salmon",
         "violet")
IGNORED = (224, 224, 224)        # the colour of -1 and 255, which mean "no class" in masks


class Scale:
    """How numbers become brightness: by the dtype, and alike for all samples of a batch, so that they can be compared.

    ``low``, ``high``: what is black and what is white; ``name``: a range that is usual for pictures, or ''."""

    def __init__(self, batch: "np.ndarray") -> None:
        """``batch``: the whole array of the batch."""
        self._dtype = batch.dtype.name
        self._is_plain = batch.dtype == np.uint8
        self.low, self.high, self.name = 0.0, 255.0, "0..255"
        if not self._is_plain:
            self.low, self.high, self.name = _range_of(batch.dtype, figures(looked_at(batch, SCALED_BY)))

    def grey(self, value: "np.ndarray") -> "np.ndarray":
        """uint8, of the shape of ``value``."""
        if self._is_plain:
            return value
        return (unit(value, self.low, self.high) * 255 + 0.5).astype(np.uint8)

    def text(self, value: "np.ndarray") -> str:
        """A line on the range, and on values that are none; '' of uint8."""
        if self._is_plain:
            return ""
        seen = figures(value)
        line = "%s, %s" % (self._dtype, self.name or "stretched from %s" % span(self.low, self.high))
        if self.name:
            line += " (here %s%s)" % ("" if seen.is_all else "about ", span(seen.low, seen.high))
        return line + not_numbers(seen)


def _range_of(dtype: "np.dtype", seen: Figures) -> Tuple[float, float, str]:
    low, high = seen.low, seen.high
    if dtype.kind == "b":
        return 0, 1, "true is white"
    if dtype.kind == "f":
        if 0 <= low and high <= 1:
            return 0, 1, "0..1"
        if -1 <= low and high <= 1:
            return -1, 1, "-1..1"
    if 0 <= low and high <= 255 and dtype.kind in "uif":
        return 0, 255, "0..255"
    if dtype == np.uint16:
        bits = max(8, int(high).bit_length())
        return 0, (1 << bits) - 1, "0..%d" % ((1 << bits) - 1)
    return low, high, ""


def unit(value: "np.ndarray", low: float, high: float) -> "np.ndarray":
    """``value`` from 0 (``low``) to 1 (``high``), float32; what is no number is 0."""
    width = high / 2 - low / 2           # halves: the difference of the largest numbers is none that a float holds
    with np.errstate(all="ignore"):
        half = value.astype(np.float64) / 2
        shares = (half - low / 2) / width if width > 0 else np.full(value.shape, 0.5)
        return np.clip(np.where(np.isfinite(shares), shares, 0), 0, 1).astype(np.float32)


def number(value: float) -> str:
    """A number in few letters."""
    return "%d" % value if value == int(value) and abs(value) < 1e15 else "%.4g" % value


def span(low: float, high: float) -> str:
    """A range in few letters."""
    return "%s..%s" % (number(low), number(high))


def not_numbers(seen: Figures) -> str:
    """A clause on them, or ''."""
    parts = ["%d NaN" % seen.nan] * bool(seen.nan) + ["%d infinite" % seen.infinite] * bool(seen.infinite)
    return "; " + ", ".join(parts) if parts else ""


def thinned(value: "np.ndarray", most: int) -> "np.ndarray":
    """``value`` [height, width ...] with at most ``most`` pixels a side: single ones are picked."""
    steps = [max(1, -(-side // most)) for side in value.shape[:2]]
    return value[::steps[0], ::steps[1]]


def picture(value: "np.ndarray", scale: Scale) -> "np.ndarray":
    """[height, width] or [height, width, 1, 3 or 4] in grey or colours; of four channels, the fourth stands at the
    right, in grey."""
    planes = value if value.ndim == 3 else value[..., np.newaxis]
    grey = scale.grey(planes)
    colours = np.repeat(grey, 3, axis=2) if planes.shape[2] == 1 else grey[..., :3]
    if planes.dtype.kind == "f":
        colours = np.where(np.isfinite(planes).all(axis=2)[..., np.newaxis], colours, np.array(NO_NUMBER, np.uint8))
    if planes.shape[2] == 4:
        alpha = np.repeat(grey[..., 3:], 3, axis=2)
        return np.concatenate([colours, np.full((len(colours), GAP, 3), 255, np.uint8), alpha], axis=1)
    return colours


def heat(value: "np.ndarray", low: float, high: float) -> "np.ndarray":
    """[height, width] in colours from dark blue (``low``) to yellow (``high``)."""
    places = unit(value, low, high) * (len(_HEAT) - 1 if low < high else 0)
    below = np.minimum(places.astype(np.int64), len(_HEAT) - 2)
    part = (places - below)[..., np.newaxis]
    colours: "np.ndarray" = (_HEAT[below] * (1 - part) + _HEAT[below + 1] * part + 0.5).astype(np.uint8)
    if value.dtype.kind == "f":
        colours[~np.isfinite(value)] = NO_NUMBER
    return colours


def mask(value: "np.ndarray") -> "np.ndarray":
    """[height, width] of whole numbers from -1 to 255, each in its colour."""
    if value.dtype.kind == "b":
        return np.where(value[..., np.newaxis], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    numbers = value.astype(np.int64)
    colours = PALETTE[np.where(numbers > 0, (numbers - 1) % (len(PALETTE) - 1) + 1, 0)]
    colours[(numbers < 0) | (numbers == 255)] = IGNORED
    return colours


def mask_colour(number: int) -> str:
    """The colour of a class in ``mask`` in a word; '' if it has no name of its own."""
    return "light grey" if number < 0 or number == 255 else NAMES[number] if number < len(NAMES) else ""


def curve(lines: "Sequence[np.ndarray]", width: int, height: int) -> "np.ndarray":
    """Vectors of one length as curves over their place, in one frame, from their least to their largest value."""
    seen = figures(np.stack([looked_at(line) for line in lines]))
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = PAPER
    if seen.low < 0 < seen.high:
        pixels[int(round((1 - float(unit(np.zeros(1), seen.low, seen.high)[0])) * (height - 1)))] = GRID
    for line, colour in zip(lines, INK * (len(lines) // len(INK) + 1)):
        _draw(pixels, line, seen, colour)
    return pixels


def _draw(pixels: "np.ndarray", line: "np.ndarray", seen: Figures, colour: Tuple[int, int, int]) -> None:
    """Each column is filled from the least to the largest value that falls on it, and to the column before."""
    height, width = pixels.shape[:2]
    ends = np.linspace(0, len(line), width + 1)
    before = None
    for column in range(width):
        first = min(int(ends[column]), len(line) - 1)
        part = line[first:max(int(ends[column + 1]), first + 1)]
        part = part[::max(1, len(part) // 1000)].astype(np.float64)
        part = part[np.isfinite(part)]
        if not part.size:
            before = None
            continue
        rows = ((1 - unit(np.array([part.max(), part.min()]), seen.low, seen.high)) * (height - 1) + 0.5).astype(int)
        top, bottom = int(rows[0]), int(rows[1])
        if before is not None:
            top, bottom = min(top, before[1]), max(bottom, before[0])
        pixels[top:bottom + 1, column] = colour
        before = int(rows[0]), int(rows[1])


def first_frames(value: "np.ndarray", axes: int) -> "List[np.ndarray]":
    """The first arrays that the last ``axes`` axes make."""
    places = np.ndindex(*value.shape[:value.ndim - axes])
    return [value[place] for place in islice(places, MAX_FRAMES)]


def in_rows(frames: "Sequence[np.ndarray]", gap: int = GAP) -> "np.ndarray":
    """Pictures of one size beside each other, ``FRAMES_A_ROW`` in a row."""
    height, width = frames[0].shape[:2]
    columns = min(len(frames), FRAMES_A_ROW)
    rows = -(-len(frames) // FRAMES_A_ROW)
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(frames):
        top, left = (place // FRAMES_A_ROW) * (height + gap), (place % FRAMES_A_ROW) * (width + gap)
        whole[top:top + height, left:left + width] = frame
    return whole
