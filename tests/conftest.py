"""For all tests: the effort of Hypothesis and of the simulation.

The suite is the same every time. ``STOKER_TEST_EFFORT=20`` makes twenty times as many examples and simulated runs,
and Hypothesis draws others each time.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("STOKER_TEST_EFFORT", "1"))

settings.register_profile("suite", derandomize=EFFORT == 1, deadline=None, max_examples=20 * EFFORT, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def own_threads():
    """Threads that tests before left running, such as tqdm's monitor, are none of a user's function of this one."""
    if "stoker.workers.generators.calls" in sys.modules:
        sys.modules["stoker.workers.generators.calls"]._permitted.clear()
