"""Notices: which lines about peers and members the log gets, each once. Pure; bounded, whatever peers send."""

from dataclasses import replace
from typing import Dict, FrozenSet, Optional, Sequence, Set

from stoker.pipeline.coordinator.effects import Effects, Gone, Log
from stoker.pipeline.coordinator.leases import LeaseScheduler
from stoker.pipeline.errors import ProtocolError, VersionMismatch
from stoker.pipeline.formats import SUFFIXES, versions_in, warning
from stoker.pipeline.protocol.messages import CUT, UNSCALED, Failed, Hello, Remark
from stoker.pipeline.sources.dataset import Splits
from stoker.pipeline.text import printable

#: kind of a Remark -> the warning.
_REMARKS = {
    CUT: "a picture holds more than 8 bits per channel, and decode 'exact' gives what PIL makes of it: each value "
         "above 255 becomes 255, so that most of it is white; the other ways to decode take the upper 8 bits",
    UNSCALED: "a picture holds floating-point numbers, and its file does not tell their range: values below 0 and "
              "above 255 are cut; a function of your own can scale them: sample.image(mode='F')",
}
MAX_DECODERS = 8           # that are kept; two are enough for the warning
MAX_REASONS = 10           # why workers share no memory
MAX_WARNINGS = 100         # about peers in a run; strangers get half of them at most


