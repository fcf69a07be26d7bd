"""What the tests of all engines share: needs of a test, figures, and the table of cases at the end."""

import os

import pytest

from tests.engines.needs import lacking
from tests.integration.conftest import nothing_left, pictures, python36, worker_python  # noqa: F401
from tests.support.case_table import hooks

FIGURES = []
pytest_runtest_makereport, print_table = hooks("engines table")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(need, ...): what the machine must have; see tests/engines/needs.py")


@pytest.hookimpl(tryfirst=True)     # before the fixtures, which need it too
def pytest_runtest_setup(item):
    for marker in item.iter_markers("needs"):
        for need in marker.args:
            reason = lacking(need)
            if reason and os.environ.get("STOKER_REQUIRE_ENGINES") == "1":
                pytest.fail("STOKER_REQUIRE_ENGINES=1 is set, and %s" % reason, pytrace=False)
            if reason:
                pytest.skip(reason)


@pytest.fixture(scope="session")
def figures():
    """A function that adds a line to the figures at the end: what a test measured."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))
    print_table(terminalreporter)
