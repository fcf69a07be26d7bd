"""tf.train.Examples and TFRecord files, made by hand: in every way that protobuf allows, and damaged."""

import functools
import struct

from stoker.pipeline.sources.records.tfrecord import crc_function, crc_of_8, masked


def varint(value):
    """A number as protobuf has it; a negative one has 64 bits."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def field(number, content):
    """A field of a message: bytes with their length, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values, packed=True):
    """A Feature of a list of int, float or bytes."""
    if not values:
        return b""
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, value) for value in values))
    if isinstance(values[0], float):
        if packed:
            return field(2, field(1, struct.pack("<%df" % len(values), *values)))
        return field(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in values))
    if packed:
        return field(3, field(1, b"".join(map(varint, values))))
    return field(3, b"".join(field(1, value) for value in values))


def example(features, packed=True):
    """An Example of a dict of lists."""
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, feature(values, packed)))
                             for name, values in features.items()))


def crc32c(data):
    """CRC-32C, slowly."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


@functools.lru_cache(maxsize=10000)
def frame(content):
    """A record."""
    length = struct.pack("<Q", len(content))
    return b"".join((length, struct.pack("<I", masked(crc_of_8(length))), content,
                     struct.pack("<I", masked((crc_function() or crc32c)(content)))))


def tfrecord(*examples):
    """The bytes of a file of these records: dicts, or bytes."""
    return b"".join(frame(each if isinstance(each, bytes) else example(each)) for each in examples)
