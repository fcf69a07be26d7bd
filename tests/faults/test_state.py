"""Random faults of state files, in short, and that a wrong outcome is seen; ``STATE_ROUNDS=200 SEED=3`` for more."""

import os
import subprocess
import sys

import pytest

from tests.faults import state_faults
from tests.faults.state_faults import KINDS, ROOT, Ended, Fault, apply, content, faults_of, judged

pytest.importorskip("tensorflow")

ROUNDS, SEED = int(os.environ.get("STATE_ROUNDS") or 6), int(os.environ.get("SEED") or 0)


def files(folder, **contents):
    for name, text in contents.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)


def test_the_faults_are_a_pure_function_of_names_and_seed():
    names = ["model.ckpt-4.index", "stoker.json", "checkpoint", "stoker.lock"]
    assert faults_of(names, 5) == faults_of(names[::-1], 5)
    drawn = [fault for seed in range(300) for fault in faults_of(names, seed)]
    assert {fault.kind for fault in drawn} == set(KINDS) and {fault.name for fault in drawn} == set(names)


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_changes_the_file(tmp_path, kind):
    files(str(tmp_path), one="content")
    before = content(str(tmp_path))
    apply(str(tmp_path), Fault("one", kind, 0.5))
    assert content(str(tmp_path)) != before


class Undisturbed:
    """A Bench whose audit has two steps."""
    wanted = [(0, 0, [1, 2], 7), (1, 0, [3, 4], 8)]

    def __init__(self, folder):
        self.undisturbed = str(folder)


AUDIT = "".join('{"step": %d, "epoch": %d, "indices": %s, "crc32": %d}\n' % line for line in Undisturbed.wanted)
SENTENCE = "stoker-train: error: a sentence\n"
GOING_ON = "going on from step 1 of 2 (ck)\n"


@pytest.mark.parametrize("ended, changed, told", [
    (Ended(0, GOING_ON, ""), {}, ("the newest checkpoint", [])),
    (Ended(0, GOING_ON, ""), {"audit": AUDIT.replace("8}", "9}")}, ("the newest checkpoint", ["another audit"])),
    (Ended(0, "", ""), {}, ("began anew", ["it began anew, in spite of its traces"])),
    (Ended(0, GOING_ON, ""), {"step": 2},
     ("an older checkpoint", ["it went on from an older checkpoint without a word"])),
    (Ended(0, GOING_ON, "x cannot be restored\n"), {"step": 2}, ("an older checkpoint", [])),
    (Ended(0, GOING_ON, ""), {"bad": "other"}, ("the newest checkpoint", ["another list of bad samples"])),
    (Ended(2, "", SENTENCE), {}, ("one sentence", [])),
    (Ended(2, "", SENTENCE), {"new": "a file"}, ("one sentence", ["something was changed"])),
    (Ended(2, "", SENTENCE * 2), {}, ("one sentence", ["more than one sentence"])),
    (Ended(1, "", "Traceback\nValueError\n"), {}, ("one sentence", ["a traceback", "no sentence",
                                                                    "more than one sentence"])),
], ids=lambda value: "")
def test_a_wrong_outcome_is_seen(tmp_path, monkeypatch, ended, changed, told):
    monkeypatch.setattr(state_faults, "tensors", lambda folder: {})
    folder = tmp_path / "round"
    folder.mkdir()
    files(str(tmp_path), **{"round.jsonl": changed.get("audit", AUDIT), "bad-samples.tsv": "bad"})
    files(str(folder), **{"bad-samples.tsv": changed.get("bad", "bad")})
    before = content(str(folder)), content(str(folder) + ".jsonl")
    if "new" in changed:
        files(str(folder), new="a file")
    assert judged(Undisturbed(tmp_path), str(folder), ended, [], before, changed.get("step", 1), True) == told


def test_random_faults_of_state_files(figures):
    # a process of its own, from which the trainers are forked: nothing of pytest is in them
    done = subprocess.run([sys.executable, "-m", "tests.faults.state_faults", "--rounds", str(ROUNDS), "--seed",
                           str(SEED)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=120 + 60 * ROUNDS)
    assert done.returncode == 0, done.stdout
    figures(done.stdout.splitlines()[-1])
