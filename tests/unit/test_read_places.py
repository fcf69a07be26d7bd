"""Places in record files of this host: exactly their bytes are read, by the rules of any file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.errors import ConfigError, ProtocolError
from stoker.pipeline.storage import folder
from stoker.pipeline.storage.folder import ENDS_BEFORE, BadFile, read_file, resolve
from stoker.workers.cache_entry import head_of
from stoker.workers.readers import Readers
from tests.support.caching import job

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.tar").write_bytes(CONTENT)
    return root


@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)))
def test_exactly_these_bytes(tmp_path_factory, one, other):
    path = os.path.join(str(tmp_path_factory.getbasetemp()), "exactly.tar")
    with open(path, "wb") as file:
        file.write(CONTENT)
    begin, end = sorted((one, other))
    text = "exactly.tar//%d+%d" % (begin, end - begin)
    assert read_file(resolve(os.path.dirname(path), text))[0] == CONTENT[begin:end]
    assert Readers(job(os.path.dirname(path))).bytes(text) == CONTENT[begin:end]


def test_overlapping_places_and_raw_numbers_are_bytes_as_well(root):
    for text, wanted in (("sub/a.tar//0+10", CONTENT[:10]), ("sub/a.tar//5+10", CONTENT[5:15]),
                         ("sub/a.tar//7+12:|u1:2x2x3", CONTENT[7:19]), ("sub/a.tar//3+0", b"")):
        assert read_file(resolve(str(root), text))[0] == wanted


@pytest.mark.parametrize("text", ["sub/a.tar//%d+1" % len(CONTENT), "sub/a.tar//0+%d" % (len(CONTENT) + 1),
                                  "sub/a.tar//%d+5" % (1 << 39), "sub/a.tar//%d+0" % (len(CONTENT) + 1)])
def test_a_place_behind_the_end_is_a_bad_file(root, text):
    for read in (lambda: read_file(resolve(str(root), text)), lambda: Readers(job(root)).bytes(text)):
        with pytest.raises(BadFile) as caught:
            read()
        assert str(caught.value) == ENDS_BEFORE
    assert caught.value.path == text


def test_a_file_that_is_cut_while_it_is_read(root, monkeypatch):
    monkeypatch.setattr(folder.os, "pread", lambda fd, length, offset: b"")
    with pytest.raises(BadFile, match="^the file ends before this record"):
        read_file(resolve(str(root), "sub/a.tar//0+10"))


def test_reads_that_come_in_pieces(root, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(folder.os, "pread", lambda fd, length, offset: pread(fd, min(length, 7), offset))
    assert read_file(resolve(str(root), "sub/a.tar//11+100"))[0] == CONTENT[11:111]


def test_the_limit_is_of_the_place_not_of_the_archive(root):
    assert read_file(resolve(str(root), "sub/a.tar//9+100"), 100)[0] == CONTENT[9:109]
    with pytest.raises(BadFile, match="^a file of more than 100 bytes; advice$"):
        read_file(resolve(str(root), "sub/a.tar//9+101"), 100, "; advice")
    # before a byte is read, and before memory is touched
    (root / "sparse.tar").write_bytes(b"")
    os.truncate(str(root / "sparse.tar"), 1 << 36)
    with pytest.raises(BadFile, match="more than %d bytes" % folder.MAX_FILE_BYTES):
        read_file(resolve(str(root), "sparse.tar//1+%d" % (1 << 35)))
    assert read_file(resolve(str(root), "sparse.tar//%d+3" % (1 << 35)))[0] == bytes(3)


def test_the_rules_of_files_hold_for_record_files(root, tmp_path):
    (tmp_path / "secret.tar").write_bytes(CONTENT)
    (root / "out.tar").symlink_to(tmp_path / "secret.tar")
    os.mkfifo(str(root / "pipe.tar"))
    for text, reason in (("out.tar//0+5", "a link that leads out"), ("pipe.tar//0+5", "not a regular file"),
                         ("gone.tar//0+5", "FileNotFoundError: no such file"), ("sub//0+5", "IsADirectoryError")):
        for read in (lambda text=text: read_file(resolve(str(root), text)),
                     lambda text=text: Readers(job(root)).bytes(text)):
            with pytest.raises(BadFile, match="^" + reason):
                read()
    for text in ("../secret.tar//0+5", "/etc/passwd//0+5", "sub/../../secret.tar//0+5", "..//0+5"):
        with pytest.raises(ProtocolError, match="must be relative, without '..'"):
            resolve(str(root), text)
        with pytest.raises(ConfigError, match="is not below the data folder"):
            Readers(job(root)).bytes(text)
    assert read_file(resolve(str(root), "out.tar//0+5", True))[0] == CONTENT[:5]


def test_absolute_paths_with_a_place(root):
    readers = Readers(job(root, trainer_root="/mnt/records"))
    for path in (str(root / "sub" / "a.tar"), "/mnt/records/sub/a.tar", "sub/a.tar"):
        assert readers.bytes(path + "//5+10") == CONTENT[5:15]
        assert readers.relative(path + "//5+10") == "sub/a.tar//5+10"


def test_what_only_looks_like_a_place_is_a_path_as_before(root):
    assert read_file(resolve(str(root), "sub//a.tar"))[0] == CONTENT
    assert Readers(job(root)).bytes("sub//a.tar") == CONTENT
    with pytest.raises(BadFile, match="no directory"):
        Readers(job(root)).bytes("sub/a.tar//5+3:|O8:3")


def test_a_plain_path_has_no_place_and_its_own_key(root):
    plain, one, other = (resolve(str(root), "sub/a.tar" + rest) for rest in ("", "//5+10", "//5+11"))
    assert plain == one == other and plain.place is None and plain.key == bytes(plain)
    assert len({plain.key, one.key, other.key}) == 3 and one.key == bytes(plain) + b"//5+10"
    version = folder.version_of(os.stat(plain))
    assert len({head_of(path, version) for path in (plain, one, other)}) == 3
    assert head_of(plain, version) == head_of(bytes(plain), version)      # entries of an older cache are found


def test_a_span_of_the_same_file(root):
    for text in ("sub/a.tar//5+10", "sub/a.tar", "sub/a.tar//7+12:|u1:2x2x3"):
        span = folder.spanning(resolve(str(root), text), 3, 50)
        assert read_file(span)[0] == CONTENT[3:53] and span.root == os.fsencode(str(root))
    with pytest.raises(BadFile):
        read_file(folder.spanning(resolve(str(root), "sub/a.tar//5+10"), 0, len(CONTENT) + 1))


def test_readers_locate_what_the_generators_resolve(root):
    for links in (False, True):
        for text in ("sub/a.tar", "sub/a.tar//5+10", "sub//a.tar", "gone"):
            found = Readers(job(root, follow_links=links)).locate(text)
            wanted = resolve(str(root), text, links)
            assert (found, found.key, found.root, found.place) == (wanted, wanted.key, wanted.root, wanted.place)


def test_the_version_is_of_the_whole_file_and_none_while_it_may_change(root, monkeypatch):
    path = resolve(str(root), "sub/a.tar//5+10")
    assert read_file(path)[1] is None
    monkeypatch.setattr(folder, "_RACY_S", 0.0)
    assert read_file(path)[1] == folder.version_of(os.stat(path))


def test_items_read_by_h5py_are_no_bytes(root):
    with pytest.raises(ConfigError, match="read with h5py"):
        read_file(resolve(str(root), "sub/a.tar//hdf5:3:images"))
