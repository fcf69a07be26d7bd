"""The chaos driver, for a short time and always with the same seed; ``CHAOS_S=600 SEED=7`` for another one. And that
it would notice."""

import collections
import copy
import os
import re

import pytest

from tests.faults import chaos
from tests.support.network import missing

SECONDS, SEED = float(os.environ.get("CHAOS_S") or 15), int(os.environ.get("SEED") or 7)


@pytest.mark.parametrize("own", [False, True], ids=["pictures", "own data"])
def test_a_training_under_chaos_consumes_what_an_undisturbed_one_does(own, figures):
    why = missing()
    if why:
        pytest.skip(why)
    result = chaos.run(SECONDS, SEED, own=own)
    figures(chaos.table(result))
    assert result["verdict"] == "passed"
    assert result["steps"] >= 10 * SECONDS / 15
    assert result["kills"] >= 330 * SECONDS / 600 and result["trainer restarts"] >= 22 * SECONDS / 600
    assert result["trainers that shared memory"] >= 1
    assert result["freezes"] >= 55 * SECONDS / 600 and result["network cuts"] >= 6 * SECONDS / 600


def test_the_schedule_is_a_pure_function_of_length_and_seed():
    counts = collections.Counter(fault.kind for fault in chaos.schedule(600, 7))
    assert counts == {kind: count for kind, (count, _, _) in chaos.FAULTS.items()}
    assert chaos.schedule(600, 7) == chaos.schedule(600, 7) != chaos.schedule(600, 8)
    assert {fault.kind for fault in chaos.schedule(15, 7)} == set(chaos.FAULTS) - {"cut line for long"}
    assert all(0 <= fault.at_s < 15 for fault in chaos.schedule(15, 7))


@pytest.mark.parametrize("field, value, told", [("step", 4, "line 3 of the audit is step 4"),
                                                ("epoch", 1, "step 3: epoch"), ("indices", [1, 0], "step 3: indices"),
                                                ("skipped", [0], "step 3: skipped"), ("crc32", 8, "step 3: crc32"),
                                                ("used", [1, 0], "step 3: used is .1, 0., undisturbed it is None"),
                                                ("missing", 1, "step 3: missing")])
def test_a_line_of_the_audit_that_differs_is_noticed(field, value, told):
    reference = [{"step": step, "epoch": 0, "indices": [0, 1], "skipped": [], "crc32": 7, "worker": "a"}
                 for step in range(5)]
    entries = copy.deepcopy(reference)
    for entry in entries:
        entry["worker"] = "b"                       # whoever did it
    assert chaos.compare(entries, reference) is None
    assert chaos.compare(entries[:4], reference) == "4 steps, undisturbed they are 5"
    entries[3][field] = value
    assert re.match(told, chaos.compare(entries, reference))
