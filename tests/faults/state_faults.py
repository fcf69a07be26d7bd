"""Random faults of the files in a checkpoint folder, between two runs of the trainer.

    python -m tests.faults.state_faults --rounds 200 --seed 0

Each round copies the folder that a training left (ended, or killed in an epoch), damages one to three of its files
(torn, emptied, a byte changed, removed, unreadable, replaced by a folder), and starts the training again. Then either

- the run goes on: its audit, list of bad samples and weights are those of an undisturbed run, it did not begin anew
  while a trace of a checkpoint was there, and it said so if it went on from an older checkpoint; or
- it ends with one sentence, no traceback, and every byte of folder and audit is as before.

The training is the real command line with a real worker. Its process is forked from this one, which has imported
TensorFlow, but has used nothing of it. A seed and a round repeat their faults: ``--seed 0 --first 17 --rounds 1``.
"""

import argparse
import collections
import ctypes
import hashlib
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import time
from typing import NamedTuple

from tests.support.training import arguments, audit, consumed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 120.0
KINDS = ("torn", "emptied", "byte changed", "removed", "unreadable", "a folder")
STEPS = 4                         # of an epoch
DAC_CAPABILITIES = 0b110          # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root reads any file


class Fault(NamedTuple):
    """What happens to a file."""
    name: str
    kind: str
    where: float       # 0..1: of its bytes


def faults_of(names, seed):
    """One to three faults of these files: a pure function."""
    chance = random.Random(seed)
    count = min(len(names), chance.choice((1, 1, 2, 3)))
    return [Fault(name, chance.choice(KINDS), chance.random()) for name in chance.sample(sorted(names), count)]


def apply(folder, fault):
    """Damages the file."""
    path = os.path.join(folder, fault.name)
    size = os.path.getsize(path)
    place = min(size - 1, int(fault.where * size))
    if fault.kind in ("torn", "emptied"):
        os.truncate(path, 0 if fault.kind == "emptied" or not size else place)
    elif fault.kind == "byte changed" and size:
        with open(path, "r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << int(fault.where * 1000) % 8]))
    elif fault.kind == "removed":
        os.remove(path)
    elif fault.kind == "unreadable":
        os.chmod(path, 0)
    elif fault.kind == "a folder":
        os.remove(path)
        os.mkdir(path)


def content(path):
    """Type, permissions and bytes of all below ``path``, or of a file. The empty lock file does not count."""
    found = {}
    paths = [path]
    for folder, folders, files in os.walk(path):
        paths += [os.path.join(folder, name) for name in folders + files]
    for each in paths:
        status = os.lstat(each)
        if os.path.basename(each) == "stoker.lock" and status.st_size == 0:
            continue
        data = b""
        if stat.S_ISREG(status.st_mode):
            with open(each, "rb") as file:
                data = file.read()
        found[os.path.relpath(each, path)] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode) if each != path
                                              else 0, hashlib.sha256(data).hexdigest())
    return found


class Ended(NamedTuple):
    """A run that has ended."""
    code: int
    stdout: str
    stderr: str


class Bench:
    """The pictures, the folders that trainings left, and the undisturbed run; all in ``folder``."""

    def __init__(self, folder, worker_python=None):
        self.folder, self._worker_python, self.states = folder, worker_python, {}
        self._draw(os.path.join(folder, "pictures"))
        self._make("ended", epochs=2)
        self._make("one checkpoint", epochs=1)
        self._make("killed in an epoch", epochs=3, kill=STEPS + 3)
        self._make("undisturbed", epochs=3)
        self.undisturbed = self.states.pop("undisturbed")
        self.wanted = consumed(audit(self.undisturbed + ".jsonl"))
        assert len(self.wanted) == 3 * STEPS, self.wanted

    @staticmethod
    def _draw(folder):
        from PIL import Image
        for number in range(24):
            path = os.path.join(folder, ("cat", "dog")[number % 2], "%02d.png" % number)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Image.new("RGB", (9, 9), (10 * number, 90, 200)).save(path)
            if number in (3, 10):
                os.truncate(path, 20)

    def _make(self, name, kill=None, **changed):
        folder = self.states[name] = os.path.join(self.folder, name.replace(" ", "-"))
        ended = self.train(folder, kill, **changed)
        assert ended.code == (0 if kill is None else -signal.SIGKILL), ended

    def train(self, folder, kill=None, checkpoint_secs=0.001, **changed):
        """Runs the command line with this checkpoint folder. ``kill``: the step before which it kills itself."""
        options = arguments(dict({
            "image_size": 8, "batch_size": 5, "epochs": 3, "workers": 1, "checkpoint_dir": folder,
            "checkpoint_secs": checkpoint_secs, "audit": folder + ".jsonl",
            **({"worker_python": self._worker_python} if self._worker_python else {})}, **changed))
        outputs = [tempfile.TemporaryFile(dir=self.folder) for _ in range(2)]
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                self._become_trainer([os.path.join(self.folder, "pictures")] + options, outputs, kill)
            finally:
                os._exit(99)
        code = self._waited(pid)
        said = []
        for output in outputs:
            output.seek(0)
            said.append(output.read().decode("utf-8", "replace"))
            output.close()
        return Ended(code, *said)

    def _become_trainer(self, options, outputs, kill):
        os.setsid()
        os.chdir(self.folder)
        for fd, output in enumerate(outputs, 1):
            os.dup2(output.fileno(), fd)
        sys.argv = ["stoker-train"] + [str(option) for option in options]
        if os.geteuid() == 0:
            drop_dac()
        if kill is not None:
            from stoker.pipeline.monitoring.audit import Audit
            from stoker.pipeline import stream

            class Killing(Audit):
                def write(self, batch):
                    if batch.step == kill:
                        os.kill(os.getpid(), signal.SIGKILL)
                    super().write(batch)
            stream.Audit = Killing
        from stoker.trainer.program import Program
        Program("stoker-train", "stoker.trainer.cli", "test").main()

    @staticmethod
    def _waited(pid):
        deadline = time.monotonic() + LIMIT_S
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError("the trainer did not end within %g s" % LIMIT_S)
            time.sleep(0.01)


