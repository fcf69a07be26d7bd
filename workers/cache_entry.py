"""The format of a cache entry, and the name of the file that holds the entries of one kind.

An entry is a head, a checksum and the pixels. The head begins with the entry's key, a hash of the sample's path, and
identifies the file that was decoded. An entry counts only while the file at that path still has the same head. (Any
change of a file also changes its ctime, which no program can set.)
"""

import functools
import hashlib
import os
import struct
import zlib
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from stoker.pipeline.storage.folder import SamplePath
from stoker.pipeline.storage.store import Version
from stoker.workers import deep, images, jpeg, raw

FORMAT = 2           # increase it with every change of an entry's format
KEY_BYTES = 16
_HEAD = struct.Struct("<%dsQQQQQ" % KEY_BYTES)   # key; size, mtime_ns, ctime_ns, inode and device of the decoded file
_HEAD_OF_FILE = struct.Struct("<%dsQqqQQ" % KEY_BYTES)     # the same bytes, of times from 1677 to 2262
_CHECKSUM = struct.Struct("<Q")                  # ``checksum`` of head and pixels
_HEAD_AND_CHECKSUM = struct.Struct("<%dsQ" % _HEAD.size)
_PIXELS_BEGIN = _HEAD.size + _CHECKSUM.size
_BLOCK_WORDS = 4096
_GROUP_BYTES = 128 << 10     # of pixels that are copied before they are summed up: they are still in the CPU's cache
_MOST = (1 << 64) - 1
_WRONG = "an entry has another checksum"
_ODD = 0x9E3779B97F4A7C15


def head_of(path: bytes, version: Version) -> bytes:
    """The head of the sample at ``path``, a SamplePath, whose file has this version."""
    marks = [mark & _MOST for mark in version.marks]        # times may be negative
    return _HEAD.pack(key_of(path), version.size, *marks)


def head_of_file(key: bytes, status: os.stat_result) -> bytes:
    """The head of the sample with this key, whose file, one of this host, has this status: ``head_of`` its version."""
    try:
        return _HEAD_OF_FILE.pack(key, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
                                  status.st_dev)
    except struct.error:
        return _HEAD.pack(key, *[mark & _MOST for mark in (status.st_size, status.st_mtime_ns, status.st_ctime_ns,
                                                           status.st_ino, status.st_dev)])


def key_of(path: bytes) -> bytes:
    """The first KEY_BYTES of a head, which are the same for all versions of the file."""
    whole = path.key if isinstance(path, SamplePath) and path.place is not None else path
    return hashlib.blake2b(whole, digest_size=KEY_BYTES).digest()


def checksum(head: bytes, pixels: "np.ndarray") -> int:
    """64 bits that depend on all of ``head`` and ``pixels``, uint8 [n] and contiguous: products with odd numbers, added
    up, of which no change of eight bytes that lie together leaves the sum as it is. Three times as fast as a CRC."""
    whole = len(pixels) & -8
    rest = zlib.crc32(pixels[whole:], zlib.crc32(head))
    return (_sums(pixels[:whole].view(np.uint64).reshape(1, -1))[0] + _ODD * rest) & _MOST


def _checksums(heads: Sequence[bytes], rows: "np.ndarray") -> List[int]:
    """``checksum`` of each of ``rows``, uint8 [n, size] and contiguous, with its head."""
    if rows.shape[1] % 8:
        return [checksum(head, row) for head, row in zip(heads, rows)]
    return [(words + _ODD * zlib.crc32(head)) & _MOST for head, words in zip(heads, _sums(rows.view(np.uint64)))]


def _sums(words: "np.ndarray", level: int = 0) -> List[int]:
    """Of each row of ``words``, [n, count]."""
    factors, count = _factors()[min(level, 1)], words.shape[1]
    if count <= _BLOCK_WORDS:
        sums: List[int] = np.dot(words, factors[:count]).tolist()
        return sums
    whole = count - count % _BLOCK_WORDS
    blocks = np.dot(words[:, :whole].reshape(len(words), -1, _BLOCK_WORDS), factors)
    rest = np.dot(words[:, whole:], factors[:count - whole])
    return _sums(np.concatenate((blocks, rest[:, np.newaxis]), axis=1), level + 1)


@functools.lru_cache(maxsize=1)
def _factors() -> "np.ndarray":
    """Odd numbers [2, _BLOCK_WORDS], the same in each process: for words, and for sums of blocks."""
    number = np.arange(1, 2 * _BLOCK_WORDS + 1, dtype=np.uint64) * np.uint64(_ODD)
    for shift in (30, 27, 31):
        number = (number ^ number >> np.uint64(shift)) * np.uint64(0xBF58476D1CE4E5B9)
    odd: "np.ndarray" = (number | np.uint64(1)).reshape(2, _BLOCK_WORDS)
    return odd


