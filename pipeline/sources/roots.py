"""Roots: where the files of data lie, an absolute folder of this host or the URL of a store. The files below both have
paths with '/' between their parts, so one set of rules says what is below what."""

import os
from typing import Any, Optional, Sequence, Tuple, Union

from stoker.pipeline.storage import urls
from stoker.pipeline.text import native

Path = Union[str, "os.PathLike[str]"]


def is_url(text: Any) -> bool:
    """Whether it is the URL of a store, or of something in one."""
    return isinstance(text, str) and urls.is_url(text)


def absolute(root: str) -> str:
    """The folder or URL ``root`` in the form that roots have. Raises ConfigError for a URL that can be none."""
    return urls.normal(root) if is_url(root) else os.path.abspath(native(root))


def folder_of(file: str) -> str:
    """The root that a file is directly below. Raises ConfigError for the URL of no file."""
    return urls.parent(file)[0] if is_url(file) else os.path.abspath(os.path.dirname(file))


def contains(root: str, inner: str) -> bool:
    """Whether the root ``inner`` is below ``root``, or the same."""
    (store, path), (other, path_of_inner) = _parts(root), _parts(inner)
    return store == other and path_of_inner.startswith(path)


def relative(inner: str, root: str) -> str:
    """How paths that start from the root ``inner`` begin if they start from ``root``, which contains it: 'a/b/', or
    ''."""
    return _parts(inner)[1][len(_parts(root)[1]):]


def common(roots: Sequence[str]) -> Optional[str]:
    """The root that contains all of ``roots``; None if there is none, as for a folder and a URL, or for two buckets."""
    parts = list(map(_parts, roots))
    if len({store for store, _ in parts}) > 1:
        return None
    path = os.path.commonpath(["/" + path for _, path in parts])
    return _root(parts[0][0], path[1:])


def joined(root: str, path: str) -> str:
    """The name of the file ``path`` below ``root``, for people."""
    return urls.joined(root, path) if is_url(root) else os.path.join(root, path)


def _parts(root: str) -> Tuple[str, str]:
    """The store, and the path in it with '/' at its end, or ''; of a folder, the store is ''."""
    if not is_url(root):
        return "", root.strip("/") + "/" if root.strip("/") else ""
    url = urls.split(root)
    return "%s://%s" % (url.scheme, url.host), url.path + "/" if url.path else ""


def _root(store: str, path: str) -> str:
    return urls.joined(store, path) if store else "/" + path
