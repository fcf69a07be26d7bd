"""Pictures by their first bytes, among the files that a scan leaves out because of their suffix."""

import os
import shlex
import stat
from collections import Counter
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from stoker.pipeline.text import printable_path, quoted

#: Of the formats that programs write under other suffixes. Raw files of cameras begin as TIFFs do, so not these.
_FIRST_BYTES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"))
START_BYTES = 12
TRIED = 20              # files of each suffix, spread over all of them
MAX_NAMED = 6           # suffixes that get a line of their own
MAX_SUFFIXES = 50       # the most frequent ones: a scan must not read a folder of numbered files


def other_suffixes(paths: Sequence[str], start_of: Callable[[str], bytes], most: int = TRIED) -> Dict[str, str]:
    """A reason for each of ``paths``, left out for their suffix, whose suffix is one of pictures. ``start_of``: the
    first START_BYTES of a file; b"" if they cannot be read. ``most``: files of each suffix that are tried."""
    by_suffix: Dict[str, List[str]] = {}
    for path in paths:
        by_suffix.setdefault(suffix_of(path).lower(), []).append(path)
    found: Dict[str, str] = {}
    why: List[Tuple[str, List[str]]] = []
    for files in sorted(by_suffix.values(), key=len, reverse=True)[:MAX_SUFFIXES]:
        tried = files[::-(-len(files) // most)]
        kinds = Counter(kind for kind in (_kind(start_of(path)) for path in tried) if kind)
        if kinds:
            why.append((_reason(suffix_of(files[0]), kinds.most_common(1)[0], len(tried)), files))
    for number, (reason, files) in enumerate(why):
        if number >= MAX_NAMED:
            reason = "picture with one of %d more suffixes (--suffix takes each)" % (len(why) - MAX_NAMED)
        found.update((path, reason) for path in files)
    return found


def suffix_of(path: str) -> str:
    """The suffix, with its dot, of the file's name; '' if it has none."""
    return os.path.splitext(os.path.basename(path))[1]


def _reason(suffix: str, kind: Tuple[str, int], tried: int) -> str:
    name, count = kind
    option = "suffixes=[%s] or --suffix %s takes" % (quoted(suffix), printable_path(shlex.quote(suffix)))
    described = "with the suffix " + printable_path(suffix) if suffix else "without a suffix"
    if count == tried:
        return "%s %s (%s it)" % (name, described, option)
    return "file %s; %d of %d tried are %ss (%s all)" % (described, count, tried, name, option)


def start_of_file(path: str) -> bytes:
    """The first bytes of a regular file of this host; b"" if it is none, or cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):        # a pipe or device may do anything when it is opened
            return b""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, START_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return b""


def _kind(start: bytes) -> Optional[str]:
    """The format of a file that begins so; None if it is none of those known here."""
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return "WebP"
    return next((kind for first, kind in _FIRST_BYTES if start.startswith(first)), None)
