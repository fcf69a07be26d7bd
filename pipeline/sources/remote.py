"""What sources read from stores: the listing of a folder, and files as a whole. Each trouble of a store is one sentence
of DatasetError; to wait and to try again is the store's own part."""

from typing import Any, BinaryIO, Iterator, Sequence, Tuple

from stoker.pipeline.errors import DatasetError, StokerError
from stoker.pipeline.sources.content import START_BYTES
from stoker.pipeline.storage import urls
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.remote_file import open_file
from stoker.pipeline.storage.store import Gone, Store, StoreError, Version
from stoker.pipeline.text import printable_path

MAX_TRIED = 4           # files of a suffix whose first bytes are read: each costs a request
MAX_ASKED = 8           # texts of rows that may name files: each costs a request, too
ENOUGH = 2              # files that are there
_HTTP = ("http://", "https://")


def store_of(root: str) -> Store:
    """The store of the URL ``root``, which logs when it has to wait. Raises ConfigError, DatasetError."""
    try:
        return open_store(root)
    except StoreError as error:
        raise DatasetError(str(error)) from error


def files_below(root: str) -> Iterator[str]:
    """The paths of all files below the URL ``root``. Raises DatasetError, also if there is none."""
    if root.lower().startswith(_HTTP):
        raise DatasetError("%s is on a web server, which does not list its folders: give record files, such as %s; or "
                           "a list of files or a CSV file whose paths start there, with root=%r (--root)"
                           % (printable_path(root), printable_path(root + "/train-{000..099}.tar"), root))
    is_empty = True
    try:
        for entry in store_of(root).listed():
            is_empty = False
            yield entry.path
    except StoreError as error:
        raise DatasetError(str(error)) from error
    if is_empty:
        raise DatasetError("there is nothing below %s: check its name; it must be a folder of images, or a file whose "
                           "suffix says what it is" % printable_path(root))


def start_of_remote(root: str, path: str) -> bytes:
    """The first bytes of the file ``path`` below the URL ``root``; b"" if they cannot be read, or are fewer."""
    try:
        return store_of(root).read(path, 0, START_BYTES)[0]
    except StoreError:
        return b""


def files_among(root: str, texts: Sequence[str]) -> Tuple[str, ...]:
    """The paths below the URL ``root`` of those among ``texts``, of rows, that name a file there. A few are tried, and
    none after the first trouble: whether this host may read the store says nothing of the workers'."""
    before, found, asked = root + "/", [], 0
    for text in texts:
        path = text[len(before):] if text.startswith(before) else text
        if urls.problem_of(path) or "." not in path and "/" not in path:         # a word or a number
            continue
        asked += 1
        try:
            store_of(root).size(path)
            found.append(path)
        except Gone:
            pass
        except (StoreError, StokerError):
            break
        if asked == MAX_ASKED or len(found) == ENOUGH:
            break
    return tuple(found)


def opened_file(url: str) -> Tuple[BinaryIO, Version]:
    """The file at ``url``, to be read from its beginning to its end, and its version. Raises ConfigError for a URL of
    no file, DatasetError."""
    root, path = urls.parent(url)
    try:
        file: Any = open_file(store_of(root), path)
    except StoreError as error:
        raise DatasetError(str(error)) from error
    return file, file.raw.version
