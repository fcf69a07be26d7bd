"""Pictures that are nearly valid: seeded mutations of small files of each format. A seed and a number reproduce one."""

import random
import re
import struct
import zlib

#: Numbers around the limits of fields of one, two and four bytes.
EDGES = {1: (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 254, 255), 2: (0, 1, 2, 255, 256, 32767, 32768, 65534, 65535),
         4: (0, 1, 255, 65535, 65536, 1 << 24, (1 << 28) - 1, 1 << 28, (1 << 30) + 1, (1 << 31) - 1, 1 << 31,
             (1 << 32) - 2, (1 << 32) - 1)}
_FORMATS = {1: "B", 2: "H", 4: "I"}
_MOST_CHANGES = 6
_LARGEST = 1 << 16           # bytes of a mutated file
_MAGIC = 8                   # bytes at the beginning
_ONE_HOSTILE_IN = 5


class PictureMutator:
    """The picture ``number`` of ``seed``: one of ``corpus``, changed a little. ``corpus``: two lists of (name,
    content), of honest files and of hostile ones."""

    def __init__(self, corpus, seed, number):
        self._random = random.Random((seed << 40) + number)
        self._draw = self._random.random             # the same in every version of Python, unlike randrange
        self._corpus, self._hostile = corpus

    def below(self, limit):
        """A number in [0, limit)."""
        return int(self._draw() * limit)

    def pick(self, items):
        """One of ``items``."""
        return items[int(self._draw() * len(items))]

    def picture(self):
        """(name of the file it began as, content)."""
        name, data = self.pick(self._hostile if self.below(_ONE_HOSTILE_IN) == 0 else self._corpus)
        kind = _kind(data)
        for _ in range(1 + self.below(_MOST_CHANGES) * self.below(2)):
            change = self.pick(_OF_KIND.get(kind, ()) + _OF_ANY)
            data = change(self, data) or data
        if self._draw() < 0.75:
            data = _REPAIRED.get(kind, bytes)(data)
        return name, data[:_LARGEST]

    # ----------------------------------------------------------------------------------------------- of any format

    def _place(self, data):
        """A place in ``data``, more often near its beginning, where headers are; rarely in the first bytes, by which
        a file is known."""
        known = min(_MAGIC, len(data) - 1) if self.below(8) else 0
        return known + int((len(data) - known) * (self._draw() ** self.pick((1, 1, 3, 6))))

    def flip(self, data):
        """Another bit."""
        place = self._place(data)
        return data[:place] + bytes((data[place] ^ 1 << self.below(8),)) + data[place + 1:]

    def number(self, data):
        """A number of one, two or four bytes."""
        size = self.pick((1, 1, 2, 4, 4))
        place = self._place(data)
        value = self.pick(EDGES[size]) if self.below(3) else self._random.getrandbits(8 * size)
        return data[:place] + struct.pack(self.pick("<>") + _FORMATS[size], value) + data[place + size:]

    def nudge(self, data):
        """A number of two or four bytes, a little larger or smaller, twice or half as large."""
        size, order = self.pick((2, 4)), self.pick("<>")
        place = self._place(data)
        old = int.from_bytes(data[place:place + size], "little" if order == "<" else "big")
        value = self.pick((old + 1, old - 1, 2 * old, old // 2, old + 256, -old)) % (1 << 8 * size)
        return data[:place] + struct.pack(order + _FORMATS[size], value) + data[place + size:]

    def cut(self, data):
        """The end is missing, or a part in the middle."""
        begin = self._place(data)
        return data[:begin] + (data[begin + 1 + self.below(64):] if self.below(3) else b"")

    def repeat(self, data):
        """A part twice, or many times."""
        begin = self._place(data)
        part = data[begin:begin + 1 + self.below(64)]
        return data[:begin] + part * self.pick((2, 2, 3, 20, 300)) + data[begin + len(part):]

    def noise(self, data):
        """A few bytes more, or other ones."""
        begin, size = self._place(data), 1 + self.below(16)
        drawn = self._random.getrandbits(8 * size).to_bytes(size, "little")
        return data[:begin] + drawn + data[begin + size * self.below(2):]

    def move(self, data):
        """A part elsewhere."""
        begin, to, size = self._place(data), self._place(data), 1 + self.below(64)
        part, rest = data[begin:begin + size], data[:begin] + data[begin + size:]
        return rest[:to] + part + rest[to:]

    def splice(self, data):
        """The beginning of this file, and the end of another one."""
        other = self.pick(self._corpus)[1]
        return data[:self._place(data)] + other[self._place(other):]

    # ----------------------------------------------------------------------------------------------- of one format

    def png_chunk(self, data):
        """A chunk is missing, comes twice, or elsewhere."""
        return data[:8] + self._shuffled(list(_png_chunks(data)))

    def png_pixels(self, data):
        """Other pixels, before they are packed."""
        chunks = list(_png_chunks(data))
        packed = b"".join(each[8:-4] for each in chunks if each[4:8] == b"IDAT")
        try:
            pixels = zlib.decompressobj().decompress(packed, _LARGEST) if packed else b""
        except zlib.error:
            pixels = b""
        if not pixels:
            return data
        changed = zlib.compress(self.pick((self.flip, self.number, self.repeat, self.cut))(pixels))
        first = next(number for number, each in enumerate(chunks) if each[4:8] == b"IDAT")
        rest = [each for each in chunks if each[4:8] != b"IDAT"]
        rest.insert(first, struct.pack(">I", len(changed)) + b"IDAT" + changed + b"\0\0\0\0")
        return data[:8] + b"".join(rest)

    def jpeg_segment(self, data):
        """A segment is missing, comes twice, or elsewhere."""
        starts = [found.start() for found in re.finditer(b"\xff[\xc0-\xcf\xd8-\xfe]", data)] + [len(data)]
        return data[:starts[0]] + self._shuffled([data[begin:end] for begin, end in zip(starts, starts[1:])])

    def tiff_entry(self, data):
        """Type, count or value of an entry of the first directory."""
        order = "<" if data[:2] == b"II" else ">"
        begin, = struct.unpack_from(order + "I", data.ljust(8, b"\0"), 4)
        entries = struct.unpack_from(order + "H", data, begin)[0] if begin + 2 <= len(data) else 0
        if not entries:
            return data
        place = begin + 2 + 12 * self.below(min(entries, 64))
        at, size = self.pick(((0, 2), (2, 2), (4, 4), (8, 4), (8, 2)))
        value = self.pick(EDGES[size] + (len(data), begin, 8)) if at else 254 + self.below(90)
        if (at, size) == (2, 2):
            value = self.below(14)
        return data[:place + at] + struct.pack(order + _FORMATS[size], value % (1 << 8 * size)) + data[
            place + at + size:]

    def riff_chunk(self, data):
        """A chunk is missing, comes twice, or elsewhere."""
        return data[:12] + self._shuffled(list(_riff_chunks(data)))

    def decimal(self, data):
        """Another number of a PPM's header."""
        found = list(re.finditer(rb"\d+", data[:40]))
        if not found:
            return data
        one = self.pick(found)
        value = self.pick((b"0", b"1", b"65535", b"65536", b"99999", b"2147483648", b"9" * 30, b"-1", b"8000"))
        return data[:one.start()] + value + data[one.end():]

    def _shuffled(self, parts):
        if not parts:
            return b""
        where, what = self.below(len(parts)), self.below(4)
        if what == 0:
            del parts[where]
        elif what == 1:
            parts.insert(self.below(len(parts)), parts[where])
        elif what == 2:
            parts.insert(self.below(len(parts)), parts.pop(where))
        else:
            parts[where] = self.pick((self.flip, self.number, self.cut, self.repeat))(parts[where])
        return b"".join(parts)


_OF_ANY = (PictureMutator.flip, PictureMutator.flip, PictureMutator.number, PictureMutator.number,
           PictureMutator.nudge, PictureMutator.cut, PictureMutator.repeat, PictureMutator.noise,
           PictureMutator.move, PictureMutator.splice)
_OF_KIND = {"png": (PictureMutator.png_chunk, PictureMutator.png_pixels) * 2, "jpg": (PictureMutator.jpeg_segment,) * 3,
            "tif": (PictureMutator.tiff_entry,) * 6, "webp": (PictureMutator.riff_chunk,) * 2,
            "ppm": (PictureMutator.decimal,) * 2}


def _kind(data):
    for begin, kind in ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"II", "tif"), (b"MM", "tif"), (b"RIFF", "webp"),
                        (b"GIF", "gif"), (b"BM", "bmp"), (b"P", "ppm")):
        if data.startswith(begin):
            return kind
    return ""


def _png_chunks(data):
    place = 8
    while place + 8 <= len(data):
        size = struct.unpack_from(">I", data, place)[0]
        end = min(len(data), place + 12 + min(size, len(data)))
        yield data[place:end]
        place = end


def _riff_chunks(data):
    place = 12
    while place + 8 <= len(data):
        size = struct.unpack_from("<I", data, place + 4)[0]
        end = min(len(data), place + 8 + min(size + size % 2, len(data)))
        yield data[place:end]
        place = end


def _repaired_png(data):
    """With right checksums, so that the decoder looks behind them."""
    parts = [data[:8]]
    for part in _png_chunks(data):
        whole = len(part) >= 12
        parts.append(part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4]) & 0xFFFFFFFF) if whole else part)
    return b"".join(parts)


def _repaired_riff(data):
    """With the right size."""
    return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]


_REPAIRED = {"png": _repaired_png, "webp": _repaired_riff}
