"""``stoker-pack.json``: what was packed, with which options, and how far. It is written after each shard, so that the
same command goes on after the last one, and not with other sources or options. Pure.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from stoker.packing.plan import BEGIN, Cursor
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage import checked_json
from stoker.pipeline.text import printable

FORMAT = 1                    # another one makes other shards of the same sources
MAX_EXAMPLES = 20             # of what was left out, with its place


class Shard(NamedTuple):
    """A complete shard, and where the next one begins."""
    name: str
    samples: int
    size: int                 # bytes
    sha256: str
    next: Cursor
    left_out: Dict[str, int]  # reason -> how many records before ``next``, and not before the shard before


class Manifest:
    """What a run of stoker-pack makes, and what is done of it."""

    def __init__(self, sources: List[Any], options: Dict[str, Any]) -> None:
        self.sources = sources
        self.options = options
        self.classes: Optional[Tuple[str, ...]] = None       # None: not known yet
        self.are_texts = False                               # the labels of the sources
        self.shards: List[Shard] = []
        self.pending: Dict[str, int] = {}                    # left out behind the last shard: reason -> how many
        self.examples: List[Tuple[str, str]] = []            # (where, reason) of the first ones
        self.is_finished = False

    @property
    def cursor(self) -> Cursor:
        """Where the next shard begins."""
        return self.shards[-1].next if self.shards else BEGIN

    @property
    def samples(self) -> int:
        """So many are in complete shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def size(self) -> int:
        """The bytes of the complete shards."""
        return sum(shard.size for shard in self.shards)

    def leave_out(self, where: str, why: str) -> None:
        """Counts a record that is in no shard."""
        self.pending[why] = self.pending.get(why, 0) + 1
        if len(self.examples) < MAX_EXAMPLES and (where, why) not in self.examples:
            self.examples.append((where, why))

    def add(self, name: str, samples: int, size: int, sha256: str, cursor: Cursor) -> None:
        """A shard is complete."""
        self.shards.append(Shard(name, samples, size, sha256, cursor, self.pending))
        self.pending = {}

    def forget(self, number: int) -> None:
        """Shard ``number`` and those behind it are not complete."""
        self.is_finished, self.pending = False, {}
        del self.shards[number:]

    @property
    def left_out(self) -> Dict[str, int]:
        """reason -> how many."""
        found: Dict[str, int] = {}
        for counts in [shard.left_out for shard in self.shards] + [self.pending]:
            for why, count in counts.items():
                found[why] = found.get(why, 0) + count
        return found

    def dumps(self) -> bytes:
        """The content of the file."""
        return (json.dumps({
            "stoker_pack": FORMAT, "finished": self.is_finished, "samples": self.samples, "bytes": self.size,
            "options": self.options, "classes": self.classes, "texts": self.are_texts,
            "left_out_behind": self.pending, "left_out_examples": self.examples,
            "shards": [dict(shard._asdict(), next=list(shard.next)) for shard in self.shards],
            "sources": self.sources}, indent=1) + "\n").encode("ascii")


def loads(data: bytes) -> Manifest:
    """The manifest in ``data``. Raises ValueError, which says in a clause why it is none."""
    found = checked_json.loads(data)
    if not isinstance(found, dict) or "stoker_pack" not in found:
        raise ValueError("it is not of stoker-pack")
    if found["stoker_pack"] != FORMAT:
        raise ValueError("another release of Stoker wrote it, whose shards differ")
    try:
        manifest = Manifest(_is(found["sources"], list), _is(found["options"], dict))
        classes = found["classes"]
        manifest.classes = None if classes is None else tuple(_is(name, str) for name in _is(classes, list))
        manifest.are_texts = _is(found["texts"], bool)
        manifest.pending = _counts(found["left_out_behind"])
        manifest.examples = [(_is(where, str), _is(why, str)) for where, why in _is(found["left_out_examples"], list)]
        manifest.is_finished = _is(found["finished"], bool)
        for shard in _is(found["shards"], list):
            name = _is(shard["name"], str)
            if "/" in name or name.startswith("."):
                raise ValueError("no name of a shard")
            manifest.shards.append(Shard(name, _count(shard["samples"]), _count(shard["size"]),
                                         _is(shard["sha256"], str), Cursor(*map(_count, shard["next"])),
                                         _counts(shard["left_out"])))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("it is torn or damaged: %s" % printable(repr(error)[:200])) from error
    return manifest


def _is(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError("%.80r is no %s" % (value, kind.__name__))
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("%.80r is no number of things" % (value,))
    return value


def _counts(value: Any) -> Dict[str, int]:
    return {_is(why, str): _count(count) for why, count in _is(value, dict).items()}


def check_same(old: Manifest, new: Manifest, folder: str) -> None:
    """Raises ConfigError if a run with the sources and options of ``new`` would not go on with what ``old`` has."""
    advice = "give another OUT_FOLDER, or remove this one's files to pack anew"
    mine = json.loads(new.dumps().decode("ascii"))       # as the file has them
    names = [name for name in sorted(set(old.options) | set(mine["options"]))
             if old.options.get(name) != mine["options"].get(name)]
    if names:
        raise ConfigError("%s holds shards that were packed with %s: %s; or give the same options" % (
            folder, ", ".join("--%s %s" % (name.replace("_", "-"), _shown(old.options.get(name))) for name in names),
            advice))
    if old.sources != mine["sources"]:
        raise ConfigError("%s holds shards of other sources, or %s changed since: %s" % (
            folder, _first_difference(old.sources, mine["sources"]), advice))


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text[:80]) if text else "''"


def _first_difference(old: Sequence[Any], new: Sequence[Any]) -> str:
    for number in range(max(len(old), len(new))):
        one, other = (facts[number] if number < len(facts) else None for facts in (old, new))
        if one != other:
            entry = other if other is not None else one
            return printable(str(entry.get("name", "a source") if isinstance(entry, dict) else "a source")[:300])
    return "a source"
