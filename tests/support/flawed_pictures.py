"""Folders of pictures for ``stoker-check``: a good one, and one that has each of its kinds of flaws."""

import os
import shutil

import numpy as np
from PIL import Image

from tests.support.bad_pictures import BAD, ODD, exif, jpeg, photo

#: kind of finding -> the files, below the folder, that it must name (the first ones of each example).
FLAWS = {
    "contradictions": {"train/left/photo-00.jpg", "train/right/copy-of-left.jpg"},
    "leaks": {"train/left/photo-02.jpg", "val/left/leaked.jpg"},
    "duplicates": {"train/left/photo-04.jpg", "train/left/again.jpg"},
    "orientation": {"train/left/turned.jpg"},
    "blank": {"train/left/white.jpg", "train/right/black.png"},
    "tiny": {"train/left/one-pixel.png"},
    "aspect": {"train/left/wide.png", "train/right/tall.jpg"},
    "suffix": {"train/left/png-named.jpg"},
    "animated": {"train/left/animated.gif", "train/right/animated.png", "train/right/two-pictures.jpg"},
    "deep": {"train/left/grey-16-bit.png"},
    "cmyk": {"train/right/cmyk.jpg"},
    "transparent": {"train/left/la.png", "train/left/transparent-palette.png"},
    "huge": {"train/right/huge.png"},
}
#: file -> what its reason must have in it.
SKIPPED = {"train/left/zero-bytes.jpg": "empty file", "train/right/truncated.jpg": "truncated",
           "train/left/html.png": "HTML page", "train/right/text.jpg": "cannot identify",
           "train/right/bomb.png": "--max-pixels", "train/left/<script>alert(1)<.jpg": "cannot identify",
           "train/empty-but-bad/zero.jpg": "empty file"}


def good(root, count=24, size=(48, 64)):
    """``count`` pictures in two classes, in which nothing is wrong."""
    for number in range(count):
        folder = os.path.join(str(root), ("left", "right")[number % 2])
        os.makedirs(folder, exist_ok=True)
        photo(number, size).save(os.path.join(folder, "photo-%02d.jpg" % number), quality=90)


def flawed(root):
    """``root``/train and ``root``/val with each flaw of FLAWS and SKIPPED, and flaws of classes."""
    train, val = os.path.join(str(root), "train"), os.path.join(str(root), "val")
    good(train, 60)
    os.makedirs(os.path.join(val, "left"))
    os.makedirs(os.path.join(val, "unknown"))
    photo(101).save(os.path.join(val, "left", "own.jpg"), quality=90)
    photo(102).save(os.path.join(val, "unknown", "own.jpg"), quality=90)
    at = {path: os.path.join(str(root), path) for path in set(SKIPPED).union(*FLAWS.values())}
    for path in at.values():
        os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(at["train/left/photo-00.jpg"], at["train/right/copy-of-left.jpg"])
    with open(at["train/left/photo-02.jpg"], "rb") as file:
        content = file.read()
    with open(at["val/left/leaked.jpg"], "wb") as file:       # other bytes, the same pixels
        file.write(content[:2] + b"\xff\xfe\x00\x06text" + content[2:])
    shutil.copy(at["train/left/photo-04.jpg"], at["train/left/again.jpg"])
    turned = jpeg(at["train/left/turned.jpg"], photo(201), exif=exif(6))
    with open(at["train/left/turned.jpg"], "wb") as file:
        file.write(turned)
    Image.new("RGB", (64, 48), (255, 255, 255)).save(at["train/left/white.jpg"])
    Image.new("L", (64, 48), 0).save(at["train/right/black.png"])
    photo(202, (1, 1)).save(at["train/left/one-pixel.png"])
    photo(203, (40, 900)).save(at["train/left/wide.png"])
    photo(204, (900, 40)).save(at["train/right/tall.jpg"])
    photo(205).save(at["train/left/png-named.jpg"], format="PNG")
    photo(206).save(at["train/left/animated.gif"], save_all=True, append_images=[photo(207)])
    for path in ("train/right/animated.png", "train/right/two-pictures.jpg"):
        ODD[os.path.basename(path)](at[path])
    values = np.random.RandomState(0).randint(0, 65536, (48, 64)).astype(np.uint16)
    Image.fromarray(values).save(at["train/left/grey-16-bit.png"])
    photo(208).convert("CMYK").save(at["train/right/cmyk.jpg"])
    for path in ("train/left/la.png", "train/left/transparent-palette.png"):
        ODD[os.path.basename(path)](at[path])
    huge = np.zeros((5500, 5500), np.uint8)
    huge[::2] = np.arange(5500) % 251
    Image.fromarray(huge).save(at["train/right/huge.png"], compress_level=1)
    for path in SKIPPED:
        name = os.path.basename(path)
        content = {"zero.jpg": b"", "<script>alert(1)<.jpg": b"<b>no picture</b>"}.get(name)
        if content is None:
            BAD[name][0](at[path])
        else:
            with open(at[path], "wb") as file:
                file.write(content)
    os.makedirs(os.path.join(train, "nothing"))
    shutil.copy(at["train/left/photo-04.jpg"], os.path.join(train, "in-no-class.jpg"))
    os.symlink("nowhere.jpg", os.path.join(train, "left", "dangling.jpg"))
    return train, val
