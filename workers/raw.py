"""Raw numbers in record files: an array as it lies in a npy, npz or HDF5 file, with the type and shape that the
sample's place has. Numbers that are pixels make a picture, as if a file without loss had been stored in their place.
"""

from typing import NamedTuple, Optional, Tuple, Union

import numpy as np

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.folder import MAX_FILE_BYTES, BadFile, SamplePath
from stoker.pipeline.storage.place import Place, why_no_picture
from stoker.pipeline.storage.store import Version
from stoker.pipeline.text import printable_path
from stoker.workers import fetching

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}      # by the number of channels


class Pixels(NamedTuple):
    """A picture in memory. ``mode``: PIL's; ``size``: (width, height)."""
    mode: str
    size: Tuple[int, int]
    data: bytes


#: The content of a picture's file, or the picture itself.
Content = Union[bytes, Pixels]


def is_raw(path: object) -> bool:
    """Whether there are numbers at ``path``, or what h5py reads, and no file's content."""
    place = path.place if isinstance(path, SamplePath) else None
    return place is not None and bool(place.dtype or place.dataset)


def read(path: SamplePath, max_bytes: int = MAX_FILE_BYTES, advice: str = ""
         ) -> Tuple[Union[bytes, np.ndarray], Optional[Version]]:
    """The array at ``path``, for which ``is_raw`` is true, and the file's version; bytes where h5py reads the content
    of a file. The array is in native byte order, writable and shares no memory. Raises what ``fetching.read`` raises.
    """
    place = path.place
    assert place is not None
    if place.dataset:
        item, version = _read_item(path, place)
        if isinstance(item, bytes):
            if len(item) > max_bytes:
                raise BadFile("a file of more than %d bytes%s" % (max_bytes, advice))
            return item, version
        return _native(item), version
    data, version = fetching.read(path, max_bytes, advice)
    return _native(np.frombuffer(data, place.dtype).reshape(place.shape)), version


def _read_item(path: SamplePath, place: Place) -> Tuple[Union[bytes, np.ndarray], Optional[Version]]:
    from stoker.workers import hdf5         # where a sample is read by it: no other worker needs what is behind it
    return hdf5.read_item(path, place)


def _native(array: np.ndarray) -> np.ndarray:
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def picture(path: SamplePath, max_bytes: int, advice: str) -> Tuple[Content, Optional[Version]]:
    """The picture at ``path``, for which ``is_raw`` is true. Raises also ConfigError if the numbers are no pixels: then
    no sample of the file is a picture."""
    content, version = read(path, max_bytes, advice)
    return content if isinstance(content, bytes) else pixels_of(content, path), version


def pixels_of(array: np.ndarray, path: bytes) -> Pixels:
    """The picture whose pixels are ``array``: uint8, [height, width], or with 1, 3 or 4 channels as its last side, or,
    if that is no such number, as its first. Raises ConfigError."""
    problem = why_no_picture(str(array.dtype), array.shape)
    if problem:
        raise ConfigError("the numbers in %s are no picture: %s" % (
            printable_path(path.decode("utf-8", "surrogateescape")), problem))
    if array.ndim == 3 and array.shape[2] not in _MODES:
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    channels = array.shape[2] if array.ndim == 3 else 1
    return Pixels(_MODES[channels], (array.shape[1], array.shape[0]), array.tobytes())