def encode(head: bytes, pixels: bytes) -> bytes:
    return b"".join((head, _CHECKSUM.pack(checksum(head, np.frombuffer(pixels, np.uint8))), pixels))


def decode(entry: Any, head: bytes, out: np.ndarray) -> bool:
    """Copies the pixels of ``entry`` (bytes or a buffer) into ``out``, uint8 and C-contiguous; False if its head or its
    size is another. Raises ValueError if its checksum is wrong; ``out`` then holds arbitrary bytes."""
    if len(entry) != _PIXELS_BEGIN + out.nbytes or entry[:_HEAD.size] != head:
        return False
    copied = out.reshape(-1)
    copied[:] = np.frombuffer(entry, np.uint8, -1, _PIXELS_BEGIN)
    _check(entry, head, copied)
    return True


def decode_all(wanted: Sequence[Tuple[int, Any, bytes]], out: np.ndarray) -> List[int]:
    """``decode`` of several entries: of each its place in ``out``, uint8 [n, ...] and C-contiguous, and its head. They
    are in the order of their places. Returns the places that have their pixels now; the others, where the head or the
    size is another, are as before. Raises ValueError if a checksum is wrong; ``out`` then holds arbitrary bytes."""
    rows = out.reshape(len(out), -1)
    flat, row_bytes, copied = memoryview(out.reshape(-1)), rows.shape[1], []
    size_bytes, step = _PIXELS_BEGIN + row_bytes, max(1, _GROUP_BYTES // row_bytes)
    for begin in range(0, len(wanted), step):
        places, heads, checksums = [], [], []
        for place, entry, head in wanted[begin:begin + step]:
            if len(entry) != size_bytes:
                continue
            found, its_checksum = _HEAD_AND_CHECKSUM.unpack_from(entry)
            if found == head:
                flat[place * row_bytes:(place + 1) * row_bytes] = entry[_PIXELS_BEGIN:]
                places.append(place)
                heads.append(head)
                checksums.append(its_checksum)
        if places:
            are_neighbours = places[-1] - places[0] == len(places) - 1
            if _checksums(heads, rows[places[0]:places[-1] + 1] if are_neighbours else rows[places]) != checksums:
                raise ValueError(_WRONG)
            copied += places
    return copied


def content_of(entry: Any, head: bytes) -> Optional[bytes]:
    """The bytes of an entry that holds a file's own; None if its head is another. Raises ValueError if its checksum is
    wrong."""
    if entry[:_HEAD.size] != head or len(entry) < _PIXELS_BEGIN:
        return None
    content = bytes(entry[_PIXELS_BEGIN:])
    _check(entry, head, np.frombuffer(content, np.uint8))
    return content


def _check(entry: Any, head: bytes, pixels: "np.ndarray") -> None:
    if checksum(head, pixels) != _CHECKSUM.unpack_from(entry, _HEAD.size)[0]:
        raise ValueError(_WRONG)


@functools.lru_cache(maxsize=1)
def bytes_name() -> str:
    """The name of the file for the bytes of files, whatever is made of them. Raises ImportError without lmdb."""
    import lmdb
    digest = hashlib.blake2b(repr((FORMAT, lmdb.version())).encode(), digest_size=8).hexdigest()
    return "bytes-%s.lmdb" % digest


@functools.lru_cache(maxsize=4)
def file_name(size: Tuple[int, int], decode: str, exif_rotate: bool, limits: Tuple[Any, ...] = ()) -> str:
    """The name of the file for pictures of ``size`` (height, width), decoded in this way. ``limits``: those of PIL that
    are in force (``limits.in_force``): a picture that is bad by default must not be found by default. Raises OSError.
    """
    kind = repr((FORMAT, size, decode, exif_rotate) + limits).encode()
    digest = hashlib.blake2b(kind + decoder_digest(), digest_size=8).hexdigest()
    return "%dx%d-%s%s-%s.lmdb" % (size[0], size[1], decode, "-rotated" * exif_rotate, digest)


@functools.lru_cache(maxsize=1)
def decoder_digest() -> bytes:
    """A hash of all that pixels depend on besides the job: Stoker's code, Pillow's (pillow-simd's differs) and the
    libraries in it. Also of LMDB's version: it may not read the file of another. Raises OSError."""
    import lmdb
    from PIL import _imaging, features
    digest = hashlib.blake2b()
    for path in (images.__file__, deep.__file__, jpeg.__file__, raw.__file__, _imaging.__file__):
        with open(path, "rb") as code:
            digest.update(code.read())
    libraries = ("pil", "jpg", "libjpeg_turbo", "webp", "libtiff", "zlib")
    digest.update(repr([features.version(name) for name in libraries] + [lmdb.version()]).encode())
    return digest.digest()
