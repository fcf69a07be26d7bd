"""What the names of an archive's members say: which are parts of a sample, and of which one. Pure.

A sample is made of members side by side whose names agree up to the first dot of the last part, as in WebDataset:
``a/7.jpg`` and ``a/7.cls``. With ``label="folder"`` the archive is a tree of class folders instead, as a folder of data
is, in which each picture is a sample.
"""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.sources.file_names import IMAGE_SUFFIXES, SYSTEM_FOLDERS
from stoker.pipeline.text import name_list, printable_path

AUTO, FOLDER, KEY = "auto", "folder", "__key__"
PICTURES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
NUMBER = re.compile(rb"[+-]?\d{1,18}")
#: Members with a number or a text in them, as WebDataset decodes them.
TEXTS = frozenset(("txt", "text", "transcript", "cls", "cls2", "class", "count", "index", "inx", "id"))


class Member(NamedTuple):
    """A regular file in an archive."""
    name: str
    offset: int
    length: int


class Wanted(NamedTuple):
    """What the user asked for: see ``stoker.tar``."""
    image: Tuple[str, ...] = ()         # the first of these that a sample has; (): any picture
    label: str = AUTO                   # an extension, FOLDER, AUTO (that of "cls" if there is one) or "" (none)
    columns: Tuple[str, ...] = ()
    folder: str = ""                    # "" or with a '/' at its end

    @classmethod
    def of(cls, options: Dict[str, Any]) -> "Wanted":
        """Raises ConfigError."""
        image, label, columns = options.get("image"), options.get("label", AUTO), options.get("columns") or ()
        folder = options.get("folder") or ""
        if not isinstance(columns, (list, tuple)) or not all(isinstance(name, str) and name for name in columns):
            raise ConfigError("columns must be a list of names, such as ['json', '__key__'], not %.80r" % (columns,))
        for what, value in (("image", image), ("label", label), ("folder", folder)):
            if value is not None and not isinstance(value, str) or value == "" and what != "folder":
                raise ConfigError("%s must be a text or None, not %.80r" % (what, value))
        wanted = cls(tuple(map(extension_of, image.split(";"))) if image else (),
                     "" if label is None else label if label in (AUTO, FOLDER) else extension_of(label),
                     tuple(columns), _plain(folder).rstrip("/") + "/" if folder else "")
        if wanted.label == FOLDER and set(columns) - {KEY}:
            raise ConfigError("with label='folder' each picture is a sample of its own, and its only column is "
                              "'__key__', not %s: give another label" % name_list(sorted(set(columns) - {KEY})))
        return wanted

    def why_not(self, name: str) -> Optional[str]:
        """Why a member of this name is left out, in the plural; '' if no user misses it, None if it is not left out."""
        plain = _plain(name)
        if not plain.startswith(self.folder):
            return ""
        *folders, base = plain[len(self.folder):].split("/")
        if not base or base[0] == "." or any(part[:1] == "." or part.lower() in SYSTEM_FOLDERS for part in folders):
            return ""
        if self.label == FOLDER:
            if _last_extension(base) not in (self.image or PICTURES):
                return "members that are no pictures by their names"
            return None if folders else "pictures that lie in no class folder"
        return None if "." in base else "members without an extension"

    def key_of(self, name: str) -> Tuple[str, str]:
        """The name of the sample that the member belongs to, and the member's extension."""
        plain = _plain(name)[len(self.folder):]
        if self.label == FOLDER:
            return plain, _last_extension(plain)
        folder, slash, base = plain.rpartition("/")
        stem, _, extension = base.partition(".")
        return folder + slash + stem, extension.lower()


def one_folder(file: str, name: str, folder: Optional[str]) -> str:
    """What to say of a tree whose pictures below ``folder`` all have the class ``name``, as zip -r PHOTOS makes it."""
    inner = "/".join(filter(None, ((folder or "").strip("/"), name)))
    return ("all pictures of %s lie in one folder (%s), and label='folder' takes the first folder on their paths for "
            "the class: if the folders in it are the classes, give folder=%r, or make the file inside of that folder; "
            "or give label=None" % (file, name_list([name]), inner))


def extension_of(text: str) -> str:
    """``jpg`` for '.JPG'."""
    return text.strip().lower().lstrip(".")


def shown(name: str) -> str:
    """The name of a member, for a sentence."""
    text = printable_path(name)
    return "'%s'" % (text if len(text) <= 200 else text[:197] + "...")


def _plain(name: str) -> str:
    """The name without './' or '/' before it."""
    plain = name.lstrip("/")
    while plain.startswith("./"):
        plain = plain[2:].lstrip("/")
    return plain


def _last_extension(name: str) -> str:
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return extension.lower() if dot else ""
