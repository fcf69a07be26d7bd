"""The arrays of a batch: element types, shapes and sides that differ; and how malloc treats memory of that size."""

import ctypes
import math
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Tuple, Union

from stoker.pipeline.errors import ConfigError

#: A frame of a message: the header, or the bytes of one array.
Buffer = Union[bytes, bytearray, memoryview]
#: The element types that arrays may have, by numpy's name, and their size in bytes.
ITEM_BYTES = {"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "int64": 8,
              "float16": 2, "float32": 4, "float64": 8}
MAX_ARRAYS, MAX_AXES, MAX_SIDE, MAX_NAME = 32, 8, 1 << 24, 200
MAX_SAMPLE_BYTES = 1 << 30   # of one sample in one array
SIZES = ".sizes"             # NAME.sizes: the true sizes of the array NAME, which has sides that differ
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3    # parameters of glibc's mallopt
HEAP_BYTES = 32 << 20    # smaller pieces come from the heap; glibc's maximum
KEEP_BYTES = 256 << 20   # free bytes that stay at the heap's end: enough for some batches and their intermediate arrays


class UpTo(int):
    """A side of an array that differs from sample to sample, and is at most this long: ``stoker.UpTo(20)``.

    Each batch is padded to its own longest sample, with ``pad``. ``batch.sizes`` has the true sizes. It is an int, the
    most, but equal only to an UpTo of the same length and pad."""
    pad: Union[int, float]

    def __new__(cls, most: int, pad: Union[int, float] = 0) -> "UpTo":
        side = super().__new__(cls, most)
        side.pad = _plain(pad)
        return side

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UpTo) and int(self) == int(other) and repr(self.pad) == repr(other.pad)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((int(self), self.pad, "UpTo"))

    def __repr__(self) -> str:
        return "UpTo(%d%s)" % (self, ", pad=%r" % self.pad if self.pad else "")

    def __getnewargs__(self) -> Tuple[Any, ...]:      # for copy.copy and deepcopy
        return int(self), self.pad


@dataclass(frozen=True)
class ArraySpec:
    """One array of a batch: ``shape`` is that of a single sample, the batch adds the first dimension. Example:
    ``stoker.ArraySpec("labels", "int32", (1,))``."""
    name: str
    dtype: str               # a key of ITEM_BYTES; little-endian on the wire
    shape: Tuple[int, ...]   # a side may be an UpTo

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample in this array; the most if it has sides that differ."""
        size = ITEM_BYTES[self.dtype]
        for side in self.shape:
            size *= int(side)
        return size

    @property
    def upto(self) -> Tuple[int, ...]:
        """The axes of a sample, from 0, whose sides differ from sample to sample."""
        found = vars(self).get("_upto")        # asked for each batch
        if found is None:
            found = vars(self)["_upto"] = tuple(axis for axis, side in enumerate(self.shape) if isinstance(side, UpTo))
        return found

    @property
    def pad(self) -> Union[int, float]:
        """The value that fills what a sample is smaller than the longest of its batch."""
        return next((side.pad for side in self.shape if isinstance(side, UpTo)), 0)


def listed(arrays: Iterable[ArraySpec]) -> str:
    """The arrays in a line for people: ``image uint8 (66, 200, 3), steering float32 ()``."""
    return ", ".join("%s %s %r" % (spec.name, spec.dtype, spec.shape) for spec in arrays)


def framed(arrays: Tuple[ArraySpec, ...]) -> Tuple[ArraySpec, ...]:
    """The arrays of a batch as they travel: after all ``arrays``, an array int32 "NAME.sizes" of each that has sides
    that differ. Its shape is () if one side differs, (k,) if k do: the true sizes of each sample, in order."""
    sizes = [ArraySpec(spec.name + SIZES, "int32", () if len(spec.upto) == 1 else (len(spec.upto),))
             for spec in arrays if spec.upto]
    return arrays + tuple(sizes) if sizes else arrays


def declared(arrays: Mapping[str, Any]) -> Tuple[ArraySpec, ...]:
    """The specs of ``{name: dtype}`` or ``{name: (dtype, shape of one sample)}``, in this order. Raises ConfigError."""
    if not isinstance(arrays, Mapping) or not 0 < len(arrays) <= MAX_ARRAYS:
        raise ConfigError("arrays must be a dict of 1 to %d arrays, such as {'image': ('uint8', (64, 64, 3)), 'label': "
                          "'int32'}, not %.200r" % (MAX_ARRAYS, arrays))
    return tuple(_declared(name, value) for name, value in arrays.items())


def _declared(name: object, value: Any) -> ArraySpec:
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or name.endswith(SIZES) or not name.isprintable():
        raise ConfigError("the name of an array must be a text of at most %d characters that does not end with %r, not "
                          "%.200r" % (MAX_NAME, SIZES, name))
    dtype, shape = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, ())
    dtype = getattr(dtype, "__name__", dtype)          # numpy.float32
    dtype = getattr(dtype, "name", dtype)              # numpy.dtype("float32"), tensorflow.float32
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ConfigError("array %r: the dtype must be one of %s, not %.200r; write 'float32' or ('uint8', (64, 64, 3))"
                          % (name, ", ".join(ITEM_BYTES), value))
    sides: Any = shape.tolist() if hasattr(shape, "tolist") else shape       # of numpy
    sides = [sides] if isinstance(sides, int) else sides
    if isinstance(sides, (tuple, list)):
        sides = [_plain(side) for side in sides]
    if not isinstance(sides, list) or len(sides) > MAX_AXES or not all(
            isinstance(side, int) and not isinstance(side, bool) and 1 <= int(side) <= MAX_SIDE for side in sides):
        raise ConfigError("array %r: the shape of one sample must be a tuple of at most %d whole numbers from 1, or "
                          "stoker.UpTo(n), not %.200r" % (name, MAX_AXES, shape))
    spec = ArraySpec(name, dtype, tuple(sides))
    for side in spec.shape:
        if isinstance(side, UpTo) and (not fits(side.pad, dtype) or repr(side.pad) != repr(spec.pad)):
            raise ConfigError("array %r: pad=%r is no value of dtype %s, or another than that of the sides before"
                              % (name, side.pad, dtype))
    if spec.sample_bytes > MAX_SAMPLE_BYTES:
        raise ConfigError("array %r: one sample of %s %s takes %d bytes, more than %d" % (
            name, dtype, spec.shape, spec.sample_bytes, MAX_SAMPLE_BYTES))
    return spec


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python's; anything else as it is."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value


def fits(value: object, dtype: str) -> bool:
    """Whether the number ``value`` is an element of ``dtype``, to rounding for floats."""
    if not isinstance(value, (int, float)) or isinstance(value, int) and not -1 << 63 <= value < 1 << 64:
        return False                # a message can carry no other number
    if dtype.startswith("float"):
        largest = {"float16": 65504.0, "float32": 3.4028234663852886e38}.get(dtype, math.inf)
        return math.isinf(value) or math.isnan(value) or abs(value) <= largest
    bits, signed = 8 * ITEM_BYTES[dtype], not dtype.startswith("u")
    if dtype == "bool":
        return value in (0, 1)
    low = -(1 << bits - 1) if signed else 0
    return isinstance(value, int) and low <= value < low + (1 << bits)


def keep_freed_memory() -> None:
    """Lets malloc keep the memory of an image or message for the next one, in the whole process; glibc only. By default
    it returns large pieces to the kernel, and page faults take up to a fifth of a worker's time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
