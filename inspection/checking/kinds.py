"""What a finding of ``stoker-check`` is, which kinds there are, and how one is said. Pure.

Each kind has a level: an ``ERROR`` is what a run would skip or learn wrongly, a ``WARNING`` is worth a look.
"""

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

MAX_EXAMPLES = 50           # of one finding; its ``count`` has all
ERROR, WARNING = LEVELS = ("error", "warning")
#: kind -> (level, what it is, in the plural)
KINDS: Dict[str, Tuple[str, str]] = {
    "refused": (ERROR, "reasons for which stoker-train refuses the data"),
    "bad": (ERROR, "files that a run would skip"),
    "rows": (ERROR, "rows without the path of a file"),
    "left-out": (ERROR, "files and folders that the scan left out"),
    "classes": (ERROR, "classes that have no good picture, or that only one part has"),
    "contradictions": (ERROR, "pictures that are equal and have different labels"),
    "leaks": (ERROR, "pictures of the validation data that are trained on"),
    "orientation": (WARNING, "pictures that are stored turned, without --exif-rotate"),
    "duplicates": (WARNING, "equal pictures of one class"),
    "blank": (WARNING, "pictures of one colour"),
    "truncated": (WARNING, "pictures whose files end too early, which --truncated use takes"),
    "imbalance": (WARNING, "classes of very different size"),
    "tiny": (WARNING, "tiny pictures"),
    "huge": (WARNING, "huge pictures"),
    "aspect": (WARNING, "pictures of extreme shape"),
    "suffix": (WARNING, "files of another format than the name says"),
    "animated": (WARNING, "files with several pictures"),
    "deep": (WARNING, "pictures with more than 8 bits per channel"),
    "cmyk": (WARNING, "pictures in CMYK"),
    "transparent": (WARNING, "pictures with transparent pixels"),
}
ERRORS = tuple(kind for kind, (level, _) in KINDS.items() if level == ERROR)


@dataclass(frozen=True)
class Example:
    """One file of a finding. ``index``: its number in the data; -1 if it is none of the data's."""
    index: int
    text: str                   # printable
    more: Tuple[int, ...] = ()  # of a group of equal files: the others that are shown


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or unusual."""
    kind: str
    level: str
    count: int
    what: str                   # of what there are so many, in the plural
    advice: str                 # what to do
    examples: Tuple[Example, ...] = ()


def finding(kind: str, count: int, what: str, advice: str, examples: Sequence[Example] = ()) -> Finding:
    """A finding with the level of its kind."""
    return Finding(kind, KINDS[kind][0], count, what, advice, tuple(examples))


#: The first words of these, of which there are so many, become the others for one: "1 picture that is ...".
_ONE = {"files or folders": "file or folder", "files": "file", "pictures": "picture", "classes": "class",
        "rows": "row", "copies of other pictures": "copy of another picture", "class folders": "class folder",
        "reasons": "reason"}
_VERBS = {" that are ": " that is ", " that give ": " that gives ", " that name ": " that names ",
          " that end ": " that ends ", " and have ": " and has "}


def counted(count: int, what: str) -> str:
    """'12 pictures that are ...', or '1 picture that is ...', of a finding."""
    if count == 1:
        plural = next((words for words in sorted(_ONE, key=len, reverse=True) if what.startswith(words)), "")
        what = _ONE.get(plural, "") + what[len(plural):]
        for several, one in _VERBS.items():
            what = what.replace(several, one, 1)
    return "%s %s" % (format(count, ","), what)
