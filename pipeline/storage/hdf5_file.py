"""HDF5 files, opened by h5py so that nothing but the file's own bytes is read: links and datasets that lead to other
files are refused, for a file could name any file of the host in them.

The file is given to h5py as an object of Python: so it may lie in a store, and no lock is taken, which some network
file systems refuse.
"""

import importlib
from typing import Any, BinaryIO, List, Optional, Tuple, Union

import numpy as np

from stoker.pipeline.text import quoted

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_ITEM_BYTES = 1 << 30
MAX_LINKS = 40                  # that lead to each other, as in a file system
_MAX_USER_BLOCK_BYTES = 1 << 20     # something else may stand before the HDF5 file
_WRITTEN, _SWMR = 1, 4          # flags of a file that a program has open
SHORT = "it ends before its content does: it was cut while it was written or copied; write or copy it again"
_ELSEWHERE = ("%s lies in another file, which workers do not follow: give that file itself, or copy it into this one "
              "(h5py: file.copy, with expand_external=True for a link)")


class Unreadable(ValueError):
    """The file's content is at fault. ``str(error)`` is a clause."""


class NoHDF5(Unreadable):
    """The file is of another format."""


class InUse(Unreadable):
    """A program writes the file."""


class OtherLibrary(Unreadable):
    """This h5py cannot open the file, and another one may."""


class MissingFilter(Unreadable):
    """This h5py lacks what the dataset was compressed with."""


class Watched:
    """The file as h5py reads it. ``error``: what reading it raised, which libraries between may turn into another."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Optional[BaseException] = None
        self.tell = file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except BaseException as error:
            self.error = error
            raise

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except BaseException as error:
            self.error = error
            raise
        buffer[:len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """h5py calls it, also of files that are only read."""


def library() -> Any:
    """h5py. Raises ImportError if it is not there."""
    return importlib.import_module("h5py")


def opened(file: Watched) -> Any:
    """The h5py.File of ``file``. Raises ImportError, Unreadable, and what reading the file raises."""
    h5py = library()
    begin, head = 0, b""
    while begin <= _MAX_USER_BLOCK_BYTES:
        file.seek(begin)
        head = file.read(12)
        if head.startswith(SIGNATURE) or len(head) < 12:
            break
        begin = begin * 2 or 512
    if len(head) < 12 or not head.startswith(SIGNATURE):
        raise NoHDF5("it is no HDF5 file")
    if head[8] >= 2 and head[11] & (_WRITTEN | _SWMR):
        raise InUse("a program has it open for writing, or did not close it: close it there first (h5clear -s "
                    "FILE, if that program was killed)")
    try:
        return h5py.File(file, "r")
    except Exception as error:
        raise_own(file, error)
        if "truncated" in str(error):
            raise Unreadable(SHORT) from error
        raise OtherLibrary("h5py %s with HDF5 %s cannot open it (%s): it is damaged, or needs a newer h5py" % (
            h5py.version.version, h5py.version.hdf5_version, one_line(error))) from error


def raise_own(file: Watched, error: BaseException) -> None:
    """Raises what reading the file raised, if that is behind ``error``."""
    cause, file.error = file.error, None
    if cause is not None:
        raise cause
    if isinstance(error, MemoryError):
        raise error


def one_line(error: BaseException) -> str:
    """The error's text, short."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def dataset_of(file: Any, name: str) -> Any:
    """The h5py.Dataset called ``name``. Raises Unreadable if there is none, or if it leads to another file."""
    h5py = library()
    shown = quoted(name)
    here, parts, links = h5py.h5g.open(file.id, b"/"), _parts(name.encode("utf-8", "surrogateescape")), 0
    if not parts:
        raise Unreadable("'/' is no dataset")
    while parts:
        if not isinstance(here, h5py.h5g.GroupID):
            raise Unreadable("it has no dataset %s" % shown)
        part, parts = parts[0], parts[1:]
        proxy = here.links          # it does not keep ``here`` alive
        if not proxy.exists(part):
            raise Unreadable("it has no dataset %s" % shown)
        kind = proxy.get_info(part).type
        if kind == h5py.h5l.TYPE_HARD:
            here = h5py.h5o.open(here, part)
            continue
        links += 1
        if kind != h5py.h5l.TYPE_SOFT:
            raise Unreadable(_ELSEWHERE % shown)
        if links > MAX_LINKS:
            raise Unreadable("the links at %s lead nowhere" % shown)
        target = proxy.get_val(part)
        parts = _parts(target) + parts
        if target.startswith(b"/"):
            here = h5py.h5g.open(file.id, b"/")
    if not isinstance(here, h5py.h5d.DatasetID):
        raise Unreadable("%s is a group, no dataset" % shown)
    plist = here.get_create_plist()
    if plist.get_external_count() or plist.get_layout() == getattr(h5py.h5d, "VIRTUAL", -1):
        raise Unreadable(_ELSEWHERE % shown)
    return h5py.Dataset(here)


