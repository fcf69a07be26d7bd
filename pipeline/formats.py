"""The formats of pictures that a run opens, and the versions of the libraries behind them from which on files cannot
use a known fault. Pure: a worker asks for itself, the trainer for each worker that joins."""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from stoker.pipeline.errors import ConfigError

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm")
_OTHER_NAMES = {"jpg": "jpeg", "mpo": "jpeg", "tif": "tiff", "pgm": "ppm", "pbm": "ppm"}
SUFFIXES = {"webp": (".webp",), "tiff": (".tif", ".tiff")}     # of the formats whose library matters
_SHOWN = {"webp": "WebP", "tiff": "TIFF"}
NONE = "none"                  # in place of the version of a library that a worker's Pillow was built without


class _Library(NamedTuple):
    name: str
    least: Tuple[int, ...]
    fault: str                # of older ones
    may_be_named: bool        # naming the format opens it with an older one, too
    without: str              # the files that are not opened without it


#: format -> its library. libwebp before 1.3.2 writes behind the heap's end for a crafted lossless file (CVE-2023-4863):
#: such a file can run code. libtiff before 4.5.1 has faults that a file can reach through Pillow by its directory
#: (CVE-2022-0561, CVE-2022-0562, CVE-2022-0908, CVE-2022-34526, CVE-2022-40090, CVE-2023-2908), and CVE-2022-3970 in
#: TIFFReadRGBATile: crashes, and reads and writes out of bounds.
_LIBRARIES = {"webp": _Library("libwebp", (1, 3, 2), "CVE-2023-4863", False, "WebP"),
              "tiff": _Library("libtiff", (4, 5, 1), "known faults", True, "TIFF with compression")}


def checked(value: Any) -> Tuple[str, ...]:
    """The names in ``value``, a text such as 'jpeg,png' or a list, in the order of FORMATS; () if it is None or empty:
    the default, all formats whose library is safe. Raises ConfigError."""
    if value is None:
        return ()
    texts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [value]
    found = set()
    for text in texts:
        name = text.strip().lower() if isinstance(text, str) else text
        name = _OTHER_NAMES.get(name, name) if isinstance(name, str) else name
        if name not in FORMATS:
            raise ConfigError("formats must be names among %s, not %.80r" % (", ".join(FORMATS), text))
        found.add(name)
    return tuple(name for name in FORMATS if name in found)


def recorded(formats: Tuple[str, ...]) -> Any:
    """``formats`` as stoker.json has it."""
    return list(formats) or "default"


def why_not(name: str, formats: Tuple[str, ...], version: Optional[str]) -> str:
    """Why a worker opens no file of the format ``name``; '' if it does. ``formats``: those of the run; ``version``: of
    the worker's library for it, None if it has none."""
    shown = _SHOWN.get(name, name.upper())
    if formats and name not in formats:
        return "%s, and the run opens only %s (--formats)" % (shown, ", ".join(formats))
    if name == "webp" and version is None:
        return "WebP, and this Pillow was built without libwebp: use workers with another Pillow (--worker-python)"
    if not _is_unsafe(name, formats, version):
        return ""
    library = _LIBRARIES[name]
    return "%s, not opened, for %s %s has %s: use workers with a newer Pillow (--worker-python)%s" % (
        shown, library.name, version, library.fault, ", or --formats with tiff in it" * library.may_be_named)


def warning(name: str, formats: Tuple[str, ...], version: Optional[str], files: int, worker: str) -> str:
    """The sentence about a worker that opens no file of the format ``name`` because of its library; '' if it does, or
    if the data has no such file. ``files``: how many have, by their names; ``worker``: one, for people; ``version``: as
    ``versions_in`` gives it."""
    is_missing = version == NONE and name in _LIBRARIES and (not formats or name in formats)
    if not files or not is_missing and not _is_unsafe(name, formats, version):
        return ""
    library, least = _LIBRARIES[name], ".".join(map(str, _LIBRARIES[name].least))
    why = ("and the Pillow of %s was built without %s, as pillow-simd often is: it opens no %s, and such files" % (
        worker, library.name, library.without) if is_missing else
        "and %s has %s %s, which has %s: it does not open such files, and they" % (
            worker, library.name, version, library.fault))
    return ("%s of the data %s %s by the name, %s count as bad. Use workers with a newer Python and Pillow (%s %s or "
            "newer; --worker-python)%s. If some workers open them and others do not, a step has other samples on one "
            "than on the other: the run cannot be repeated to the byte" % (
                format(files, ",") + " file" + "s" * (files != 1), "are" if files != 1 else "is a", _SHOWN[name], why,
                library.name, least,
                ", or if you trust the files, --formats with tiff in it" * (library.may_be_named and not is_missing)))


def note(versions: Dict[str, Optional[str]]) -> str:
    """The line of a worker about its own libraries when it starts; '' if all are safe."""
    unsafe = [name for name in _LIBRARIES if _is_unsafe(name, (), versions.get(name))]
    return "" if not unsafe else (
        "this Pillow has %s with known faults that a file could use, so that %s files count as bad here%s: a newer "
        "Python and Pillow opens them" % (
            " and ".join("%s %s" % (_LIBRARIES[name].name, versions[name]) for name in unsafe),
            " and ".join(_SHOWN[name] for name in unsafe),
            " (TIFF: unless the run's --formats has it)" * ("tiff" in unsafe)))


def described(versions: Dict[str, Optional[str]]) -> str:
    """``versions`` (by format) as ``Hello.versions`` has them: 'libwebp 1.6.0, libtiff 4.7.2'."""
    return ", ".join("%s %s" % (library.name, versions.get(name) or NONE) for name, library in _LIBRARIES.items())


def versions_in(text: str) -> Dict[str, Optional[str]]:
    """format -> version of its library, in the text of ``Hello.versions``; NONE if it says so, None if it does not tell
    of the library."""
    found = {}
    for name, library in _LIBRARIES.items():
        match = re.search(r"\b%s (none\b|\d[\w.]*)" % library.name, text)
        found[name] = match.group(1) if match else None
    return found


def _is_unsafe(name: str, formats: Tuple[str, ...], version: Optional[str]) -> bool:
    library = _LIBRARIES.get(name)
    if library is None or version in (None, NONE) or formats and (name not in formats or library.may_be_named):
        return False
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return numbers < library.least
