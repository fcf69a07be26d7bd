"""Zip files: the places of stored entries, what is refused, and directories that lie."""

import io
import struct
import zipfile

import msgpack
import numpy as np
import pytest

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records import zip as zip_index
from stoker.pipeline.sources.records import zip_directory


def zip_of(entries, compression=zipfile.ZIP_STORED, comment=b"", zip64=False):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as file:
        for name, content in entries:
            if zip64:
                with file.open(name, "w", force_zip64=True) as entry:
                    entry.write(content)
            else:
                file.writestr(name, content)
        file.comment = comment
    return made.getvalue()


def index_of(data, **options):
    return zip_index.index(io.BytesIO(data), len(data), options)


def contents(data, index):
    return [data[offset:offset + length] for offset, length in zip(index.offsets[:, 0].tolist(),
                                                                   index.lengths[:, 0].tolist())]


TREE = [("dog/", b""), ("dog/1.2.jpg", b"one"), ("dog/3.png", b"three"), ("dog/notes.txt", b""),
        ("cat/4.JPG", b"four!"), ("cat/.x.jpg", b""), ("__MACOSX/cat/._4.JPG", b""), ("5.jpg", b"")]


@pytest.mark.parametrize("options", [{}, {"comment": b"hello PK\5\7" * 1000}, {"zip64": True}])
def test_a_tree_of_class_folders(options):
    data = zip_of(TREE, **options)
    index = index_of(data, columns=["__key__"])
    assert [part.name for part in index.parts] == ["image"] and contents(data, index) == [b"one", b"three", b"four!"]
    assert index.label_names == ("cat", "dog") and index.labels.tolist() == [1, 1, 0]
    assert msgpack.unpackb(index.rows[:index.row_ends[0]], raw=False) == ["dog/1.2.jpg"]
    assert index.remarks == (
        "members that are no pictures by their names are left out (1)",
        "pictures that lie in no class folder are left out (1)")
    assert index_of(zip_of([])).size == 0
    behind = b"#!/bin/sh\n" * 100 + data                       # a program that unpacks itself
    assert contents(behind, index_of(behind)) == [b"one", b"three", b"four!"]


def test_samples_as_in_a_tar():
    data = zip_of([("a.jpg", b"1"), ("a.cls", b"7"), ("b.jpg", b"22"), ("b.cls", b"8"), ("b.json", b"{}")])
    index = index_of(data, label="cls")
    assert contents(data, index) == [b"1", b"22"] and index.labels.tolist() == [7, 8]
    assert [part.name for part in index.parts] == ["jpg", "json"]
    assert index_of(data, label=None).labels is None


def test_an_entry_that_was_streamed_has_its_sizes_behind_it():
    class Stream(io.RawIOBase):
        def __init__(self):
            super().__init__()
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a/1.jpg", b"one")
        file.writestr("a/2.jpg", b"two")
    assert contents(stream.data, index_of(stream.data)) == [b"one", b"two"]


def test_names():
    data = zip_of([("süß/1.jpg", b"1")])
    assert index_of(data).label_names == ("süß",)
    without_flag = data.replace(struct.pack("<H", 0x800), struct.pack("<H", 0))
    assert index_of(without_flag).label_names == ("süß",)
    old = without_flag.replace("süß".encode(), b"s\x81\xe1..")
    assert index_of(old).label_names == ("süß..",)                  # of DOS


def encrypted(data):
    return data.replace(b"PK\1\2\x14\x03\x14\x00\x00", b"PK\1\2\x14\x03\x14\x00\x01")


def changed(data, mark, at, *values, format="<L"):
    """``data`` with other numbers behind the last ``mark``."""
    place = data.rindex(mark) + at
    packed = b"".join(struct.pack(format, value) for value in values)
    return data[:place] + packed + data[place + len(packed):]


ZIP = zip_of([("a/1.jpg", b"one"), ("a/2.jpg", b"two")])
END, ENTRY, LOCAL = b"PK\5\6", b"PK\1\2", b"PK\3\4"