def _parts(path: bytes) -> List[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def names_of(file: Any, most: int = 20) -> List[str]:
    """The names of the first datasets in the file, for a sentence."""
    h5py, found = library(), []     # type: Any, List[str]

    def note(name: Any) -> Optional[bool]:
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        try:
            dataset_of(file, text)
            found.append(text)
        except Unreadable:
            pass
        return True if len(found) == most else None

    h5py.h5o.visit(file.id, note)
    return found


def kind_of(dataset: Any) -> Tuple[str, Any]:
    """What an item of the dataset is: ("numbers", dtype), ("bytes", None) or ("text", None). Raises Unreadable."""
    dtype, shown = dataset.dtype, quoted(dataset.name)
    base = library().check_dtype(vlen=dtype)
    if base is None:
        if dtype.kind in "biuf":
            return "numbers", dtype
        if dtype.kind == "S" or dtype.kind == "V" and not (dtype.fields or dtype.subdtype):
            return "bytes", None
        raise Unreadable("%s has the dtype %.80s, and samples are numbers, bytes or texts: store each field as a "
                         "dataset of its own" % (shown, dtype))
    if len(dataset.shape) != 1:
        raise Unreadable("%s has the shape %s with items of any length, and its samples must be along its only side"
                         % (shown, list(dataset.shape)))
    if base in (str, bytes):
        return "text", None
    if np.dtype(base).kind not in "biuf":
        raise Unreadable("%s has items of any length of the dtype %.80s, and they must be numbers" % (shown, base))
    return ("bytes", None) if np.dtype(base).itemsize == 1 else ("numbers", np.dtype(base))


def check_item(dataset: Any) -> None:
    """Raises Unreadable if an item takes more memory than it may: itself, or the chunk that it lies in."""
    for shape in (dataset.shape[1:], dataset.chunks or ()):
        size_bytes = dataset.dtype.itemsize
        for side in shape:
            size_bytes *= side
        if size_bytes > MAX_ITEM_BYTES:
            raise Unreadable("a sample in %s, or the chunk that it lies in, has %d bytes, and it may have %d" % (
                quoted(dataset.name), size_bytes, MAX_ITEM_BYTES))


def item_of(file: Watched, dataset: Any, number: int) -> Union[bytes, "np.ndarray"]:
    """Item ``number`` along the first side of the dataset. Raises Unreadable, and what reading the file raises."""
    if not dataset.shape or not 0 <= number < dataset.shape[0]:
        raise Unreadable("%s has no item %d" % (quoted(dataset.name), number))
    kind, _ = kind_of(dataset)
    check_item(dataset)
    value = read(file, dataset, number)
    if kind == "numbers":
        return np.asarray(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if type(value) is bytes else bytes(value) if isinstance(value, bytes) else value.tobytes()


def read(file: Watched, dataset: Any, items: Any) -> Any:
    """``dataset[items]``. Raises Unreadable, and what reading the file raises."""
    try:
        return dataset[items]
    except Exception as error:
        raise_own(file, error)
        plist, available = dataset.id.get_create_plist(), library().h5z.filter_avail
        for number in range(plist.get_nfilters()):
            code, _, _, name = plist.get_filter(number)
            if not available(code):
                raise MissingFilter("%s is compressed with the filter %d (%s), which h5py lacks here: install it "
                                    "(hdf5plugin), or store the dataset without it" % (
                                        quoted(dataset.name), code, quoted(name.decode("utf-8", "replace")))) from error
        raise Unreadable("h5py cannot read %s, which is damaged" % quoted(dataset.name)) from error
