"""The fixtures of the integration tests, and the results that the fault tests print at the end: a table, and
figures."""

import re

import pytest

from tests.integration.conftest import nothing_left, own_generators, pictures, worker_python  # noqa: F401

ROWS, FIGURES = [], []


@pytest.fixture
def figures():
    """A function that adds lines to the figures at the end."""
    return FIGURES.append


@pytest.fixture
def table():
    """A function that adds a row: where, how, what the user sees, what the audit shows, seconds."""
    return lambda *cells: ROWS.append(cells)


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))
    if not ROWS:
        return
    terminalreporter.section("fault table")
    terminalreporter.write_line("| where | how | the user sees | the audit shows | s |")
    terminalreporter.write_line("|---|---|---|---|---|")
    for where, how, seen, audit, seconds in ROWS:
        terminalreporter.write_line("| %s | %s | %s | %s | %.1f |" % (where, how, _cell(seen), _cell(audit), seconds))


def _cell(text):
    return re.sub(r"\s+", " ", text.replace("|", "\\|"))
