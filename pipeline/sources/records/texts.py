"""Texts of places, and hashes of records: what RecordSource makes of its numbers."""

from typing import Optional, Sequence

import numpy as np

from stoker.pipeline.sources.records.file_index import Part
from stoker.pipeline.storage.place import Place

#: Which of some records a checkpoint knows and the data has no more; None: none. Their places get the offset NOWHERE,
#: behind the end of any file: at their own ones, there may be something else by now.
Gone = Optional[Sequence[bool]]
NOWHERE = 1 << 39
_MULTIPLIER = np.uint64(0x9e3779b97f4a7c15)


def template(path: str, part: Part) -> str:
    """What makes the text of a place, of a pair: offset and length."""
    if part.dataset:
        text = str(Place("", 0, 0, "", (), part.dataset))
        return "%s//hdf5:%%d:%s%%.0s" % (_escaped(path), _escaped(text[len("//hdf5:0:"):]))
    tail = str(Place("", 0, 0, part.dtype, part.shape))[len("//0+0"):]
    return "%s//%%d+%%d%s" % (_escaped(path), _escaped(tail))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def head_bytes(count: int) -> int:
    """The bytes before the items of a packed list."""
    return 1 if count < 16 else 3 if count < 1 << 16 else 5


def mixed(hashes: "np.ndarray", values: "np.ndarray") -> "np.ndarray":
    """uint64 hashes that depend on ``values``, whole numbers, too."""
    product = (hashes ^ values.astype(np.uint64)) * _MULTIPLIER
    folded: np.ndarray = product ^ (product >> np.uint64(29))
    return folded
