"""``stoker.tar``, ``zip`` and ``npy`` from the user's call to the bytes that a worker reads."""

import io
import logging
import tarfile
import zipfile

import numpy as np
import pytest

import stoker
from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records import public
from stoker.pipeline.storage.folder import read_file, resolve
from stoker.workers.readers import Readers
from tests.support.caching import job


def write_tar(path, members):
    with tarfile.open(str(path), "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return str(path)


def write_zip(path, members):
    with zipfile.ZipFile(str(path), "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return str(path)


def read(source):
    return [read_file(resolve(source.root, sample.path))[0] for sample in source.samples(range(len(source)))]


def test_tars(tmp_path):
    for number in range(2):
        write_tar(tmp_path / ("train-%d.tar" % number), [
            ("%d.%s" % (sample, extension), content.encode()) for sample in range(3)
            for extension, content in (("jpg", "picture %d %d" % (number, sample)), ("cls", str(number)),
                                       ("json", '{"angle": %d.5}' % sample))])
    source = stoker.tar(str(tmp_path / "train-{0..1}.tar"), columns=["angle", "__key__"], classes=["cat", "dog"])
    assert len(source) == 6 and source.classes == ("cat", "dog") and source.labels.tolist() == [0] * 3 + [1] * 3
    assert read(source) == [b"picture %d %d" % (number, sample) for number in range(2) for sample in range(3)]
    assert source.rows([4])[0]["angle"] == 1.5 and source.rows([4])[0]["__key__"] == "1"
    again = public.open_records(source.opened_by["format"], source.opened_by["pattern"], source.opened_by["options"],
                                source.opened_by["root"], source.opened_by["classes"])
    assert again.fingerprint() == source.fingerprint()


def test_a_source_can_be_opened_again_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "data" / "a.tar", [("1.jpg", b"1"), ("1.cls", b"0")])
    monkeypatch.chdir(str(tmp_path))
    sources = [stoker.tar("data/*.tar"), stoker.tar(["data/a.tar"]), stoker.tar("a.tar", root="data")]
    monkeypatch.chdir("/")
    for source in sources:
        assert public.reopened(source.opened_by).fingerprint() == source.fingerprint()


def test_what_is_left_out_is_told_once(tmp_path, caplog):
    for number in range(3):
        write_tar(tmp_path / ("%d.tar" % number), [("a.jpg", b"1"), ("b.txt", b"x"), ("README", b"")])
    with caplog.at_level(logging.WARNING, "stoker"):
        source = stoker.tar(str(tmp_path / "*.tar"))
    assert source.classes == () and len(source) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "0.tar and 2 more: members without an extension are left out (3)",
        "0.tar and 2 more: samples without a picture are left out (3)",
        "0.tar and 2 more has no members .cls, so its samples have no labels: label='folder' takes the folders of the "
        "pictures for classes, label='EXTENSION' other members, and with label=None this is no warning"]


def test_pictures_of_another_format_in_another_file(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", b"1"), ("a.cls", b"0")])
    write_tar(tmp_path / "1.tar", [("b.png", b"2"), ("b.cls", b"1")])
    write_tar(tmp_path / "2.tar", [("c.png", b"3"), ("c.cls", b"1"), ("d.jpg", b"4"), ("d.cls", b"1")])
    assert read(stoker.tar(str(tmp_path / "*.tar"))) == [b"1", b"2", b"3", b"4"]


def test_class_folders_in_zip_and_tar(tmp_path):
    tree = [("top/%s/%d.png" % (name, number), b"%s %d" % (name.encode(), number)) for name in ("dog", "cat")
            for number in range(2)]
    for source in (stoker.zip(write_zip(tmp_path / "a.zip", tree), folder="top"),
                   stoker.tar(write_tar(tmp_path / "a.tar", tree), label="folder", folder="top/")):
        assert source.classes == ("cat", "dog") and source.labels.tolist() == [1, 1, 0, 0]
        assert read(source) == [content for _, content in tree]
    with pytest.raises(ConfigError, match=r"all pictures of a.zip .* \(top\), .*, give folder='top', or"):
        stoker.zip(str(tmp_path / "a.zip"))
    assert stoker.zip(str(tmp_path / "a.zip"), label=None).classes == ()
    with pytest.raises(DatasetError, match="no record"):
        stoker.zip(str(tmp_path / "a.zip"), folder="other")


def test_labels_that_are_no_classes(tmp_path, caplog):
    """As with label="json": each sample would be a class of its own, and the training would say nothing."""
    members = [("%02d.%s" % (number, name), content) for number in range(20)
               for name, content in (("jpg", b"1"), ("json", b'{"n": %d}' % (number % 11)), ("cls", b"%d" % number))]
    tar = write_tar(tmp_path / "a.tar", members)
    assert len(stoker.tar(tar).classes) == 20 and not caplog.records    # numbers may be a part of a thousand
    assert len(stoker.tar(tar, label="json").classes) == 11
    assert [record.getMessage() for record in caplog.records] == [
        "a.tar: 20 samples have 11 different labels, such as {\"n\": 0}, {\"n\": 10} and 9 more: if that is no class, "
        "name another field as the label (label=, --label-field)"]


def test_a_damaged_file_is_named(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 2000)])
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1000])
    with pytest.raises(DatasetError, match="a.tar: the member 'a.jpg' at byte 0 ends at byte 2512, and the file has"):
        stoker.tar(path)


