"""Groups of equal files or pictures among all, by their hashes. Pure."""

from typing import Iterator, List

import numpy as np


class Groups:
    """Files that are equal, in groups of two or more. ``order``: the files' numbers, group by group, those of a group
    ascending; group i is ``order[starts[i]:starts[i + 1]]``."""

    def __init__(self, order: "np.ndarray", starts: "np.ndarray") -> None:
        self.order, self.starts = order, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[List[int]]:
        for first, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist()):
            yield self.order[first:end].tolist()

    @property
    def members(self) -> int:
        """How many files are in groups."""
        return len(self.order)

    @property
    def surplus(self) -> int:
        """How many there are beside one of each group."""
        return len(self.order) - len(self)

    def mixed(self, values: "np.ndarray") -> "Groups":
        """Those groups whose files have different ``values``."""
        own = values[self.order]
        if not len(own):
            return self
        lowest, highest = (each.reduceat(own, self.starts[:-1]) for each in (np.minimum, np.maximum))
        return self.some(lowest != highest)

    def some(self, chosen: "np.ndarray") -> "Groups":
        """Those groups for which ``chosen``, bool of each, is true."""
        sizes = np.diff(self.starts)
        return Groups(self.order[np.repeat(chosen, sizes)], np.concatenate([[0], np.cumsum(sizes[chosen])]))


def equal(keys: "np.ndarray", members: "np.ndarray") -> Groups:
    """The groups of the files ``members`` that have equal rows in ``keys``, int64 [n, k]. The group of the lowest
    number is the first. members: int64 [m], ascending."""
    members = _candidates(keys, members)
    own = keys[members]
    order = np.lexsort((members,) + tuple(own.T))
    own = own[order]
    is_first = np.ones(len(own) + 1, bool)
    if len(own):
        is_first[1:-1] = (own[1:] != own[:-1]).any(axis=1)
    starts = np.flatnonzero(is_first)
    groups = Groups(members[order], starts).some(np.diff(starts) > 1)
    sizes, firsts = np.diff(groups.starts), groups.order[groups.starts[:-1]]
    rank = np.empty(len(firsts), np.int64)          # of each group by its lowest number
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    by_rank = np.lexsort((groups.order, np.repeat(rank, sizes)))
    return Groups(groups.order[by_rank], np.concatenate([[0], np.cumsum(sizes[np.argsort(firsts)])]).astype(np.int64))


def _candidates(keys: "np.ndarray", members: "np.ndarray") -> "np.ndarray":
    """Those of ``members`` whose first key another one has too: nearly none, and to sort all keys takes memory."""
    first = keys[members, 0]
    order = np.argsort(first, kind="mergesort")
    first = first[order]
    is_equal = np.zeros(len(first) + 1, bool)
    is_equal[1:-1] = first[1:] == first[:-1]
    return np.sort(members[order[is_equal[1:] | is_equal[:-1]]])


def shown(group: List[int], values: "np.ndarray", most: int = 3) -> List[int]:
    """At most ``most`` files of a group, two of different ``values`` among them if it has such."""
    chosen = [group[0]] + [index for index in group if values[index] != values[group[0]]][:1]
    return chosen + [index for index in group if index not in chosen[:2]][:most - len(chosen)]
