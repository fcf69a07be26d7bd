"""The report for a terminal: what is wrong first, each with what to do; then what the dataset holds. Pure."""

import textwrap
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from stoker.inspection.checking.kinds import ERROR, WARNING, counted
from stoker.pipeline.text import printable_path

WIDTH = 110
_EXAMPLES = 5           # of a finding
_CLASSES = 12           # in the table: the largest and the smallest
_INDENT = " " * 4


def text(content: Dict[str, Any]) -> str:
    """``content``: the dict of ``report.make``."""
    lines = [headline(content)]
    for level, title in ((ERROR, "WRONG"), (WARNING, "WORTH A LOOK")):
        found = [finding for finding in content["findings"] if finding["level"] == level]
        lines += ["", title] * bool(found)
        for finding in found:
            lines += _finding(finding)
    lines += [""] + [line for title, rows in sections(content) for line in _section(title, rows)]
    return "\n".join(lines + [verdict(content)])


def headline(content: Dict[str, Any]) -> str:
    """What was looked at."""
    data, files = content["data"], content["files"]
    parts = "{training:,} for training, {validation:,} for validation".format(**data)
    return "%s: %s files%s, %s good, %s bad" % (
        printable_path(data["root"]), format(data["files"], ","),
        " (%s)" % parts if data["has_validation"] else "", format(files["good"], ","), format(files["bad"], ","))


def verdict(content: Dict[str, Any]) -> str:
    """The last line."""
    parts = []
    for level, title in ((ERROR, "wrong"), (WARNING, "worth a look")):
        counts: Dict[str, int] = {}
        for each in content["findings"]:
            if each["level"] == level:
                counts[each["kind"]] = counts.get(each["kind"], 0) + each["count"]
        if counts:
            parts.append("%s: %s" % (title, ", ".join("%s (%s)" % (kind, format(count, ","))
                                                      for kind, count in counts.items())))
    sentence = "; ".join(parts) or "nothing wrong was found"
    return sentence[0].upper() + sentence[1:]


def _finding(finding: Dict[str, Any]) -> List[str]:
    lines = _wrapped("%s: %s" % (finding["kind"], counted(finding["count"], finding["what"])), "  ", _INDENT)
    examples = finding["examples"]
    lines += [_INDENT + "- " + example["text"] for example in examples[:_EXAMPLES]]
    if len(examples) > _EXAMPLES:
        lines.append(_INDENT + "- ...")
    return lines + _wrapped("-> " + finding["advice"], _INDENT, _INDENT + "   ")


def _wrapped(sentence: str, first: str, further: str) -> List[str]:
    return textwrap.wrap(sentence, WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False,
                         break_long_words=False)


def _section(title: str, rows: Sequence[Tuple[str, str]]) -> Iterator[str]:
    if rows:
        width = min(40, max(len(name) for name, _ in rows))
        yield title
        for name, value in rows:
            yield "  %-*s  %s" % (width, name, value)
        yield ""


def sections(content: Dict[str, Any]) -> List[Tuple[str, List[Tuple[str, str]]]]:
    """What the dataset holds: titles, and rows of names and values, printable."""
    parts = ": training + validation" * content["data"]["has_validation"]
    return [("THE PICTURES", _pictures(content["files"])),
            ("CLASSES, good pictures" + parts, _class_rows(content)),
            ("LEFT OUT BY THE SCAN", [(format(each["count"], ","), "%s, such as %s" % (
                each["why"], printable_path(each["example"]))) for each in content["left_out"]]),
            ("VALUES 0..1 at %d x %d%s" % (tuple(content["options"]["image_size"]) + (
                ", training pictures only" * content["data"]["has_validation"],)), _statistics(content)),
            ("DECODING by one core, and workers for batches of %d" % content["rates"]["batch_size"],
             _rates(content["rates"], content["options"]["decode"]))]


def _pictures(files: Dict[str, Any]) -> List[Tuple[str, str]]:
    if not files["good"]:
        return []
    rows = [("formats", _listed(files["formats"])), ("modes", _listed(files["modes"]))]
    if list(files["orientations"]) != ["1"]:
        rows.append(("EXIF orientations", _listed(files["orientations"])))
    for name, title, unit in (("width", "width", ""), ("height", "height", ""), ("megapixels", "pixels", " million"),
                              ("aspect", "width : height", ""), ("file_kb", "file", " KB")):
        rows.append((title, "{min:g} to {max:g}{unit}, median {median:g}".format(unit=unit, **files[name])))
    sizes = ", ".join("{width} x {height} ({count:,})".format(**each) for each in files["frequent_sizes"][:4])
    return rows + [("sizes", "%s: %s" % (format(files["different_sizes"], ","), sizes))]


def _listed(counts: Dict[str, int]) -> str:
    return ", ".join("%s %s" % (name, format(count, ",")) for name, count in counts.items())


def _class_rows(content: Dict[str, Any]) -> List[Tuple[str, str]]:
    both = content["data"]["has_validation"]
    classes = sorted(content["classes"], key=lambda each: -each["training"])
    rows = [(printable_path(each["name"]), "{training:,}".format(**each)
             + (" + {validation:,}".format(**each) if both else "")) for each in classes]
    if len(rows) > _CLASSES:
        half = _CLASSES // 2
        rows[half:-half] = [("...", "%s more" % format(len(rows) - 2 * half, ","))]
    return rows


def _statistics(content: Dict[str, Any]) -> List[Tuple[str, str]]:
    found = content["statistics"]
    return [] if found is None else [
        (name, ", ".join("%.4f" % each for each in found[name]) + "  (red, green, blue)") for name in (
            "mean", "deviation")]


def _rates(rates: Dict[str, Any], own: str) -> List[Tuple[str, str]]:
    """``own``: the way to decode that a run would use."""
    rows = []
    for name, each in rates["decode"].items():
        workers = ", ".join("%d at %g ms a step" % (one["workers"], one["step_ms"]) for one in each["workers"])
        rows.append((name, "%7s images/s, %6.2f ms each; workers: %s" % (
            format(each["images_per_s"], ",.0f"), each["ms_per_image"], workers)))
    if own in rates["decode"]:
        cores, least_ms = rates["cores"], rates["decode"][own]["least_step_ms"]
        rows.append(("here", "%d core%s keep%s up with steps of %.3g ms or more, by --decode %s" % (
            cores, "s" * (cores != 1), "s" * (cores == 1), least_ms, own)))
    return rows
