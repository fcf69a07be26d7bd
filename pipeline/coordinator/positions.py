"""SortedPositions: a set of positions that gives them from the lowest on, without sorting them each time."""

from bisect import bisect_left
from typing import Iterator, List


class SortedPositions:
    """Positions in ascending order. While it is iterated, it must not be changed. Adding one among many costs a move of
    memory, far less than all else that is done for a position."""

    def __init__(self) -> None:
        self._positions: List[int] = []

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def first(self, default: int) -> int:
        """The lowest one, or ``default`` if there is none."""
        return self._positions[0] if self._positions else default

    def add(self, position: int) -> None:
        """It is one of them from now on."""
        place = bisect_left(self._positions, position)
        if place == len(self._positions) or self._positions[place] != position:
            self._positions.insert(place, position)

    def discard(self, position: int) -> None:
        """It is none of them from now on."""
        if self._positions:
            place = bisect_left(self._positions, position)
            if place < len(self._positions) and self._positions[place] == position:
                del self._positions[place]
