"""The entries of the cache: what was put is what comes out, and no change of a byte remains unseen."""

import os
import random

import numpy as np
import pytest

from stoker.workers import cache_entry
from stoker.pipeline.storage.folder import version_of
from stoker.workers.cache_entry import checksum, content_of, decode, decode_all, encode, head_of, head_of_file, key_of

HEAD = bytes(range(56))
SIZES = (1, 7, 8, 9, 12288, 8 * 4096, 8 * 4096 + 5, 3 * 227 * 223)


def pixels(count, seed=0):
    return np.random.RandomState(seed).randint(0, 256, count).astype(np.uint8)


@pytest.mark.parametrize("count", SIZES)
def test_what_was_put_comes_out(count):
    content, out = pixels(count), np.empty(count, np.uint8)
    entry = encode(HEAD, content.tobytes())
    assert decode(entry, HEAD, out) and np.array_equal(out, content)
    assert content_of(memoryview(entry), HEAD) == content.tobytes()
    assert not decode(entry, HEAD[:-1] + b"?", out) and content_of(entry, HEAD[:-1] + b"?") is None
    assert not decode(entry[:-1], HEAD, out) and content_of(entry[:60], HEAD) is None


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("left_out", [(), (0,), (5,), (2, 3, 11), tuple(range(12))])
def test_several_at_once_are_as_one_by_one(count, left_out):
    content, out = [pixels(count, seed) for seed in range(12)], np.full((12, count), 77, np.uint8)
    heads = [bytes([seed]) + HEAD[1:] for seed in range(12)]
    wanted = [(place, memoryview(encode(heads[place], content[place].tobytes())), heads[place]) for place in range(12)]
    for place in left_out:
        entry = wanted[place][1]
        wanted[place] = place, (entry, entry[:-1], entry[:60])[place % 3], HEAD[::-1]
    assert decode_all(wanted, out) == [place for place in range(12) if place not in left_out]
    for place in range(12):
        assert np.all(out[place] == (77 if place in left_out else content[place]))
    assert decode_all(wanted[6:8], out) == [place for place in (6, 7) if place not in left_out]
    assert decode_all([], out) == []


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("wrong", [0, 6, 11])
def test_a_wrong_one_among_several_is_seen(count, wrong):
    entries = [bytearray(encode(HEAD, pixels(count, seed).tobytes())) for seed in range(12)]
    entries[wrong][-1] ^= 128
    with pytest.raises(ValueError, match="checksum"):
        decode_all([(place, memoryview(entry), HEAD) for place, entry in enumerate(entries)],
                   np.empty((12, count), np.uint8))


@pytest.mark.parametrize("seconds", [-157766400, 0, 1500000000, 10413792000])
def test_the_head_of_a_file_of_any_time(tmp_path, seconds):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    os.utime(str(path), (seconds, seconds))
    status, name = os.stat(str(path)), str(path).encode()
    assert head_of_file(key_of(name), status) == head_of(name, version_of(status))


@pytest.mark.parametrize("count", SIZES)
def test_every_change_of_some_bytes_is_seen(count):
    chance, entry, out = random.Random(count), encode(HEAD, pixels(count).tobytes()), np.empty(count, np.uint8)
    begin = len(entry) - count
    for number in range(300):
        damaged = bytearray(entry)
        place = begin + (number if number < count else chance.randrange(count))
        if number % 3 == 0:
            damaged[place] ^= 1 << chance.randrange(8)
        elif number % 3 == 1:
            damaged[place:place + 4096] = bytes(len(damaged[place:place + 4096]))       # a page of zeros
        else:
            other = begin + chance.randrange(count)
            damaged[place], damaged[other] = damaged[other], damaged[place]
        if damaged != entry:
            with pytest.raises(ValueError, match="checksum"):
                decode(bytes(damaged), HEAD, out)
            with pytest.raises(ValueError, match="checksum"):
                content_of(bytes(damaged), HEAD)


def test_exchanged_blocks_and_words_are_seen():
    for size in (8, 8 * 4096):
        blocks = [pixels(size, seed) for seed in range(4)]
        one, other = (np.concatenate([blocks[number] for number in order]) for order in ((0, 1, 2, 3), (0, 2, 1, 3)))
        assert checksum(HEAD, one) != checksum(HEAD, other)


def test_the_sum_is_the_same_everywhere():
    """On each Python, with each numpy, wherever the pixels lie: processes of one host share the file."""
    content = np.arange(3 * 227 * 223, dtype=np.uint32).astype(np.uint8)
    unaligned = np.frombuffer(b"?" + content.tobytes(), np.uint8)[1:]
    assert checksum(HEAD, content) == checksum(HEAD, unaligned) == PINNED
    assert checksum(HEAD, content[:0]) != checksum(HEAD[:-1], content[:0])
    factors = cache_entry._factors().reshape(-1)
    assert len(set(factors.tolist())) == len(factors) and all(number % 2 for number in factors.tolist())


PINNED = 14637798527236199889
