"""Names of what lies in stores: a root is a folder or a URL, and every file has a path below its root.

A root has one normal form, in which roots are compared: ``s3://bucket/prefix``, without '/' at its end. It never has
credentials in it, neither a user's name and password nor a query with a signature: a root is printed, recorded, and
sent to every worker. In ``s3://``, ``gs://`` and ``az://`` a path is the key as it is; in ``http(s)://`` it has percent
signs for what a URL cannot hold. A path below a root is always the plain text.
"""

import re
from functools import lru_cache
from typing import NamedTuple, Tuple
from urllib.parse import quote, unquote_to_bytes

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import printable

BUCKETS = ("s3", "gs", "az")
WEB = ("http", "https")
SCHEMES = BUCKETS + WEB
MAX_URL_CHARS = 4096
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)\Z", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_HOST = re.compile(r"([a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PORTS = {"http": 80, "https": 443}
_SAFE = "/!$&'()*,;=:@~-._"        # of a path in a URL, besides letters and digits; Amazon takes '+' for a space
_ALIKE = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az"}


class Url(NamedTuple):
    """The parts of a root: ``host`` is the bucket, the container, or the web server with its port; ``path`` is plain
    text, without '/' at its beginning and end."""
    scheme: str
    host: str
    path: str


def is_url(text: str) -> bool:
    """Whether ``text`` begins as a URL does, of any scheme: ``is_url("s3://bucket/photos")``."""
    return _URL.match(text) is not None


def normal(root: str) -> str:
    """The normal form of the URL ``root``. Example: ``normal("S3://photos/train/") == "s3://photos/train"``. Raises
    ConfigError, with a sentence, if Stoker reads no such URL."""
    return text_of(split(root))


def text_of(url: Url) -> str:
    """The normal form of a URL that ``split`` gave."""
    path = quoted(url.path) if url.scheme in WEB else url.path
    return "%s://%s%s" % (url.scheme, url.host, "/" + path if path else "")


def split(root: str) -> Url:
    """The parts of the URL ``root``. Raises ConfigError, with a sentence, if Stoker reads no such URL."""
    match = _URL.match(root)
    if match is None:
        raise ConfigError("%s is no URL, such as s3://bucket/photos" % _shown(root))
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme not in SCHEMES:
        raise ConfigError("Stoker does not read %s:// (%s): it reads %s%s" % (
            scheme, _shown(root), ", ".join(each + "://" for each in SCHEMES),
            "; write %s:// for it" % _ALIKE[scheme] if scheme in _ALIKE else ""))
    if len(root) > MAX_URL_CHARS:
        raise ConfigError("the URL %.60s... has more than %d characters" % (_shown(root), MAX_URL_CHARS))
    host, _, path = rest.partition("/")
    if "@" in host:
        raise ConfigError("the URL %s has a user's name or password in it, which would be printed, recorded and sent "
                          "to workers: take it out, and %s" % (_shown(root), _where(scheme)))
    if scheme in WEB and ("?" in rest or "#" in rest) or scheme in BUCKETS and "?" in host:
        raise ConfigError("the URL %s has a '?' or '#' behind its path: a query may hold credentials, which would be "
                          "printed, recorded and sent to workers: take it out, and %s" % (_shown(root), _where(scheme)))
    return Url(scheme, _host(root, scheme, host), _path(root, scheme, path))


def _host(root: str, scheme: str, host: str) -> str:
    if scheme in BUCKETS:
        if not _BUCKET.match(host):
            raise ConfigError("the URL %s must name a bucket behind %s://, such as %s://photos/train"
                              % (_shown(root), scheme, scheme))
        return host
    try:
        name = host.encode("ascii" if host.startswith("[") else "idna").decode("ascii").lower() if host else ""
    except UnicodeError:
        name = ""
    match = _HOST.match(name)
    if match is None or match.group(2) and not 0 < int(match.group(2)) < 1 << 16:
        raise ConfigError("the URL %s must name a host behind %s://, such as %s://data.example.org/train"
                          % (_shown(root), scheme, scheme))
    port = match.group(2)
    return match.group(1) if not port or int(port) == _PORTS[scheme] else "%s:%d" % (match.group(1), int(port))


def _path(root: str, scheme: str, path: str) -> str:
    """The plain text of a URL's path."""
    parts = path.rstrip("/").split("/") if path.strip("/") else []
    if scheme in WEB:
        parts = [unquote_to_bytes(part.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
                 for part in parts]
        if any("/" in part for part in parts):
            raise ConfigError("the URL %s has a '/' as %%2F in its path, which Stoker does not read" % _shown(root))
    text = "/".join(parts)
    problem = problem_of(text) if text else ""
    if problem:
        raise ConfigError("the URL %s cannot be used: its path %s" % (_shown(root), problem))
    return text


def problem_of(path: str) -> str:
    """What is wrong with ``path`` as a path below a root, as the end of a sentence; '' if nothing is."""
    if not path:
        return "is empty"
    parts = path.split("/")
    if ".." in parts or "." in parts:
        return "has a '.' or '..' in it, and so could lead out of the root"
    if "" in parts:
        return "begins or ends with '/', or has two in a row"
    if _CONTROL.search(path):
        return "has control characters in it"
    return ""


def joined(root: str, path: str) -> str:
    """The URL of the file ``path`` below ``root``, which is in normal form; '' is the root itself."""
    return root if not path else "%s/%s" % (root, quoted(path) if root.startswith("http") else path)


def is_below(url: str, root: str) -> bool:
    """Whether the file ``url`` is below ``root``, by their text; both in normal form."""
    return url.startswith(root + "/") and len(url) > len(root) + 1


def parent(url: str) -> Tuple[str, str]:
    """The root that a file's URL is directly below, in normal form, and the file's name. Example:
    ``parent("s3://photos/train/0.tar") == ("s3://photos/train", "0.tar")``. Raises ConfigError."""
    parts = split(url)
    folder, _, name = parts.path.rpartition("/")
    if not name:
        raise ConfigError("the URL %s names no file" % _shown(url))
    return text_of(parts._replace(path=folder)), name


@lru_cache(maxsize=256)         # one read names its file several times
def quoted(path: str) -> str:
    """``path`` as it stands in a URL: its bytes in UTF-8, with percent signs."""
    return quote(path.encode("utf-8", "surrogateescape"), safe=_SAFE)


def _where(scheme: str) -> str:
    return {"s3": "put it where the AWS client finds it (the environment, ~/.aws/credentials, or the machine's role)",
            "gs": "put it where Google's client finds it (GOOGLE_APPLICATION_CREDENTIALS, or the machine's account)",
            "az": "put it where Azure's client finds it (AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
            }.get(scheme, "put it into ~/.netrc of each host")


def _shown(url: str) -> str:
    """``url`` without a password and a query, to be printed."""
    return printable(re.sub(r"[?#].*", "?...", re.sub(r"//[^/@]*@", "//...@", url, flags=re.DOTALL), flags=re.DOTALL)
                     [:200])
