"""Pictures that cost a worker far more than their file promises: bombs, liars, slow ones. Nothing in them runs code.

All are made here from plain bytes, without PIL: a picture is the same with every version of it, and every time.
``HOSTILE`` names each with its content and with what has to happen to it. Its functions make larger or smaller ones.

    python -m tests.support.hostile_pictures FOLDER      # writes all of them
"""

import os
import struct
import sys
import zlib
from typing import Callable, NamedTuple, Union

#: What has to happen to a picture.
BAD = "bad"              # it is a bad file with whatever options: its content is at fault, or its header lies
PIXELS = "pixels"        # more pixels than the usual ``max_pixels``: bad by its header; good where more are permitted
LARGE = "large"          # within the usual limits: good, and about as dear as a picture can be
SLOW = "slow"            # good; but it takes seconds or minutes of CPU time: bad where that is more than the limit
MEMORY = "memory"        # 9 megapixels that take 100 MB: good, or bad by a limit of memory below that
GOOD = "good"            # harmless, though it looks odd: it is opened as any other
OLD_LIBWEBP = "webp"     # good where libwebp is new enough; else a bad file by the name of its format

USUAL_PIXELS = 64 * 10 ** 6
PILS_PIXELS = 178956970              # PIL itself refuses more
BELOW, ABOVE = (7900, 8100), (8200, 8200)       # (width, height) around USUAL_PIXELS
BELOW_PILS = (13370, 13370)
MEGABYTE = 1 << 20


class Hostile(NamedTuple):
    """``content``: the file's bytes, or a function without arguments that makes them."""
    content: Union[bytes, Callable[[], bytes]]
    fate: str            # one of the words above
    reason: str = ""     # a regular expression: the beginning of what is said of a bad one; "" leaves it open
    old_fate: str = ""   # with Pillow 8, if it is another

    def bytes(self):
        """The file's content."""
        return self.content() if callable(self.content) else self.content

    def of(self, is_old):
        """The fate with the newest Pillow, or with Pillow 8."""
        return is_old and self.old_fate or self.fate


# ------------------------------------------------------------------------------------------------------------- zlib

def zeros(size):
    """A zlib stream of ``size`` zero bytes, without compressing them all: about 1/1000 of it, made at once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = rest.compress(bytes(size % MEGABYTE)) + rest.flush()
    return b"\x78\xda" + part * (size // MEGABYTE) + end + struct.pack(">HH", size % 65521, 1)


# -------------------------------------------------------------------------------------------------------------- PNG

def chunk(kind, data, length=None):
    """A chunk of a PNG. ``length``: what it says of its length."""
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data) & 0xFFFFFFFF)


def png(width=8, height=8, colour=6, bits=8, before=b"", pixels=None, interlaced=0):
    """A whole PNG, all zero. ``colour``: 0 grey, 2 RGB, 3 palette, 6 RGBA. ``before``: chunks before the pixels;
    ``pixels``: other content of the IDAT chunk."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * channels * bits + 7) // 8
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
            + chunk(b"IDAT", zeros(row * height) if pixels is None else pixels) + chunk(b"IEND", b""))


def png_texts(count, size=1):
    """A tiny PNG with ``count`` chunks of text, each of ``size`` bytes."""
    return png(before=chunk(b"tEXt", b"Comment\0" + b"x" * size) * count)


def png_packed_texts(count, size):
    """A tiny PNG with ``count`` compressed texts, each of ``size`` bytes when it is unpacked."""
    return png(before=chunk(b"zTXt", b"Comment\0\0" + zeros(size)) * count)


def png_packed_unicode(count, size):
    """The same as iTXt."""
    return png(before=chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros(size)) * count)


def png_profile(size):
    """A tiny PNG with a colour profile that is ``size`` bytes when it is unpacked."""
    return png(before=chunk(b"iCCP", b"profile\0\0" + zeros(size)))


def png_pieces(count):
    """A tiny PNG whose pixels come after ``count`` empty IDAT chunks."""
    whole = png()
    place = whole.index(b"IDAT") - 4
    return whole[:place] + chunk(b"IDAT", b"") * count + whole[place:]


# ------------------------------------------------------------------------------------------------------------- JPEG

def segment(kind, body):
    """A segment of a JPEG."""
    return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body


def _scan(component, low, high, before, now, data=b""):
    return segment(0xDA, bytes((1, component, 0, low, high, before << 4 | now))) + data


