"""What a checkpoint keeps of its data, and how other data differs from it."""

from typing import Any, Dict, Optional

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.text import own_letters, quoted


def identity(source: Source) -> Dict[str, Any]:
    """What ``difference`` compares, beside the hashes of the rows: plain values, for JSON."""
    return {"dataset": source.fingerprint(), "samples": len(source), "classes": list(map(own_letters, source.classes)),
            "columns": list(source.columns)}


def difference(saved: Dict[str, Any], saved_hashes: "Optional[np.ndarray]", source: Source) -> Optional[str]:
    """How ``source`` differs from the data whose ``identity`` is ``saved``: a part of a sentence; None if it does not.
    ``saved_hashes``: uint32 [n], the ``row_hashes`` of then, if they were kept."""
    if saved.get("dataset") == source.fingerprint():
        return None
    facts = []
    for what in ("classes", "columns"):
        then, now = saved.get(what), list(map(own_letters, getattr(source, what)))
        if not isinstance(then, list) or not all(isinstance(name, str) for name in then):
            continue               # of a damaged record, or an older one
        if list(map(own_letters, then)) != now:
            changes = ["%s is missing" % quoted(name) for name in then if name not in now]
            changes += ["%s is new" % quoted(name) for name in now if name not in then]
            facts.append("other %s (%s)" % (what, ", ".join(changes[:4]) or "in another order"))
    if isinstance(saved.get("samples"), int) and saved["samples"] != len(source):
        facts.append("%s samples instead of %s" % (format(len(source), ","), format(saved["samples"], ",")))
    if saved_hashes is not None:
        hashes = source.row_hashes()
        gone, new = (np.flatnonzero(~np.isin(ours, theirs)) for ours, theirs in (
            (saved_hashes, hashes), (hashes, saved_hashes)))
        or_changed = " or changed" * bool(len(gone) and len(new))      # it is gone, and new
        if len(gone):
            facts.append("%s gone%s" % (_are(len(gone)), or_changed))
        if len(new):
            first = int(new[0])
            facts.append("%s new%s%s: sample %d, %.200s" % (
                _are(len(new)), or_changed, ", the first of them" * (len(new) > 1), first,
                quoted(source.rows([first])[0])))
        if not facts and np.array_equal(np.sort(hashes), np.sort(saved_hashes)):
            facts.append("the same samples are in another order")
    return "; ".join(facts) or "the samples are others"


def _are(count: int) -> str:
    return "1 is" if count == 1 else "%s are" % format(count, ",")
