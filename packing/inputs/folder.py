"""A folder of pictures, here or in a store, by the rules of ``scan_folder``. Pictures are copied as they are and not
decoded."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from stoker.packing.samples import MAX_PART_BYTES, Found, LeftOut, path_keys
from stoker.pipeline.errors import RunFailed
from stoker.pipeline.sources.dataset import Dataset
from stoker.pipeline.storage.folder import BadFile, read_file, resolve
from stoker.pipeline.storage.opening import is_url, open_store
from stoker.pipeline.storage.store import StoreError
from stoker.pipeline.text import path_bytes, printable_path

_STAT_THREADS = 16            # on a network file system, most of the time is its answers
_STAT_AT_ONCE = 1000


class FolderInput:
    """The files of ``dataset``. ``numbers``: use no names as keys."""
    is_light = True
    by_folder = False
    units = 1
    unit_name = "files"

    def __init__(self, dataset: Dataset, follow_links: bool, numbers: bool) -> None:
        self._dataset, self._follow_links = dataset, follow_links
        self._keys = None if numbers else path_keys(dataset.paths)
        self.class_names: Optional[Tuple[str, ...]] = dataset.classes
        self.total = len(dataset)
        self.not_taken: Dict[str, int] = Counter(why for _, why in dataset.left_out)
        self._sizes, digest = self._versions()
        self.facts: List[Any] = [{
            "name": dataset.root, "kind": "folder", "files": len(dataset), "bytes": sum(self._sizes),
            "data": dataset.fingerprint(), "versions": digest}]
        self.threads = 32 if is_url(dataset.root) else 8     # most of the time is the store's answers

    def _versions(self) -> Tuple[List[int], str]:
        """The size of each file, -1 of one that is gone, and a hash of all sizes and times."""
        root = self._dataset.root
        if is_url(root):
            return self._listed_versions()

        def version(path: str) -> Tuple[int, int]:
            try:
                status = os.stat(os.path.join(path_bytes(root), path_bytes(path)))
                return status.st_size, status.st_mtime_ns
            except OSError:
                return -1, 0
        sizes: List[int] = []
        digest = hashlib.blake2b(digest_size=16)

        def part(start: int) -> List[Tuple[int, int]]:
            return [version(path) for path in self._dataset.paths[start:start + _STAT_AT_ONCE]]
        with ThreadPoolExecutor(_STAT_THREADS) as pool:
            for versions in pool.map(part, range(0, len(self._dataset), _STAT_AT_ONCE)):
                sizes += [size for size, _ in versions]
                digest.update(repr(versions).encode("ascii"))
        return sizes, digest.hexdigest()

    def _listed_versions(self) -> Tuple[List[int], str]:
        """The same, as the store lists them."""
        wanted = dict.fromkeys(self._dataset.paths, -1)
        digest = hashlib.blake2b(digest_size=16)
        try:
            for path, version in open_store(self._dataset.root).listed():
                if path in wanted:
                    wanted[path] = version.size
                    digest.update(repr((path, version)).encode("utf-8", "backslashreplace"))
        except StoreError as error:
            raise RunFailed(str(error)) from error
        return list(map(wanted.__getitem__, self._dataset.paths)), digest.hexdigest()

    def records(self, unit: int, start: int, labels_only: bool = False) -> Iterator[Any]:
        """The numbers of the files."""
        yield from range(start, len(self._dataset))

    def load(self, item: Any) -> Union[Found, LeftOut]:
        """The file of this number."""
        path = self._dataset.paths[item]
        where = printable_path(path)
        try:
            data, _ = read_file(resolve(self._dataset.root, path, self._follow_links), MAX_PART_BYTES)
        except BadFile as error:
            return LeftOut(where, str(error))
        except StoreError as error:
            raise RunFailed("%s; the same command goes on after the last complete shard" % error) from error
        except OSError as error:
            raise RunFailed("%s in %s cannot be read: %s; check its disk, then run the same command again, which goes "
                            "on after the last complete shard" % (where, printable_path(self._dataset.root),
                                                                  error.strerror or error)) from error
        if len(data) != self._sizes[item]:
            return LeftOut(where, "it has %s bytes, and had %s when the packing began" % (
                format(len(data), ","), format(max(0, self._sizes[item]), ",")), "let no program write into the folder")
        label = self._dataset.labels[item]
        return Found(where, self._keys(path) if self._keys else None, label if label >= 0 else None, data,
                     os.path.splitext(path)[1])

    def size_of(self, item: Any) -> int:
        """The bytes that ``load`` takes for this file."""
        return max(0, self._sizes[item])

    def done(self, unit: int, record: int) -> int:
        """So many files."""
        return record if unit == 0 else self.total
