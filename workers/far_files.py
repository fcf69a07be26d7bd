"""Files of far stores, as this process reads them: through the cache, which keeps their bytes, and by the versions that
the stores have told. All but ``keep_in`` and ``open_bytes`` may be called by any thread."""

import time
from typing import TYPE_CHECKING, Any, Optional, Tuple, Union

from stoker.pipeline.storage.folder import SamplePath, read_file
from stoker.pipeline.storage.store import Version
from stoker.workers.remote_versions import RemoteVersions

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class FarCache(Protocol):
    """What of a ``Cache`` this module uses, which that one imports."""

    def has_decoded(self, path: SamplePath) -> bool:
        """Whether what is made of the file is kept."""

    def open_bytes(self) -> Any:
        """A CachedBytes, or None."""


class _State:
    cache: Optional[FarCache] = None
    bytes: Any = None                   # the CachedBytes, as it was opened last
    versions = RemoteVersions()


def keep_in(cache: Optional[FarCache]) -> None:
    """From now on, bytes are kept in ``cache``."""
    _State.cache, _State.bytes, _State.versions = cache, None, RemoteVersions()


def open_bytes() -> None:
    """Opens the bytes of the cache, or opens them again, if that is possible now. For the generator's thread."""
    if _State.cache is not None:
        _State.bytes = _State.cache.open_bytes()


def through_cache(path: Union[SamplePath, str, bytes], max_bytes: int, advice: str, needs_version: bool = True
                  ) -> Tuple[bytes, Optional[Version]]:
    """``read_file``, or what the cache has of a far file."""
    if not isinstance(path, SamplePath) or not path.store:
        return read_file(path, max_bytes, advice, needs_version)
    kept = _State.bytes
    if kept is not None and kept.has(path):
        version = version_of(path)
        content = None if version is None else kept.content(path, version)
        if content is not None and len(content) <= max_bytes:
            return content, version
    found = read_file(path, max_bytes, advice)
    _State.versions.note(path, found[1], time.monotonic())
    return found


def keep(path: SamplePath, content: bytes, version: Optional[Version]) -> None:
    """What was read at ``path`` is of use later."""
    if _State.bytes is not None and version is not None:
        _State.bytes.keep(path, version, content)


def has_bytes(path: SamplePath) -> bool:
    """Whether the cache has bytes of this path, of any version of the file."""
    return _State.bytes is not None and bool(_State.bytes.has(path))


def is_decoded(path: SamplePath) -> bool:
    """Whether the cache has what is made of the file, so that it need not be read. Then its version is known."""
    return _State.cache is not None and _State.cache.has_decoded(path) and version_of(path) is not None


def known_version(path: SamplePath) -> Optional[Version]:
    """The version of the file, if the store has told it lately."""
    return _State.versions.known(path, time.monotonic())


def version_of(path: SamplePath) -> Optional[Version]:
    """The version of the file, as it was some minutes ago at most; None if the store does not tell."""
    return known_version(path) or _State.versions.ask(path, time.monotonic())
