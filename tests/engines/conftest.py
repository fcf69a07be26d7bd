"""What the tests of all engines share: needs of a test, figures, and the table of cases at the end."""

import os
import time

import pytest

from tests.engines.needs import lacking
from tests.integration.conftest import nothing_left, pictures, python36, worker_python  # noqa: F401

ROWS, FIGURES = [], []


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(need, ...): what the machine must have; see tests/engines/needs.py")


@pytest.hookimpl(tryfirst=True)     # before the fixtures, which need it too
def pytest_runtest_setup(item):
    item.started_s = time.monotonic()
    for marker in item.iter_markers("needs"):
        for need in marker.args:
            reason = lacking(need)
            if reason and os.environ.get("STOKER_REQUIRE_ENGINES") == "1":
                pytest.fail("STOKER_REQUIRE_ENGINES=1 is set, and %s" % reason, pytrace=False)
            if reason:
                pytest.skip(reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" or report.failed or report.skipped:
        ROWS.append((item.function.__doc__.strip().rstrip(".") if item.function.__doc__ else item.name,
                     time.monotonic() - item.started_s, report.outcome))


@pytest.fixture(scope="session")
def figures():
    """A function that adds a line to the figures at the end: what a test measured."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))
    if not ROWS:
        return
    terminalreporter.section("engines table")
    terminalreporter.write_line("| case | seconds | result |")
    terminalreporter.write_line("|---|--:|---|")
    for case, seconds, outcome in ROWS:
        terminalreporter.write_line("| %s | %.1f | %s |" % (" ".join(case.split()), seconds, outcome))
