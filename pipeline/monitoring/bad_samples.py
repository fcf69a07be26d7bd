"""Files that could not be decoded: reported in the log, listed in a file, or an error, as ``on_bad_image`` says.

The list has one line per file, with tabs between the fields, and a header line. Like the audit it depends on nothing
but the run: when a run is resumed, the lines of the steps that it does again are removed. Characters that would break
the format are escaped: ``\\t``, ``\\n``, ``\\\\``, ``\\xff`` for a byte of a file name that is not valid UTF-8, and
``\\u0085`` for other unprintable characters.
"""

import logging
import re
from typing import Dict, Optional, Set

from stoker.pipeline.batch import Batch
from stoker.pipeline.contracts import Source
from stoker.pipeline.errors import ConfigError, RunFailed
from stoker.pipeline.monitoring.step_log import StepLog
from stoker.pipeline.protocol.messages import printable

log = logging.getLogger("stoker")

MAX_WARNINGS = 10      # bad files that the log names; all of them are in ``BadFiles.reasons``
HEADER = b"path\tclass\treason\tstep\n"
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}


class BadSamples(StepLog):
    """The list. A file is listed once, with the first step that it was used for."""

    name = "bad samples"

    def __init__(self, path: str, start_step: int) -> None:
        """``begin`` removes lines of ``start_step`` and later. Raises ConfigError if the file is no such list, or in
        use by another trainer."""
        self._start_step = start_step
        self._listed: Set[bytes] = set()
        super().__init__(path)

    def _bytes_to_keep(self) -> int:
        keep = 0
        with open(self._path, "rb") as lines:
            for line in lines:
                if not keep:
                    if not HEADER.startswith(line):             # the beginning of it: an incomplete line
                        raise ConfigError("bad samples: %r exists and is no list of bad samples: not overwritten"
                                          % self._path)
                    keep = len(line) if line == HEADER else 0
                    continue
                fields = line.rstrip(b"\n").split(b"\t")
                if not line.endswith(b"\n") or len(fields) != 4 or not fields[3].isdigit() or (
                        int(fields[3]) >= self._start_step):
                    break
                keep += len(line)
                self._listed.add(fields[0])
        return keep

    def begin(self) -> None:
        super().begin()
        if not self._keep:
            self._append(HEADER)

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, path: str, class_name: str, reason: str, step: int) -> None:
        """``step``: the training step that used the file, or the one after the evaluation that did."""
        fields = [escaped(field).encode("utf-8") for field in (path, class_name, reason)]
        if fields[0] not in self._listed:
            self._append(b"\t".join(fields) + b"\t%d\n" % step)
            self._listed.add(fields[0])


class BadFiles:
    """Counts, logs and lists the bad files of the batches handed out. ``raises``: the first one ends the run."""

    def __init__(self, listing: Optional[BadSamples], raises: bool) -> None:
        self.reasons: Dict[str, str] = {}     # path -> why it is bad, of all bad files in this process
        self._listing, self._raises = listing, raises

    @property
    def count(self) -> int:
        """The number of bad files so far. With a list, those from before a resume are included."""
        return len(self.reasons if self._listing is None else self._listing)

    def note(self, batch: Batch, source: Source) -> None:
        """Takes note of the skipped samples of ``batch``, which come from ``source``. Raises RunFailed if bad files
        are to end the run."""
        samples = source.samples([skip.index for skip in batch.skipped])
        for sample, skip in zip(samples, batch.skipped):
            if sample.path not in self.reasons and len(self.reasons) < MAX_WARNINGS and not self._raises:
                log.warning("bad file %r: %s%s", sample.path, printable(skip.reason),
                            "" if len(self.reasons) + 1 < MAX_WARNINGS else "; any more are only counted")
            self.reasons[sample.path] = skip.reason
            if self._listing is not None:
                self._listing.add(sample.path, source.classes[sample.label], skip.reason, batch.step)
        if self._raises and samples:
            more = len(samples) - 1
            where = ("step %d of epoch %d" if batch.training else
                     "the evaluation before step %d, after epoch %d") % (batch.step, batch.epoch + 1)
            raise RunFailed("%r, in %s, is a bad file: %s%s; replace it, or continue with --on-bad-image skip"
                            % (samples[0].path, where, printable(batch.skipped[0].reason),
                               " (and %d more in this batch)" % more if more else ""))


def escaped(text: str) -> str:
    """``text`` as one field of one line of UTF-8; different texts stay different."""
    return re.sub("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", _escape, text)


def _escape(match: "re.Match[str]") -> str:
    number = ord(match.group())
    if 0xdc80 <= number <= 0xdcff:      # a byte of a file name (PEP 383)
        return "\\x%02x" % (number - 0xdc00)
    return _NAMED.get(match.group(), "\\u%04x" % number)
