"""A small set of pictures to try Stoker with, drawn by this module: the first run needs no data of your own.

    python -m stoker.pipeline.sources.sample_data sample-data [--count 2000] [--seed 0]

Every picture is an aquarium with one big striped fish among plain ones, weed, bubbles and light. In ``positive/`` its
stripes run across the body, in ``negative/`` along it; nothing else depends on the class.
"""

import argparse
import colorsys
import json
import math
import os
import sys
import tempfile
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from stoker.pipeline.errors import ConfigError, StokerError
from stoker.pipeline.output import protect
from stoker.pipeline.plan import random_state
from stoker.pipeline.storage.checked_json import loads
from stoker.pipeline.storage.safe_files import read_whole

CLASSES = ("negative", "positive")
MARKER = ".sample-data.json"  # in the finished set; hidden, so that a scan does not take it for a sample
MAX_MARKER_BYTES = 1000
RECIPE = 1                    # increase it with every change of the pictures


def picture(index: int, seed: int) -> "np.ndarray":
    """Picture ``index`` of the set ``seed``, of class ``CLASSES[index % 2]``: uint8 [height, width, 3], sides of 80 to
    200 pixels. It depends on the arguments alone."""
    random = random_state("sample-data", seed, index)
    width = random.randint(80, 201)
    height = random.randint(max(80, width * 5 // 8), min(200, width * 8 // 5) + 1)
    scene = _Scene(random, width, height)
    scene.water()
    for _ in range(random.randint(0, 4)):
        scene.weed()
    for _ in range(random.randint(0, 3)):
        scene.fish(length=random.uniform(0.16, 0.28))
    scene.fish(length=random.uniform(0.65, 0.9), stripes=CLASSES[index % 2])
    for _ in range(random.randint(2, 9)):
        scene.bubble()
    grain = random.uniform(0.01, 0.05)
    planes = scene.planes + random.uniform(-grain, grain, (height, width)).astype(np.float32)
    planes = (np.clip(planes, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


class _Scene:
    """An unfinished picture. Lengths are in units of its shorter side, colours are RGB from 0 to 1."""

    def __init__(self, random: Any, width: int, height: int) -> None:
        self.random = random
        self.unit = float(min(width, height))
        self.x_end, self.y_end = width / self.unit, height / self.unit
        # float32 and Python's floats only: with numpy's scalars, the types of results depend on numpy's version
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / self.unit)[None, :]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / self.unit)[:, None]
        self.planes = np.empty((3, height, width), np.float32)  # one plane per colour: faster in numpy

    def water(self) -> None:
        """Two colours from top to bottom, with slow waves of light."""
        random = self.random
        hue = random.uniform(0.4, 0.75)
        top = _colour(hue, random.uniform(0.3, 0.8), random.uniform(0.6, 0.95))
        bottom = _colour(hue + random.uniform(-0.15, 0.15), random.uniform(0.5, 0.9), random.uniform(0.15, 0.5))
        depth = self.y / self.y_end
        self.planes[:] = (1.0 - depth) * top + depth * bottom
        strength = random.uniform(0.01, 0.06)
        for _ in range(2):
            x = random.uniform(-9.0, 9.0) * self.x + random.uniform(0.0, 6.3)
            y = random.uniform(-9.0, 9.0) * self.y
            # sin(x + y), without a sine for each pixel
            self.planes += strength * (np.sin(x) * np.cos(y) + np.cos(x) * np.sin(y))

    def weed(self) -> None:
        """One swaying blade that grows from the bottom."""
        random = self.random
        colour = _colour(random.uniform(0.2, 0.45), random.uniform(0.4, 0.9), random.uniform(0.2, 0.6))
        x, top = random.uniform(0.0, self.x_end), self.y_end * random.uniform(0.3, 0.8)
        rows, columns = slice(max(0, int(top * self.unit)), None), self._span(x, 0.1, self.x.shape[1])
        y = self.y[rows]
        middle = x + random.uniform(0.01, 0.05) * np.sin(random.uniform(4.0, 12.0) * y + random.uniform(0.0, 6.3))
        half_width = random.uniform(0.015, 0.04) * np.sqrt(np.clip((y - top) / (self.y_end - top), 0.0, 1.0))
        self._paint(rows, columns, half_width - np.abs(self.x[:, columns] - middle), colour)

    def bubble(self) -> None:
        """A ring of light."""
        random = self.random
        x, y, radius = random.uniform(0.0, self.x_end), random.uniform(0.0, self.y_end), random.uniform(0.01, 0.05)
        rows, columns = self._around(x, y, radius + 0.02)
        distance = np.hypot(self.x[:, columns] - x, self.y[rows] - y)
        self._paint(rows, columns, 0.012 - np.abs(distance - radius), _rgb(0.9, 0.97, 1.0), 0.6)

    def fish(self, length: float, stripes: Optional[str] = None) -> None:
        """A fish of this length anywhere in the picture; ``stripes``: of this class, None for a plain one."""
        random = self.random
        half = length / 2.0
        x = random.uniform(half * 0.9, self.x_end - half * 0.9)
        y = random.uniform(half * 0.6, self.y_end - half * 0.6)
        tilt = random.uniform(-0.2, 0.2)
        facing = 1.0 if random.randint(2) else -1.0
        hue = random.uniform(0.0, 1.0)
        bright = _colour(hue, random.uniform(0.2, 0.9), random.uniform(0.75, 1.0))
        dark = _colour(hue + random.uniform(0.2, 0.8), random.uniform(0.4, 1.0), random.uniform(0.1, 0.45))
        rows, columns = self._around(x, y, half * 1.1)
        dx, dy = self.x[:, columns] - x, self.y[rows] - y
        # the fish's own axes: along it, from -1 at the tail to 1 at the mouth, and down its side
        along = facing * (dx * math.cos(tilt) + dy * math.sin(tilt)) / half
        down = (dy * math.cos(tilt) - dx * math.sin(tilt)) / half
        fat = random.uniform(0.5, 0.7)
        body = (1.0 - np.hypot((along - 0.2) / 0.8, down / fat)) * fat * half
        tail = np.minimum(0.15 - 0.8 * (along + 0.45) - np.abs(down), along + 1.0) * half * 0.7
        self._paint(rows, columns, tail, dark if random.randint(2) else bright)
        self._paint(rows, columns, body, bright)
        if stripes is not None:
            across = along - 0.12 * np.square(down) if stripes == "positive" else down + 0.12 * np.square(along)
            wave = np.sin(random.uniform(9.0, 16.0) * across + random.uniform(0.0, 6.3))
            self._paint(rows, columns, np.minimum(body, wave * 0.05), dark, random.uniform(0.7, 1.0))
        eye = np.hypot(along - 0.66, down + 0.12 * fat)
        self._paint(rows, columns, (0.13 - eye) * half, _rgb(1.0, 1.0, 1.0))
        self._paint(rows, columns, (0.07 - eye) * half, _rgb(0.05, 0.05, 0.1))

    def _around(self, x: float, y: float, reach: float) -> Tuple[slice, slice]:
        """The rows and columns of the square around a point, cut off at the edges of the picture."""
        return self._span(y, reach, len(self.y)), self._span(x, reach, self.x.shape[1])

    def _span(self, middle: float, reach: float, size: int) -> slice:
        return slice(max(0, int((middle - reach) * self.unit)), min(size, int((middle + reach) * self.unit) + 2))

    def _paint(self, rows: slice, columns: slice, inside: Any, colour: Any, opacity: float = 1.0) -> None:
        """Cover where ``inside``, the depth below a shape's edge, is positive; edges are one pixel soft."""
        cover = np.clip(inside * self.unit + 0.5, 0.0, 1.0) * opacity
        part = self.planes[:, rows, columns]
        part += cover * (colour - part)


def _colour(hue: float, saturation: float, value: float) -> Any:
    return _rgb(*colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _rgb(red: float, green: float, blue: float) -> Any:
    return np.array([red, green, blue], np.float32)[:, None, None]


def write(folder: str, count: int = 2000, seed: int = 0) -> bool:
    """Draws the set of ``count`` pictures of ``seed`` into ``folder``; False if it is there already.

    The set appears complete or not at all. Raises ConfigError if the folder has other contents, else OSError.
    """
    if count < 2:
        raise ConfigError("count must be at least 2, one picture for each class, not %r" % count)
    folder, wanted = os.path.abspath(folder), {"recipe": RECIPE, "count": count, "seed": seed}
    if _is_present(folder, wanted):
        return False
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError("%s does not have Pillow, which writes the pictures (%s): pip install pillow"
                          % (sys.executable, error)) from error
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-data-", dir=os.path.dirname(folder)) as private:
        unfinished = os.path.join(private, "set")   # a folder below, because only this user can open ``private``
        for name in CLASSES:
            os.makedirs(os.path.join(unfinished, name))
        for index in range(count):
            if index % 50 == 0 and sys.stderr.isatty():
                sys.stderr.write("\rdrawing picture %d of %d" % (index, count))
            path = os.path.join(unfinished, CLASSES[index % 2], "%06d.jpg" % index)
            Image.fromarray(picture(index, seed)).save(path, quality=88)
        with open(os.path.join(unfinished, MARKER), "w") as marker:
            json.dump(wanted, marker)
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not _is_present(folder, wanted):     # it is, if another process made the same set meanwhile
                raise
    return True


def _is_present(folder: str, wanted: Dict[str, int]) -> bool:
    """Whether ``folder`` holds the wanted set. Raises ConfigError if it holds anything else."""
    if not os.path.lexists(folder):
        return False
    if not os.path.isdir(folder):
        raise ConfigError("%s is not a folder: name one that does not exist" % folder)
    if not os.listdir(folder):
        return False
    try:
        found = loads(read_whole(os.path.join(folder, MARKER), MAX_MARKER_BYTES))
    except (OSError, ValueError) as error:
        raise ConfigError("%s holds other files: name a folder that is empty or does not exist" % folder) from error
    if found != wanted:
        raise ConfigError("%s holds another sample set (%s, wanted %s): remove it first, or name another folder"
                          % (folder, found, wanted))
    pictures = sum(len(os.listdir(os.path.join(folder, name))) for name in CLASSES
                   if os.path.isdir(os.path.join(folder, name)))
    if pictures != wanted["count"]:
        raise ConfigError("%s should hold %d pictures and holds %d: remove it and run this again"
                          % (folder, wanted["count"], pictures))
    return True


def main(arguments: Optional[List[str]] = None) -> int:
    """The command line; returns its exit code."""
    protect()
    parser = argparse.ArgumentParser(prog="python -m stoker.pipeline.sources.sample_data",
                                     description="Draw a small set of pictures in two classes, to try Stoker with.")
    parser.add_argument("folder", metavar="DIR", help="the folder to make; nothing is written if it has other contents")
    parser.add_argument("--count", type=int, default=2000, help="number of pictures, half of them in each class (2000)")
    parser.add_argument("--seed", type=int, default=0, help="each seed gives other pictures (0)")
    options = parser.parse_args(arguments)
    try:
        drawn = write(options.folder, options.count, options.seed)
    except (StokerError, OSError) as error:
        sys.stderr.write("error: %s was not made: %s\n" % (options.folder, error))
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: %s was not made\n" % options.folder)
        return 130
    print("%s: %d pictures%s" % (options.folder, options.count, "" if drawn else ", already there"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
