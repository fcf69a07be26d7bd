"""The pictures of the fuzzer and the hostile ones: the same with every Python, and of the kind that they should be."""

import zlib

import pytest

from tests.fuzz.picture_mutation import PictureMutator
from tests.support import hostile_pictures
from tests.support.hostile_pictures import HOSTILE, NAMES

#: Without PNG: its pixels are packed again, and not every zlib packs alike.
CORPUS = [item for item in sorted(hostile_pictures.tiny().items()) if item[0] != "png"]


def pictures(seed, numbers):
    return [PictureMutator((CORPUS, CORPUS[:2]), seed, number).picture() for number in numbers]


def test_a_seed_and_a_number_make_the_same_picture_with_every_python():
    made = pictures(7, range(300))
    assert made == pictures(7, range(300)) and made[200:] == pictures(7, range(200, 300))
    assert made != pictures(8, range(300))
    assert "%08x" % zlib.crc32(b"".join(data for _, data in made)) == "151cc531"


def test_most_pictures_differ_from_their_file_and_begin_like_it():
    whole = dict(CORPUS)
    made = pictures(1, range(500))
    assert sum(data == whole[name] for name, data in made) < 25
    assert sum(data[:2] == whole[name][:2] for name, data in made) > 400
    assert all(0 < len(data) <= 1 << 16 for _, data in made)


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - set(NAMES)))
def test_hostile_pictures_are_small(name):
    data = HOSTILE[name].bytes()
    assert data == HOSTILE[name].bytes() and 0 < len(data) < 11 << 20


def test_the_tiny_ones_are_pictures():
    from PIL import Image
    import io
    for data in hostile_pictures.tiny().values():
        Image.open(io.BytesIO(data)).load()