@pytest.mark.parametrize("data, message", [
    (b"", "it is no zip file"), (b"x" * 1000, "it is no zip file"),
    (ZIP[:-30], "it is a zip file without its directory, which stands at the end: it was cut"),
    (zip_of([("a/1.jpg", b"x" * 99)], zipfile.ZIP_DEFLATED),
     r"'a/1.jpg' is compressed \(deflate\), .*unpack the file \(unzip\).*\(zip -0 -r NEW.zip FOLDER\).*stoker-pack"),
    (encrypted(ZIP), "the entry 'a/.*' is encrypted, and workers have no password"),
    (ZIP + ZIP[:-60], "there are bytes behind the end of the zip file at byte 208, as if several were joined"),
    (changed(ZIP, END, 4, 1), "a part of a zip file in several parts"),
    (changed(ZIP, END, 8, 3, 3, format="<H"), "its directory of 3 entries in 106 bytes from byte 80"),
    (changed(ZIP, END, 8, 1, 1, format="<H"), "its directory has more than its 1 entries"),
    (changed(ZIP, END, 8, 60000, 60000, format="<H"), "its directory of 60000 entries in 106 bytes"),
    (changed(ZIP, END, 12, 5), "does not fit|is damaged"),
    (changed(ZIP, END, 12, 0xffffffff), "does not fit"),
    (changed(ZIP, END, 16, 0xffffffff), "does not fit"),
    (changed(ZIP, ENTRY, 42, 0xfffffffe), "'a/2.jpg' begins at byte 4294967294, where the file has no entries"),
    (changed(ZIP, ENTRY, 42, 0), "the header of the entry 'a/2.jpg', at byte 0, names another entry"),
    (changed(ZIP, ENTRY, 42, 1), "the header of the entry 'a/2.jpg', at byte 1, is damaged"),
    (changed(ZIP, ENTRY, 20, 1 << 20, 1 << 20), "'a/2.jpg' has 1048576 bytes from byte 77 on, and its directory"),
    (changed(ZIP, ENTRY, 20, 3, 2), "has 2 bytes from byte 77 on"),
    (changed(ZIP, ENTRY, 28, 65000, format="<H"), "entry 1 of its directory, at byte 133, is damaged"),
    (changed(ZIP, LOCAL, 26, 65000, format="<H"), "the header of the entry 'a/2.jpg', at byte 40, names another"),
    (changed(ZIP, LOCAL, 28, 65000, format="<H"), "'a/2.jpg' has 3 bytes from byte 65077 on"),
    (zip_of([("a/1.jpg", b"1"), ("b/1.jpg", b"1"), ("a/./1.jpg", b"1")]).replace(b"a/./1.jpg", b"././a/1.jpg"[2:]),
     "the member './a/1.jpg' is there twice")], ids=lambda value: value[:40] if isinstance(value, str) else "file")
def test_files_that_are_refused(data, message):
    with pytest.raises(DatasetError, match=message):
        index_of(data)


def test_a_directory_is_read_in_pieces(monkeypatch):
    entries = [("c%d/%d.jpg" % (number % 3, number), b"x" * number) for number in range(300)]
    data = zip_of(entries)
    monkeypatch.setattr(zip_directory, "_PIECE_BYTES", 100)
    index = index_of(data)
    assert contents(data, index) == [content for _, content in entries]
    assert index.labels.tolist() == [number % 3 for number in range(300)]


def test_a_zip_that_is_cut_anywhere_or_has_a_changed_byte():
    """It is refused, or gives an index whose places lie in the file; and no other error."""
    data = zip_of([("a/%d.jpg" % number, b"x" * number) for number in range(5)], zip64=True)
    whole = index_of(data)
    for length in range(len(data)):
        with pytest.raises(DatasetError):
            index_of(data[:length])
    random, refused = np.random.RandomState(1), 0
    for _ in range(1000):
        torn = bytearray(data)
        for place in random.randint(0, len(data), 1 + random.randint(3)):
            torn[place] = random.randint(256)
        try:
            index = index_of(bytes(torn))
        except DatasetError:
            refused += 1
            continue
        assert index.offsets.min() >= 0 and (index.offsets + index.lengths).max() <= whole.offsets.max() + 200
    assert 200 < refused < 1000
