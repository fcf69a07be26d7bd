"""npy and npz files through a reader: all that numpy writes, and bad ones, which touch no memory and run no code."""

import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from stoker.pipeline.storage.folder import BadFile
from stoker.workers import npy
from stoker.workers.readers import Readers
from tests.support.caching import job


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def readers(root):
    return Readers(job(root))


@pytest.mark.parametrize("array", [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.array(5.5), np.zeros((0, 7), np.uint8), np.zeros((3, 0), ">i4"), np.arange(5, dtype=">u2"),
    np.array(["ab", "c"]), np.array([(1, 2.5)], [("a", "i4"), ("b", "f8", 2)]), np.array([True, False]),
    np.array([1 + 2j]), np.array(["2018-01-01"], "M8[D]")], ids=lambda array: "%s%s" % (array.dtype.str, array.shape))
def test_arrays(root, readers, array):
    np.save(str(root / "a.npy"), array)
    np.savez(str(root / "a.npz"), one=array)
    np.savez_compressed(str(root / "b.npz"), one=array, other=array[..., None])
    for found in (readers.numpy("a.npy"), readers.numpy("a.npz"), readers.numpy("b.npz", "one"),
                  readers.numpy("b.npz", key="other")[..., 0]):
        assert found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array)
        assert found.flags.writeable
    assert readers.numpy("a.npy").flags.f_contiguous == array.flags.f_contiguous


def test_arrays_of_other_versions_of_the_format(root, readers):
    for version in ((1, 0), (2, 0)):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.arange(6).reshape(2, 3), version)
        (root / "a.npy").write_bytes(content.getvalue())
        assert readers.numpy("a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    (root / "a.npy").write_bytes(bytes_of(b"{'descr': '<i8', 'fortran_order': False, 'shape': (2L,), }\n", bytes(16)))
    assert readers.numpy("a.npy").tolist() == [0, 0]             # written by Python 2
    (root / "a.npy").write_bytes(content.getvalue().replace(b"NUMPY\x02", b"NUMPY\x03"))
    assert readers.numpy("a.npy").shape == (2, 3)


def test_keys(root, readers):
    np.savez(str(root / "two.npz"), x=1, y=2)
    np.savez(str(root / "none.npz"))
    np.save(str(root / "one.npy"), 1)
    for name, key, sentence in (
            ("two.npz", None, "two.npz: an npz file has the arrays 'x', 'y', so key= must name one of them, not None"),
            ("two.npz", "z", "two.npz: an npz file has the arrays 'x', 'y', so key= must name one of them, not 'z'"),
            ("none.npz", "z", "none.npz: an npz file has no arrays"),
            ("one.npy", "x", "one.npy: an npy file has one array and no keys, not 'x'")):
        with pytest.raises(ValueError) as caught:
            readers.numpy(name, key)
        assert str(caught.value).startswith(sentence)


def bytes_of(header, values=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + values


def header(shape, descr="'<f4'", more=""):
    return ("{'descr': %s, 'fortran_order': False, 'shape': %s%s}\n" % (descr, shape, more)).encode()


class Boom:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-loaded",)


def object_array():
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Boom()], object), allow_pickle=True)
    return content.getvalue()


