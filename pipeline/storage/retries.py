"""When to ask a store again: backoff with full jitter, for a limited time. The schedule is pure, ``carried_out`` waits.

All hosts of a run meet a store's bad moment together. Full jitter (a random part of a growing pause) keeps them from
coming back together, too: see "Exponential Backoff And Jitter" in the AWS Architecture Blog.
"""

import random
import socket
import threading
import time
from typing import Callable, Optional, TypeVar

from stoker.pipeline.storage.store import Damaged, StoreError, Unavailable

RETRY_S = 60.0          # in all: a bucket that is away for 30 s costs 30 s
UNKNOWN_HOST_S = 10.0   # in all, where the name of the server is unknown: most often it is misspelt
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0
NOTE_AFTER_S = 1.0      # what lasts shorter is no news
NOTE_INTERVAL_S = 10.0  # between two notes, where many threads wait for the same store
MAX_WRONG = 5           # answers that cannot be right: more tries would not make them right
_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
T = TypeVar("T")


class TryAgain(Exception):
    """This try gave nothing, and the next one may. ``str(error)`` is a clause that tells what came: "503 Slow Down".
    ``asked_s``: the pause that the server asked for. ``is_wrong``: an answer came that cannot be right.
    ``is_unknown_host``: this host knows no server of that name."""

    def __init__(self, fact: str, asked_s: Optional[float] = None, is_wrong: bool = False,
                 is_unknown_host: bool = False) -> None:
        super().__init__(" ".join(fact.split())[:300])
        self.asked_s, self.is_wrong, self.is_unknown_host = asked_s, is_wrong, is_unknown_host


def is_unknown_host(error: Optional[BaseException]) -> bool:
    """Whether ``error`` comes of a name that does not resolve; not if no name server answers."""
    for _ in range(20):         # clients wrap it several times
        if error is None:
            break
        if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN:
            return True
        error = error.__cause__ or error.__context__
    return False


def pause_s(failed: int, elapsed_s: float, asked_s: Optional[float], draw: Callable[[], float],
            limit_s: float = RETRY_S) -> Optional[float]:
    """How long to wait after ``failed`` failed tries that took ``elapsed_s``; None when the time is over. ``draw``
    gives random numbers in [0, 1). ``asked_s``: the server's own wish, which is obeyed as far as the limit goes."""
    left_s = limit_s - elapsed_s
    if left_s <= 0:
        return None
    pause = draw() * min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(failed - 1, 16)))
    return min(left_s, pause if asked_s is None else max(pause, asked_s))


def carried_out(ask: Callable[[], T], what: Callable[[], str], note: Optional[Callable[[str], None]] = None,
                limit_s: float = RETRY_S, draw: Callable[[], float] = random.Random().random,
                clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
                unknown_host_s: float = UNKNOWN_HOST_S) -> T:
    """What ``ask()`` returns, which is called again as long as it raises TryAgain. ``what()``: "reading s3://b/a.tar".
    ``note`` gets one line when it has been tried for a second. Raises Unavailable, after ``unknown_host_s`` if the
    server's name is unknown all that time, or Damaged if MAX_WRONG answers were wrong; what else ``ask`` raises."""
    start, failed, wrong, noted = clock(), 0, 0, False
    unknown_at_s: Optional[float] = None        # since when the name is unknown
    while True:
        try:
            return ask()
        except TryAgain as error:
            failed, wrong, elapsed_s = failed + 1, wrong + error.is_wrong, clock() - start
            unknown_at_s = (elapsed_s if unknown_at_s is None else unknown_at_s) if error.is_unknown_host else None
            until_s = limit_s if unknown_at_s is None else min(limit_s, unknown_at_s + unknown_host_s)
            pause = pause_s(failed, elapsed_s, error.asked_s, draw, until_s)
            if wrong >= MAX_WRONG or pause is None:
                raise _given_up(what(), error, failed, elapsed_s) from error
            if note is not None and not noted and elapsed_s + pause >= NOTE_AFTER_S:
                noted = True
                note("%s gives nothing yet (%s): it is tried again for %.0f s" % (what(), error, until_s))
        sleep(pause)


def seldom(note: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """``note`` for many calls that wait at once: it gets one line in NOTE_INTERVAL_S."""
    lock, noted_s = threading.Lock(), -NOTE_INTERVAL_S

    def say(text: str) -> None:
        nonlocal noted_s
        with lock:
            now = clock()
            if now - noted_s < NOTE_INTERVAL_S:
                return
            noted_s = now
        note(text)
    return say


def _given_up(what: str, error: TryAgain, failed: int, elapsed_s: float) -> StoreError:
    tries = "%d tries in %.1f s" % (failed, elapsed_s) if failed > 1 else "the only try"
    if error.is_wrong:
        return Damaged("%s gave a wrong answer, the last of %s: %s; is the file being written, or a proxy at fault?"
                       % (what, tries, error))
    return Unavailable("%s gave nothing in %s, at last: %s; %s" % (
        what, tries, error, "is the server's name right, and does this host's DNS know it?" if error.is_unknown_host
        else "is the store up, and can this host reach it?"))
