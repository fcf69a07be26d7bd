"""A file in a store as a seekable file of Python: what an index is made of, by code that reads any file.

Bytes come in pieces, which begin small and grow as long as one follows the other, and threads fetch the next ones
ahead. So a file is read at the speed of the line, and a look at a few headers costs little.
"""

import io
import os
from concurrent.futures import Future
from typing import Any, BinaryIO, List, NamedTuple, Optional, cast

from stoker.pipeline.storage.folder_store import FolderStore
from stoker.pipeline.storage.store import Damaged, Store, Version
from stoker.pipeline.storage.threads import Threads

MIN_PIECE_BYTES = 256 << 10
MAX_PIECE_BYTES = 4 << 20
PIECES_AHEAD = 3                # and so many threads; at most 20 MB of memory
_BUFFER_BYTES = 64 << 10


class _Piece(NamedTuple):
    start: int
    end: int
    data: "Future[bytes]"


def open_file(store: Store, path: str, ahead: int = PIECES_AHEAD) -> BinaryIO:
    """The file ``path`` of the store, opened for reading; it can seek, and is for one thread at a time. Its bytes are
    of one version, that of this moment. ``ahead``: pieces that are fetched ahead when it is read from piece to piece,
    by as many threads. Example: ``with open_file(store, "0.tar") as file: file.read(512)``.

    Raises StoreError, here and when it is read: Damaged if another version is there by then.
    """
    if isinstance(store, FolderStore):
        store.size(path)        # raises what the store raises
        return open(store.path_of(path), "rb", _BUFFER_BYTES)
    return cast(BinaryIO, io.BufferedReader(RemoteFile(store, path, ahead), _BUFFER_BYTES))


class RemoteFile(io.RawIOBase):
    """What ``open_file`` has a buffer around. ``version``: that of the file."""

    def __init__(self, store: Store, path: str, ahead: int = PIECES_AHEAD) -> None:
        super().__init__()
        self._threads: Optional[Threads] = None        # before the store is asked, which may raise
        self._store, self._path, self._ahead = store, path, ahead
        self.version: Version = store.size(path).version
        self._position = 0
        self._pieces: List[_Piece] = []         # in the order of their places, without gaps
        self._piece_bytes = MIN_PIECE_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.version.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the file's beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer).cast("B")
        if not wanted or self._position >= self.version.size:
            return 0
        piece = self._piece_at(self._position)
        try:
            data = memoryview(piece.data.result())
        except BaseException:
            self._forget()      # the next call asks again
            raise
        start = self._position - piece.start
        count = min(len(wanted), len(data) - start)
        wanted[:count] = data[start:start + count]
        self._position += count
        return count

    def _piece_at(self, position: int) -> _Piece:
        """The piece that has ``position``; from then on those before it are gone, and the next ones on their way."""
        passed = [piece for piece in self._pieces if piece.end <= position]
        kept = [piece for piece in self._pieces if piece.end > position]
        if kept and kept[0].start <= position:
            self._pieces = kept
            if passed:      # the next one was there
                self._add_ahead()
        else:
            follows = bool(passed) and passed[-1].end == position
            for piece in kept:
                piece.data.cancel()
            self._pieces = []
            if follows:
                self._piece_bytes = min(MAX_PIECE_BYTES, 2 * self._piece_bytes)
            else:
                self._piece_bytes = MIN_PIECE_BYTES
            self._add(position)
            if follows:
                self._add_ahead()
        return self._pieces[0]

    def _add_ahead(self) -> None:
        while len(self._pieces) <= self._ahead and self._pieces[-1].end < self.version.size:
            self._piece_bytes = min(MAX_PIECE_BYTES, 2 * self._piece_bytes)
            self._add(self._pieces[-1].end)

    def _add(self, start: int) -> None:
        if self._threads is None:
            self._threads = Threads(max(1, self._ahead))
        end = min(start + self._piece_bytes, self.version.size)
        self._pieces.append(_Piece(start, end, self._threads.submit(self._fetched, start, end - start)))

    def _fetched(self, start: int, length: int) -> bytes:
        data, version = self._store.read(self._path, start, length)
        if version != self.version:
            raise Damaged("%s/%s was replaced while it was read: let it be finished, and start again"
                          % (self._store.root, self._path))
        return data

    def close(self) -> None:
        """Ends the threads: each has at most one read under way, which it finishes by itself."""
        if self._threads is not None:
            self._forget()
            self._threads.close()
            self._threads = None
        super().close()

    def _forget(self) -> None:
        for piece in self._pieces:
            piece.data.cancel()
        self._pieces = []
