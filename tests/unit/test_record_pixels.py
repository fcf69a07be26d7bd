"""Numbers that are no pictures are found in the headers of record files, before a worker starts."""

import numpy as np
import pytest

import stoker
from stoker.inspection.checking.data import Options, open_data
from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.records.pixels import check_pictures
from stoker.pipeline.storage.place import why_no_picture
from stoker.trainer.run import prepare

SENTENCE = r"the numbers in {} are no pictures: they are {} of shape \[.*\], and a picture is uint8 of .*sample.numpy"


@stoker.sample({"x": ("uint16", (4, 5))})
def own(sample, random):
    return sample.numpy()


@pytest.fixture
def saved(tmp_path):
    def save(dtype, name="x.npy"):
        path = str(tmp_path / name)
        np.save(path, np.zeros((6, 4, 5), dtype))
        return path
    return save


@pytest.mark.parametrize("shape, is_picture", [
    ((4, 5), True), ((4, 5, 1), True), ((4, 5, 3), True), ((4, 5, 4), True), ((3, 4, 5), True), ((4, 5, 2), True),
    ((5, 5, 2), False), ((4,), False), ((), False), ((0, 5), False), ((2, 4, 5, 3), False)])
def test_which_shapes_are_pictures(shape, is_picture):
    assert (why_no_picture("uint8", shape) == "") is is_picture and why_no_picture("int8", shape)


@pytest.mark.parametrize("generator", ["image", "augmented"])
def test_an_array_of_other_numbers(saved, generator):
    prepare(saved("u1"), generator)
    with pytest.raises(DatasetError, match=SENTENCE.format("x.npy", "uint16")):
        prepare(saved("u2"), generator)
    with pytest.raises(DatasetError, match=SENTENCE.format("v.npy", "float32")):
        prepare(saved("u1"), generator, validation=saved(">f4", "v.npy"))


def test_a_function_of_the_user_takes_any(saved):
    assert len(prepare(saved("u2"), own).source) == 6


def test_one_file_among_others(saved, tmp_path):
    saved("u1"), saved("i8", "y.npy")
    with pytest.raises(DatasetError, match=SENTENCE.format("y.npy", "int64")):
        prepare(str(tmp_path / "*.npy"), "image")


def test_stoker_check(saved):
    with pytest.raises(DatasetError, match=SENTENCE.format("x.npy", "uint16")) as caught:
        open_data(saved("u2"), None, Options())
    assert caught.value.exit_code == 2
    with pytest.raises(DatasetError, match=SENTENCE.format("v.npy", "bool")):
        open_data(saved("u1"), saved("?", "v.npy"), Options())


@pytest.mark.parametrize("layout", [{}, {"compression": "gzip"}, {"chunks": (2, 2, 5)}])
def test_hdf5_wherever_its_bytes_lie(tmp_path, layout):
    h5py = pytest.importorskip("h5py")
    with h5py.File(str(tmp_path / "x.h5"), "w") as file:
        file.create_dataset("good", data=np.zeros((6, 4, 5), "u1"), **layout)
        file.create_dataset("deep", data=np.zeros((6, 4, 5), "u2"), **layout)
        encoded = file.create_dataset("jpegs", (6,), h5py.special_dtype(vlen=np.uint8))
        for number in range(6):
            encoded[number] = np.arange(9, dtype=np.uint8)
    for name in ("good", "jpegs"):
        check_pictures(stoker.hdf5(str(tmp_path / "x.h5"), name))
    for _ in ("made", "kept"):
        with pytest.raises(DatasetError, match=SENTENCE.format("x.h5", "uint16")):
            check_pictures(stoker.hdf5(str(tmp_path / "x.h5"), "deep"))
