"""Reading ahead, the part that decides which samples' bytes are fetched next. Pure.

    queued ──next_fetch──> under way ──arrived──> there ──take──> taken
       └──────────────────────┴───────────────────┴──> gone: its lease has ended, or the generator was faster

``Ahead`` knows the leases that this worker holds. What a generator reads of a sample is learned from what it has read
so far (``Role``). A role is forgotten when most of what was fetched for it was not used, as when a cache has the
decoded pictures. Places of one file that lie close to each other are one fetch.

Bounds: at most MAX_READS fetches are under way, and what is there and what may come has at most MAX_WAITING_BYTES
together; for that, each fetch has a limit of bytes. A larger file is read when it is needed.
"""

from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from stoker.pipeline.checks import MAX_READ_AHEAD as MAX_READS, MAX_WAITING_MB
from stoker.pipeline.protocol.messages import Job, Lease
from stoker.pipeline.storage.folder import SamplePath
from stoker.workers.held_lease import HeldLease, Item, Key, Locate, Role, State, key_of

MAX_WAITING_BYTES = MAX_WAITING_MB << 20    # that are there or may come
MAX_FETCH_BYTES = 16 << 20      # of one fetch
MIN_LIMIT_BYTES = 1 << 20       # that a file may have, whatever the others had; more if they had half as much
MAX_GAP_BYTES = 128 << 10       # between two places that are one fetch: to read it takes less than another answer
MAX_SPAN_BYTES = 2 << 20        # of a fetch of several places
SIZES = 64                      # of the last files, that are remembered
LOOKAHEAD = 256                 # items that are queued
MAX_ROLES = 8
MAX_LEASE_BYTES = 1 << 20       # of the rows of a lease, if a worker is to hold more leases than usual


class Fetch(NamedTuple):
    """One read to be made. ``offset`` and ``length``: of several places in one file; length 0: the item's own path."""
    items: Tuple[Item, ...]
    limit_bytes: int
    offset: int = 0
    length: int = 0


