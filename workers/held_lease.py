"""HeldLease: what the samples of a lease have in each role, and how far the reads of them are. Pure.

A role is what a generator reads of each sample: the sample's own path, or a field of its row, of partners too.
"""

from enum import Enum
from itertools import islice
from typing import Any, Callable, Dict, Hashable, Iterator, List, Optional, Tuple

from stoker.pipeline.errors import StokerError
from stoker.pipeline.protocol.messages import Job, Lease, Sample
from stoker.pipeline.storage.folder import SamplePath
from stoker.pipeline.storage.place import Place

MAX_FIELDS = 64                 # of a row, that may be roles

Locate = Callable[[str], SamplePath]
Role = Tuple[bool, Any]         # whether of a partner; the field of the row: None: the sample's own path
Key = Tuple[bytes, Optional[bytes]]
State = Enum("State", "QUEUED UNDER_WAY THERE GONE")


def key_of(path: SamplePath) -> Key:
    """What makes two paths the same: the file, the place in it, and what links may do."""
    return path.key, path.root


class Item:
    """The bytes of one sample, or of one field of its row."""
    __slots__ = ("path", "key", "role", "number", "lease", "state", "result", "read_s", "size_bytes", "is_awaited")

    def __init__(self, path: SamplePath, role: Role, number: int, lease: "HeldLease") -> None:
        self.path, self.key, self.role, self.number, self.lease = path, key_of(path), role, number, lease
        self.state = State.QUEUED
        self.result: Any = None         # of the shell's
        self.read_s = 0.0               # its part of the time of the fetch
        self.size_bytes = 0
        self.is_awaited = False         # the generator waits for it

    @property
    def place(self) -> Optional[Place]:
        return self.path.place


class HeldLease:
    """A lease that this worker holds, and how far its samples are queued."""

    def __init__(self, job: Job, lease: Lease, locate: Locate) -> None:
        self.job, self.lease, self.locate = job, lease, locate
        self.is_begun = False
        self.at: Dict[Role, int] = {}           # the last sample of which the generator has read this
        self.queued: Dict[Role, int] = {}       # so many samples are queued
        self.fetched: Dict[Role, int] = {}
        self.used: Dict[Role, int] = {}
        self.items: List[Item] = []
        self._rows: Dict[int, Any] = {}
        self._known: Optional[Dict[Key, Tuple[Role, int]]] = None

    def path_of(self, role: Role, number: int) -> Iterator[SamplePath]:
        """What the sample of this number, or its partners, has in this role."""
        is_partner, field = role
        sample = self.lease.samples[number]
        for one in sample.partners if is_partner else (sample,):
            text = one.path if field is None else self._fields(one).get(field)
            if isinstance(text, str) and text:
                path = self._located(text)
                if path is not None:
                    yield path

    def role_of(self, path: SamplePath) -> Optional[Tuple[Role, int]]:
        """The role of a path that the generator has read, and the number of the sample."""
        if self._known is None:
            self._known = {}
            for number, sample in enumerate(self.lease.samples):
                for is_partner, ones in ((True, sample.partners), (False, (sample,))):
                    for one in ones:
                        self._add_known(is_partner, number, one)
        return self._known.get(key_of(path))

    def _add_known(self, is_partner: bool, number: int, sample: Sample) -> None:
        assert self._known is not None
        for field, text in islice(self._fields(sample).items(), MAX_FIELDS):
            path = self._located(text) if isinstance(text, str) and text else None
            if path is not None:
                self._known[key_of(path)] = (is_partner, field), number
        path = self._located(sample.path) if sample.path else None
        if path is not None:
            self._known[key_of(path)] = (is_partner, None), number

    def _fields(self, sample: Sample) -> Dict[Hashable, Any]:
        if not sample.packed:
            return {}
        if id(sample) not in self._rows:
            try:
                row = self.job.row(sample)
            except StokerError:             # damaged: the generator finds out
                row = None
            self._rows[id(sample)] = row if isinstance(row, dict) else dict(enumerate(row)) if isinstance(
                row, list) else {}
        fields: Dict[Hashable, Any] = self._rows[id(sample)]
        return fields

    def _located(self, text: str) -> Optional[SamplePath]:
        try:
            return self.locate(text)
        except (StokerError, TypeError, ValueError):        # no path below the root
            return None
