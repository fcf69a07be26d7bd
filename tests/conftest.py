"""For all tests: the effort of Hypothesis and of the simulation, and what they inherit.

The suite is the same every time. ``STOKER_TEST_EFFORT=20`` makes twenty times as many examples and simulated runs,
and Hypothesis draws others each time.
"""

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("STOKER_TEST_EFFORT", "1"))

settings.register_profile("suite", derandomize=EFFORT == 1, deadline=None, max_examples=20 * EFFORT, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A shell that starts the suite in the background ignores Ctrl-C for it, and so for the programs that the tests start
# and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def named_formats():
    """Readers that are called without a job open all formats, as if a run had named them: TIFF with an old libtiff."""
    from stoker.pipeline.formats import FORMATS
    from stoker.workers import formats
    formats.apply(FORMATS)
    yield
    formats.apply()


@pytest.fixture(autouse=True)
def nothing_of_tests_before():
    """Threads that tests before left running, such as tqdm's monitor, are none of a user's function of this one; nor is
    the result of their setup."""
    calls = sys.modules.get("stoker.workers.generators.calls")
    if calls is not None:
        calls._permitted.clear()
        del calls._finished_setup[:]
