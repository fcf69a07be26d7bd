"""Remarks about pictures, for the user: made where a picture is decoded, taken with the batch that it is in."""

from typing import Dict, Tuple

from stoker.pipeline.protocol.messages import MAX_SKIPPED_PATH, Remark, sendable

_made: Dict[str, Remark] = {}
_count = 0


def make(kind: str, path: str) -> None:
    """Remarks something about the picture in the file ``path``. ``kind``: one of messages.REMARKS."""
    global _count
    _count += 1
    _made.setdefault(kind, Remark(kind, sendable(path, MAX_SKIPPED_PATH)))


def count() -> int:
    """How many were made so far. A picture during whose decoding one was made must not be kept: the next run, which
    would find it, is to remark it again."""
    return _count


def take() -> Tuple[Remark, ...]:
    """The first remark of each kind since the last call."""
    taken = tuple(_made.values())
    _made.clear()
    return taken
