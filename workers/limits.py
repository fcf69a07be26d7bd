"""The limits by which PIL judges a file: they are global variables of PIL, so a worker sets them for its whole job.

So they hold for Stoker's readers and for a function of the user that opens files with PIL itself. Where the job has the
default, a value that a module of the user has set is not touched: it then holds for Stoker's readers too.
"""

from typing import Any, Dict, Tuple

from PIL import Image, ImageFile, PngImagePlugin

from stoker.pipeline.options import MAX_FILE_MB, MAX_PIXELS, MAX_TEXT_MB, TRUNCATED_BAD, TRUNCATED_USE
from stoker.pipeline.protocol.messages import Job

_TEXTS_PER_FILE = 64         # so many of the longest, as PIL has it
_VARIABLES: Dict[str, Any] = {"MAX_IMAGE_PIXELS": Image, "MAX_TEXT_CHUNK": PngImagePlugin,
                              "MAX_TEXT_MEMORY": PngImagePlugin, "LOAD_TRUNCATED_IMAGES": ImageFile}
_PILS = {name: getattr(module, name) for name, module in _VARIABLES.items()}
#: What PIL says of a file whose beginning it can decode. (It also says "truncated" of a header, which is of no use.)
_PARTLY_THERE = ("image file is truncated", "data stream when reading", "data stream contents when reading")
_before: Dict[str, Any] = {}     # name of a variable that is set for the job -> its value before
_set: Dict[str, Any] = {}        # -> its value for the job
_max_file_bytes = MAX_FILE_MB << 20
_last: Tuple[Tuple[Any, ...], Tuple[Tuple[str, Any], ...]] = ((), ())     # the variables' values -> ``in_force``


def apply(job: Job) -> None:
    """Sets PIL's variables for ``job``, and sets back those that were set for another job."""
    global _max_file_bytes
    _max_file_bytes = job.max_file_mb << 20
    for name in [name for name in _set if getattr(_VARIABLES[name], name) != _set[name]]:
        del _set[name], _before[name]           # a module of the user has set it since
    wanted: Dict[str, Any] = {}
    pixels = _before.get("MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    if job.max_pixels != MAX_PIXELS or pixels == _PILS["MAX_IMAGE_PIXELS"]:
        wanted["MAX_IMAGE_PIXELS"] = job.max_pixels / 2     # PIL warns from here on, and refuses more than twice of it
    if job.max_text_mb != MAX_TEXT_MB:
        wanted["MAX_TEXT_CHUNK"] = job.max_text_mb << 20
        wanted["MAX_TEXT_MEMORY"] = _TEXTS_PER_FILE * wanted["MAX_TEXT_CHUNK"]
    if job.truncated != TRUNCATED_BAD:
        wanted["LOAD_TRUNCATED_IMAGES"] = job.truncated == TRUNCATED_USE
    for name in set(_before) - set(wanted):
        setattr(_VARIABLES[name], name, _before.pop(name))
        del _set[name]
    for name, value in wanted.items():
        _before.setdefault(name, getattr(_VARIABLES[name], name))
        _set[name] = value
        setattr(_VARIABLES[name], name, value)


def in_force() -> Tuple[Tuple[str, Any], ...]:
    """PIL's variables that have other values than its own, also by the user's code: they decide what a file becomes."""
    global _last
    now = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, \
        ImageFile.LOAD_TRUNCATED_IMAGES
    if now != _last[0]:          # it is asked for each picture, and a loop would take longer
        _last = now, tuple((name, value) for name, value in zip(_VARIABLES, now) if value != _PILS[name])
    return _last[1]


def max_pixels() -> float:
    """The most pixels of a picture by PIL's variable."""
    return float("inf") if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def max_file_bytes() -> int:
    """The size of the largest file of a picture."""
    return _max_file_bytes


def advice(error: Exception) -> str:
    """Which limit of the job's ``error`` of PIL is about, and what raises it; '' if it is about none."""
    if isinstance(error, Image.DecompressionBombError):
        return "; max_pixels (--max-pixels) permits more"
    text = str(error).lower()
    if isinstance(error, ValueError) and ("decompressed data too large" in text or "max_text_memory" in text):
        return "; max_text_mb (--max-text-mb) permits more"
    if isinstance(error, OSError) and any(words in text for words in _PARTLY_THERE):
        return "; truncated='use' (--truncated use) takes the part that is there"
    return ""
