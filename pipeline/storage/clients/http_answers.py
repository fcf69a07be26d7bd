"""What the head of a web server's answer means: pure, and strict, since a wrong part of a file would become a wrong
sample."""

import re
from calendar import timegm
from email.utils import parsedate_tz
from typing import TYPE_CHECKING, NamedTuple, Optional

from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Gone, Refused, StoreError, Version, etag_version, remote_version

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})\Z")
_NO_RANGE = re.compile(r"bytes \*/(\d{1,15})\Z")
_LENGTH = re.compile(r"\d{1,15}\Z")
MAX_ASKED_S = 1e6


class Headers(Protocol):
    """Those of an answer, by names in any case."""

    def get(self, name: str) -> Optional[str]:
        """The first one of this name."""


class Part(NamedTuple):
    """What an answer holds: ``length`` bytes from ``offset`` on, of a file with ``version``. None: it does not say."""
    offset: int
    length: Optional[int]
    version: Optional[Version]


def part_of(status: int, headers: Headers, offset: int, length: Optional[int]) -> Part:
    """What the answer 200 or 206 holds, where ``length`` bytes (None: all) from ``offset`` on were asked for. Raises
    TryAgain if it is something else; Refused if the server changes the bytes."""
    coding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if coding != "identity":
        raise Refused("is sent packed (Content-Encoding: %.40s), which was not asked for: switch that off in the "
                      "server for these files" % coding)
    said = headers.get("Content-Length")
    if said is not None and not _LENGTH.match(said.strip()):
        raise TryAgain("Content-Length: %.40s" % said, is_wrong=True)
    size = None if said is None else int(said)
    if status == 200:
        return Part(0, size, None if size is None else version_of(size, headers))
    text = headers.get("Content-Range") or ""
    match = _RANGE.match(text.strip())
    if match is None:
        raise TryAgain("206 with Content-Range: %.60s" % (text or "nothing"), is_wrong=True)
    first, last, total = map(int, match.groups())
    end = total if length is None else min(total, offset + length)
    if first != offset or last + 1 != end or size is not None and size != end - first:
        raise TryAgain("bytes %d to %d were asked for, and the answer is Content-Range: %s, Content-Length: %s"
                       % (offset, end - 1, text, said), is_wrong=True)
    return Part(first, end - first, version_of(total, headers))


def size_behind(headers: Headers) -> Optional[int]:
    """The size of the file of which a part behind its end was asked for (416), if the answer says it."""
    match = _NO_RANGE.match((headers.get("Content-Range") or "").strip())
    return int(match.group(1)) if match else None


def version_of(size: int, headers: Headers) -> Version:
    """The version of a file by its size and etag; without an etag, its date. Google's buckets have a number for it."""
    generation = headers.get("x-goog-generation")
    if generation:
        return remote_version(size, "generation", generation)
    return etag_version(size, headers.get("ETag"), headers.get("Last-Modified"))


def error_of(status: int, reason: str, headers: Headers, now: float) -> Exception:
    """What an answer without the file means: TryAgain, or a StoreError with a clause behind the URL."""
    said = "%d %.80s" % (status, reason)
    if status in (408, 425, 429) or status >= 500:
        return TryAgain(said, asked_pause_s(headers.get("Retry-After"), now))
    if status in (404, 410):
        return Gone("is not there (%s)" % said)
    if status in (401, 403, 407):
        return Refused("may not be read by this host (%s): if it needs a password, put it into ~/.netrc of this host, "
                       "with the server's name" % said)
    return Refused("cannot be read: the server answers %s" % said)


def asked_pause_s(text: Optional[str], now: float) -> Optional[float]:
    """The pause that the header Retry-After asks for, in seconds or by a date; ``now``: seconds since 1970."""
    if text is None:
        return None
    text = text.strip()
    if re.match(r"\d{1,9}\Z", text):
        return float(text)
    date = parsedate_tz(text[:100])
    if date is None:
        return None
    try:
        return min(MAX_ASKED_S, max(0.0, timegm(date[:6] + (0, 0, 0)) - (date[9] or 0) - now))
    except (ValueError, OverflowError):
        return None


def with_url(error: StoreError, url: str) -> StoreError:
    """``error`` with a subject before its clause."""
    return type(error)("%s %s" % (url, error))
