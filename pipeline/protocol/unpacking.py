"""Unpacks msgpack from a peer: whatever the bytes are, a value or an error, and no memory that is never freed."""

import re
from typing import Any

import msgpack
import msgpack.fallback

from stoker.pipeline.arrays import Buffer

LONG_BYTES = 1 << 20           # a longer header is not read by msgpack's slower unpacker
#: Bytes that are a msgpack timestamp, or that look like one in the middle of a text or number.
_TIMESTAMP = re.compile(b"[\xd4-\xd8]\xff|\xc7.\xff|\xc8..\xff|\xc9....\xff", re.DOTALL)
_LEAKS = msgpack.version < (1, 2)      # see unpack
HARMLESS_BYTES = 4096          # whatever lengths a shorter header claims, they take 20 MB for a moment at most


def unpack(header: Buffer, may_leak: bool) -> Any:    # whatever the bytes mean to msgpack
    """The value of a header. When msgpack below 1.2 (the last for Python 3.6 is 1.0.5) fails to unpack a value, it
    never frees the lists inside (its pull request 671). So nothing is built here until unpacking is sure to succeed.
    ``may_leak``: except in a long lease, for which the slower unpacker needs many seconds: it has no timestamp."""
    if _LEAKS or len(header) > HARMLESS_BYTES:
        size = len(header) or 1
        unpacker = msgpack.Unpacker(max_buffer_size=size, read_size=size)
        unpacker.feed(header)
        unpacker.skip()                          # complete, and not nested too deep; builds nothing
        if unpacker.tell() != len(header):
            raise ValueError("more than one value")
    options = dict(raw=False, use_list=True, unicode_errors="surrogateescape", strict_map_key=False,
                   object_pairs_hook=tuple,      # no message has maps; any key is possible in a tuple
                   ext_hook=lambda code, data: None)     # no message has extensions; a negative code would be an error
    if not _LEAKS or not _TIMESTAMP.search(header):
        return msgpack.unpackb(header, **options)
    if len(header) > LONG_BYTES:
        if may_leak:
            return msgpack.unpackb(header, **options)
        raise ValueError("may hold a timestamp")
    return msgpack.fallback.unpackb(header, **options)     # slower, but frees everything