def test_a_file_of_another_format_is_named(tmp_path):
    names = {"tar": write_tar(tmp_path / "a.tar", [("a.jpg", b"1")]),
             "zip": write_zip(tmp_path / "a.zip", [("a/1.jpg", b"1")]), "npy": str(tmp_path / "a.npy")}
    np.save(names["npy"], np.zeros(3))
    (tmp_path / "a.bin").write_bytes(b"\x89HDF\r\n\x1a\n")
    for function in (stoker.tar, stoker.zip, stoker.npy):
        for kind, path in dict(names, hdf5=str(tmp_path / "a.bin")).items():
            if kind != function.__name__ and (kind, function) != ("zip", stoker.npy):
                with pytest.raises(DatasetError, match=r"it seems to be .* \(stoker.%s" % kind):
                    function(path)


def test_npy(tmp_path):
    pictures = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    np.save(str(tmp_path / "x.npy"), pictures)
    np.save(str(tmp_path / "y.npy"), np.array([[1], [0], [2], [1]]))
    for labels in (str(tmp_path / "y.npy"), tmp_path / "y.npy", [1, 0, 2, 1], np.array([1, 0, 2, 1])):
        source = stoker.npy(str(tmp_path / "x.npy"), labels=labels)
        assert source.classes == ("0", "1", "2") and source.labels.tolist() == [1, 0, 2, 1]
        assert (source.opened_by is None) == isinstance(labels, (list, np.ndarray))
    readers = Readers(job(tmp_path))
    for number, sample in enumerate(source.samples(range(4))):
        assert np.array_equal(readers.numpy(sample.path), pictures[number])
        assert np.array_equal(np.asarray(readers.image(sample.path)), pictures[number])
    with pytest.raises(DatasetError, match=r"the labels have the shape \[3\], and there are 4 samples"):
        stoker.npy(str(tmp_path / "x.npy"), labels=[1, 2, 3])
    with pytest.raises(DatasetError, match=r"the labels in .*x.npy have the shape \[4, 5, 6, 3\]"):
        stoker.npy(str(tmp_path / "x.npy"), labels=str(tmp_path / "x.npy"))
    with pytest.raises(DatasetError, match="the labels in .*z.npy cannot be read: No such file"):
        stoker.npy(str(tmp_path / "x.npy"), labels=str(tmp_path / "z.npy"))


def test_npz(tmp_path):
    np.savez(str(tmp_path / "a.npz"), x=np.arange(6.0).reshape(3, 2), boxes=np.ones((3, 4), ">i2"), y=["b", "a", "b"],
             angle=[0.5, 1.5, 2.5])
    source = stoker.npy(str(tmp_path / "a.npz"), "x", labels="y", columns=["angle"])
    assert source.classes == ("a", "b") and source.labels.tolist() == [1, 0, 1]
    row = source.rows([2])[0]
    assert row["angle"] == 2.5 and sorted(row) == ["angle", "boxes", "x"]
    readers = Readers(job(tmp_path))
    assert readers.numpy(row["x"]).tolist() == [4, 5] and readers.numpy(row["boxes"]).tolist() == [1] * 4
    assert public.open_records("npy", str(tmp_path / "a.npz"), source.opened_by["options"]).labels.tolist() == [1, 0, 1]
