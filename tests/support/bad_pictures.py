"""Every kind of picture and of bad file that a folder of pictures may hold.

``ODD`` are unusual pictures that PIL opens. ``BAD`` are not pictures; each has the expected reason, a regular
expression. ``LATE`` become bad after the trainer has scanned the folder. ``Folder`` mixes all of them with
ordinary pictures.
"""

import functools
import os
import random
import re
import struct
import zlib

import numpy as np
from PIL import Image

from stoker.pipeline.storage.folder import LINK_OUT
from tests.support.formats import WEBP_IS_SAFE, WEBP_REASON

UNIDENTIFIED = "UnidentifiedImageError: cannot identify image file"
#: The beginning of a photo of a phone, and what a clone without Git LFS has in the place of a file.
HEIC = struct.pack(">I4s4sI8s", 24, b"ftyp", b"heic", 0, b"mif1heic") + bytes(400)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 51234\n"
SIZE = (48, 64)      # (height, width) of most of them


def photo(number=0, size=SIZE):
    """A smooth picture, different for each number."""
    y, x = np.mgrid[0:size[0], 0:size[1]].astype(np.float64)
    waves = [np.sin(x / (9 + number % 7) + y / 23 + number + 2 * channel) for channel in range(3)]
    return Image.fromarray(np.uint8(np.stack(waves, axis=-1) * 120 + 128))


# ---------------------------------------------------------------------------------------------------- made by hand

def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) & 0xFFFFFFFF)


@functools.lru_cache(maxsize=None)
def png(height, width, *extra):
    """A PNG of one bit a pixel, all black: complete, and tiny whatever its size."""
    row, packer = bytes(1 + (width + 7) // 8), zlib.compressobj(9)
    pixels = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
            + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def text_chunk(size):
    """A PNG's compressed text of ``size`` bytes."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * size))


def jpeg(path, image, **options):
    """The bytes of ``image`` as a JPEG."""
    image.save(path, "JPEG", quality=90, **options)
    with open(path, "rb") as file:
        return file.read()


def exif(orientation):
    """EXIF data with this orientation and nothing else."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


#: Invalid EXIF data.
BROKEN_EXIF = {
    "noise": b"Exif\0\0" + bytes(bytearray(range(7, 90))),
    "empty": b"Exif\0\0",
    "cut": exif(6)[:24],
    "offset-beyond": b"Exif\0\0II*\0" + struct.pack("<I", 1 << 20),
    "orientation-0": exif(0),
    "orientation-99": exif(99),
    "orientation-a-text": b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"six\0", 0),
    "orientation-elsewhere": b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1 << 20, 1 << 30, 0),
    "loop": b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8),
}


def _write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def _mpo(path):
    """Two JPEGs in one, as some cameras write them (CIPA DC-007)."""
    first, second = jpeg(path, photo(1)), jpeg(path, photo(2))
    size = 2 + 2 + 4 + 82                # of the segment: marker, length, 'MPF', table
    total = len(first) + size
    place = 4 + struct.unpack(">H", first[4:6])[0]       # behind the first segment, where PIL looks for it
    entries = (struct.pack("<IIIHH", 0x030000, total, 0, 0, 0)
               + struct.pack("<IIIHH", 0, len(second), total - (place + 8), 0, 0))
    table = (b"II*\0" + struct.pack("<IH", 8, 3) + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
             + struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHII", 0xB002, 7, 32, 50) + struct.pack("<I", 0)
             + entries)
    assert len(table) == 82
    segment = b"\xff\xe2" + struct.pack(">H", size - 2) + b"MPF\0" + table
    _write(path, first[:place] + segment + first[place:] + second)


def _ycck(path):
    whole = bytearray(jpeg(path, photo().convert("CMYK")))
    whole[whole.index(b"Adobe") + 11] = 2        # the transform: what were C, M, Y are now Y, Cb, Cr
    _write(path, bytes(whole))


def _animated(path, **options):
    photo(0).save(path, save_all=True, append_images=[photo(1), photo(2)], **options)


def _translucent(mode):
    image = photo().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(SIZE[1]) * 4, (SIZE[0], 1)).astype(np.uint8)))
    return image.convert(mode)


#: name -> how it is written. All of them are pictures.
ODD = {
    "cmyk.jpg": lambda path: photo().convert("CMYK").save(path),
    "ycck.jpg": _ycck,
    "grey-16-bit.png": lambda path: Image.fromarray(np.arange(0, 65536, 22, dtype=np.uint16)[:2976].reshape(48, 62)
                                                    ).save(path),
    "float.tif": lambda path: Image.fromarray(np.linspace(-9, 300, 48 * 64).reshape(48, 64).astype(np.float32)
                                              ).save(path),
    "transparent-palette.png": lambda path: photo().convert("P").save(path, transparency=b"\x00\x80" * 128),
    "transparent.gif": lambda path: photo().convert("P").save(path, transparency=3),
    "la.png": lambda path: _translucent("LA").save(path),
    "rgba.webp": lambda path: _translucent("RGBA").save(path, lossless=True),
    "animated.gif": _animated,
    "animated.png": _animated,
    "animated.webp": lambda path: _animated(path, lossless=True, duration=100),
    "turned.jpg": lambda path: _write(path, jpeg(path, photo(), exif=exif(6))),
    "turned.png": lambda path: photo().save(path, exif=exif(8)),
    "one-pixel.png": lambda path: photo(0, (1, 1)).save(path),
    "wide.png": lambda path: photo(0, (2, 30000)).save(path),
    "tall.jpg": lambda path: photo(0, (30000, 2)).save(path),
    "two-pictures.jpg": _mpo,
    "png-named.jpg": lambda path: photo().save(path, format="PNG"),
    "some-text.png": lambda path: _write(path, png(8, 8, text_chunk(1000))),
    "bits.bmp": lambda path: photo().convert("1").save(path),
    "sixteen-colours.tif": lambda path: photo().convert("P").save(path, compression="tiff_lzw"),
}

