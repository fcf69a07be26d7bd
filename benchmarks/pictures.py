"""The benchmarks' pictures: random crops of the photos that scikit-image and scikit-learn carry inside their packages.

    .venv/bench-pictures/bin/python -m benchmarks.pictures [FOLDER]

Three sets, each with its class folders positive/ and negative/, the same bytes with the same pins:

- ``photos``: 1,920 JPEGs of 500x375 pixels and about 40 KB, as in datasets from photo sites;
- ``large``: 96 JPEGs of 2304x1728 (4 megapixels), put together from crops at their own scale: an enlarged photo would
  have no detail, and be easier to decode than a real one;
- ``png``: 256 PNGs of 500x375.

Made once: a finished set has a hidden file with its recipe's number in it.
"""

import os
import random
import shutil
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

RECIPE = "1"
FOLDER = os.path.join(".cache", "bench-pictures")
PHOTOS = ("skimage/data/astronaut.png", "skimage/data/coffee.png", "skimage/data/chelsea.png",
          "skimage/data/rocket.jpg", "skimage/data/motorcycle_left.png",
          "sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg")


class Set(NamedTuple):
    name: str
    pictures: int
    suffix: str
    cells: int      # crops along a side


SETS = (Set("photos", 1920, "jpg", 1), Set("large", 96, "jpg", 6), Set("png", 256, "png", 1))
CELL = (384, 288)   # of ``large``
SMALL = (500, 375)


def make(folder: str, say: Callable[[str], None]) -> None:
    """Makes the sets that are missing."""
    missing = [each for each in SETS if not _finished(folder, each)]
    if not missing:
        return
    photos = _photos()
    for each in missing:
        say("cutting %d pictures into %s ..." % (each.pictures, os.path.join(folder, each.name)))
        unfinished = os.path.join(folder, each.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("negative", "positive"):
            os.makedirs(os.path.join(unfinished, name))
        for number in range(each.pictures):
            draw = random.Random("%s %d" % (each.name, number))
            _picture(each, draw, photos).save(
                os.path.join(unfinished, ("negative", "positive")[number % 2], "%05d.%s" % (number, each.suffix)),
                **({"quality": draw.randint(85, 90)} if each.suffix == "jpg" else {"compress_level": 6}))
        with open(os.path.join(unfinished, ".recipe"), "w") as file:
            file.write(RECIPE)
        shutil.rmtree(os.path.join(folder, each.name), ignore_errors=True)
        os.rename(unfinished, os.path.join(folder, each.name))


def facts(folder: str) -> Dict[str, str]:
    """The description of each set for the report."""
    found = {}
    for each in SETS:
        sizes = [os.path.getsize(os.path.join(path, name))
                 for path, _, names in os.walk(os.path.join(folder, each.name))
                 for name in names if name.endswith(each.suffix)]
        width, height = (side * each.cells for side in CELL) if each.cells > 1 else SMALL
        found[each.name] = "%d %ss of %dx%d pixels, %d KB on average" % (
            len(sizes), {"jpg": "JPEG", "png": "PNG"}[each.suffix], width, height, sum(sizes) / len(sizes) / 1000)
    return found


def _finished(folder: str, each: Set) -> bool:
    try:
        with open(os.path.join(folder, each.name, ".recipe")) as file:
            return file.read() == RECIPE
    except OSError:
        return False


def _photos() -> List[Any]:
    from importlib.util import find_spec
    from PIL import Image
    found = []
    for path in PHOTOS:
        package, _, inside = path.partition("/")
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations, "%s is not installed" % package
        found.append(Image.open(os.path.join(spec.submodule_search_locations[0], inside)).convert("RGB"))
    return found


def _picture(each: Set, draw: random.Random, photos: List[Any]) -> Any:
    from PIL import Image
    if each.cells == 1:
        return _crop(draw, photos, SMALL)
    picture = Image.new("RGB", (each.cells * CELL[0], each.cells * CELL[1]))
    for x in range(0, picture.width, CELL[0]):
        for y in range(0, picture.height, CELL[1]):
            picture.paste(_crop(draw, photos, CELL), (x, y))
    return picture


def _crop(draw: random.Random, photos: List[Any], size: Tuple[int, int]) -> Any:
    """A part of a photo, at its own scale or nearly so, sometimes flipped."""
    from PIL import Image, ImageOps
    photo = draw.choice(photos)
    scale = min(1.0, photo.width / size[0], photo.height / size[1]) * draw.uniform(0.85, 1.0)
    width, height = int(size[0] * scale), int(size[1] * scale)
    left, top = draw.randint(0, photo.width - width), draw.randint(0, photo.height - height)
    crop = photo.resize(size, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
    return ImageOps.mirror(crop) if draw.random() < 0.5 else crop


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else FOLDER, lambda text: print(text, file=sys.stderr, flush=True))
