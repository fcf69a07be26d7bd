"""Boxes on a picture: which corners four numbers mean. Pure. Data has several conventions, and no sign of which one."""

from typing import Tuple

import numpy as np

XY, YX, SIZE, CENTRE = ("left, top, right, bottom", "top, left, bottom, right", "left, top, width, height",
                        "centre x and y, width, height")


def corners(boxes: "np.ndarray", height: int, width: int) -> Tuple["np.ndarray", str]:
    """float64 [n, 4]: left, top, right, bottom in pixels of a picture of ``height`` x ``width``, of the finite rows of
    ``boxes`` [n, 4 or more]; and how they were read, as the first convention by which all lie in the picture."""
    four = boxes[:, :4].astype(np.float64)
    four = four[np.isfinite(four).all(axis=1)]
    is_share = boxes.dtype.kind == "f" and bool(four.size) and bool((np.abs(four) <= 1.5).all())
    sides = np.array([width, height, width, height], np.float64)
    with np.errstate(all="ignore"):
        scaled = np.clip(four, -1e9, 1e9) * (sides if is_share else 1)
        swapped = np.clip(four, -1e9, 1e9) * (sides[::-1] if is_share else 1)
        candidates = (
            (XY, scaled), (YX, swapped[:, [1, 0, 3, 2]]),
            (SIZE, np.concatenate([scaled[:, :2], scaled[:, :2] + scaled[:, 2:]], axis=1)),
            (CENTRE, np.concatenate([scaled[:, :2] - scaled[:, 2:] / 2, scaled[:, :2] + scaled[:, 2:] / 2], axis=1)))
    fitting = [(name, each) for name, each in candidates if _fit(each, height, width)]
    name, found = (fitting or candidates)[0]
    return found, "%s, %s%s" % (name, "as shares of the sides" if is_share else "in pixels",
                                "" if fitting else ", which leads out of the picture")


def _fit(found: "np.ndarray", height: int, width: int) -> bool:
    slack = 1 + 0.05 * max(height, width)
    return bool((found[:, 2:] >= found[:, :2]).all() and (found >= -slack).all()
                and (found[:, 2] <= width + slack).all() and (found[:, 3] <= height + slack).all())
