"""The report on a dataset: a dict that is the JSON output, from which text and HTML are made. Pure.

docs/CHECK.md describes its keys.
"""

import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from stoker.inspection.checking import fields
from stoker.inspection.checking.collected import Collected
from stoker.inspection.checking.data import Data
from stoker.inspection.checking.findings import Settings, counts_of
from stoker.inspection.checking.kinds import ERROR, Finding
from stoker.pipeline.sources.folder import is_usual

VERSION = 1                 # of the dict's form
MAX_BAD_FILES = 10000       # that are listed by name
MAX_SIZES = 8               # of the most frequent ones
STEP_MS = (50.0, 100.0, 200.0)      # for which workers are counted if the user names no step


class Report(NamedTuple):
    """The dict, and the findings with the numbers of their files."""
    content: Dict[str, Any]
    findings: List[Finding]


def make(data: Data, collected: Collected, findings: List[Finding], settings: Settings, batch_size: int,
         step_ms: Optional[float], cores: int, seconds: float) -> Report:
    """``cores``: of this host; ``seconds``: that the check took."""
    height, width = settings.image_size
    statistics = collected.statistics(height * width)
    content: Dict[str, Any] = {
        "version": VERSION,
        "data": {"root": data.root, "files": len(data.paths), "training": data.training,
                 "validation": len(data.paths) - data.training, "has_validation": data.has_validation,
                 "classes": len(data.classes)},
        "options": {"image_size": [height, width], "decode": settings.decode, "exif_rotate": settings.exif_rotate},
        "findings": [_finding(each, data) for each in findings],
        "errors": sum(each.level == ERROR for each in findings),
        "warnings": sum(each.level != ERROR for each in findings),
        "files": _files(collected),
        "bad_files": _bad_files(data, collected),
        "left_out": _left_out(data),
        "classes": _classes(data, collected),
        "statistics": None if statistics is None else {
            "mean": [round(each, 6) for each in statistics.mean],
            "deviation": [round(each, 6) for each in statistics.deviation], "pictures": statistics.pictures},
        "rates": rates(collected.seconds(), batch_size, step_ms, cores),
        "seconds": round(seconds, 3)}
    return Report(content, findings)


def _finding(finding: Finding, data: Data) -> Dict[str, Any]:
    return {"kind": finding.kind, "level": finding.level, "count": finding.count, "what": finding.what,
            "advice": finding.advice, "examples": [
                {"text": example.text, "paths": [data.paths[index] for index in (example.index,) + example.more
                                                 if index >= 0]} for example in finding.examples]}


def _files(collected: Collected) -> Dict[str, Any]:
    def good(name: str) -> Any:         # one column after the other: a copy of all would take as much memory as they do
        return collected.table[name][collected.good]
    count = int(collected.good.sum())
    found: Dict[str, Any] = {
        "good": count, "bad": int((collected.reason_of >= 0).sum()),
        "formats": _counts(good("format"), fields.FORMATS), "modes": _counts(good("mode"), fields.MODES),
        "orientations": {str(number): count for number, count in sorted(Counter(
            good("orientation").tolist()).items())}}
    if count:
        width, height = good("width"), good("height")
        sizes, counts = np.unique(width.astype(np.int64) << 32 | height, return_counts=True)
        frequent = np.argsort(-counts, kind="mergesort")[:MAX_SIZES]
        found.update({
            "width": _range(width), "height": _range(height),
            "megapixels": _range(np.round(width.astype(np.int64) * height / 1e6, 3)),
            "aspect": _range(np.round(width / np.maximum(height, 1), 3)),
            "file_kb": _range(np.round(good("bytes") / 1000, 1)), "total_bytes": int(good("bytes").sum()),
            "different_sizes": len(sizes),
            "frequent_sizes": [{"width": int(sizes[place] >> 32), "height": int(sizes[place] & 0xffffffff),
                                "count": int(counts[place])} for place in frequent]})
    return found


def _counts(numbers: "np.ndarray", names: Sequence[str]) -> Dict[str, int]:
    """Of each name, the most frequent first."""
    counts = np.bincount(numbers, minlength=len(names))
    return {names[number]: int(counts[number]) for number in np.argsort(-counts, kind="mergesort").tolist()
            if counts[number]}


def _range(values: "np.ndarray") -> Dict[str, Any]:
    return {"min": values.min().item(), "median": float(np.median(values)), "max": values.max().item()}


def _bad_files(data: Data, collected: Collected) -> List[Dict[str, Any]]:
    places = np.flatnonzero(collected.reason_of >= 0)[:MAX_BAD_FILES].tolist()
    return [{"path": data.paths[index], "why": collected.reasons[collected.reason_of[index]]} for index in places]


def _left_out(data: Data) -> List[Dict[str, Any]]:
    counts = Counter(why for part in data.left_out for _, why in part)
    first = {why: start + path for start, part in zip(data.starts, data.left_out) for path, why in reversed(part)}
    return [{"why": why, "count": count, "example": first[why], "usual": is_usual(why)}
            for why, count in counts.most_common()]


def _classes(data: Data, collected: Collected) -> List[Dict[str, Any]]:
    counts = counts_of(data, collected.good)
    return [{"name": name, "training": int(counts[0][number]), "validation": int(counts[1][number])}
            for number, name in enumerate(data.classes)]


def rates(seconds: Dict[str, Any], batch_size: int, step_ms: Optional[float], cores: int) -> Dict[str, Any]:
    """``seconds``: of ``Collected``. How fast a core is in each way to decode, and how many workers steps need."""
    steps = STEP_MS if step_ms is None else (step_ms,)
    return {"batch_size": batch_size, "cores": cores, "decode": {
        name: {"ms_per_image": round(each * 1000, 4), "images_per_s": round(1 / each, 1), "measured": measured,
               "workers": [{"step_ms": step, "workers": max(1, int(math.ceil(batch_size * each * 1000 / step - 1e-9)))}
                           for step in steps],
               "least_step_ms": round(batch_size * each * 1000 / cores, 2)}
        for name, (each, measured) in seconds.items()}}