def _jpeg_tables(kind, width, height, components, sampling=0x11):
    frame = struct.pack(">BHHB", 8, height, width, components) + b"".join(
        bytes((number + 1, sampling if number == 0 else 0x11, 0)) for number in range(components))
    return (segment(0xDB, b"\0" + b"\1" * 64) + segment(kind, frame)
            + segment(0xC4, b"\x00" + bytes((1,)) + bytes(15) + b"\x00")       # DC: one bit for 'no difference'
            + segment(0xC4, b"\x10" + bytes((1,)) + bytes(15) + b"\xe0"))      # AC: one for 'up to 32767 empty blocks'


def slow_jpeg(scans, side=2048, components=3):
    """A grey area of ``side`` x ``side`` as a progressive JPEG whose last scan is repeated ``scans`` times. The decoder
    goes through all blocks for each, which takes about 20 bytes for 2048 x 2048."""
    blocks = ((side + 7) // 8) ** 2
    start = segment(0xDA, bytes((components,)) + b"".join(bytes((1 + number, 0)) for number in range(components))
                    + b"\0\0\0") + bytes((blocks * components + 7) // 8)
    runs = blocks // 32767 + 1
    bits = "0".join([""] + ["1" * 14] * runs)      # the code, and 14 bits of the run's length; as often as needed
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    first = b"".join(_scan(1 + number, 1, 63, 0, 1, empty) for number in range(components))
    return (b"\xff\xd8" + _jpeg_tables(0xC2, side, side, components) + start + first
            + _scan(components, 1, 63, 1, 0, empty) * scans + b"\xff\xd9")


def jpeg(width=16, height=16, components=3, before=b"", pixels=None):
    """A grey area as a baseline JPEG without AC coefficients. ``before``: segments before its tables."""
    blocks = ((width + 7) // 8) * ((height + 7) // 8) * components
    # AC: its table has the one code 'end of block'
    tables = _jpeg_tables(0xC0, width, height, components)[:-1] + b"\0"
    start = segment(0xDA, bytes((components,)) + b"".join(bytes((1 + number, 0)) for number in range(components))
                    + b"\0\x3f\0")
    data = bytes((blocks * 2 + 7) // 8) if pixels is None else pixels
    return b"\xff\xd8" + before + tables + start + data + b"\xff\xd9"


def jpeg_segments(count, size=0, kind=0xE5):
    """A tiny JPEG with ``count`` segments of ``size`` bytes that mean nothing."""
    return jpeg(before=segment(kind, b"x" * size) * count)


def mpo(frames):
    """A tiny JPEG whose index (CIPA DC-007) promises ``frames`` pictures, at most 4000."""
    entries = struct.pack("<IIIHH", 0x030000, 700, 0, 0, 0) * frames
    place = 8 + 2 + 3 * 12 + 4
    table = (b"II*\0" + struct.pack("<IH", 8, 3) + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
             + struct.pack("<HHII", 0xB001, 4, 1, frames) + struct.pack("<HHII", 0xB002, 7, len(entries), place)
             + struct.pack("<I", 0) + entries)
    return jpeg(before=segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + segment(0xE2, b"MPF\0" + table))


# ------------------------------------------------------------------------------------------------------------- WebP

def riff(*chunks):
    """A WebP file of (kind, data) chunks."""
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
                              for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8l(width, height, size=14):
    """The lossless data of a black area: every code has one symbol, so no pixel takes a bit. Eight bytes, and zeros."""
    bits, place = 0, 0
    # sides, alpha, version; no transform, cache or groups; five codes (a simple one, one symbol, of one bit: 0)
    for value, width_in_bits in [(width - 1, 14), (height - 1, 14), (0, 4), (0, 3)] + [(1, 4)] * 5:
        bits |= value << place
        place += width_in_bits
    return (b"\x2f" + bits.to_bytes(7, "little")).ljust(size, b"\0")


def webp(width, height):
    """34 bytes that are a black area."""
    return riff((b"VP8L", vp8l(width, height)))


def webp_canvas(width, height, frames=1):
    """An animation on a canvas of this size, of frames of one pixel."""
    frame = bytes(15) + b"\0" + b"VP8L" + struct.pack("<I", 8) + vp8l(1, 1, 8)
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff((b"VP8X", canvas), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * frames)


# ------------------------------------------------------------------------------------------------------------- TIFF

class Lie(NamedTuple):
    """An entry of a TIFF that says that ``count`` values of the type ``kind`` stand at ``offset``."""
    kind: int
    count: int  # type: ignore[assignment]  # hides tuple.count
    offset: int


SHORT, LONG, UNDEFINED = 3, 4, 7
_PACKED = {1: "B", SHORT: "H", LONG: "I", UNDEFINED: "B"}


def tiff(tags=None, pixels=bytes(64), following=0):
    """A TIFF of one directory: a grey area of 8 x 8, but for ``tags``: number -> (type, values), Lie, or None to leave
    it out. The pixels begin at byte 8; ``following``: where the next directory is."""
    merged = {256: (LONG, [8]), 257: (LONG, [8]), 258: (SHORT, [8]), 259: (SHORT, [1]), 262: (SHORT, [1]),
              273: (LONG, [8]), 277: (SHORT, [1]), 278: (LONG, [8]), 279: (LONG, [len(pixels)])}
    merged.update(tags or {})
    pixels += bytes(len(pixels) % 2)
    entries, values = b"", b""
    known = sorted((tag, entry) for tag, entry in merged.items() if entry is not None)
    end = 8 + len(pixels) + 2 + 12 * len(known) + 4
    for tag, entry in known:
        if isinstance(entry, Lie):
            entries += struct.pack("<HHII", tag, *entry)
            continue
        kind, numbers = entry
        packed = struct.pack("<%d%s" % (len(numbers), _PACKED[kind]), *numbers)
        entries += struct.pack("<HHI", tag, kind, len(numbers))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", end + len(values))
            values += packed + bytes(len(packed) % 2)
    return (b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(known)) + entries
            + struct.pack("<I", following) + values)


def tiff_strips(count, compression=1):
    """8 x 8 pixels in ``count`` strips of one row, two bytes of the file each."""
    return tiff({259: (SHORT, [compression]), 273: (SHORT, [8] * count), 278: (LONG, [1]), 279: (LONG, [8])})


def tiff_tiles(count):
    """8 x 8 pixels in ``count`` tiles of 16 x 16."""
    return tiff({273: None, 278: None, 279: None, 322: (LONG, [16]), 323: (LONG, [16]), 324: (SHORT, [8] * count),
                 325: (SHORT, [256] * count)}, bytes(256))


def tiff_shared_tags(count, size):
    """``count`` entries whose values are the same ``size`` bytes of the file: each reader copies them."""
    return tiff({2000 + number: Lie(UNDEFINED, size, 8) for number in range(count)}, bytes(size))


def tiff_packed(width, height, channels=4, bits=8, kind=1):
    """An area, deflated to a thousandth, in one strip. ``kind``: 1 whole numbers, 3 floating-point."""
    tags = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * channels), 259: (SHORT, [8]),
            262: (SHORT, [2 if channels > 1 else 1]), 277: (SHORT, [channels]), 278: (LONG, [height]),
            339: (SHORT, [kind] * channels)}
    if channels == 4:
        tags[338] = SHORT, [2]
    return tiff(tags, zeros(width * height * channels * bits // 8))


def tiff_huge_tile(side):
    """8 x 8 pixels in one tile of ``side`` x ``side``, deflated."""
    return tiff({259: (SHORT, [8]), 273: None, 278: None, 279: None, 322: (LONG, [side]), 323: (LONG, [side]),
                 324: (LONG, [8]), 325: (LONG, [len(zeros(MEGABYTE))])}, zeros(MEGABYTE))


# -------------------------------------------------------------------------------------------------------------- GIF

def lzw(count):
    """``count`` pixels of colour 0, packed: every code stands for one pixel more than the code before."""
    bits, place, code, width, left = 0, 0, 0, 3, count
    parts = [(4, 3)]                             # clear
    length, known = 1, 6
    while left > 0:
        parts.append((code, width))
        left -= length
        if code == 0:
            code, length = 6, 2                  # the string that is being made: the first pixel twice
        elif known < 4095:
            known += 1
            code, length = known, length + 1
        if known == 1 << width and width < 12:
            width += 1
    parts.append((5, width))
    for value, size in parts:
        bits |= value << place
        place += size
    data = bits.to_bytes((place + 7) // 8, "little")
    return b"\x02" + _blocks(data)


def _blocks(data):
    return b"".join(bytes((len(data[place:place + 255]),)) + data[place:place + 255]
                    for place in range(0, len(data), 255)) + b"\0"


_DOT = b"\x02\x02\x44\x01\0"        # one pixel


def gif(screen, frame=(1, 1), pixels=_DOT, frames=1, before=b""):
    """A GIF whose logical screen and frames have these sizes, (width, height)."""
    image = b"," + struct.pack("<HHHHB", 0, 0, *(frame + (0,))) + pixels
    return (b"GIF89a" + struct.pack("<HHBBB", *(screen + (0x80, 0, 0))) + b"\0\0\0\xff\xff\xff" + before
            + image * frames + b";")


def gif_comments(blocks):
    """A tiny GIF with a comment of so many blocks of 255 bytes."""
    return gif((1, 1), before=b"!\xfe" + _blocks(b"x" * 255 * blocks))


def gif_extensions(count):
    """A tiny GIF with ``count`` extensions of one byte."""
    return gif((1, 1), before=b"!\x01\x01x\0" * count)


# ------------------------------------------------------------------------------------------------------- BMP and PPM

def bmp(width, height, bits=24, compression=0, pixels=b"", colours=0):
    """A BMP with this header, sides as signed numbers."""
    palette = bytes(4 * (1 << bits)) if bits <= 8 else b""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    begin = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", begin + len(pixels), 0, 0, begin) + header + palette + pixels


def bmp_runs(width, height):
    """A run-length encoded area of one colour, two bytes for each 255 pixels."""
    row = b"\xff\0" * (width // 255) + (bytes((width % 255, 0)) if width % 255 else b"")
    return bmp(width, height, 8, 1, (row + b"\0\0") * height + b"\0\1")


def bmp_empty_lines(count):
    """A picture of 8 x 8 whose encoding has ``count`` codes that draw nothing."""
    return bmp(8, 8, 8, 1, b"\0\2\0\0" * count + b"\x08\0\0\0" * 8 + b"\0\1")


def ppm(width, height, kind=b"P6", most=b"255", pixels=b""):
    """A PPM whose numbers are written as they are given."""
    return kind + b"\n%d %d\n" % (width, height) + (most + b"\n" if kind not in (b"P1", b"P4") else b"") + pixels


# -------------------------------------------------------------------------------------------------------- the table

TERABYTE = 1 << 40
_TINY = {"jpg": jpeg(), "png": png(), "webp": webp(8, 8), "gif": gif((8, 8), (8, 8), lzw(64)),
         "bmp": bmp(8, 8, 24, 0, bytes(192)), "tif": tiff(), "ppm": ppm(8, 8, pixels=bytes(192))}
#: Names of files that a terminal, a log or a list must not take as they are. Their content is no picture.
NAMES = ("\x1b[2J\x1b[31mclear.jpg", "\x1b]0;title\x07.jpg", "line\nstoker: all is well.jpg", "back\rspace\x08.jpg",
         "\u202egpj.txt.jpg", "tab\there.jpg", "%s%n{0}.jpg", "-rf.jpg", "\udc9b31m.jpg", "quote'\"`$(id).jpg")

#: name -> Hostile. Names have no slash.
HOSTILE = {
    # bombs: many pixels from few bytes
    "webp-34-bytes.webp": Hostile(lambda: webp(16383, 16383), BAD),
    "below-pils.webp": Hostile(lambda: webp(*BELOW_PILS), PIXELS),
    "above.webp": Hostile(lambda: webp(*ABOVE), PIXELS),
    "below.webp": Hostile(lambda: webp(*BELOW), LARGE),
    "canvas-beyond.webp": Hostile(lambda: webp_canvas(1 << 24, 1 << 24), BAD),
    "canvas-16384.webp": Hostile(lambda: webp_canvas(16384, 16384), BAD),
    "canvas-above.webp": Hostile(lambda: webp_canvas(*ABOVE), PIXELS),
    "frames.webp": Hostile(lambda: webp_canvas(2, 2, 20000), GOOD),
    "beyond-pils.png": Hostile(lambda: png(30000, 30000, 0, 1), BAD, "DecompressionBombError"),
    "sides.png": Hostile(lambda: png(0x7fffffff, 0x7fffffff, pixels=b""), BAD),
    "below-pils.png": Hostile(lambda: png(*BELOW_PILS), PIXELS),
    "above.png": Hostile(lambda: png(*ABOVE), PIXELS),
    "below.png": Hostile(lambda: png(*BELOW), LARGE),
    "below-interlaced.png": Hostile(lambda: png(*BELOW, pixels=zeros(4 * BELOW[0] * BELOW[1]), interlaced=1), BAD),
    "above-16-bit.png": Hostile(lambda: png(*(ABOVE + (6, 16))), PIXELS),
    "sides.jpg": Hostile(lambda: jpeg(65500, 65500, pixels=b""), BAD, "DecompressionBombError"),
    "above.jpg": Hostile(lambda: jpeg(*ABOVE), PIXELS),
    "below.jpg": Hostile(lambda: jpeg(*BELOW), LARGE),
    "screen.gif": Hostile(lambda: gif((65535, 65535)), BAD, "DecompressionBombError"),
    "screen-above.gif": Hostile(lambda: gif(ABOVE), PIXELS),
    "screen-below.gif": Hostile(lambda: gif(BELOW), LARGE),
    "frame-beyond-screen.gif": Hostile(lambda: gif((1, 1), (65535, 65535)), BAD),
    "above.gif": Hostile(lambda: gif(ABOVE, ABOVE, lzw(ABOVE[0] * ABOVE[1])), PIXELS),
    "below.gif": Hostile(lambda: gif(BELOW, BELOW, lzw(BELOW[0] * BELOW[1])), LARGE),
    "width.bmp": Hostile(lambda: bmp(0x7fffffff, 1), BAD),
    "sides.bmp": Hostile(lambda: bmp(0x7fffffff, -0x80000000), BAD),
    "negative-width.bmp": Hostile(lambda: bmp(-8, 8, pixels=bytes(192)), BAD),
    "upside-down.bmp": Hostile(lambda: bmp(8, -8, pixels=bytes(192)), GOOD),
    "above.bmp": Hostile(lambda: bmp(*ABOVE), BAD),
    "runs-below.bmp": Hostile(lambda: bmp_runs(*BELOW), LARGE, old_fate=BAD),
    "runs-above.bmp": Hostile(lambda: bmp_runs(*ABOVE), PIXELS),
    "sides.ppm": Hostile(lambda: ppm(10 ** 20, 10 ** 20), BAD),
    "large.ppm": Hostile(lambda: ppm(99999, 99999), BAD),
    "above.ppm": Hostile(lambda: ppm(*ABOVE), BAD),
    "nothing-behind.ppm": Hostile(lambda: ppm(*BELOW), BAD),
    "digits.ppm": Hostile(lambda: b"P6\n" + b"9" * MEGABYTE + b" 8\n255\n", BAD),
    "comments.ppm": Hostile(lambda: b"P6\n" + b"#\n" * (MEGABYTE // 16) + b"8 8\n255\n" + bytes(192), GOOD),
    "above.tif": Hostile(lambda: tiff_packed(*ABOVE), PIXELS),
    "below.tif": Hostile(lambda: tiff_packed(*BELOW), LARGE),
    "memory.tif": Hostile(lambda: tiff_packed(3000, 3000, 4, 16), MEMORY),
    # slow ones, and such as take long for their size
    "slow.jpg": Hostile(lambda: slow_jpeg(5000), SLOW),
    "slow-grey.jpg": Hostile(lambda: slow_jpeg(5000, components=1), SLOW),
    "comments.gif": Hostile(lambda: gif_comments(40000), GOOD, old_fate=SLOW),
    "extensions.gif": Hostile(lambda: gif_extensions(MEGABYTE // 16), GOOD),
    "empty-lines.bmp": Hostile(lambda: bmp_empty_lines(MEGABYTE // 16), GOOD, old_fate=BAD),
    "segments.jpg": Hostile(lambda: jpeg_segments(MEGABYTE // 8), GOOD),
    "pieces.png": Hostile(lambda: png_pieces(MEGABYTE // 16), GOOD),
    # very many or very large parts
    "strips.tif": Hostile(lambda: tiff_strips(2 * MEGABYTE), BAD, "a TIFF"),
    "tiles.tif": Hostile(lambda: tiff_tiles(2 * MEGABYTE), BAD, "a TIFF"),
    "shared-tags.tif": Hostile(lambda: tiff_shared_tags(2000, MEGABYTE), BAD, "a TIFF"),
    "huge-tile.tif": Hostile(lambda: tiff_huge_tile(1 << 14), BAD),
    "texts.png": Hostile(lambda: png_texts(MEGABYTE // 32), GOOD),
    "packed-texts.png": Hostile(lambda: png_packed_texts(100, MEGABYTE - 1), BAD, "ValueError: "),
    "packed-unicode.png": Hostile(lambda: png_packed_unicode(100, MEGABYTE - 1), BAD, "ValueError: "),
    # headers that lie, and what decodes to nothing
    "huge-text.png": Hostile(lambda: png_packed_texts(1, 256 * MEGABYTE), BAD, "ValueError: Decompressed data too"),
    "profile.png": Hostile(lambda: png_profile(256 * MEGABYTE), BAD),
    "chunk-length.png": Hostile(lambda: png(before=chunk(b"tEXt", b"x", 0x7fffffff)), BAD),
    "unpacks-to-more.png": Hostile(lambda: png(8, 8, pixels=zeros(1 << 30)), GOOD),
    "unpacks-to-more.tif": Hostile(lambda: tiff({259: (SHORT, [8])}, zeros(1 << 30)), GOOD),
    "loop.tif": Hostile(lambda: tiff(following=72), GOOD),
    "counts.tif": Hostile(lambda: tiff({273: Lie(LONG, 0x7fffffff, 8)}), BAD),
    "tag-count.tif": Hostile(lambda: tiff({2000: Lie(UNDEFINED, 0xffffffff, 8)}), GOOD),
    "rows.tif": Hostile(lambda: tiff({278: (LONG, [0xffffffff])}), GOOD),
    "bits.tif": Hostile(lambda: tiff({258: (SHORT, [65535])}), BAD),
    "samples.tif": Hostile(lambda: tiff({277: (SHORT, [65535])}), BAD),
    "frames.jpg": Hostile(lambda: mpo(4000), GOOD),
    "frames.gif": Hostile(lambda: gif((2, 2), frames=100000), GOOD),
    "nothing.png": Hostile(lambda: png(0, 0), BAD),
    "no-scan.jpg": Hostile(lambda: jpeg(pixels=b"")[:-14], BAD),
    "no-picture.gif": Hostile(lambda: gif((8, 8), frames=0), BAD),
    "no-strips.tif": Hostile(lambda: tiff({273: None, 279: None}), BAD),
    "no-sides.ppm": Hostile(lambda: ppm(0, 0), BAD),
    "no-sides.bmp": Hostile(lambda: bmp(0, 0), BAD),
    "no-frame.webp": Hostile(lambda: webp_canvas(8, 8, 0), BAD),
    "zeros.jpg": Hostile(bytes(MEGABYTE), BAD, "nothing but zero bytes"),
    # without enough libwebp, WebP is no format; any valid file stands for the one that breaks the heap
    "old-libwebp.webp": Hostile(_TINY["webp"], OLD_LIBWEBP),
}
HOSTILE.update({"cut.%s" % suffix: Hostile(data[:len(data) * 2 // 3], BAD) for suffix, data in _TINY.items()})
HOSTILE.update({name: Hostile(b"no picture", BAD, "UnidentifiedImageError") for name in NAMES})

#: name -> bytes that a sparse file seems to have. ``write_sparse`` makes it; no disk is used.
SPARSE = {"terabytes.jpg": 4 * TERABYTE, "gigabytes.png": (1 << 30) + 1}


def write(path, name):
    """Writes one of HOSTILE."""
    with open(path, "wb") as file:
        file.write(HOSTILE[name].bytes())


def write_sparse(path, size):
    """A file of ``size`` bytes of which the disk has none; of as many as the file system permits."""
    with open(path, "wb") as file:
        while size:
            try:
                return os.ftruncate(file.fileno(), size)
            except OSError:             # it permits no file of such a size
                size //= 2


def tiny():
    """suffix -> the smallest valid file of each format: what the fuzzer begins with."""
    return dict(_TINY)


def main(folder):
    """Writes all of them into ``folder``."""
    os.makedirs(folder, exist_ok=True)
    for name in HOSTILE:
        write(os.path.join(folder, name), name)
    for name, size in SPARSE.items():
        write_sparse(os.path.join(folder, name), size)


if __name__ == "__main__":
    main(*sys.argv[1:])
