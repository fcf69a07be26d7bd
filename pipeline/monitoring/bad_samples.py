"""Files that could not be decoded: reported in the log, listed in a file, or an error, as ``on_bad_image`` says.

The list has a header line and one line per file, with tabs between the fields. Characters that would break the format
are escaped: ``\\t``, ``\\n``, ``\\\\``; ``\\xff`` for a byte of a file name that is not valid UTF-8; ``\\u0085`` for
other unprintable characters.
"""

import logging
import re
from collections import Counter
from typing import Callable, Dict, Iterable, Optional, Set

from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.monitoring.step_log import StepLog
from stoker.pipeline.text import own_letters, printable, printable_path

log = logging.getLogger("stoker")

MAX_REASONS = 1000     # of samples that a function leaves out, counted one by one: a reason may have a number in it
OTHER_REASONS = "for other reasons"
MAX_WARNINGS = 10      # bad files that the log names; all of them are in ``BadFiles.reasons``
MAX_NAMED = 10000      # bad files that workers name and that are no sample's own; further ones get the sample's name
HEADER = b"path\tclass\treason\tstep\n"
_ESCAPES = {code: "\\u%04x" % code for code in
            [*range(0x20), *range(0x7f, 0xa0), 0x2028, 0x2029, *range(0xd800, 0xe000),
             *range(0x202a, 0x202f), *range(0x2066, 0x206a)]}      # the last two turn the direction of writing
_ESCAPES.update((code, "\\x%02x" % (code - 0xdc00)) for code in range(0xdc80, 0xdd00))   # bytes of names (PEP 383)
_ESCAPES.update({ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord("\\"): "\\\\"})


class BadSamples(StepLog):
    """The list. A file is listed once, with the first step that it was used for."""
    name, header = "bad samples", HEADER

    def __init__(self, path: str, start_step: int) -> None:
        """``begin`` removes the lines of ``start_step`` and later steps, which are done again. Raises ConfigError if
        the file is no such list, or in use by another trainer."""
        self._start_step = start_step
        self._listed: Set[bytes] = set()
        super().__init__(path)

    def _bytes_to_keep(self, lines: Iterable[bytes]) -> int:
        keep = 0
        for line in lines:
            if line == HEADER and not keep:
                keep = len(HEADER)
                continue
            if not keep and not HEADER.startswith(line):        # an incomplete header is replaced
                raise ConfigError("bad samples: %r exists and is no list of bad samples: not overwritten" % self._path)
            match = re.match(rb"([^\t]*)\t[^\t]*\t[^\t]*\t([0-9]+)\n", line)
            if match is None or int(match.group(2)) >= self._start_step:
                break
            keep += len(line)
            self._listed.add(match.group(1))
        return keep

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, path: str, class_name: str, reason: str, step: int) -> None:
        """``step``: the training step that used the file, or the one after the evaluation that did."""
        fields = [escaped(own_letters(field)).encode("utf-8") for field in (path, class_name, reason)]
        if fields[0] not in self._listed:
            self._append(b"\t".join(fields) + b"\t%d\n" % step)
            self._listed.add(fields[0])


class BadFiles:
    """Counts, logs and lists the bad files of the batches handed out. ``raises``: the first one ends the run. Samples
    that the user's own function left out are counted apart."""

    def __init__(self, listing: Optional[BadSamples], raises: bool) -> None:
        self.reasons: Dict[str, str] = {}     # path -> why it is bad, of all bad files in this process
        self.chosen: "Counter[str]" = Counter()   # reason -> samples that a function left out with stoker.Skip
        self.missing = 0                      # samples that batch functions left out without a reason
        self.found: Optional[Callable[[str, str, int], None]] = None    # gets printable path, reason and step of each
        self._listing, self._raises = listing, raises
        self._named = 0                       # in ``reasons``, paths that workers named

    def note(self, batch: Batch, source: Source) -> None:
        """Takes note of the skipped samples of ``batch``, which come from ``source``. Raises RunFailed: see above."""
        self.missing += batch.missing
        for skip in batch.skipped:
            if skip.chosen:
                is_known = skip.reason in self.chosen or len(self.chosen) < MAX_REASONS
                self.chosen[skip.reason if is_known else OTHER_REASONS] += 1
        bad = [skip for skip in batch.skipped if not skip.chosen]
        samples = source.samples([skip.index for skip in bad])
        for sample, skip in zip(samples, bad):
            number, path = len(self.reasons) + 1, sample.name
            if skip.path in self.reasons or skip.path and self._named < MAX_NAMED:
                path = skip.path
                self._named += path not in self.reasons
            if path not in self.reasons and number <= MAX_WARNINGS and not self._raises:
                log.warning("bad file '%s': %s%s", printable_path(path), printable(skip.reason),
                            "; any more are only counted" if number == MAX_WARNINGS else "")
            if self.found is not None and path not in self.reasons:
                self.found(printable_path(path), skip.reason, batch.step)
            self.reasons[path] = skip.reason
            if self._listing is not None:
                self._listing.add(path, source.classes[sample.label] if source.classes else "", skip.reason, batch.step)
        if self._raises and samples:
            where = "step %d of epoch %d" if batch.training else "the evaluation before step %d, after epoch %d"
            more = " (and %d more in this batch)" % (len(samples) - 1) if len(samples) > 1 else ""
            raise RunFailed("%r, in %s, is a bad file: %s%s; replace it, or continue with on_bad_image='skip' "
                            "(--on-bad-image skip)" % (
                bad[0].path or samples[0].name, where % (batch.step, batch.epoch + 1), printable(bad[0].reason), more))

    def example(self, root: str) -> str:
        """``report``, and one of the bad files. ``root``: the folder of the data, or ''."""
        if not self.reasons:
            return self.report()
        path, reason = next(iter(self.reasons.items()))
        return "%s, such as %r: %s%s" % (self.report(), path, printable(reason),
                                         "; paths start from the folder " + printable(root) if root else "")

    def report(self) -> str:
        """One sentence on what is not in the batches, for the end of a run."""
        count = len(self.reasons if self._listing is None else self._listing)
        where = " (listed in %s)" % printable_path(self._listing.path) if count and self._listing is not None else ""
        parts = ["%s bad file%s%s" % (format(count, ",") if count else "no", "s" * (count != 1), where)]
        shown = [each for each in self.chosen.most_common(6) if each[0] != OTHER_REASONS][:5]
        others = sum(self.chosen.values()) - sum(number for _, number in shown)
        parts += ["{:,} sample{} skipped by your function ({})".format(number, "s" * (number > 1), printable(reason))
                  for reason, number in shown + [(OTHER_REASONS, others)] * (others > 0)]
        if self.missing:
            parts.append("%s samples that your batch function did not return" % format(self.missing, ","))
        return "; ".join(parts)


def escaped(text: str) -> str:
    """``text`` as one field of one line of UTF-8; different texts stay different."""
    return text.translate(_ESCAPES)
