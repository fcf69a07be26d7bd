"""A file in a store as a file of Python: the same bytes, few reads, bounded memory, one version."""

import random
import threading

import pytest

from stoker.pipeline.storage.folder_store import FolderStore
from stoker.pipeline.storage.remote_file import MAX_PIECE_BYTES, MIN_PIECE_BYTES, PIECES_AHEAD, open_file
from stoker.pipeline.storage.store import Damaged, Entry, Unavailable, remote_version

CONTENT = bytes(bytearray(random.Random(1).randrange(256) for _ in range(1 << 16))) * 400        # 26 MB


class MemoryStore:
    root = "s3://bucket"

    def __init__(self, content=CONTENT):
        self.content, self.etag, self.reads, self.fails = content, "1", [], 0

    def size(self, path):
        return Entry(path, remote_version(len(self.content), self.etag))

    def read(self, path, offset=0, length=None, max_bytes=1 << 30):
        self.reads.append((offset, length))
        if self.fails:
            self.fails -= 1
            raise Unavailable("away")
        return self.content[offset:offset + length], remote_version(len(self.content), self.etag)


def test_from_beginning_to_end():
    store = MemoryStore()
    with open_file(store, "a.tar") as file:
        pieces = list(iter(lambda: file.read(100000), b""))
    assert b"".join(pieces) == CONTENT
    assert sorted(store.reads)[0] == (0, MIN_PIECE_BYTES)
    assert max(length for _, length in store.reads) == MAX_PIECE_BYTES
    assert sum(length for _, length in store.reads) == len(CONTENT), "each byte once"
    assert len(store.reads) < 16


def test_jumps():
    store, draw = MemoryStore(), random.Random(2)
    with open_file(store, "a.tar") as file:
        for _ in range(200):
            offset, length = draw.randrange(len(CONTENT) + 10), draw.randrange(1, 9000)
            if draw.random() < 0.6:
                offset = min(file.tell() + draw.randrange(70000), len(CONTENT))
            assert file.seek(offset) == offset
            assert file.read(length) == CONTENT[offset:offset + length]
        assert file.seek(-7, 2) == len(CONTENT) - 7
        assert file.read() == CONTENT[-7:]
        assert file.seek(5) == 5 and file.seek(3, 1) == 8 and file.read(2) == CONTENT[8:10]
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


def test_a_look_at_a_header_costs_one_small_read():
    store = MemoryStore()
    with open_file(store, "a.tar") as file:
        file.read(512)
        file.seek(10 << 20)
        file.read(512)
    assert store.reads == [(0, MIN_PIECE_BYTES), (10 << 20, MIN_PIECE_BYTES)]


def test_memory_is_bounded():
    store = MemoryStore(bytes(1 << 28))
    with open_file(store, "a.tar") as file:
        for _ in range(1000):
            file.read(100000)
            held = sum(piece.end - piece.start for piece in file.raw._pieces)
            assert held <= (PIECES_AHEAD + 1) * MAX_PIECE_BYTES


def test_another_version_is_damage():
    store = MemoryStore()
    with open_file(store, "a.tar") as file:
        file.read(10)
        store.etag = "2"
        file.seek(10 << 20)
        with pytest.raises(Damaged) as caught:
            file.read(10)
    assert "s3://bucket/a.tar was replaced" in str(caught.value)


def test_a_failed_read_is_asked_again_by_the_next_call():
    store = MemoryStore()
    with open_file(store, "a.tar") as file:
        store.fails = 1
        with pytest.raises(Unavailable):
            file.read(10)
        assert file.read(10) == CONTENT[:10]


def test_an_empty_file():
    with open_file(MemoryStore(b""), "a.tar") as file:
        assert file.read() == b"" and file.read(1) == b""


def test_a_file_of_a_folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(CONTENT[:1000])
    with open_file(FolderStore(str(tmp_path)), "a.tar") as file:
        assert file.read(1000) == CONTENT[:1000]


def test_a_read_under_way_does_not_hold_up_the_end_of_the_process():
    store, gate, began = MemoryStore(), threading.Event(), threading.Event()
    read, store_read = [], store.read

    def slow(*arguments):
        read.append(threading.current_thread())
        began.set()
        gate.wait(10)
        return store_read(*arguments)
    store.read = slow
    file = open_file(store, "a.tar")
    reader = threading.Thread(target=file.read, args=(1,))
    reader.start()
    assert began.wait(10)
    assert read[0].daemon, "Python waits for no such thread"
    gate.set()
    reader.join(10)
    file.close()
