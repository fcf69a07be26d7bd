"""Whether the numbers in record files are pictures: their headers say it, before a worker opens one."""

from typing import Any

import numpy as np

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.storage.place import why_no_picture
from stoker.pipeline.text import printable_path


def check_pictures(source: Any) -> None:
    """Raises DatasetError if ``source``, any one, has record files whose samples are numbers and no pictures."""
    for path, part in zip(getattr(source, "files", ()), getattr(source, "own_parts", ())):
        problem = part.dtype and why_no_picture(np.dtype(part.dtype).name, part.shape)
        if problem:
            raise DatasetError("the numbers in %s are no pictures: %s" % (printable_path(path), problem))
