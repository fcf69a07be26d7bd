"""The same pictures give the same audit, however they are stored, with workers of both Pythons, killed and stopped.

Each form meets both Pythons, and is read as a generator reads it and as a function of a user does; not each of these
with each other, for nothing in a worker's reader of a form depends on which of the two asks.
"""

import pytest

import stoker
from tests.support import stored
from tests.support.agreement import ENCODED, Agreement

#: Pixels in arrays, which are those of PNGs in a folder.
PIXELS = {
    "npy": lambda root: stoker.npy(root + "/x.npy", labels=root + "/y.npy"),
    "npz": lambda root: stoker.npy(root + "/xy.npz", labels="y"),
    "hdf5-contiguous": lambda root: stoker.hdf5(root + "/contiguous.h5", "images", labels="labels"),
    "hdf5-chunked": lambda root: stoker.hdf5(root + "/chunked.h5", "images", labels="labels"),
    "hdf5-compressed": lambda root: stoker.hdf5(root + "/compressed.h5", "images", labels="labels"),
}


@pytest.fixture(scope="module")
def agreement(tmp_path_factory, python36, worker_python):
    agreement = Agreement(tmp_path_factory.mktemp("audits"), {"old": python36, "newest": worker_python})
    yield agreement
    agreement.check_chaos()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A folder of JPEGs with a table of rows, and one of record files with the same."""
    files, records = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("records")
    pictures = stored.drawn(files)
    stored.write_rows(files, pictures)
    for write in (stored.write_tfrecords, stored.write_tars, stored.write_zip):
        write(records, pictures)
    return str(files), str(records)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A folder of PNGs, and one of files with arrays of the same pixels."""
    files, arrays = tmp_path_factory.mktemp("pngs"), tmp_path_factory.mktemp("arrays")
    pictures = stored.drawn(files, "png")
    stored.write_arrays(arrays, pictures)
    stored.write_hdf5(arrays, pictures)
    return str(files), str(arrays)


@pytest.mark.parametrize("python", ["old", "newest"])
@pytest.mark.parametrize("name", sorted(ENCODED))
def test_encoded_pictures(agreement, encoded, name, python):
    files, records = encoded
    agreement.check(name, ENCODED[name][0](records), files, "augmented", python, True)


@pytest.mark.parametrize("name, python", [("tfrecord", "old"), ("tar", "newest")])
def test_parts_of_records(agreement, encoded, name, python):
    files, records = encoded
    agreement.check(name, ENCODED[name][1](records), stoker.jsonl(files + "/rows.jsonl"), "parts", python, True)


@pytest.mark.parametrize("python", ["old", "newest"])
@pytest.mark.parametrize("name", sorted(PIXELS))
def test_pixels(agreement, pixels, name, python):
    """Generators and functions by turns; workers of each Python are ended with each second form."""
    files, arrays = pixels
    turn = (sorted(PIXELS).index(name) + ["old", "newest"].index(python)) % 2
    agreement.check(name, PIXELS[name](arrays), files, ("augmented", "pixels")[turn], python, turn == 0)
