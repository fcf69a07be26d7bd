"""Packs values as msgpack. A packer is kept for each thread: to make one costs as much as to pack a lease."""

import threading
from typing import Any, Callable

import msgpack

KEPT_BYTES = 1 << 20        # a packer never gives memory back, so one that packed more is not kept

_KEPT = threading.local()


def pack(value: Any, default: Callable[[Any], Any]) -> bytes:      # Any: whatever msgpack or ``default`` know
    """``value`` as bytes. ``default``: what to pack in place of a value that msgpack does not know; the same function
    each time."""
    try:
        packer = _KEPT.packer
    except AttributeError:
        packer = _KEPT.packer = msgpack.Packer(default=default, use_bin_type=True, unicode_errors="surrogateescape")
    packed: bytes = packer.pack(value)
    if len(packed) > KEPT_BYTES:
        del _KEPT.packer
    return packed
