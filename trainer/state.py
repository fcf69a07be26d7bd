"""Which step a run begins at, from what is in its checkpoint folder. Pure: it gets the names, and what could be read.

A checkpoint of step 40 is ``model.ckpt-40.index`` (its table of contents), ``model.ckpt-40.data-00000-of-00001`` and
``model.ckpt-40.meta`` (the graph, which no resume needs). They are written in the folder SAVING, and moved from there
when they are complete, the index last. TensorFlow's file ``checkpoint`` only names the newest one, so it is not needed:
the newest checkpoint is the one of the highest step that is whole.
"""

import re
from typing import Callable, Iterable, List, NamedTuple, Optional, Set, Tuple

SAVING = "stoker-saving"
NAMES = "checkpoint"              # TensorFlow's file, which names the checkpoints
DAMAGED = ".damaged"              # at the end of the files of a checkpoint that a run could not go on from
PREFIX = "model.ckpt"             # before the minus; TensorFlow's sessions and Estimators use it too
_PART = r"%s-([0-9]{1,18})\.(?:index|meta|data-[0-9]{5}-of-[0-9]{5})"
_UNFINISHED = re.compile(r".+-[0-9]+_temp_")      # a folder in which TensorFlow writes
_NAMED = r'^model_checkpoint_path: "(?:.*/)?%s-([0-9]{1,18})"'


class Damaged(NamedTuple):
    """A checkpoint that cannot be restored."""
    step: int
    reason: str


class Start(NamedTuple):
    """Where a run begins."""
    step: int = 0                            # its first step: the global_step of the checkpoint
    checkpoint: Optional[str] = None         # the name of that checkpoint; None: it begins anew
    damaged: Tuple[Damaged, ...] = ()        # newer checkpoints, which cannot be restored; the newest first

    def notice(self, directory: str) -> Optional[str]:
        """A sentence on the checkpoints that were lost; None if there are none."""
        if not self.damaged:
            return None
        newest = self.damaged[0]
        more = " (and %d more)" % (len(self.damaged) - 1) if len(self.damaged) > 1 else ""
        again = "step %d is" % self.step if newest.step == self.step + 1 else "steps %d to %d are" % (
            self.step, newest.step - 1)
        return "the newest checkpoint in %s cannot be restored%s: %s; the newest one that can is of step %d, so %s " \
               "done again" % (directory, more, newest.reason, self.step, again)


def step_of(name: str, prefix: str = PREFIX) -> Optional[int]:
    """The step of the checkpoint that the file called ``name`` is a part of; None if it is of none."""
    match = re.fullmatch(_PART % re.escape(prefix), name)
    return int(match.group(1)) if match else None


def is_unfinished(name: str) -> bool:
    """Whether it is a folder that TensorFlow left behind when it was killed while it wrote."""
    return bool(_UNFINISHED.match(name))


def traces(names: Iterable[str], saving: Iterable[str] = (), prefix: str = PREFIX) -> Tuple[str, ...]:
    """The ``names`` which tell that the folder holds checkpoints, or did. ``saving``: the names in SAVING; a checkpoint
    whose index is still there was never complete, because the process that wrote it was killed."""
    unfinished = _unfinished_steps(saving)
    return tuple(sorted(name for name in names if name == NAMES or name.startswith(prefix) and not
                        is_unfinished(name) and step_of(name, prefix) not in unfinished))


def named_step(text: str, prefix: str = PREFIX) -> Optional[int]:
    """The step of the newest checkpoint, as the file ``checkpoint`` with this content has it; None if it has none."""
    match = re.search(_NAMED % re.escape(prefix), text, re.MULTILINE)
    return int(match.group(1)) if match else None


def newest(names: Iterable[str], saving: Iterable[str], named: Optional[int],
           problem_of: Callable[[int], Optional[str]], prefix: str = PREFIX) -> Start:
    """The newest checkpoint that is whole: ``step`` is 0 and ``checkpoint`` None if there is none.

    ``names``: of the folder's files; ``saving``: of those in SAVING; ``named``: see ``named_step``.
    ``problem_of(step)``: why that checkpoint cannot be restored, None if it can; called for as few as possible.
    """
    names = set(names)
    step_of_name = {name: step_of(name, prefix) for name in names}
    steps = {step for step in step_of_name.values() if step is not None} - _unfinished_steps(saving)
    if named is not None:
        steps.add(named)
    damaged: List[Damaged] = []
    for step in sorted(steps, reverse=True):
        name = "%s-%d" % (prefix, step)
        if step not in step_of_name.values():
            reason: Optional[str] = "the files of %s, which the file %s names, are gone" % (name, NAMES)
        elif name + ".index" not in names:
            if named is not None and step > named:
                continue        # TensorFlow was killed before it had written all of it
            reason = "%s.index is gone" % name
        else:
            reason = problem_of(step)
        if reason is None:
            return Start(step, name, tuple(damaged))
        damaged.append(Damaged(step, reason))
    return Start(damaged=tuple(damaged))


def to_remove(names: Iterable[str], step: int, keep: int) -> Tuple[str, ...]:
    """The ``names`` of files that are of no use when the checkpoint of ``step`` is there and ``keep`` of them, with it,
    are to be kept: older ones, and newer ones of steps that this run does again. The index of each comes first, so that
    a checkpoint is whole or has no index."""
    names = set(names)
    older = sorted((each for each in {step_of(name) for name in names if name.endswith(".index")}
                    if each is not None and 0 < each < step), reverse=True)
    kept = {step, *older[:keep - 1]}
    found = []
    for name in names:
        is_damaged = name.endswith(DAMAGED)
        of = step_of(name[:-len(DAMAGED)] if is_damaged else name)
        if is_unfinished(name) or of is not None and (of <= step if is_damaged else of not in kept):
            found.append(name)
    return tuple(sorted(found, key=lambda name: (not name.endswith(".index"), name)))


def _unfinished_steps(saving: Iterable[str]) -> Set[Optional[int]]:
    return {step_of(name) for name in saving if name.endswith(".index")} - {None}
