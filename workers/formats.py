"""Which formats of pictures this worker opens for its job, by their first bytes and the versions of its libraries.

The formats are set for the whole job, as PIL's limits are (limits.py), and hold for all of Stoker's readers.
"""

from functools import lru_cache
from typing import Any, Dict, Optional, Tuple

from PIL import features

from stoker.pipeline import formats as names
from stoker.pipeline.storage.folder import BadFile
from stoker.workers import headers

_refused: Dict[str, str] = {}       # PIL's name of a format -> why no file of it is opened
_in_force: Tuple[Tuple[str, Any], ...] = ()


@lru_cache(maxsize=1)
def versions() -> Dict[str, Optional[str]]:
    """format -> version of its library in this Pillow; None if it has none."""
    return {"webp": features.version("webp"), "tiff": features.version("libtiff")}


def apply(formats: Tuple[str, ...] = ()) -> None:
    """From now on, these are the job's formats; (): all whose library is safe."""
    global _in_force
    _refused.clear()
    for name in names.FORMATS:
        why = names.why_not(name, formats, versions().get(name))
        if why:
            _refused[name.upper()] = why
    _in_force = (("refused", tuple(_refused)),) if _refused else ()       # it is asked for each picture


def check(data: bytes) -> str:
    """PIL's name of the format of the picture with this content; '' if it is none that Stoker opens. Raises BadFile if
    the job does not open it here."""
    name = headers.format_of(data)
    if name in _refused:
        raise BadFile(_refused[name])
    return name


def opens_jpegs() -> bool:
    """Whether the job opens JPEGs here, as nearly all do."""
    return "JPEG" not in _refused


def in_force() -> Tuple[Tuple[str, Any], ...]:
    """The formats that are not opened: a cached picture of one must not be found."""
    return _in_force


apply()         # until there is a job: for programs that call stoker.load