#: name -> content of an npy file that is bad
BAD = {
    "empty": b"", "text": b"1.0 2.0 3.0\n" * 9, "magic alone": b"\x93NUMPY\x01\x00",
    "pickle": pickle.dumps([1, 2]), "objects": object_array(), "version 9": bytes_of(header("(1,)"), bytes(4), 9),
    "terabytes": bytes_of(header("(1000000, 1000000)"), bytes(4000)),
    "more than 64 bits": bytes_of(header("(%d, %d)" % (2**62, 2**62)), bytes(4000)),
    "one byte short": bytes_of(header("(1000,)"), bytes(3999)),
    "negative": bytes_of(header("(-1, -1000)"), bytes(4000)), "not whole": bytes_of(header("(1.5,)"), bytes(4000)),
    "no items": bytes_of(header("(%d,)" % 10**15, "'<U0'"), bytes(4)),
    "no dtype": bytes_of(header("(1,)", "'zz'"), bytes(4)),
    "no tuple": bytes_of(header("7"), bytes(99)), "100 sides": bytes_of(header("(%s)" % ("1, " * 100)), bytes(99)),
    "more keys": bytes_of(header("(1,)", more=", 'x': 1"), bytes(99)), "syntax": bytes_of(b"{'descr'", bytes(99)),
    "code": bytes_of(b"__import__('os').mkdir('code-was-run')", bytes(99)),
    "deep": bytes_of(b"(" * 9999, bytes(99)), "signs": bytes_of(b"-" * 9990 + b"1", bytes(99)),
    "long header": bytes_of(header("(1,)") + b" " * 20000, bytes(4)),
    "header of gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + header("(1,)"),
    "header beyond the end": b"\x93NUMPY\x01\x00\xff\x00" + header("(1,)"),
    "void": bytes_of(header("(%d,)" % 10**12, "'|V0'"), bytes(4)),
    "sub-array of terabytes": bytes_of(header("(1,)", "[('a', '<f8', (100000, 10000))]"), bytes(4)),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_arrays(root, readers, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (root / "bad.npy").write_bytes(BAD[kind])
    with pytest.raises(BadFile) as caught:
        readers.numpy("bad.npy")
    assert caught.value.path == "bad.npy" and len(str(caught.value)) < 201
    with zipfile.ZipFile(str(root / "bad.npz"), "w") as file:
        file.writestr("x.npy", BAD[kind])
    with pytest.raises(BadFile):
        readers.numpy("bad.npz")
    assert os.listdir(str(tmp_path)) == ["data"]        # neither pickle nor code has run


def test_bad_npz_files(root, readers, tmp_path):
    def content(compression, *members):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", compression) as file:
            for member in members:
                file.writestr("x.npy", member)
        return data.getvalue()
    good = bytes_of(header("(1000,)"), bytes(4000))
    stored = content(zipfile.ZIP_STORED, good)
    noise = np.random.RandomState(0).bytes(4000)
    deflated = content(zipfile.ZIP_DEFLATED, bytes_of(header("(1000,)"), noise))
    spoilt = stored.replace(bytes(100), bytes(50) + b"\1" + bytes(49), 1)
    bads = {"cut": stored[:-30], "checksum": spoilt, "lzma": content(zipfile.ZIP_LZMA, good),
            "bzip2": content(zipfile.ZIP_BZIP2, good), "deflate": deflated[:2000] + b"???" + deflated[2003:],
            "encrypted": stored.replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1").replace(
                b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"),
            "size": stored.replace(struct.pack("<I", len(good)), struct.pack("<I", 1 << 30))}
    for kind, data in bads.items():
        (root / "bad.npz").write_bytes(data)
        with pytest.raises(BadFile):
            readers.numpy("bad.npz", "x")
            raise AssertionError(kind)


#: Bombs: 800 MB of zeros in a small file, whose header promises 4 bytes, 800 MB, and 1 TB. Reads each with 400 MB.
BOMBS = """
import io, resource, sys, zipfile
import numpy as np
from stoker.workers import npy
from stoker.pipeline.storage import folder
from tests.unit.test_npy import bytes_of, header
bombs = []
for promised in (1, 200 << 20, 1 << 38):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as member:
            member.write(bytes_of(header("(%d,)" % promised)))
            for _ in range(50 if promised > 1 else 800):
                member.write(bytes(1 << 20))
    bombs.append(data.getvalue())
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
for data in bombs:
    try:
        print("read", npy.array_of(data).shape)
    except folder.BadFile as error:
        print("bad", error)
    except MemoryError:
        print("memory")
"""


def test_bombs_touch_no_memory():
    run = subprocess.run([sys.executable, "-c", BOMBS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert run.stdout.decode().splitlines() == [
        "bad an array of 4 bytes in 838860800", "bad an array of 838860800 bytes in 52428800",
        "bad an array of 1099511627776 bytes in 52428800"], run.stderr.decode()


def test_memory_and_missing_modules_are_not_the_files_fault(root, readers, monkeypatch):
    np.save(str(root / "a.npy"), 1)
    for error in (MemoryError(), ImportError("zlib"), OSError(errno.EIO, "")):
        def fail(*args, error=error):
            raise error
        monkeypatch.setattr(npy, "_check_size", fail)
        with pytest.raises(type(error)):
            readers.numpy("a.npy")
