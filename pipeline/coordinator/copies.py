"""Copies: what is remembered of the batches of a position that are compared, who made them, and what follows. Pure."""

from hashlib import blake2b
from typing import NamedTuple, Sequence, Tuple

from stoker.pipeline.coordinator.party import Party
from stoker.pipeline.protocol.messages import Produced

ROWS = "which samples it has"      # what can differ besides the arrays

HOST, KEY, NAME = 4, 2, 1       # how much it counts that two workers differ in it


class Maker(NamedTuple):
    """The worker that made a batch."""
    name: str
    party: Party
    versions: str

    def distance(self, other: "Maker") -> int:
        """How different the two are; 0: it may be the same process. Names count only if nothing else tells them apart:
        a worker could take that of another one, to be compared with a third."""
        hosts = {self.party.host, other.party.host}
        by_party = HOST * (len(hosts) > 1 and "" not in hosts) + KEY * (self.party.key != other.party.key)
        return by_party or NAME * (self.name != other.name)

    def __str__(self) -> str:
        return "%s (%s)" % (self.name, ", ".join(filter(None, [
            self.party.host and "at " + self.party.host, self.party.key and "key " + self.party.key,
            self.versions])))


class Copy(NamedTuple):
    """One batch of a position, as far as it is remembered."""
    maker: Maker
    digests: Tuple[bytes, ...]             # of which samples it has, and of each of its frames


def digests_of(message: Produced) -> Tuple[bytes, ...]:
    """Of everything in a batch that two workers must agree in: the reason of a bad file may be in other words."""
    rows = repr((message.count, sorted((skip.index, skip.chosen) for skip in message.skipped), message.rows,
                 message.missing, message.aligned)).encode("ascii")
    return tuple(blake2b(data, digest_size=16).digest() for data in (rows,) + tuple(message.arrays))


def verdict(copies: Sequence[Copy]) -> str:
    """Part of a sentence: which of the first two is wrong, by the third, if there is one."""
    if len(copies) < 3:
        return "; no third worker could tell which one is right"
    one, other, third = copies
    for right, wrong in ((one, other), (other, one)):
        if third.digests == right.digests:
            return "; %s, a third worker, made the same as %s, so that of %s is wrong" % (
                third.maker, right.maker.name, wrong.maker.name)
    return "; %s, a third worker, made yet another one" % (third.maker,)


def causes(copies: Sequence[Copy]) -> str:
    """A sentence: what else than a faulty or dishonest worker makes batches differ."""
    if len({copy.maker.versions for copy in copies}) > 1:
        return ("Their versions differ, and another version may decode the same picture differently: use one version "
                "of Pillow on all workers")
    return ("Without a faulty or dishonest worker, their copies of the data differ, or your function is not "
            "deterministic")