#: name -> (how it is written, the expected reason).
BAD = {
    "zero-bytes.jpg": (lambda path: _write(path, b""), "empty file$"),
    "text.jpg": (lambda path: _write(path, b"no picture\n" * 40), UNIDENTIFIED),
    "html.png": (lambda path: _write(path, b"<html><body>404 Not Found</body></html>"),
                 "an HTML page, not a picture$"),
    "truncated.jpg": (lambda path: _write(path, jpeg(path, photo())[:-300]), "OSError: image file is truncated"),
    "header-only.jpg": (lambda path: _write(path, jpeg(path, photo())[:30]), "OSError: Truncated File Read|" +
                        UNIDENTIFIED),
    "truncated.png": (lambda path: (photo().save(path), os.truncate(path, 900)),
                      "OSError: image file is truncated|SyntaxError: broken PNG file"),
    "bomb.png": (lambda path: _write(path, png(30000, 30000)),
                 "DecompressionBombError: Image size \\(900000000 pixels\\) exceeds limit of (64000000|178956970) "
                 "pixels; max_pixels \\(--max-pixels\\) permits more$"),
    "bomb.gif": (lambda path: _write(path, b"GIF89a" + struct.pack("<HHBBB", 65000, 65000, 0, 0, 0)
                                     + b"," + struct.pack("<HHHHB", 0, 0, 65000, 65000, 0) + b"\x08\x01\x01;"),
                 "DecompressionBombError: Image size"),
    "huge-text.png": (lambda path: _write(path, png(8, 8, text_chunk(8 << 20))),
                      "ValueError: Decompressed data too large; max_text_mb \\(--max-text-mb\\) permits more$"),
    "script.jpg": (lambda path: photo().save(path, format="EPS"), "PostScript, not JPEG, PNG, "),
    "phone.jpg": (lambda path: _write(path, HEIC), "HEIC, not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM$"),
    "git-lfs.jpg": (lambda path: _write(path, LFS), "a placeholder of Git LFS, not a picture: git lfs pull$"),
    "tab\tand\nline.jpg": (lambda path: _write(path, b"x"), UNIDENTIFIED),
    "back\\slash-\udcff.jpg": (lambda path: _write(path, b"y"), UNIDENTIFIED),
}

#: name -> (what a picture becomes after the scan, the reason).
LATE = {
    "gone.jpg": (os.remove, "FileNotFoundError: no such file"),
    "directory.jpg": (lambda path: (os.remove(path), os.mkdir(path)), "IsADirectoryError: is a directory"),
    "dangling.jpg": (lambda path: (os.remove(path), os.symlink("nowhere", path)), "FileNotFoundError: no such file"),
    "link-to-itself.jpg": (lambda path: (os.remove(path), os.symlink("link-to-itself.jpg", path)),
                           "OSError: too many levels of symbolic links"),
    "link-out.jpg": (lambda path: (os.remove(path), os.symlink(os.path.abspath(__file__), path)),
                     re.escape(LINK_OUT)),
    "pipe.jpg": (lambda path: (os.remove(path), os.mkfifo(path)), "not a regular file"),
    "socket-like.jpg": (lambda path: (os.remove(path), os.symlink("/dev/zero", path)), "not a regular file"),
}
if os.geteuid() != 0:      # root reads everything
    LATE["unreadable.jpg"] = (lambda path: os.chmod(path, 0), "PermissionError: permission denied")


class Folder:
    """``root`` with two classes, in which every fifth or so file is of one of the kinds above.

    ``bad``: path below root -> the reason, as a regular expression. Links out of root lead to files beside it.
    ``has_webp``: the workers open WebPs, which are else bad.
    """

    def __init__(self, parent, has_webp=WEBP_IS_SAFE):
        self.root = os.path.join(str(parent), "pictures")
        self.bad = {}
        self._stragglers = []
        kinds = sorted(list(ODD) + list(BAD) + list(LATE))
        random.Random(3).shuffle(kinds)
        for name in ("left", "right", "left/folder.jpg"):
            os.makedirs(os.path.join(self.root, name))
        os.mkdir(os.path.join(self.root, "right", "empty.png"))
        os.symlink("../left/000.jpg", os.path.join(self.root, "right", "link-within.jpg"))
        photo(1).save(os.path.join(self.root, "left", "folder.jpg", "inside.png"))
        for number in range(4 * len(kinds)):
            photo(number).save(os.path.join(self.root, ("left", "right")[number % 2], "%03d.jpg" % number))
        for number, kind in enumerate(kinds):
            path = "%s/%s" % (("left", "right")[number // 2 % 2], kind)
            place = os.path.join(self.root, path)
            if kind in ODD:
                ODD[kind](place)
                if kind.endswith(".webp") and not has_webp:
                    self.bad[path] = WEBP_REASON
            elif kind in BAD:
                write, self.bad[path] = BAD[kind]
                write(place)
            else:
                photo(number).save(place)
                self._stragglers.append((path, LATE[kind]))

    def after_the_scan(self):
        """What happens to the files without the trainer noticing."""
        for path, (change, reason) in self._stragglers:
            change(os.path.join(self.root, path))
            self.bad[path] = reason
