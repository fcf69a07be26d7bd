"""What a checkpoint keeps of its data, and how other data differs from it."""

from typing import Any, Dict, Optional

import numpy as np

from stoker.pipeline.contracts import Source
from stoker.pipeline.text import own_letters


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
        if isinstance(then, list) and list(map(own_letters, then)) != now:
            changes = ["%s is missing" % ascii(name) for name in then if name not in now]
            changes += ["%s is new" % ascii(name) for name in now if name not in then]
            facts.append("other %s (%s)" % (what, ", ".join(changes[:4]) or "in another order"))
    if saved.get("samples") not in (None, len(source)):
        facts.append("%s samples instead of %s" % (format(len(source), ","), format(saved["samples"], ",")))
    if saved_hashes is not None:
        hashes = source.row_hashes()
        both = min(len(hashes), len(saved_hashes))
        differ = np.flatnonzero(hashes[:both] != saved_hashes[:both])
        if len(differ):
            first = int(differ[0])
            facts.append("%s of the first %s samples are others; the first of them is sample %d, now %.200s" % (
                format(len(differ), ","), format(both, ","), first, ascii(source.rows([first])[0])))
        elif len(hashes) > both:
            facts.append("the first new one is sample %d: %.200s" % (both, ascii(source.rows([both])[0])))
    return "; ".join(facts) or "the samples are others"
