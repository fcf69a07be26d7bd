"""Samples on their way from a source into a shard, and from a sample to the members of a tar. Pure."""

import json
import math
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from stoker.pipeline.errors import DatasetError
from stoker.pipeline.sources.file_names import IMAGE_SUFFIXES
from stoker.pipeline.text import printable_path

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

MAX_PART_BYTES = 1 << 30      # of one part of a sample: more is refused before memory is touched

#: The first bytes of pictures, and the extension that they get.
_FIRST_BYTES = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF87a", "gif"), (b"GIF89a", "gif"),
                (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"P6", "ppm"), (b"P3", "ppm"), (b"P5", "pgm"),
                (b"P2", "pgm"))
_NOT_IN_KEYS = re.compile(r"[.%\x00-\x1f\x7f]|^_(?=_)")
#: Extensions of pictures, as members of shards have them.
IMAGE_EXTENSIONS = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)

Label = Union[int, str, None]
Parts = List[Tuple[str, bytes]]


class Found(NamedTuple):
    """A sample as its source has it."""
    where: str                      # for messages: "a.tfrecord, record 17"
    key: Optional[str]              # as ``escaped`` made it; None: it gets a number
    label: Label
    image: bytes
    extension: str                  # of the picture in its source; '' if it has none
    columns: Optional[Dict[str, Any]] = None      # what becomes KEY.json
    others: Tuple[Tuple[str, bytes], ...] = ()    # further parts, as they are
    other_key: Optional[str] = None               # if a sample of the same shard has the key


class LeftOut(NamedTuple):
    """What a source has in the place of a sample, and why it is none."""
    where: str
    why: str                        # a clause: "its CRC is wrong"
    remedy: str = ""                # what else than --skip-damaged helps


class Input(Protocol):
    """Samples in files, which are read from any sample on: always the same ones in the same order."""
    facts: List[Any]                        # of the sources, as the manifest keeps them: plain values
    class_names: Optional[Tuple[str, ...]]  # of its labels that are numbers, where the source has names for them
    by_folder: bool                         # its labels are the first folders of paths in a file
    units: int                              # how many files it reads one after the other
    total: int                              # of these, for the progress bar ...
    unit_name: str                          # ... called so
    threads: int                            # that call ``load`` at once, if the user does not say how many
    not_taken: Dict[str, int]               # what it has that is no sample, and how many, so far
    is_light: bool                          # ``records`` gives what ``load`` makes a sample of, in any thread

    def records(self, unit: int, start: int, labels_only: bool = False) -> Iterator[Any]:
        """The samples (Found, LeftOut) of file ``unit`` from its record ``start`` on."""

    def load(self, item: Any) -> Union[Found, LeftOut]:
        """The sample of an item that ``records`` gave."""

    def size_of(self, item: Any) -> int:
        """The bytes of memory that ``load`` takes for an item."""

    def done(self, unit: int, record: int) -> int:
        """Of ``total``, once all before this record are packed."""


def extension_of(image: bytes, otherwise: str) -> str:
    """The extension for a picture's content: "jpg". ``otherwise``: that of its source, if the content says nothing."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    for first, extension in _FIRST_BYTES:
        if image.startswith(first):
            return extension
    otherwise = otherwise.lower().lstrip(".")
    return otherwise if otherwise in IMAGE_EXTENSIONS else "jpg"


def escaped(path: str) -> str:
    """``path`` as the key of a sample, '/' between its parts: without dots, since the first one in the name of a tar's
    member ends the key; without control characters, and not as names that WebDataset skips (__x__). Each of these, and
    '%', is %XX."""
    return "/".join(_NOT_IN_KEYS.sub(lambda found: "%%%02X" % ord(found.group()), part)
                    for part in path.split("/") if part)


def path_keys(paths: Sequence[str]) -> "PathKeys":
    """The keys of files: their paths without suffix, except where two differ in nothing else."""
    seen: Set[str] = set()
    twice: Set[str] = set()
    for path in paths:
        stem = _stem(path)
        (twice if stem in seen else seen).add(stem)
    return PathKeys(twice)


class PathKeys:
    """``keys(path)`` is the key of a file."""

    def __init__(self, twice: Set[str]) -> None:
        self._twice = twice

    def __call__(self, path: str) -> str:
        stem = _stem(path)
        return escaped(path if stem in self._twice else stem)


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    return folder + slash + (stem or name)


def number_key(number: int) -> str:
    """The key of sample ``number`` of a source without names: "000000017"."""
    return "%09d" % number


class Labels:
    """From the labels of a source to class numbers: numbers stay, texts become the numbers of sorted names.

    ``names``: of the classes, in the order of their numbers; () if labels are numbers without names."""

    def __init__(self, names: Sequence[str], are_texts: bool) -> None:
        self.names = tuple(names)
        self._are_texts = are_texts
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def number(self, label: Label) -> Union[int, str, None]:
        """The class number; a text, why there is none, of a label that is none; None without a label."""
        if label is None:
            return None
        if isinstance(label, str):
            if not self._are_texts:
                return "its label is the text %s, and labels before are numbers" % printable_path(label[:80])
            return self._numbers.get(label, "its class %s is not among those of --classes" % printable_path(label[:80]))
        if self._are_texts:
            return "its label is the number %d, and labels before are texts" % label
        if not 0 <= label < 1 << 31:
            return "its label is %d, and class numbers begin with 0" % label
        if self.names and label >= len(self.names):
            return "its label is %d, and there are names of %d classes" % (label, len(self.names))
        return label


def parts_of(found: Found, number: Optional[int]) -> Parts:
    """The members of a sample: (extension, content)."""
    parts = [(extension_of(found.image, found.extension), found.image)]
    if number is not None:
        parts.append(("cls", b"%d" % number))
    if found.columns is not None:
        parts.append(("json", json_of(found.columns)))
    parts += found.others
    return parts


def json_of(columns: Dict[str, Any]) -> bytes:
    """A JSON object, always the same bytes for the same values."""
    return json.dumps({name: plain(value) for name, value in columns.items()}, ensure_ascii=False, sort_keys=True,
                      separators=(",", ":"), allow_nan=False).encode("utf-8", "surrogatepass")


def plain(value: Any) -> Any:
    """``value`` as JSON has it. Bytes are texts if they are UTF-8, else in base64; a number that is none is null."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            import base64
            return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value)


def checked_names(names: Sequence[str]) -> Tuple[str, ...]:
    """``names`` of classes, if a file with a line for each can hold them. Raises DatasetError."""
    odd = [name for name in names if not name or "\n" in name or "\r" in name]
    if odd:
        raise DatasetError("the class name %r has no place in classes.txt, which has a line for each: rename it" % (
            odd[0],))
    return tuple(names)
