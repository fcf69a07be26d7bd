"""SortedPositions: a set of positions that gives them from the lowest on, without sorting them each time."""

from bisect import bisect_left
from typing import List


class SortedPositions(List[int]):
    """Positions in ascending order. While it is iterated, it must not be changed. Adding one among many costs a move of
    memory, far less than all else that is done for a position."""

    def first(self, default: int) -> int:
        """The lowest one, or ``default`` if there is none."""
        return self[0] if self else default

    def add(self, position: int) -> None:
        """It is one of them from now on."""
        place = bisect_left(self, position)
        if place == len(self) or self[place] != position:
            self.insert(place, position)

    def discard(self, position: int) -> None:
        """It is none of them from now on."""
        place = bisect_left(self, position)
        if place < len(self) and self[place] == position:
            del self[place]
