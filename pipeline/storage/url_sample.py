"""A sample in a store elsewhere, such as a bucket: found and read by the same rules as a file of this host.

What a store's errors are worth here: what is gone is a bad file on every host; a refusal makes this worker unfit, for
others may have the credentials; all else fails the step, which is tried elsewhere. Nothing here retries: stores do.
"""

import re
import socket
from typing import Optional, Sequence, Tuple
from urllib.parse import unquote_to_bytes

from stoker.pipeline.errors import ProtocolError, UnfitWorker
from stoker.pipeline.storage import folder, urls
from stoker.pipeline.storage.folder import ENDS_BEFORE, BadFile, SamplePath, check_length, resolve
from stoker.pipeline.storage.opening import open_store
from stoker.pipeline.storage.place import Place
from stoker.pipeline.storage.store import Entry, Gone, Refused, Store, StoreError, TooLarge, TooShort, Version
from stoker.pipeline.text import printable_path

_GONE = "FileNotFoundError: no such file"      # as of a folder: a bad file has one reason, wherever it lies
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_MAX_DECODED = 4                               # times that a server may take a path for quoted


def path_of(root: str, name: bytes, place: Optional[Place]) -> SamplePath:
    """The file ``name``, a relative path, in the store ``root``, a URL in normal form. Raises ProtocolError if a server
    could take the name for one that leads out of the root."""
    name = b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))      # as in a folder of this host
    if not stays_below(name):
        raise ProtocolError("a lease names the file %r: a server could take it for one outside of %s"
                            % (name.decode("utf-8", "backslashreplace"), printable_path(root)))
    text = name.decode("utf-8", "surrogateescape")
    found = SamplePath(urls.joined(root, text).encode("utf-8", "surrogateescape"))
    found.store, found.name, found.place = root, text, place
    return found


def stays_below(name: bytes) -> bool:
    """Whether the relative path ``name`` leads nowhere else, also on a server that decodes it once more than it should,
    or takes a backslash for '/'. Control characters could end a line of a request."""
    for _ in range(_MAX_DECODED):
        parts = name.replace(b"\\", b"/").split(b"/")
        if not parts[0] or b".." in parts or b"." in parts or _CONTROL.search(name):
            return False
        decoded = unquote_to_bytes(name)
        if decoded == name:
            return True
        name = decoded
    return False


def read(path: SamplePath, max_bytes: int, advice: str) -> Tuple[bytes, Optional[Version]]:
    """``folder.read_file`` of a store."""
    place, store = path.place, _store(path.store)
    if place is not None:
        check_length(place, max_bytes, advice)
    try:
        if place is None:
            return store.read(path.name, 0, None, max_bytes)
        return store.read(path.name, place.offset, place.length, max_bytes)
    except TooLarge as error:
        raise BadFile("a file of more than %d bytes%s" % (max_bytes, advice)) from error
    except StoreError as error:
        raise_worth(error)
        raise


def raise_worth(error: BaseException) -> None:
    """Raises what an error of a store is worth, if that is another error."""
    if isinstance(error, TooShort):
        raise BadFile(ENDS_BEFORE) from error
    if isinstance(error, Gone):
        raise BadFile(_GONE) from error
    if isinstance(error, Refused):
        raise _refused(error) from error


def check_file(path: SamplePath) -> None:
    """``folder.check_file`` of a store."""
    _entry(_store(path.store), path)


def check_root(root: str, probes: Sequence[str]) -> None:
    """Raises UnfitWorker if the store refuses this host, or has none of ``probes``."""
    store = _store(root)
    for probe in probes:
        try:
            store.size(resolve(root, probe).name)
            return
        except Gone:
            pass
        except Refused as error:
            raise _refused(error) from error
    if probes:
        raise UnfitWorker("%s is not the dataset's place: of %d files that it should have, such as %r, none exists, as "
                          "%s sees it; name the right one with root=, or for a worker on another host with its --data"
                          % (printable_path(root), len(probes), probes[0], socket.gethostname()))


def _store(root: str) -> Store:
    return open_store(root, folder.note_of_store)


def _entry(store: Store, path: SamplePath) -> Entry:
    try:
        return store.size(path.name)
    except Gone as error:
        raise BadFile(_GONE) from error
    except Refused as error:
        raise _refused(error) from error


def _refused(error: Refused) -> UnfitWorker:
    return UnfitWorker("%s (asked by %s)" % (str(error).rstrip("."), socket.gethostname()))
