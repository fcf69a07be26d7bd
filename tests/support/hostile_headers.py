"""Files that promise far more than they hold: small, made by the tests, for the tests."""

import struct

SIDE = 16383


def huge_webp(kind="VP8L"):
    """A WebP of at most 34 bytes that claims to have 16383 x 16383 pixels."""
    if kind == "VP8L":
        content = b"\x2f" + struct.pack("<I", (SIDE - 1) | (SIDE - 1) << 14) + bytes(9)
    elif kind == "VP8X":
        content = bytes(4) + struct.pack("<I", SIDE - 1)[:3] + struct.pack("<I", SIDE - 1)[:3]
    else:
        content = b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", SIDE, SIDE) + bytes(4)
    chunk = kind.encode() + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def many_strips(count, order="<", is_big=False):
    """A TIFF of 8 x 8 pixels whose picture is in ``count`` strips, all of them the same bytes. ``is_big``: BigTIFF."""
    begin = 16 if is_big else 8
    numbers = struct.pack(order + "I", begin + 8) * 4
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (273, 4, count, begin),
               (277, 4, 1, 1), (278, 4, 1, 1), (279, 4, count, begin)]
    offset = begin + len(numbers)
    mark = b"II" if order == "<" else b"MM"
    if is_big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, offset)
        table = b"".join(struct.pack(order + "HHQQ", tag, kind, many, value if many > 1 else _left(order, value, 8))
                         for tag, kind, many, value in entries)
        return head + numbers + struct.pack(order + "Q", len(entries)) + table + bytes(8)
    head = mark + struct.pack(order + "HI", 42, offset)
    table = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return head + numbers + struct.pack(order + "H", len(entries)) + table + bytes(4)


def _left(order, value, width):
    """A number of four bytes at the left of a field of ``width``, as an integer of that field."""
    return value if order == "<" else value << 8 * (width - 4)
