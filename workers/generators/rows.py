"""The rows of a batch's arrays, from what a user's function returned: checked against the declaration, and converted
where no value is lost."""

from __future__ import generator_stop

from collections.abc import Mapping
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from stoker.pipeline.arrays import ArraySpec, UpTo
from stoker.pipeline.errors import StokerError
from stoker.pipeline.protocol.messages import Job, Sample
from stoker.pipeline.text import name_list
from stoker.pipeline.user_errors import a_type
from stoker.workers.batch_memory import BatchMemory, compacted, empty

_FEW = 8      # so many numbers are compared faster in Python than by numpy
#: Whole numbers up to this are exact in a float of that size.
_EXACT = {2: 1 << 11, 4: 1 << 24, 8: 1 << 53}
#: The least and the largest number of each dtype of whole numbers.
_LIMITS = {np.dtype(kind): (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
           for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")}


class FunctionError(StokerError, ValueError):
    """A user's function did or returned what it must not. The sentence names function, sample and array."""


class SetupFailed(FunctionError):
    """Its setup did, before the first sample: on another host it may do better."""


class Misfit(Exception):
    """A value does not fit its declaration. The sentence follows upon the array's name: "is of shape [2], must be [3]".
    ``text``: the value, or one in it, if it is a text."""

    def __init__(self, sentence: str, text: Optional[str] = None) -> None:
        super().__init__(sentence)
        self.text = text

    def of(self, spec: ArraySpec) -> "Misfit":
        """The same with the array's name."""
        return Misfit("array %r %s" % (spec.name, self), self.text)


class _NoArray(Misfit):
    """A value is nothing of which an array can be made."""

    def of(self, spec: ArraySpec) -> Misfit:
        return Misfit("array %r %s, must be %s" % (spec.name, self, spec.dtype), self.text)


def named(arrays: Tuple[ArraySpec, ...]) -> str:
    """The declaration in a sentence for people."""
    return ", ".join("%r" % spec.name for spec in arrays)


def in_order(returned: Any, arrays: Tuple[ArraySpec, ...], axes: int = 0) -> Sequence[Any]:
    """The values that a function returned, as a dict, a tuple or a list, in the order of ``arrays``. A single array may
    be returned as it is; ``axes``: how many more axes it has than a sample. Raises Misfit."""
    if isinstance(returned, dict) or isinstance(returned, Mapping):     # the second takes longer
        if len(returned) == len(arrays):
            try:
                return [returned[spec.name] for spec in arrays]
            except KeyError:
                pass
        names = [spec.name for spec in arrays]
        missing, extra = [name for name in names if name not in returned], [key for key in returned if key not in names]
        raise Misfit("it returned %s; declared are %s" % (" and ".join(
            (["no %s" % ", ".join(map(repr, missing))] if missing else [])
            + (["an undeclared %s" % name_list("%.100r" % key for key in extra)] if extra else [])), named(arrays)))
    if returned is None:
        raise Misfit("it returned None, must return a dict of %s%s" % (
            named(arrays), "" if axes else "; to leave a sample out, raise stoker.Skip"))
    if len(arrays) == 1:
        ndim = len(arrays[0].shape) + axes
        alone = isinstance(returned, tuple) and len(returned) == 1 and np.ndim(returned[0]) == ndim
        return returned if alone else (returned,)
    if not isinstance(returned, (tuple, list)):
        raise Misfit("it returned %s, must return a dict of %s" % (described(returned), named(arrays)))
    if len(returned) != len(arrays):
        raise Misfit("it returned %s of %d, must return %d arrays: %s" % (
            described(returned), len(returned), len(arrays), named(arrays)))
    return returned


def described(value: Any) -> str:
    """What ``value`` is, for people."""
    if isinstance(value, np.ndarray):
        return "an array %s %s" % (value.dtype, list(value.shape))
    return a_type(value)


def text_fields(error: Misfit, samples: Sequence[Sample], job: Job) -> str:
    """Where in the rows of ``samples`` the text is that does not fit: the rest of the sentence; '' if nowhere."""
    for sample in samples if error.text is not None else ():
        row = job.row(sample)
        for name in (name for name, value in row.items() if value == error.text) if isinstance(row, dict) else ():
            return "; the field %r of the row is text%s" % (
                name, ", because not all cells of that column are numbers" if job.columns else "")
    return ""


def is_of(shape: Tuple[int, ...], sides: Tuple[int, ...]) -> bool:
    """Whether an array of this ``shape`` is one of these ``sides``, of which some may be an UpTo."""
    return len(shape) == len(sides) and all(size <= int(side) if isinstance(side, UpTo) else size == side
                                            for size, side in zip(shape, sides))


def as_array(value: Any) -> np.ndarray:
    """``value`` as an array: it may be one, a PIL picture (its pixels as they are in its mode) or a list of
    pictures, a number, or nested lists of numbers. Raises Misfit."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Image.Image):
        if value.mode == "RGB":         # twice as fast as numpy, which asks PIL for the same bytes
            return np.frombuffer(value.tobytes(), np.uint8).reshape(value.size[1], value.size[0], 3)
        return np.asarray(value)
    if value is None:
        raise _NoArray("is None")
    try:
        pictures = isinstance(value, (list, tuple)) and value and isinstance(value[0], Image.Image)
        array = np.stack([as_array(each) for each in value]) if pictures else np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:     # lists of different lengths, with a new numpy
        raise _NoArray("is %s of which numpy makes no array (%s)" % (described(value), error)) from error
    if array.dtype.kind not in "buif":
        text = _text_in(value)
        if text is not None:
            raise _NoArray("%s the text %.100r" % ("is" if text is value else "has", text), text)
        raise _NoArray("is %s of which numpy makes an array of dtype %s" % (described(value), array.dtype))
    return array


def _text_in(value: Any) -> Optional[str]:
    """``value``, or the first text in its lists; None if there is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        return None
    return next((text for text in map(_text_in, value) if text is not None), None)


def cast_into(row: np.ndarray, value: Any) -> None:
    """Writes ``value`` (see ``as_array``) into ``row``. Raises Misfit if its shape is another, or if the row's dtype
    cannot hold a value. Floats may be rounded to narrower floats."""
    array = as_array(value)
    if array.shape != row.shape:
        raise Misfit("is of shape %s, must be %s" % (list(array.shape), list(row.shape)))
    if array.dtype == row.dtype:
        if array.dtype.kind == "b":
            np.not_equal(array, False, out=row)     # its bytes may be others than 0 and 1: of PIL's mode 1 they are 255
        else:
            row[...] = array
        return
    if array.dtype.kind not in "buif":
        raise Misfit("is of dtype %s, must be %s" % (array.dtype, row.dtype))
    if array.size:
        lost = _CASTS[row.dtype.kind](row, array)
        if lost is not None:
            value = array[lost].reshape(-1)[0].item()
            remedy = ""
            if row.dtype.kind in "iu" and isinstance(value, float):
                remedy = "; declare float32" * (value % 1 != 0) + ", or round and convert it" * (0 < value % 1)
            raise Misfit("is of dtype %s and has %r, which %s cannot hold%s" % (array.dtype, value, row.dtype, remedy))


def _to_float(row: np.ndarray, array: np.ndarray) -> Optional[np.ndarray]:
    kind = array.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):
            row[...] = array
        if array.dtype.itemsize <= row.dtype.itemsize or np.isfinite(row).all():
            return None
        return _any(np.isfinite(array) & ~np.isfinite(row))
    with np.errstate(over="ignore"):
        row[...] = array
    if kind == "b" or _within(array, -_EXACT[row.dtype.itemsize], _EXACT[row.dtype.itemsize]):
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        return _any(row.astype(array.dtype) != array)


def _to_int(row: np.ndarray, array: np.ndarray) -> Optional[np.ndarray]:
    low, high = _LIMITS[row.dtype]
    if array.dtype.kind == "f":
        wide = array.astype(np.float64)
        with np.errstate(invalid="ignore"):
            lost = _any(~((np.floor(wide) == wide) & (wide >= low) & (wide < high + 1.0)))
            row[...] = array
        return lost
    row[...] = array
    if array.dtype.kind == "b" or _within(array, low, high):
        return None
    least, most = _LIMITS[array.dtype]
    same = array.dtype.type     # numpy 2 compares an array with no number beyond its dtype, older ones uint64 as floats
    wrong: np.ndarray = (array < same(max(low, least))) | (array > same(min(high, most)))
    return wrong


def _to_bool(row: np.ndarray, array: np.ndarray) -> Optional[np.ndarray]:
    row[...] = array
    return _any((array != 0) & (array != 1))


def _any(wrong: np.ndarray) -> Optional[np.ndarray]:
    return wrong if wrong.any() else None


def _within(array: np.ndarray, low: int, high: int) -> bool:
    """Whether all whole numbers of ``array``, which is not empty, are in low..high."""
    if array.size <= _FEW:
        numbers: List[int] = array.reshape(-1).tolist()
        return low <= min(numbers) and max(numbers) <= high
    least, most = int(array.min()), int(array.max())
    return low <= least and most <= high


_CASTS: "Dict[str, Callable[[np.ndarray, np.ndarray], Optional[np.ndarray]]]" = {
    "f": _to_float, "i": _to_int, "u": _to_int, "b": _to_bool}


class _Fixed:
    """An array with one row for each place, all of the same shape."""

    def __init__(self, spec: ArraySpec, places: int, memory: Optional[BatchMemory]) -> None:
        self.data = empty(memory, spec.name, (places,) + spec.shape, spec.dtype)
        self._shape, self._dtype = spec.shape, self.data.dtype
        self._low, self._high = _LIMITS.get(self._dtype, (1, 0))    # of whole numbers; else no number is within
        self._picture_size: Optional[Tuple[int, int]] = None        # (width, height) of a picture that is a row
        if self._dtype == np.uint8 and len(self._shape) == 3 and self._shape[2] == 3:
            self._picture_size = int(self._shape[1]), int(self._shape[0])
            self._flat, self._row_bytes = memoryview(self.data.reshape(-1)), self.data[:1].nbytes

    def put(self, place: int, value: Any) -> None:
        # all but the last are only faster: most rows are one of them
        if (type(value) is np.ndarray and value.shape == self._shape and value.dtype == self._dtype
                and self._dtype.kind != "b"):
            self.data[place] = value
        elif type(value) is list and self._shape == (1,) and len(value) == 1 and type(value[0]) is int and (
                self._low <= value[0] <= self._high):
            self.data[place, 0] = value[0]
        elif type(value) is Image.Image and value.size == self._picture_size and value.mode == "RGB":
            self._flat[place * self._row_bytes:(place + 1) * self._row_bytes] = value.tobytes()
        else:
            cast_into(self.data[place, ...], value)     # with the dots, a single number is a view too

    def clear(self, place: int) -> None:
        """Nothing: the next ``put`` overwrites the row."""

    def finished(self, places: Optional[Sequence[int]]) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        return self.data if places is None else compacted(self.data, places), None


class _Listed:
    """An array whose places have any number of rows, and whose rows differ in the sides that are an UpTo."""

    def __init__(self, spec: ArraySpec, places: int, memory: Optional[BatchMemory]) -> None:
        self._spec, self._memory = spec, memory
        self._rows: List[List[np.ndarray]] = [[] for _ in range(places)]

    def put(self, place: int, value: Any) -> None:
        array, sides = as_array(value), self._spec.shape
        if not is_of(array.shape, sides):
            raise Misfit("is of shape %s, must be %s" % (list(array.shape), list(sides)))
        row = np.empty(array.shape, self._spec.dtype)
        cast_into(row, array)
        self._rows[place].append(row)

    def clear(self, place: int) -> None:
        self._rows[place] = []

    def finished(self, places: Optional[Sequence[int]]) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """The array, padded to its longest row, and the true sizes, int32 [n] or [n, k]; None if no side differs."""
        chosen = self._rows if places is None else [self._rows[place] for place in places]
        rows = [row for several in chosen for row in several]
        axes = self._spec.upto
        if not axes:
            made = empty(self._memory, self._spec.name, (len(rows),) + self._spec.shape, self._spec.dtype)
            return (np.stack(rows, out=made) if rows else made), None
        sizes = np.array([[row.shape[axis] for axis in axes] for row in rows], np.int32).reshape(len(rows), len(axes))
        sides = [int(side) for side in self._spec.shape]
        for column, axis in enumerate(axes):
            sides[axis] = int(sizes[:, column].max()) if rows else 0
        array = empty(self._memory, self._spec.name, tuple([len(rows)] + sides), self._spec.dtype)
        array.fill(self._spec.pad)
        for padded, row in zip(array, rows):
            padded[tuple(slice(size) for size in row.shape)] = row
        return array, sizes[:, 0].copy() if len(axes) == 1 else sizes


class BatchRows:
    """The arrays of a batch while it is made, place by place. ``several``: a place may have any number of rows.
    ``memory``: where they are made."""

    def __init__(self, arrays: Tuple[ArraySpec, ...], places: int, several: bool = False,
                 memory: Optional[BatchMemory] = None) -> None:
        self._arrays = arrays
        self._columns = [(_Listed if several or spec.upto else _Fixed)(spec, places, memory) for spec in arrays]

    def put(self, place: int, values: Sequence[Any]) -> None:
        """Writes a row of every array. Raises Misfit, whose text names the array."""
        for column, spec, value in zip(self._columns, self._arrays, values):
            try:
                column.put(place, value)
            except Misfit as error:
                raise error.of(spec) from None

    def clear(self, place: int) -> None:
        """Forgets what was put into this place."""
        for column in self._columns:
            column.clear(place)

    def finished(self, places: Optional[Sequence[int]] = None) -> Tuple[np.ndarray, ...]:
        """The arrays of ``framed(arrays)``, C-contiguous, with the rows of these places only; None: of all."""
        made = [column.finished(places) for column in self._columns]
        return tuple([array for array, _ in made] + [sizes for _, sizes in made if sizes is not None])
