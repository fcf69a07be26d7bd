"""What the trainers of a fleet want together: how many workers, and where workers reach them.

``workers/status_client.py`` asks their status addresses; ``Trainers`` adds the answers up. Pure.
"""

import ipaddress
import json
from contextlib import suppress
from typing import List, NamedTuple, Optional, Sequence

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import check_address
from stoker.pipeline.text import printable
from stoker.workers.places import Need

MAX_WANTED = 100000
ANSWER_S = 5.0         # how long an answer may take, and how long the last one counts as new
ALL_ANSWERED_S = 10.0  # how long to wait for the first answer of the other trainers
SETTLE_S = 20.0        # a trainer that was started again does not want fewer workers before it has figures
MAX_CHARS = 300        # of a reason

Answer = NamedTuple("Answer", [("wanted", int), ("connect", str), ("over", bool), ("why", str), ("run", str)])


def parse(text: bytes) -> Answer:
    """The answer of a trainer's status address. Raises ValueError, with a sentence, if it is none."""
    try:
        fields = json.loads(text.decode("utf-8"))
        workers = fields["workers"]
        wanted, why = workers["wanted"], workers.get("why", "")
        connect, over, run = fields["connect"], fields["over"], fields.get("run", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("that is no answer of a Stoker trainer (%s)" % type(error).__name__) from None
    if type(wanted) is not int or not 0 <= wanted <= MAX_WANTED:
        raise ValueError("workers.wanted must be a whole number up to %d" % MAX_WANTED)
    if type(over) is not bool or not isinstance(why, str) or not isinstance(run, str):
        raise ValueError("over must be true or false, run and workers.why texts")
    try:
        check_address("connect", connect)
    except ConfigError as error:
        raise ValueError(printable(str(error))[:MAX_CHARS]) from None
    return Answer(wanted, connect, over, printable(why)[:MAX_CHARS], run[:MAX_CHARS])


def reachable(connect: str, status_host: str) -> str:
    """The address at which workers elsewhere reach the trainer that answers at ``status_host``, and says ``connect``.
    A wildcard is no host to connect to; and loopback is this host, so it is wrong if the status comes from another."""
    host, _, port = connect[len("tcp://"):].rpartition(":")
    if _is_local(host) and (_is_wildcard(host) or not _is_local(status_host)):
        return "tcp://%s:%s" % ("[%s]" % status_host if ":" in status_host else status_host, port)
    return connect


def _is_wildcard(host: str) -> bool:
    return host in ("*", "0.0.0.0", "[::]")


def _is_local(host: str) -> bool:
    with suppress(ValueError):
        address = ipaddress.ip_address(host.strip("[]"))
        return address.is_loopback or address.is_unspecified
    return host in ("localhost", "*")


class _Trainer:
    def __init__(self, address: str) -> None:
        self.address = address
        self.answer: Optional[Answer] = None
        self.answered_s = -1.0        # when the last answer came
        self.problem = "not asked yet"
        self.is_silent = False        # logged
        self.least, self.least_until_s = 0, 0.0       # after a new start: what it wanted before

    def wanted(self, now: float) -> int:
        """The number of workers that it wants."""
        assert self.answer is not None
        return max(self.answer.wanted, self.least if now < self.least_until_s else 0)


class Trainers:
    """The wishes of the trainers at ``addresses``. A trainer that does not answer, such as one that is restarted, keeps
    its last wish for ``hold_s`` seconds. Times in seconds of one monotonic clock, ``now`` is the first."""

    def __init__(self, addresses: Sequence[str], hold_s: float, now: float, connect: Sequence[str] = ()) -> None:
        self._trainers = [_Trainer(address) for address in addresses]
        self._hold_s, self._since_s, self._connect = hold_s, now, tuple(connect)
        self._first_s: Optional[float] = None      # when the first answer came

    def answered(self, i: int, answer: Answer, now: float) -> List[str]:
        """The trainer at the i-th address answered. Returns sentences to log."""
        trainer = self._trainers[i]
        before = trainer.answer
        if before is not None and before.run != answer.run and not before.over:
            trainer.least, trainer.least_until_s = trainer.wanted(now), now + SETTLE_S
        trainer.answer, trainer.answered_s, was_silent, trainer.is_silent = answer, now, trainer.is_silent, False
        self._first_s = now if self._first_s is None else self._first_s
        return ["%s answers again" % trainer.address] if was_silent else []

    def unanswered(self, i: int, problem: str) -> None:
        """It did not."""
        self._trainers[i].problem = problem

    def check(self, now: float) -> List[str]:
        """Sentences to log. Raises ConfigError, with a sentence, if no trainer has answered for too long."""
        said: List[str] = []
        held = 0                      # trainers that are there, or may come back
        for trainer in self._trainers:
            since_s = trainer.answered_s if trainer.answer is not None else self._since_s
            if trainer.answer is not None and trainer.answer.over:
                continue
            if not trainer.is_silent and now - since_s >= ANSWER_S:
                trainer.is_silent = True
                said.append("no answer from %s for %.0f s (%s): %s" % (
                    trainer.address, now - since_s, trainer.problem, "waiting for its trainer, for at most %g s" %
                    self._hold_s if trainer.answer is None else
                    "its places stay for at most %g s, until it is back" % self._hold_s))
            held += now - since_s < self._hold_s
        if not held and not self._are_over:
            newest = max(self._trainers, key=lambda one: one.answered_s)
            since_s = newest.answered_s if newest.answer is not None else self._since_s
            raise ConfigError("no answer from %s for %.0f s (limit: --hold-s %g), last: %s" % (
                ", ".join(one.address for one in self._trainers), now - since_s, self._hold_s, newest.problem))
        return said

    @property
    def _are_over(self) -> bool:
        return all(one.answer is not None and one.answer.over for one in self._trainers)

    def need(self, now: float) -> Optional[Need]:
        """What they want together. None: not known yet."""
        known = [one for one in self._trainers if one.answer is not None]
        if self._first_s is None or (len(known) < len(self._trainers) and now < self._first_s + ALL_ANSWERED_S):
            return None
        answers = [one.answer for one in known if one.answer is not None]
        wanting = [one for one in known if one.answer is not None and not one.answer.over
                   and now - one.answered_s < self._hold_s]
        connect = self._connect or tuple(dict.fromkeys(answer.connect for answer in answers))
        why = answers[0].why if len(self._trainers) == 1 else ""
        return Need(sum(one.wanted(now) for one in wanting), connect, self._are_over, why)
