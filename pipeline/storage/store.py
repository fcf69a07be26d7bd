"""Stores: where bytes come from. A folder is one, and so are a bucket and a web server.

A store has three operations, ``listed``, ``size`` and ``read``, on paths below its root with '/' between their parts.
All stores fail alike, in five ways, and what they are worth is decided by those who ask:

- ``Gone``: there is no such file. A sample without its file is bad.
- ``Refused``: this host may not read it. No file is bad; the worker cannot do the job, and a trainer cannot start.
- ``Damaged``: the answer cannot be right, such as too few bytes, on every try. ``TooShort``: the file ends before the
  bytes that were asked for, and so a record that should be there is bad.
- ``TooLarge``: it has more than the caller takes.
- ``Unavailable``: no answer, or one that asks to try later, until the time for tries was over. The step fails, and is
  tried elsewhere.
"""

import hashlib
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Optional, Tuple

MAX_READ_BYTES = 1 << 30    # at a time, unless the caller says something else

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class StoreError(Exception):
    """``str(error)`` is a sentence of one line: what was asked of which store, what came, and what to do."""


class Gone(StoreError):
    """There is no such file."""


class Refused(StoreError):
    """This host may not read it: no credentials, wrong or expired ones, or no right."""


class Damaged(StoreError):
    """The answer is wrong on each try."""


class TooShort(Damaged):
    """The file ends before the bytes that were asked for."""


class TooLarge(StoreError):
    """The file has more bytes than the caller takes."""


class Unavailable(StoreError, OSError):
    """No answer, or one that asks to try later."""


class Version(NamedTuple):
    """What a file was when it was read: another version may have other bytes. For a local file (size, mtime_ns,
    ctime_ns, inode, device); for others the size, and hashes of what the store says of it."""
    size: int
    marks: Tuple[int, int, int, int]


def remote_version(size: int, *facts: Any) -> Version:
    """The version of a file in a store that says ``facts`` of it."""
    digest = hashlib.blake2b(repr(facts).encode("utf-8", "backslashreplace"), digest_size=32).digest()
    words = [int.from_bytes(digest[start:start + 8], "little") for start in range(0, 32, 8)]
    return Version(size, (words[0], words[1], words[2], words[3]))


def etag_version(size: int, etag: Optional[str], changed: Any = None) -> Version:
    """The version of a file by its etag, which not all servers put into quotes everywhere; without one, by the time of
    its last change."""
    bare = (etag or "").strip()
    bare = (bare[2:] if bare.startswith("W/") else bare).strip('"')
    return remote_version(size, bare, "" if bare else str(changed or ""))


class Entry(NamedTuple):
    """A file in a store."""
    path: str
    version: Version


class Store(Protocol):
    """Files below a root, to be read by several threads at once."""

    @property
    def root(self) -> str:
        """The absolute folder, or the URL without '/' at its end."""

    def listed(self, prefix: str = "") -> Iterator[Entry]:
        """All files whose path begins with ``prefix``, in the order of their paths' bytes. Raises StoreError."""

    def size(self, path: str) -> Entry:
        """What there is at ``path``. Raises StoreError."""

    def read(self, path: str, offset: int = 0, length: Optional[int] = None, max_bytes: int = MAX_READ_BYTES
             ) -> Tuple[bytes, Version]:
        """``length`` bytes from ``offset`` on (None: to the end), and the version that they are of. Exactly as many, or
        it raises: TooShort if the file ends before, TooLarge, before it takes memory, if they are more than
        ``max_bytes``. Raises StoreError."""
