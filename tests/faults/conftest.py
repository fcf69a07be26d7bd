"""The fixtures of the integration tests, and the results that the fault tests print at the end: tables, and
figures."""

import re

import pytest

from tests.integration.conftest import nothing_left, own_generators, pictures, worker_python  # noqa: F401

ROWS, ATTACKS, FIGURES = [], [], []


@pytest.fixture
def figures():
    """A function that adds lines to the figures at the end."""
    return FIGURES.append


@pytest.fixture
def table():
    """A function that adds a row: where, how, what the user sees, what the audit shows, seconds."""
    return lambda *cells: ROWS.append(cells)


@pytest.fixture
def attacks():
    """A function that adds a row to the table of docs/SECURITY.md: attacker, attempt, what happens."""
    return lambda *cells: ATTACKS.append(cells)


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))
    _print_table(terminalreporter, "fault table", ["where", "how", "the user sees", "the audit shows", "s"],
                 [(*cells, "%.1f" % seconds) for *cells, seconds in ROWS])
    _print_table(terminalreporter, "attack table", ["attacker", "attempt", "what happens"], ATTACKS)


def _print_table(terminalreporter, title, names, rows):
    if not rows:
        return
    terminalreporter.section(title)
    for cells in (names, ["---"] * len(names), *rows):
        terminalreporter.write_line("| %s |" % " | ".join(map(_cell, cells)))


def _cell(text):
    return re.sub(r"\s+", " ", text.replace("|", "\\|"))