class Ahead:
    """What of the held leases is queued, under way and there."""

    def __init__(self) -> None:
        self._leases: List[HeldLease] = []
        self._roles: Dict[Role, None] = {}      # active, in the order in which they are read
        self._forgotten: Dict[Role, int] = {}   # that were of no use, and the lease in which they were last read
        self._queue: Deque[Item] = deque()
        self._by_path: Dict[Key, List[Item]] = {}
        self._left_out: Deque[Key] = deque(maxlen=MAX_ROLES)
        self._is_filled = True                  # there is nothing more to be queued
        self._sizes: Deque[int] = deque([0], maxlen=SIZES)
        self._largest = 0                       # of them, or of some more
        self._appended = 0
        self.under_way = 0                      # fetches
        self.waiting_bytes = 0                  # that are there, or may come

    @property
    def has_queued(self) -> bool:
        """Something may be fetched, as far as is known without a look at it."""
        return bool(self._queue) or not self._is_filled

    def hold(self, leases: Sequence[Tuple[Job, Lease]], has_begun: bool,
             locate: Callable[[Job], Locate]) -> None:
        """The worker holds these leases, the first of which is in work if it ``has_begun``."""
        wanted = {id(lease): (job, lease) for job, lease in leases}
        for held in self._leases:
            if id(held.lease) not in wanted:
                self._end(held)
        had = {id(held.lease): held for held in self._leases}
        self._leases = [had.get(key) or HeldLease(job, lease, locate(job)) for key, (job, lease) in wanted.items()]
        if has_begun and self._leases:
            self._leases[0].is_begun = True
        self._is_filled = False

    def forget(self, item: Item) -> None:
        """It is not kept."""
        self._drop(item)

    def leases_wanted(self, threads: int) -> int:
        """How many leases have as many samples behind the one in work as there are threads; 0: any number. Large leases
        are not multiplied."""
        samples = max((len(held.lease.samples) for held in self._leases), default=0) * len(self._roles)
        large = any(sum(len(sample.packed) for sample in held.lease.samples) > MAX_LEASE_BYTES for held in self._leases)
        return 1 - -threads // samples if samples and not large else 0

    def clear(self) -> None:
        """Nothing is to be fetched, and nothing is kept."""
        for held in self._leases:
            for item in held.items:
                self._drop(item)
        self._leases, self._is_filled = [], True

    # ---------------------------------------------------------------------------------------------- what the threads do

    def next_fetch(self, threads: int) -> Optional[Fetch]:
        """The next read to be made, with at most ``threads`` under way; None: none now."""
        if self.under_way >= min(threads, MAX_READS):
            return None
        first = self._first()
        if first is None:
            return None
        fetch = self._fetch_of(first)
        if fetch is None or self.waiting_bytes + fetch.limit_bytes > MAX_WAITING_BYTES:
            return None if fetch is not None else self.next_fetch(threads)
        for item in fetch.items:
            item.state = State.UNDER_WAY
            item.lease.fetched[item.role] = item.lease.fetched.get(item.role, 0) + 1
        self.under_way += 1
        self.waiting_bytes += fetch.limit_bytes
        return fetch

    def arrived(self, fetch: Fetch, results: Optional[Sequence[Any]], sizes: Sequence[int], read_s: float) -> None:
        """``fetch`` was made. ``results``: for each item what the generator is to get; None: it failed, and nothing is
        kept. ``sizes``: of them, in bytes."""
        self.under_way -= 1
        self.waiting_bytes -= fetch.limit_bytes
        for number, item in enumerate(fetch.items):
            if item.state is not State.UNDER_WAY:       # dropped meanwhile
                continue
            if results is None:
                self._remove(item)
                continue
            item.state, item.result, item.size_bytes = State.THERE, results[number], sizes[number]
            item.read_s = read_s / len(fetch.items)
            self.waiting_bytes += item.size_bytes
            self._note_size(item.size_bytes)

    def not_needed(self, fetch: Fetch) -> None:
        """What is made of the files is in the cache: that they are not read is no reason to forget their role."""
        for item in fetch.items:
            item.lease.fetched[item.role] -= 1
        self.arrived(fetch, None, (), 0.0)

    def too_large(self, fetch: Fetch) -> None:
        """The file has more bytes than the limit of ``fetch``: it is read when it is needed, and others get more."""
        self._note_size(fetch.limit_bytes)
        self.arrived(fetch, None, (), 0.0)

    def leave_out_next(self) -> None:
        """The generator is to read the next sample itself."""
        item = self._first()
        if item is not None:
            self._remove(item)
            self._left_out.append(item.key)

    def was_left_out(self, path: SamplePath) -> bool:
        """Whether the generator is to read ``path`` itself because of ``leave_out_next``. It says so once."""
        if self._left_out and key_of(path) in self._left_out:
            self._left_out.remove(key_of(path))
            return True
        return False

    # ------------------------------------------------------------------------------------------ what the generator does

    def find(self, path: SamplePath) -> Optional[Item]:
        """What is there or under way at ``path``; None: the generator is to read it itself."""
        self._first()                           # it may be one that is to be queued
        items = self._by_path.get(key_of(path))
        if not items:
            return None
        item = items[0]
        self._advance(item.lease, item.role, item.number)
        if item.state is State.QUEUED:          # the generator is faster
            self._remove(item)
            return None
        return item

    def take(self, item: Item) -> Any:
        """The result of an item, which is used. None: it was dropped."""
        result = item.result if item.state is State.THERE else None
        if item.state in (State.THERE, State.UNDER_WAY):
            item.lease.used[item.role] = item.lease.used.get(item.role, 0) + 1
            self._drop(item)
        return result

    def was_read(self, path: SamplePath, size_bytes: int) -> None:
        """The generator has read ``path`` itself, of which ``find`` knew nothing."""
        self._note_size(min(size_bytes, MAX_FETCH_BYTES))
        held = self._leases[0] if self._leases and self._leases[0].is_begun else None
        if held is None:
            return
        found = held.role_of(path)
        if found is None:
            return
        role, number = found
        self._advance(held, role, number)
        if role in self._roles:
            return
        if role in self._forgotten:             # it must be read more than now and then
            held.used[role] = held.used.get(role, 0) + 1
            if 2 * held.used[role] < len(held.lease.samples):
                return
            del self._forgotten[role]
            held.used[role] = 0
        if len(self._roles) < MAX_ROLES:
            self._roles[role] = None
            self._is_filled = False

    # ------------------------------------------------------------------------------------------------------------ parts

    def _advance(self, held: HeldLease, role: Role, number: int) -> None:
        held.at[role] = max(number, held.at.get(role, -1))

    def _first(self) -> Optional[Item]:
        """The first item in the queue, which is filled before."""
        while self._queue and self._queue[0].state is not State.QUEUED:
            self._queue.popleft()
        if len(self._queue) < LOOKAHEAD // 2 and not self._is_filled:
            self._fill()
        return self._queue[0] if self._queue else None

    def _note_size(self, size_bytes: int) -> None:
        self._sizes.append(size_bytes)
        self._appended += 1
        self._largest = max(self._sizes) if self._appended % SIZES == 0 else max(self._largest, size_bytes)

    def _fill(self) -> None:
        for held in self._leases:
            count = len(held.lease.samples)
            while self._roles and len(self._queue) < LOOKAHEAD:
                begins = [(max(held.queued.get(role, 0), held.at.get(role, -1) + 1), order, role)
                          for order, role in enumerate(self._roles)]
                number, _, role = min(begins, key=lambda begin: begin[:2])
                if number >= count:
                    break
                held.queued[role] = number + 1
                for path in held.path_of(role, number):
                    place = path.place
                    if place is None or not place.dataset and 0 < place.length <= MAX_FETCH_BYTES:
                        item = Item(path, role, number, held)
                        held.items.append(item)
                        self._by_path.setdefault(item.key, []).append(item)
                        self._queue.append(item)
        self._is_filled = len(self._queue) < LOOKAHEAD

    def _fetch_of(self, first: Item) -> Optional[Fetch]:
        """The fetch of the first item, with those that lie close to it; None if it cannot be fetched."""
        place = first.place
        if place is None:
            return Fetch((first,), min(MAX_FETCH_BYTES, max(MIN_LIMIT_BYTES, 2 * self._largest)))
        begin, end = place.offset, place.offset + place.length
        items = [first]
        others = [(item.place.offset, number, item) for number, item in enumerate(self._queue)
                  if item.place is not None and item is not first and item.state is State.QUEUED
                  and item.path == first.path and item.path.root == first.path.root]
        for each in (sorted(others), sorted(others, reverse=True)):         # upwards, then downwards
            for _, _, item in each:
                there = item.place
                assert there is not None
                wide = min(begin, there.offset), max(end, there.offset + there.length)
                gap = max(there.offset - end, begin - there.offset - there.length)
                if item in items or gap > MAX_GAP_BYTES or wide[1] - wide[0] > MAX_SPAN_BYTES:
                    continue
                begin, end = wide
                items.append(item)
        if len(items) == 1:
            return Fetch((first,), place.length)
        return Fetch(tuple(items), sum(item.place.length for item in items if item.place) + end - begin, begin,
                     end - begin)

    def _end(self, held: HeldLease) -> None:
        """The lease is not held any more. Roles that were of no use in it are forgotten."""
        for item in held.items:
            self._drop(item)
        for role, fetched in held.fetched.items():
            if held.is_begun and fetched > 2 * held.used.get(role, 0) and role in self._roles:
                del self._roles[role]
                self._forgotten[role] = 0
                self._drop_role(role)

    def _drop_role(self, role: Role) -> None:
        for held in self._leases:
            for item in held.items:
                if item.role == role:
                    self._drop(item)
            held.queued.pop(role, None)
        self._is_filled = False

    def _drop(self, item: Item) -> None:
        if item.state is State.THERE:
            self.waiting_bytes -= item.size_bytes
        self._remove(item)

    def _remove(self, item: Item) -> None:
        if item.state is State.GONE:
            return
        item.state, item.result = State.GONE, None
        items = self._by_path[item.key]
        items.remove(item)
        if not items:
            del self._by_path[item.key]
