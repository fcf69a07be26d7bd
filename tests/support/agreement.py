"""Runs whose audits must be the same, whatever holds their data: plain ones, and ones whose workers are ended."""

import os
import random
import signal

import stoker
from tests.support import stored
from tests.support.processes import kill, opened, wait_for, worker_pids

#: 48 training samples an epoch: 16 steps, and 4 of evaluation after each epoch.
OPTIONS = {"image_size": stored.SIZE, "batch_size": 3, "epochs": 2, "seed": 4, "validation": 0.2,
           "worker_timeout_s": 60, "lease_s": 1.0}      # of the worker that is suspended
FUNCTIONS = "tests.support.stored_functions:"


#: name -> (the record files of ``stored`` in a folder or at a URL for the generators, and for the function ``parts``).
ENCODED = {
    "tfrecord": (lambda root: stoker.tfrecord(root + "/train-{00000..00002}-of-00003.tfrecord"),
                 lambda root: stoker.tfrecord(root + "/train-{00000..00002}-of-00003.tfrecord",
                                              image=["image/encoded", "npy"], label=None,
                                              columns=["height", "caption"])),
    "tar": (lambda root: stoker.tar(root + "/train-{000..002}.tar"),
            lambda root: stoker.tar(root + "/train-{000..002}.tar", label=None, columns=["json"])),
    "zip": (lambda root: stoker.zip(root + "/train.zip"), None)}


def consumed(data, audit, chaos=False, **options):
    """A whole run, as a Run. ``chaos``: of its two workers one is suspended until the end, and the other one killed,
    which is started again."""
    workers = 2 if chaos else 1
    with opened(data, audit, workers=workers, prefetch=3, **dict(OPTIONS, **options)) as run:
        run.joined(workers)
        if chaos:
            choice = random.Random(str(os.path.basename(str(audit))))
            run.take(choice.randrange(1, 6))
            pids = wait_for(lambda: len(worker_pids()) == 2 and worker_pids(), "two workers")
            frozen, killed = choice.sample(pids, 2)
            os.kill(frozen, signal.SIGSTOP)
            run.take(choice.randrange(3))
            kill(killed)
        run.take_all()
        assert not chaos or frozen in worker_pids(), "it was not suspended to the end"
    assert [len(batch) for batch in run.batches] == [3] * 40, run.stream.report()
    return run


class Agreement:
    """Compares runs over a data in some form with those over files in a folder, by function and Python."""

    def __init__(self, folder, pythons):
        """``pythons``: name -> a worker's interpreter. ``folder``: for the audits."""
        self.folder, self.pythons, self._references = str(folder), pythons, {}
        self._reassigned = []           # steps of each run whose workers were ended

    def check_chaos(self):
        """Workers were ended while they held steps, in some of the runs at least."""
        assert any(self._reassigned) or len(self._reassigned) < 6, "this proves nothing"

    def reference(self, data, function, python):
        """The content of the audit of a plain run over files."""
        key = data if isinstance(data, str) else data.root, function, python
        if key not in self._references:
            self._references[key] = self._run("files", data, function, python, False).content()
        return self._references[key]

    def check(self, name, data, files, function, python, chaos):
        """``data``: in the form called ``name``; ``files``: the same ones as files."""
        run = self._run(name, data, function, python, chaos)
        if chaos:
            self._reassigned.append(run.reassigned)
        assert run.content() == self.reference(files, function, python), (name, function, python)
        return run

    def _run(self, name, data, function, python, chaos):
        audit = os.path.join(self.folder, "-".join([name, function, python] + ["chaos"] * chaos))
        generator = function if function in ("image", "augmented") else FUNCTIONS + function
        return consumed(data, audit, chaos, generator=generator, worker_python=self.pythons[python])
