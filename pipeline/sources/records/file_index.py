"""FileIndex: where the samples of one record file are in it. A value; what makes one, keeps it and uses it is beside.

It takes 12 bytes for each part of a record, 4 for its label, and the packed columns that the user asks for.
"""

from typing import Any, BinaryIO, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

MISSING = 0xffffffff        # the length of a part that a record does not have


class Part(NamedTuple):
    """A named part of each record: the picture ``jpg`` of a tar, the array ``x`` of an npz file. ``dtype``, ``shape``:
    of raw numbers, as in ``storage.place.Place``. ``dataset``: read with h5py, by the record's number; its
    numbers have ``dtype`` and ``shape``, too."""
    name: str
    dtype: str = ""
    shape: Tuple[int, ...] = ()
    dataset: str = ""


class FileIndex(NamedTuple):
    """The n records of a file, in its order."""
    parts: Tuple[Part, ...]         # the first is the sample's own file
    offsets: "np.ndarray"           # int64 [n, parts]: bytes from the file's begin; the record's number with h5py
    lengths: "np.ndarray"           # uint32 [n, parts], bytes; MISSING: this record has no such part
    labels: "Optional[np.ndarray]" = None    # int64 [n]: numbers, or those of ``label_names``; None: no labels
    label_names: Tuple[str, ...] = ()        # of labels that are texts, in the order of their bytes
    columns: Tuple[str, ...] = ()   # what the user asked for beside the parts
    rows: bytes = b""               # msgpack: a list with a value for each column, for one record after the other
    row_ends: "Optional[np.ndarray]" = None  # int64 [n]: where each record's list ends in ``rows``; None: no columns
    remarks: Tuple[str, ...] = ()   # what was left out, each a clause without the file's name: "links are left out (3)"
    scalars: Tuple[bool, ...] = ()  # of each column: all records have one value, packed without a list around it. If
    #                                 others of the source's files have lists, these become lists, too. (): all stay
    absent: Tuple[str, ...] = ()    # parts and columns that no record of this file has: if no file has them, a mistake
    there: Tuple[str, ...] = ()     # what a record has instead, for people

    @property
    def size(self) -> int:
        """The number of records."""
        return len(self.offsets)


#: What makes the index of one file: (file, its size, the options of ``stoker.tfrecord`` and the like as plain values).
#: The file can seek, and reads what lies far away in large blocks. Raises DatasetError without the file's name.
Indexer = Callable[[BinaryIO, int, Dict[str, Any]], FileIndex]
