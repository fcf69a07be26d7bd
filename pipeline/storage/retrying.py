"""A store that asks again: what stands between a client, whose every call is one try, and those who read."""

from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Set, Tuple, TypeVar

from stoker.pipeline.storage.retries import RETRY_S, UNKNOWN_HOST_S, carried_out
from stoker.pipeline.storage.store import MAX_READ_BYTES, Entry, Gone, Version
from stoker.pipeline.storage.urls import joined, problem_of
from stoker.pipeline.text import printable_path

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object
T = TypeVar("T")
MAX_REMEMBERED = 1000
_have_answered: Set[str] = set()     # the roots of stores that did, in this process
#: This process is the first that asks stores, and may find that a name is wrong. A worker is not.
finds_names = True


class Client(Protocol):
    """What speaks with one store, for several threads at once. Each call is one try: it raises TryAgain where another
    try can help, else StoreError. Paths were checked."""
    root: str

    def pages(self, prefix: str, after: str) -> Iterator[List[Entry]]:
        """Some files at a time, of those whose path begins with ``prefix`` and comes behind ``after``."""

    def size(self, path: str) -> Entry:
        """See ``Store``."""

    def read(self, path: str, offset: int, length: Optional[int], max_bytes: int) -> Tuple[bytes, Version]:
        """See ``Store``."""


class RetryingStore:
    """The store of ``client``: see ``Store``. ``note`` gets one line for each call that waits."""

    def __init__(self, client: Client, note: Optional[Callable[[str], None]] = None, limit_s: float = RETRY_S) -> None:
        self.root = client.root
        self._client, self._note, self._limit_s = client, note, limit_s

    def listed(self, prefix: str = "") -> Iterator[Entry]:
        """See ``Store``. The list is complete before its first entry is given: not all servers sort it."""
        if prefix:
            self._check(prefix.rstrip("/"))
        found: List[Entry] = []
        in_order, page_end = True, 0
        pages = self._client.pages(prefix, "")

        def next_page() -> Optional[List[Entry]]:
            nonlocal pages
            try:
                return next(pages, None)
            except Exception:       # a broken iterator is over: the next try begins another one, behind what is there
                if in_order:
                    pages = self._client.pages(prefix, found[-1].path if found else "")
                else:
                    found.clear()
                    pages = self._client.pages(prefix, "")
                raise

        while True:
            page = self._tried(next_page, "listing", prefix)
            if page is None:
                break
            page_end = max(0, len(found) - 1)
            found.extend(page)
            in_order = in_order and all(found[i].path < found[i + 1].path for i in range(page_end, len(found) - 1))
        if not in_order:
            found = [entry for _, entry in sorted({_key(entry): entry for entry in found}.items())]
        found.reverse()
        while found:        # its memory goes as the caller takes them
            yield found.pop()

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        self._check(path)
        return self._tried(lambda: self._client.size(path), "the size of", path)

    def read(self, path: str, offset: int = 0, length: Optional[int] = None, max_bytes: int = MAX_READ_BYTES
             ) -> Tuple[bytes, Version]:
        """See ``Store``."""
        self._check(path)
        return self._tried(lambda: self._client.read(path, offset, length, max_bytes), "reading", path)

    def _tried(self, ask: Callable[[], T], doing: str, path: str) -> T:
        is_new = self.root not in _have_answered
        # a container that starts again has no name meanwhile
        found = carried_out(ask, lambda: "%s %s" % (doing, printable_path(joined(self.root, path))), self._note,
                            self._limit_s, unknown_host_s=UNKNOWN_HOST_S if is_new and finds_names else self._limit_s)
        if is_new and len(_have_answered) < MAX_REMEMBERED:
            _have_answered.add(self.root)
        return found

    def _check(self, path: str) -> None:
        problem = problem_of(path)
        if problem:
            raise Gone("there is no file %s below %s: its path %s" % (printable_path(path), self.root, problem))
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            if not self.root.startswith("http"):
                raise Gone("there is no %s: names in a bucket are UTF-8"
                           % printable_path(joined(self.root, path))) from error


def _key(entry: Entry) -> bytes:
    return entry.path.encode("utf-8", "surrogateescape")
