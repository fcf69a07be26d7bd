"""Decodes Pillow's own test pictures in every way, with the Pillow of the Python that runs it.

    python -m tests.support.pillow_pictures FOLDER CACHE

Prints JSON: ``wrong``: sentences about files of which not all ways make the same; ``cached``: how many pictures came
out of the cache, or are not kept because of a remark; ``files``: the name of each file that Stoker opens -> its mode as
PIL has it, a hash of the pixels by 'fastest', and, if it has more than 8 bits per channel, a hash of the upper ones.
"""

import hashlib
import json
import os
import sys
import warnings

import PIL
from PIL import Image, ImageOps

from stoker.pipeline.options import DECODERS
from stoker.pipeline.protocol.messages import Job
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import formats, headers, remarks
from stoker.workers.cache import Cache
from stoker.workers.readers import Readers
from tests.support.formats import FORMATS, WEBP_IS_SAFE

SUFFIXES = (".jpg", ".jpeg", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm",
            ".pnm", ".pfm")
SIZES = ((8, 8), (64, 64), (224, 224), (33, 80))     # height, width
SIZE = SIZES[1]
LARGE_BYTES = 1 << 20           # a file that takes longer is tried in fewer ways
#: JPEGs with broken EXIF data: Pillow 8 does not open them, and Stoker does with every Pillow.
MORE_THAN_PILLOW_8 = {"truncated_exif_dpi.jpg"}
#: With Pillow 8, its pixels are those of memory behind the file: other ones each time.
ARBITRARY_WITH_PILLOW_8 = {"tiff_tiled_jpeg_oob_read.tif"}
#: Their orientation stands in XMP or text only, which older Pillows do not read, and Stoker does with no Pillow.
XMP_ONLY = {"exif_imagemagick_orientation.png", "xmp_tags_orientation.png", "xmp_tags_orientation_exiftool.png"}
IS_PILLOW_8 = PIL.__version__.startswith("8.")
#: Arguments of sample.image behind the path. Each file is tried with two of them.
MORE = ((), (SIZE, "L"), (SIZE, "RGB", "bicubic"), (SIZE, "F"), (SIZE, "P"), (SIZE, "I;16", "bilinear"))


def names_in(folder):
    found = (os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder)
             for name in names)
    left_out = ARBITRARY_WITH_PILLOW_8 if IS_PILLOW_8 else ()
    return sorted(name for name in found if os.path.splitext(name)[1].lower() in SUFFIXES and name not in left_out)


def is_opened(path):
    """Not a WebP, if this Pillow's libwebp is one that opens none."""
    with open(path, "rb") as file:
        return WEBP_IS_SAFE or headers.format_of(file.read(16)) != "WEBP"


def expression(path, size, upright):
    """What PIL makes of the file as programs say it; None if it makes nothing of it."""
    try:
        with Image.open(path, formats=headers.FORMATS) as image:
            if image.format == "TIFF":
                image.load()        # turns it upright; Pillow 8 would resize it by its sides before
            elif upright:
                image = ImageOps.exif_transpose(image)
            return image.resize(size[::-1]).convert("RGB")
    except Exception:               # nearly any type, for a file that is no picture
        return None


def reader(folder, decode, upright=False, cache=None):
    return Readers(Job("image", (), 1, 0, decode, folder, upright, formats=FORMATS), cache)


def made(readers, name, *arguments):
    """The picture, None for a bad file. Any other error is a bug."""
    try:
        return readers.image(name, *arguments)
    except BadFile:
        return None


def hash_of(picture):
    return hashlib.blake2b(picture.tobytes(), digest_size=8).hexdigest()


def look_at(folder, name, number):
    """What is wrong with the pictures that are made of a file, and what ``files`` says of it."""
    path, wrong = os.path.join(folder, name), []
    is_known, is_large = IS_PILLOW_8 and name in MORE_THAN_PILLOW_8, os.path.getsize(path) > LARGE_BYTES
    opened = {}
    for size in SIZES[-1:] if is_large else SIZES:
        for upright in (False,) + (True,) * (size == SIZES[-1] and name not in XMP_ONLY):
            exact, wanted = made(reader(folder, "exact", upright), name, size), expression(path, size, upright)
            opened["exact", size, upright] = exact is not None
            if wanted is None and exact is None or is_known:
                continue
            if wanted is None or exact is None:
                wrong.append("%s, %s: PIL makes %s of it, and exact %s" % (name, size, wanted, exact))
            elif exact.tobytes() != wanted.tobytes():
                wrong.append("%s, %s, upright %s: exact is not what PIL makes" % (name, size, upright))
    hashes = {}
    for decode in DECODERS:
        for upright in (False,) + (True,) * (not is_large and decode == DECODERS[number % 4]):
            picture = made(reader(folder, decode, upright), name, SIZE)
            opened[decode, upright] = picture is not None
            if picture is not None and not upright:
                hashes[decode] = hash_of(picture)
    for arguments in (MORE[number % 6], MORE[(number + 1) % 6]):
        opened[arguments] = made(reader(folder, "fastest"), name, *arguments) is not None
    if len(set(opened.values())) > 1:
        wrong.append("%s: only some open it: %s" % (name, opened))
    mode = mode_of(path)
    upper = made(reader(folder, "exact"), name, None, "L") if mode and mode.startswith(("I", "F")) else None
    return wrong, hashes and [mode, hashes.get("fastest"), upper and hash_of(upper)]


def mode_of(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=headers.FORMATS) as image:
                return image.mode
        except Exception:
            return None


def cached_hashes(folder, names, cache_folder):
    """name -> hash of what comes out of the cache, or of a first decoding if it is not there; and how many came, or
    are not kept because a remark belongs to them."""
    def note(text, is_error):
        assert not is_error, text
    cache = Cache(cache_folder, 1.0, note)
    readers = reader(folder, "fastest", False, cache)
    before = remarks.count()
    hashes = {name: hash_of(readers.image(name, SIZE)) for name in names}
    hits = cache.hits + remarks.count() - before
    cache.close()
    return hashes, hits


def main(folder, cache_folder):
    warnings.simplefilter("ignore")
    formats.apply(FORMATS)
    wrong, files = [], {}
    for number, name in enumerate(names_in(folder)):
        if not is_opened(os.path.join(folder, name)):
            continue
        complaints, found = look_at(folder, name, number)
        wrong += complaints
        if found:
            files[name] = found
    cached_hashes(folder, files, cache_folder)
    found, hits = cached_hashes(folder, files, cache_folder)
    wrong += ["%s: another picture with the cache" % name for name in files if found[name] != files[name][1]]
    print(json.dumps({"wrong": wrong, "cached": hits, "files": files}))


if __name__ == "__main__":
    main(*sys.argv[1:])