class Notices:
    """``prefetch``: the most steps that are leased or buffered at once; ``prefetch_option``: the option that limits it.
    ``has_pictures``: the run's data are files that a library decodes. ``formats``: the ones that the run names;
    ``datasets``: its data, whose file names tell of which formats they are."""

    def __init__(self, prefetch: int, prefetch_option: str, has_pictures: bool, formats: Sequence[str] = (),
                 datasets: Optional[Splits] = None) -> None:
        self._formats, self._datasets = tuple(formats), datasets
        self._files: Dict[str, int] = {}                # format -> files of it, counted when it matters
        self._prefetch, self._prefetch_option, self._has_pictures = prefetch, prefetch_option, has_pictures
        self._warned: Set[str] = set()
        self._last_traceback = ""                       # in the log
        self._said_memory: Set[str] = set()             # reasons why workers share none; '': one does
        self._said_narrow = self._said_isolated = self._said_sandbox = False
        self.decoders: FrozenSet[str] = frozenset()     # libraries of members, if there are pictures; replaced as one

    def warn_once(self, text: str, more: str = "", stranger: bool = False, kind: str = "") -> Effects:
        """A broken peer repeats itself. Warnings about strangers leave room for those about workers."""
        if not text or text in self._warned or len(self._warned) >= (MAX_WARNINGS // 2 if stranger else MAX_WARNINGS):
            return []
        self._warned.add(text)
        return [Log(text + more, True, kind=kind or ("refused" if stranger else ""))]

    def dropped(self, peer: str, error: ProtocolError) -> Effects:
        """A message of the peer cannot be read, or is none that may come."""
        return self.warn_once("dropped a message of %s: %s" % (peer, printable(str(error))), stranger=True)

    def refused(self, host: str, error: VersionMismatch) -> Effects:
        """A peer on ``host``, or '' if that is unknown, speaks another version of the protocol."""
        return self.warn_once("a worker of another release (protocol version %s, this is %d) was refused: %s; install "
                              "the same Stoker release on trainer and workers"
                              % (printable(str(error.theirs)), error.ours,
                                 "it connects from " + host if host else "its address is unknown"), stranger=True)

    def remarked(self, remarks: Sequence[Remark]) -> Effects:
        """A worker remarks something about pictures: once for each kind, with the first file."""
        lines: Effects = []
        for kind, path in remarks:
            lines += self.warn_once(_REMARKS[kind], "; the first one: " + printable(path))
        return lines

    def failed(self, name: str, failed: Failed) -> Effects:
        """The worker of this name failed at a step: with the traceback, unless it is the last one again."""
        is_new = failed.traceback not in ("", self._last_traceback)      # the same for all samples, in most cases
        lines = self.warn_once(problem_of(name, failed), "\n" + failed.traceback.rstrip() if is_new else "",
                               kind="reassigned")
        if lines:
            self._last_traceback = failed.traceback
        return lines

    def isolated(self, step: str) -> Effects:
        """Workers died at this step, and another one looks for the sample that kills; once for a run."""
        if self._said_isolated:
            return []
        self._said_isolated = True
        return [Log("workers died at %s: its samples are now tried one by one, each in a process of its own, to find "
                    "the one that kills; so it is with each step at which workers die" % step, True)]

    def joined(self, hello: Hello, members: int) -> Effects:
        """A worker became a member, the last of so many."""
        lines: Effects = [Log("%s joined (pid %d, %s%s)%s" % (
            hello.worker, hello.pid, hello.versions,
            ", serves %d trainers" % hello.trainers if hello.trainers > 1 else "",
            hello.last_exit and "; its predecessor ended with " + hello.last_exit), kind="joined")]
        if hello.sandbox and not self._said_sandbox:
            self._said_sandbox = True
            lines.append(Log("%s has %s" % (hello.worker, hello.sandbox)))
        leases = members * hello.capacity
        if leases > self._prefetch and not self._said_narrow:
            self._said_narrow = True
            lines.append(Log("%d workers could hold %d steps, but at most %d are leased or buffered at once: raise %s"
                             % (members, leases, self._prefetch, self._prefetch_option), True))
        for name, version in versions_in(hello.versions).items() if self._has_pictures else ():
            if warning(name, self._formats, version, 1, ""):
                lines += self.warn_once(warning(name, self._formats, version, self._count(name), "a worker"),
                                        "; the first such worker: " + printable(hello.worker))
        decoder = hello.versions.partition(", ")[2]
        if self._has_pictures and decoder not in self.decoders and len(self.decoders) < MAX_DECODERS:
            self.decoders |= {decoder}
            if len(self.decoders) == 2:
                lines.append(Log("workers decode with different libraries (%s): the same picture may differ in its "
                                 "last bits between them, and a few files, TIFFs and BMPs of rare kinds, are bad for "
                                 "one of them only, or for another reason in the list of bad files; for a run that is "
                                 "repeatable to the byte, use one Pillow version" % " and ".join(sorted(self.decoders)),
                                 True))
        return lines

    def memory(self, worker: str, reason: str) -> Effects:
        """A worker is ready, and shares memory with the trainer, or does not for this reason, a clause: each once."""
        if reason in self._said_memory or len(self._said_memory) >= MAX_REASONS:
            return []
        self._said_memory.add(reason)
        if reason:
            return [Log("batches of %s come over TCP: %s" % (worker, printable(reason)))]
        return [Log("batches of %s come through shared memory, and so do those of other workers on this host" % worker)]

    def _count(self, name: str) -> int:
        """How many of the data's files have the format ``name`` by their suffix."""
        if name not in self._files:
            parts = {id(part): part for part in self._datasets or ()}.values()      # one may be in it twice
            self._files[name] = sum(path.lower().endswith(SUFFIXES[name]) for part in parts
                                    for path in getattr(part, "paths", ()))
        return self._files[name]


def gone_line(name: str, gone: Gone, is_member: bool) -> Log:
    """The worker of this name is gone or, if it is a member still, silent."""
    kind = "silent" if is_member else "lost" if gone.is_lost else "left"
    text = "%s %s" % (name, gone.why)
    if not gone.positions:
        return Log(text, kind=kind)
    steps = "step is" if gone.positions == 1 else "%d steps are" % gone.positions
    return Log("%s; its %s reassigned" % (text, steps), True, kind=kind,
               reassigned="%d step%s of %s" % (gone.positions, "s" * (gone.positions > 1), name))


def problem_of(name: str, failed: Failed) -> str:
    """What happened to the worker of this name, in a clause."""
    return "%s failed%s: %s" % (name, failed.sample and " at %r" % failed.sample, failed.error)


def shown(hello: Hello) -> Hello:
    """``hello`` with its texts as the log may show them."""
    return replace(hello, worker=printable(hello.worker), versions=printable(hello.versions),
                   last_exit=printable(hello.last_exit), sandbox=printable(hello.sandbox))


def summary_of(scheduler: LeaseScheduler, rejected: str, without_slot: int) -> Effects:
    """Counts for those who look for them, at the end. ``rejected``: of connections; '' if there were none.
    ``without_slot``: leases for which there was no slot of shared memory."""
    effects: Effects = []
    if scheduler.reassigned or scheduler.backups:
        effects.append(Log("leases: %d steps reassigned after a lost lease, %d slow steps also given to a second "
                           "worker, %d second batches dropped"
                           % (scheduler.reassigned, scheduler.backups, scheduler.duplicates), is_debug=True))
    if without_slot:
        effects.append(Log("shared memory: no slot was free for %d steps, as the program held many batches: they came "
                           "over TCP" % without_slot, is_debug=True))
    if rejected:
        effects.append(Log("rejected connections: %s" % rejected, is_debug=True))
    return effects
