"""What stoker-pack makes of a source, ``stoker.tar`` reads as the source itself is read: the same samples, labels,
classes and columns, in the same order."""

import gzip
import os
import shutil
import tarfile
import zipfile

import pytest

import stoker
from stoker.pipeline.sources.folder import scan_folder
from stoker.pipeline.storage.place import place_of
from tests.integration.test_pack import NEWEST, add, make_folder, make_tar, pack, picture, tfrecords

def seen(source):
    """[(bytes of its file, label)] of all samples."""
    found = []
    for sample in source.samples(range(len(source))):
        place = place_of(sample.path)
        with open(os.path.join(source.root, place.path if place else sample.path), "rb") as file:
            if place:
                file.seek(place.offset)
            found.append((file.read(place.length) if place else file.read(), sample.label))
    return found


def packed(folder, **options):
    """What stoker.tar finds in it, with its own classes.txt."""
    names = folder / "classes.txt"
    if names.exists():
        options["classes"] = names.read_bytes().decode().splitlines()
    return stoker.tar(str(folder / "train-*.tar"), **options)


@pytest.mark.parametrize("python", [None])
def test_folders_tars_and_zips_of_classes(tmp_path, python):
    folder = make_folder(tmp_path / "photos")
    for name in ("000.v2.png", "000.v2.gif"):                          # the same key, but for the extension
        (folder / "cat" / name).write_bytes(b"\x89PNG\r\n\x1a\n" + picture(1000))
    scanned = scan_folder(str(folder))
    with tarfile.open(str(tmp_path / "a.tar"), "w") as tar:
        with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as archive:
            for path in scanned.paths:
                add(tar, path, (folder / path).read_bytes())
                archive.write(str(folder / path), path)
    sources = {"photos": (scanned, []),
               "a.tar": (stoker.tar(str(tmp_path / "a.tar"), label="folder"), ["--label-field", "folder"]),
               "a.zip": (stoker.zip(str(tmp_path / "a.zip")), [])}
    for name, (source, options) in sources.items():
        out = tmp_path / (name + "-out")
        pack(tmp_path / name, out, "--shard-mb", 1, *options, python=python)
        shards = packed(out)
        assert shards.classes == source.classes == scanned.classes
        assert seen(shards) == seen(source) == seen(scanned)


@pytest.mark.parametrize("python", [NEWEST])
def test_tfrecords_with_numbers_and_texts(tmp_path, python):
    tfrecords(tmp_path)
    columns = ["image/filename", "image/scale"]
    for label in ("image/class/label", "image/class/text", None):
        source = stoker.tfrecord(str(tmp_path / "a-0*"), label=label, columns=columns)
        out = tmp_path / ("out-%s" % str(label).replace("/", "-"))
        pack(tmp_path / "a-0*", out, "--columns", ",".join(columns), "--label-field", label or "none", python=python)
        shards = packed(out, columns=columns)
        assert seen(shards) == seen(source) and shards.classes == source.classes
        rows = [{name: value.decode() if isinstance(value, bytes) else value for name, value in row.items()
                 if name in columns} for row in source.rows(range(30))]
        assert [{name: row[name] for name in columns} for row in shards.rows(range(30))] == rows


@pytest.mark.parametrize("python", [None])
def test_tars(tmp_path, python):
    path = make_tar(tmp_path / "a.tar", names=("%04d", "b/%04d"))
    source = stoker.tar(str(path), columns=["__key__"])
    with open(str(path), "rb") as file, gzip.open(str(tmp_path / "b.tgz"), "wb") as compressed:
        shutil.copyfileobj(file, compressed)
    pack(tmp_path / "b.tgz", tmp_path / "out", "--shard-mb", 1, python=python)
    shards = packed(tmp_path / "out", columns=["__key__"])
    assert seen(shards) == seen(source) and shards.classes == source.classes
    assert [row["__key__"] for row in shards.rows(range(60))] == [row["__key__"] for row in source.rows(range(60))]


@pytest.mark.parametrize("python", [NEWEST])
def test_parquet(tmp_path, python):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow
    parquet.write_table(pyarrow.Table.from_pydict({
        "image": [picture(number) for number in range(30)], "label": ["n%d" % (number % 3) for number in range(30)]}),
        str(tmp_path / "a.parquet"))
    pack(tmp_path / "a.parquet", tmp_path / "out", python=python)
    shards = packed(tmp_path / "out")
    assert shards.classes == ("n0", "n1", "n2")
    assert seen(shards) == [(picture(number), number % 3) for number in range(30)]
