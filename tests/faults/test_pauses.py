"""The trainer pauses while its workers work: it finds all as it was."""

import pytest

from tests.faults.pauses import run

LEASE_S = 1.2       # so that a worker calls the trainer silent after 3.6 s


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of a run without a pause."""
    return run(pictures, tmp_path_factory.mktemp("reference"), "audit", 2, 0)


def test_an_interpreter_that_is_busy_in_one_call(pictures, tmp_path, reference, figures):
    """No other thread of the trainer runs meanwhile, those of Stoker neither."""
    outcome = run(pictures, tmp_path, "audit", 3, 5.0, reference, lease_s=LEASE_S)
    assert outcome.trouble == [], outcome.text
    figures("trainer busy for 5 s: 24 batches %.2f s after it" % outcome.back_s)
