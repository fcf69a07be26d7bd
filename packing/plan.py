"""Which sample comes next, and which shard it goes into. Pure: a run that was interrupted goes on from a ``Cursor``,
and makes the same shards.

Samples come file after file. ``--shuffle`` orders the files, and the samples of each block of some hundred MB that is
read; of a folder, whose samples are only names before they are read, all of them are one block.
"""

from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from stoker.packing.samples import Found, Input, Parts
from stoker.pipeline.plan import random_state
from stoker.pipeline.text import path_bytes

BLOCK = 512                   # bytes: a tar consists of these
TAIL = 2 * BLOCK              # of zeros end it ...
RECORD = 20 * BLOCK           # ... and tar fills it up to a multiple of this
MAX_NAME = 100                # bytes that the name of a member has in its header


class Cursor(NamedTuple):
    """Where a run goes on: at record ``record`` of the file that is number ``unit`` in order. Shuffled, the block that
    begins there has ``used`` samples that are done."""
    unit: int = 0
    record: int = 0
    used: int = 0


BEGIN = Cursor()


def member_name(key: str, extension: str) -> bytes:
    """The name of a part in the tar."""
    return path_bytes("%s.%s" % (key, extension))


def member_bytes(name: bytes, size: int) -> int:
    """What a part of ``size`` bytes takes in the tar."""
    long_name = BLOCK + padded(len(name) + 1) if len(name) > MAX_NAME else 0
    return long_name + BLOCK + padded(size)


def padded(size: int) -> int:
    """``size`` up to the end of its last block."""
    return -(-size // BLOCK) * BLOCK


def sample_bytes(key: str, parts: Parts) -> int:
    """What a sample takes in the tar."""
    return sum(member_bytes(member_name(key, extension), len(content)) for extension, content in parts)


def tar_bytes(members: int) -> int:
    """The size of a tar whose members take ``members`` bytes."""
    return -(-(members + TAIL) // RECORD) * RECORD


def is_full(members: int, sample: int, limit: int) -> bool:
    """Whether a shard of ``members`` bytes must end before a further sample. One sample fits into any shard."""
    return members > 0 and tar_bytes(members + sample) > limit


def shard_name(prefix: str, number: int) -> str:
    """The name of a shard: "train-00000.tar"."""
    return "%s-%05d.tar" % (prefix, number)


def in_order(source: Input, cursor: Cursor, seed: Optional[int], block_bytes: int) -> Iterator[Tuple[Any, Cursor]]:
    """Each item of ``source`` from ``cursor`` on, with the cursor behind it. ``seed``: of the shuffling, or None."""
    order = _order(source.units, seed)
    if seed is None:
        for item, unit, record in _items(source, order, cursor):
            yield item, Cursor(unit, record)
        return
    items = _items(source, order, cursor)
    begin, used = Cursor(cursor.unit, cursor.record), cursor.used
    while True:
        block: List[Any] = []
        size = 0
        end = begin
        for item, unit, record in items:
            block.append(item)
            size += weight(item)
            end = Cursor(unit, record)
            if size >= block_bytes:
                break
        if not block:
            return
        shuffled = random_state("pack", seed, begin.unit, begin.record).permutation(len(block))
        last = len(block) - 1
        for place in range(used, len(block)):
            index = int(shuffled[place])
            item, block[index] = block[index], None       # memory shrinks with each sample that is written
            yield item, end if place == last else Cursor(begin.unit, begin.record, place + 1)
        begin, used = end, 0


def weight(item: Any) -> int:
    """The bytes of memory that an item holds, roughly."""
    if not isinstance(item, Found):
        return 0
    return len(item.image) + sum(len(content) for _, content in item.others)


def _order(units: int, seed: Optional[int]) -> List[int]:
    if seed is None:
        return list(range(units))
    return [int(unit) for unit in random_state("pack files", seed).permutation(units)]


def _items(source: Input, order: List[int], cursor: Cursor) -> Iterator[Tuple[Any, int, int]]:
    for place in range(cursor.unit, len(order)):
        record = cursor.record if place == cursor.unit else 0
        for item in source.records(order[place], record):
            record += 1
            yield item, place, record
