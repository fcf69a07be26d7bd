"""Packs values as msgpack. Packers are used again: to make one costs as much as to pack a lease."""

from typing import Any, Callable, List

import msgpack

KEPT_BYTES = 1 << 20        # a packer never gives memory back, so one that packed more is not used again

_FREE: List[msgpack.Packer] = []      # each packer is in use by one thread at a time


def pack(value: Any, default: Callable[[Any], Any]) -> bytes:      # Any: whatever msgpack or ``default`` know
    """``value`` as bytes. ``default``: what to pack in place of a value that msgpack does not know; the same function
    each time."""
    try:
        packer = _FREE.pop()
    except IndexError:
        packer = msgpack.Packer(default=default, use_bin_type=True, unicode_errors="surrogateescape")
    packed: bytes = packer.pack(value)
    if len(packed) <= KEPT_BYTES:
        _FREE.append(packer)
    return packed