def drop_dac():
    """From here on, root is refused what its files' permissions refuse."""
    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Data(ctypes.Structure):
        _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = Header(0x20080522, 0), (Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    data[0].effective &= ~DAC_CAPABILITIES
    assert libc.capset(ctypes.byref(header), data) == 0, os.strerror(ctypes.get_errno())


def tensors(folder):
    """All values of the newest checkpoint that TensorFlow finds."""
    import tensorflow as tf
    reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(folder))
    return {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}


def lines_of(path):
    with open(path, "rb") as file:
        return file.read()


def play(bench, seed):
    """One round: (the state, its faults, the outcome in a word, what is wrong)."""
    from stoker.trainer import state as rules
    name = random.Random(seed).choice(sorted(bench.states))
    folder = os.path.join(bench.folder, "round")
    for path in (folder, folder + ".jsonl"):
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
    shutil.copytree(bench.states[name], folder)
    shutil.copy(bench.states[name] + ".jsonl", folder + ".jsonl")
    before_step = max(step for step in map(rules.step_of, os.listdir(folder)) if step is not None)
    faults = faults_of(os.listdir(folder), seed)
    for fault in faults:
        apply(folder, fault)
    traces = [each for each in os.listdir(folder) if each == "checkpoint" or each.startswith("model.ckpt")]
    before = content(folder), content(folder + ".jsonl")
    ended = bench.train(folder)
    outcome, wrong = judged(bench, folder, ended, faults, before, before_step, bool(traces))
    wrong += ["exit code %d\n%s\n%s" % ended] if wrong else []
    return name, faults, outcome, wrong


def judged(bench, folder, ended, faults, before, before_step, had_traces):
    """The outcome of a round in a word, and what is wrong."""
    wrong = ["a traceback"] if "Traceback" in ended.stderr else []
    if ended.code != 0:
        last = (ended.stderr.splitlines() or [""])[-1]
        if ended.code not in (1, 2) or not last.startswith("stoker-train: error: "):
            wrong.append("no sentence")
        if sum(line.startswith("stoker-train: error:") for line in ended.stderr.splitlines()) != 1:
            wrong.append("more than one sentence")
        if (content(folder), content(folder + ".jsonl")) != before:
            wrong.append("something was changed")
        return "one sentence", wrong
    if consumed(audit(folder + ".jsonl")) != bench.wanted:
        wrong.append("another audit")
    if tensors(folder) != tensors(bench.undisturbed):
        wrong.append("other weights")
    hit = {fault.name for fault in faults}
    if "bad-samples.tsv" not in hit and lines_of(os.path.join(folder, "bad-samples.tsv")) != lines_of(
            os.path.join(bench.undisturbed, "bad-samples.tsv")):
        wrong.append("another list of bad samples")
    begun = [int(line.split()[4]) for line in ended.stdout.splitlines() if line.startswith("going on from step ")]
    if not begun:
        return "began anew", wrong + ["it began anew, in spite of its traces"] * had_traces
    if begun[0] < before_step:
        if "cannot be restored" not in ended.stderr:
            wrong.append("it went on from an older checkpoint without a word")
        return "an older checkpoint", wrong
    return "the newest checkpoint", wrong


def rounds(count, seed, first=0, folder=None, report=print):
    """Plays the rounds; the numbers of those in which something was wrong. ``report``: gets lines."""
    import tensorflow  # noqa: F401    # the forked trainers need not import it
    python = os.environ.get("STOKER_TEST_WORKER_PYTHON")
    outcomes, bad, kinds = collections.Counter(), [], collections.Counter()
    with tempfile.TemporaryDirectory(dir=folder) as own:
        bench = Bench(own, os.path.abspath(python) if python else None)
        for number in range(first, first + count):
            name, faults, outcome, wrong = play(bench, seed * 1000000 + number)
            outcomes[outcome] += 1
            kinds.update(fault.kind for fault in faults)
            if wrong:
                bad.append(number)
                report("round %d of seed %d: %s; %s: %s\n%s" % (
                    number, seed, name, ", ".join("%s %s" % (fault.name, fault.kind) for fault in faults),
                    "; ".join(wrong[:-1]), wrong[-1]))
    report("state files: %d rounds, seed %d, %s: %s; %d wrong" % (
        count, seed, ", ".join("%d %s" % (kinds[kind], kind) for kind in KINDS),
        ", ".join("%d %s" % (number, outcome) for outcome, number in outcomes.most_common()), len(bad)))
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    args = parser.parse_args()
    sys.exit(1 if rounds(args.rounds, args.seed, args.first) else 0)


if __name__ == "__main__":
    main()
