"""Tar files: where each member's bytes are, how members make samples, and a sentence for all that cannot be read."""

import bz2
import gzip
import io
import lzma
import tarfile

import msgpack
import numpy as np
import pytest

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records import tar
from stoker.pipeline.sources.records.file_index import MISSING


def tar_of(members, format=tarfile.GNU_FORMAT, **info):
    """A tar of (name, content) or TarInfo objects."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
                continue
            header = tarfile.TarInfo(member[0])
            header.size = len(member[1])
            file.addfile(header, io.BytesIO(member[1]))
    return made.getvalue()


def index_of(data, **options):
    return tar.index(io.BytesIO(data), len(data), options)


def contents(data, index, part=0):
    """The bytes of one part of all samples."""
    return [None if length == MISSING else data[offset:offset + length]
            for offset, length in zip(index.offsets[:, part].tolist(), index.lengths[:, part].tolist())]


def rows_of(index):
    ends = [0] + index.row_ends.tolist()
    return [msgpack.unpackb(index.rows[begin:end], raw=False) for begin, end in zip(ends, ends[1:])]


def names(index):
    return [part.name for part in index.parts]


def special(name, kind, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


WEBDATASET = [("a/7.jpg", b"seven"), ("a/7.cls", b"7"), ("a/8.jpg", b"eight!"), ("a/8.cls", b"8\n")]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_of_webdataset(format):
    data = tar_of(WEBDATASET, format)
    index = index_of(data)
    assert names(index) == ["jpg"] and index.size == 2 and contents(data, index) == [b"seven", b"eight!"]
    assert index.labels.tolist() == [7, 8] and index.label_names == () and index.remarks == ()
    assert index.offsets.dtype == np.int64 and index.lengths.dtype == np.uint32 and index.columns == ()


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_other_letters(format):
    long = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 90
    data = tar_of([(long + ".jpg", b"1"), (long + ".cls", b"3"), ("süß/ü.JPG", b"22"), ("süß/ü.Cls", b"4")], format)
    index = index_of(data, columns=["__key__"])
    assert contents(data, index) == [b"1", b"22"] and index.labels.tolist() == [3, 4]
    assert rows_of(index) == [[long], ["süß/ü"]]


def test_other_members_are_parts_and_columns_are_values():
    data = tar_of([("x.jpg", b"picture"), ("x.seg.png", b"mask"), ("x.json", b'{"boxes": [[1, 2.5]], "b": null}'),
                   ("x.txt", "ä".encode()), ("x.id", b"12"), ("x.bin", b"\0\1"),
                   ("y.jpg", b"other"), ("y.json", b"{}")])
    index = index_of(data)
    assert names(index) == ["jpg", "seg.png", "json", "txt", "id", "bin"] and index.labels is None
    assert contents(data, index, 1) == [b"mask", None] and index.lengths[1].tolist() == [5, MISSING, 2] + 3 * [MISSING]
    index = index_of(data, columns=["__key__", "json", "txt", "id", "bin", "boxes"], label=None)
    assert names(index) == ["jpg", "seg.png"]
    assert rows_of(index) == [["x", {"boxes": [[1, 2.5]], "b": None}, "ä", 12, b"\0\1", [[1, 2.5]]],
                              ["y", {}, None, None, None, None]]
    assert index_of(data, image="seg.png;jpg").lengths[:, 0].tolist() == [4, 5]
    assert names(index_of(data, image=".SEG.png"))[0] == "seg.png"


def test_pictures_of_several_formats():
    data = tar_of([("a.png", b"1"), ("a.cls", b"0"), ("b.jpg", b"22"), ("b.cls", b"1"), ("c.jpg", b"333"),
                   ("c.png", b"4444"), ("c.cls", b"0")])
    index = index_of(data)
    assert names(index) == ["image", "png"] and contents(data, index) == [b"1", b"22", b"333"]
    assert contents(data, index, 1) == [None, None, b"4444"]


def test_samples_without_a_picture():
    data = tar_of([("README.txt", b"hello"), ("a.jpg", b"1"), ("a.cls", b"5"), ("b.cls", b"6")])
    index = index_of(data, columns=["__key__"])
    assert contents(data, index) == [b"1"] and index.labels.tolist() == [5] and rows_of(index) == [["a"]]
    assert index.remarks == ("samples without a picture are left out (2)",)
    features = index_of(tar_of([("a.cls", b"5"), ("a.npy", b"1"), ("b.npy", b"2"), ("b.cls", b"6")]))
    assert names(features) == ["npy"] and features.labels.tolist() == [5, 6]
    with pytest.raises(DatasetError, match="no sample has a member with the extension 'webp': there are cls, jpg, txt"):
        index_of(data, image="webp")


def test_labels_that_are_texts():
    data = tar_of([("a.jpg", b""), ("a.cls", b"dog"), ("b.jpg", b""), ("b.cls", b" cat\n"), ("c.jpg", b""),
                   ("c.cls", b"7")])
    index = index_of(data)
    assert index.label_names == ("7", "cat", "dog") and index.labels.tolist() == [2, 1, 0]
    assert index_of(data, label=None).labels is None
    assert names(index_of(data, label=None)) == ["jpg", "cls"]
    for content, message in ((b"", "neither a whole number nor a short text"), (b"x" * 1001, "nor a short text"),
                             (b"\xff", "nor a short text"), (b"-1", "the label -1 is below 0")):
        with pytest.raises(DatasetError, match=message):
            index_of(tar_of([("a.jpg", b""), ("a.cls", content)]))
    with pytest.raises(DatasetError, match="1 of its 2 samples have no label, such as 'b': it has no member .cls"):
        index_of(tar_of([("a.jpg", b""), ("a.cls", b"1"), ("b.jpg", b"")]))
    with pytest.raises(DatasetError, match="2 of its 2 samples have no label, such as 'a': it has no member .y"):
        index_of(tar_of([("a.jpg", b""), ("b.jpg", b"")]), label="y")


def test_a_tree_of_class_folders():
    data = tar_of([("./top/", b""), ("./top/dog/1.2.jpg", b"1"), ("./top/dog/1.2.png", b"22"),
                   ("top/cat/x/3.JPEG", b"3"), ("top/cat/notes.txt", b""), ("top/4.jpg", b""),
                   ("top/.hidden/5.jpg", b""), ("top/dog/._6.jpg", b""),
                   ("__MACOSX/dog/7.jpg", b""), ("other/8.jpg", b"88")])
    index = index_of(data, label="folder", folder="top/", columns=["__key__"])
    assert names(index) == ["image"] and contents(data, index) == [b"1", b"22", b"3"]
    assert index.label_names == ("cat", "dog") and index.labels.tolist() == [1, 1, 0]
    assert rows_of(index) == [["dog/1.2.jpg"], ["dog/1.2.png"], ["cat/x/3.JPEG"]]
    assert index.remarks == (
        "members that are no pictures by their names are left out (1)",
        "pictures that lie in no class folder are left out (1)")
    assert index_of(data, label="folder").label_names == ("other", "top")
    assert contents(data, index_of(data, label="folder", image="jpg;jpeg")) == [b"1", b"3", b"", b"88"]


def test_links_and_devices_are_left_out():
    data = tar_of([("a.jpg", b"1"), special("b.jpg", tarfile.SYMTYPE, linkname="a.jpg"),
                   special("c.jpg", tarfile.LNKTYPE, linkname="a.jpg"), special("d.jpg", tarfile.CHRTYPE),
                   special("e.jpg", tarfile.FIFOTYPE), special("f.jpg", tarfile.DIRTYPE), ("noextension", b"")])
    index = index_of(data)
    assert contents(data, index) == [b"1"]
    assert index.remarks == (
        "devices, pipes and other special members are left out (2)", "links are left out (2)",
        "members without an extension are left out (1)")


def test_members_that_are_there_twice():
    with pytest.raises(DatasetError, match="the sample 'a' has two members .jpg, the second of which is 'a.JPG'"):
        index_of(tar_of([("a.jpg", b"1"), ("a.JPG", b"2")]))
    with pytest.raises(DatasetError, match="the members of the sample 'a' lie in two places, .*'a.cls' at byte 2560"):
        index_of(tar_of([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.cls", b"2")]))
    with pytest.raises(DatasetError, match="the member './k/a.jpg' is there twice, the second time at byte 2560"):
        index_of(tar_of([("k/a.jpg", b"1"), ("k/b.jpg", b"2"), ("./k/a.jpg", b"2")]), label="folder")


def test_a_tar_without_samples_is_an_empty_index():
    for data, options, remarks in (
            (bytes(1024), {}, ()), (tar_of([("a", b"")]), {}, ("members without an extension are left out (1)",)),
            (tar_of([("a.jpg", b"")]), {"folder": "b"}, ("it has no samples in the folder 'b/'",))):
        index = index_of(data, **options)
        assert index.size == 0 and index.parts == () and index.remarks == remarks
    index = index_of(tar_of([("a.jpg", b""), ("a.json", b'{"y": 1}')]), columns=["x", "y", "__key__"])
    assert index.absent == ("x",) and index.there == ("jpg", "json") and rows_of(index) == [[None, 1, "a"]]


@pytest.mark.parametrize("options, message", [
    ({"columns": "json"}, "columns must be a list of names"), ({"columns": [1]}, "columns must be a list of names"),
    ({"image": 1}, "image must be a text or None"), ({"label": ""}, "label must be a text or None"),
    ({"label": "folder", "columns": ["json"]}, "its only column is '__key__', not json")])
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        index_of(tar_of(WEBDATASET), **options)


def damaged_header(data, at):
    return data[:at + 1] + bytes([data[at + 1] ^ 1]) + data[at + 2:]


def sparse():
    return tar_of([special("a.jpg", tarfile.GNUTYPE_SPARSE)])


TAR = tar_of(WEBDATASET)


@pytest.mark.parametrize("data, message", [
    (b"", "it is no tar file: it has only 0 bytes"),
    (b"PK\3\4" * 200, "it is no tar file: the header at byte 0 is damaged"),
    (gzip.compress(bytes(range(256)) * 9), r"compressed with gzip, .* unpack it \(gunzip FILE\), or .* stoker-pack"),
    (bz2.compress(bytes(range(256)) * 9), "compressed with bzip2"),
    (lzma.compress(bytes(range(256)) * 9), "compressed with xz"),
    (TAR[:4608 - 512], "it ends at byte 4096 without the end mark"),
    (TAR[:512 + 3], "the member 'a/7.jpg' at byte 0 ends at byte 517, and the file has only 515: it was cut"),
    (TAR[:1024 + 100], "it ends at byte 1124 without the end mark"),
    (damaged_header(TAR, 1024), "the header at byte 1024 is damaged .*: write or copy the file again"),
    (TAR + TAR, "there are bytes behind the end mark of the tar at byte 4096, as if several tars were joined"),
    (sparse(), "the member 'a.jpg' at byte 0 is stored as a sparse file"),
    (tar_of([("a.jpg", b""), ("a.json", b"{")]), "the member 'a.json' at byte 1024 is no JSON that can be read"),
    (tar_of([("a.jpg", b""), ("a.json", b"[1e999]")]), "the member 'a.json' at byte 1024 is no JSON"),
    (tar_of([("a.jpg", b""), ("a.json", b'{"json": 18446744073709551616}')]), "sample 'a': 'json'.* more than 64 bits"),
    (tar_of([("a.jpg", b""), ("a.json", b" " * (1 << 20) + b"1")]), "has 1048577 bytes, and labels and columns have"),
    (tar_of([("a.%d.jpg" % number, b"") for number in range(65)]), "more than 64 extensions"),
    (tar_of([("x%d.%d" % (number, number), b"") for number in range(65)]), "more than 64 extensions")],
    ids=lambda value: value[:40] if isinstance(value, str) else "file")
def test_files_that_are_refused(data, message):
    with pytest.raises(DatasetError, match=message):
        index_of(data, columns=["json"], label=None)


def header(size, kind=tarfile.REGTYPE, name="a.jpg"):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [1 << 20, (1 << 32) - 1, 1 << 32, (1 << 33) - 1, 1 << 40, 1 << 62, (1 << 86) - 1, -1,
                                  -512, -1 << 50])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
                                  tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE, b"Z", tarfile.DIRTYPE])
def test_sizes_that_lie(size, kind):
    """No memory is touched for them, and no loop has no end."""
    class Counting(io.BytesIO):
        def read(self, length=-1):
            assert 0 <= length <= tar.MAX_HEADER_BYTES
            return super().read(length)

    data = header(size, kind) + header(3, name="b.jpg") + b"abc" + bytes(509 + 1024)
    try:
        index = tar.index(Counting(data), len(data), {})
    except DatasetError:
        return
    assert kind not in (tarfile.REGTYPE, b"Z")
    assert not index.size or set(contents(data, index)) <= {b"abc"}


def test_headers_of_headers():
    data = b"".join(header(0, tarfile.GNUTYPE_LONGNAME) for _ in range(100000)) + TAR
    with pytest.raises(DatasetError, match="at byte 0"):
        index_of(data)
    digits = b"1" * 60000
    data = header(len(digits), tarfile.XHDTYPE) + digits + bytes(-len(digits) % 512) + TAR
    with pytest.raises(DatasetError, match="a number of 100 digits"):
        index_of(data)


def test_a_tar_that_is_cut_anywhere_or_has_a_changed_byte():
    """It is refused, or gives an index whose places lie in the file: no other error; if only cut, the same places."""
    data = tar_of([("long" * 40 + ".jpg", b"1" * 700), ("long" * 40 + ".cls", b"1"), ("b.jpg", b"2"), ("b.cls", b"2")],
                  tarfile.PAX_FORMAT)
    whole = index_of(data)
    end = int(whole.offsets.max()) + 512 + 512 + 1024       # of b.cls, and the end mark
    for length in range(0, len(data), 7):
        try:
            index = index_of(data[:length])
        except DatasetError:
            assert length < end
        else:
            assert length >= end - 512 and index.offsets.tolist() == whole.offsets.tolist()
    random = np.random.RandomState(1)
    refused = 0
    for _ in range(700):
        changed = bytearray(data)
        for place in random.randint(0, end, 1 + random.randint(3)):
            changed[place] = random.randint(256)
        try:
            index = index_of(bytes(changed), columns=["cls"])
        except DatasetError:
            refused += 1
            continue
        there = index.lengths != MISSING
        assert (index.offsets >= 0).all() and (index.offsets + index.lengths)[there].max() <= len(data)
    assert 150 < refused < 700
