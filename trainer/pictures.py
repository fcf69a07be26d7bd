"""What the arrays of a batch look like: for the status page, and for ``stoker-show``. Only draws; decodes nothing."""

import io
from typing import Any, List, NamedTuple

import numpy as np
from PIL import Image

from stoker.pipeline.batch import Batch

MAX_SIDE = 160       # of a picture, in pixels
_FILTERS: Any = getattr(Image, "Resampling", Image)     # where the filters are since Pillow 9.1, and before


class View(NamedTuple):
    """One array of one sample, as people see it."""
    name: str        # of the array
    kind: str        # "picture" or "text"
    png: bytes       # a PNG file; b"" if there is no picture of it
    text: str        # its values or figures, in a line


def views(batch: Batch, row: int, max_side: int = MAX_SIDE) -> List[View]:
    """Each array of row ``row`` of ``batch``, in their order; pictures have at most ``max_side`` pixels a side."""
    found = []
    for spec, array in zip(batch.specs, batch.arrays):
        value = array[row]
        is_picture = value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] == 3
        png = png_of(value, max_side) if is_picture else b""
        found.append(View(spec.name, "picture" if png else "text", png, "" if png else " ".join(
            str(each) for each in value.reshape(-1)[:8].tolist())))
    return found


def png_of(pixels: "np.ndarray", max_side: int = MAX_SIDE) -> bytes:
    """A PNG file of uint8 [height, width, 3], not larger than ``max_side``."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((max_side, max_side), _FILTERS.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
