"""The table of cases at the end of the tests of containers and engines, for their conftest.py."""

import pytest


def hooks(title):
    """(pytest_runtest_makereport, pytest_terminal_summary), with which pytest prints each case, its seconds and its
    result under ``title``."""
    rows = []

    @pytest.hookimpl(hookwrapper=True)
    def makereport(item, call):
        report = (yield).get_result()
        if report.when == "setup":
            item.started_s = call.start
        if report.when == "call" or report.failed or report.skipped:
            rows.append((item.function.__doc__.strip().rstrip(".") if item.function.__doc__ else item.name,
                         call.stop - item.started_s, report.outcome))

    def terminal_summary(terminalreporter):
        if not rows:
            return
        terminalreporter.section(title)
        terminalreporter.write_line("| case | seconds | result |")
        terminalreporter.write_line("|---|--:|---|")
        for case, seconds, outcome in rows:
            terminalreporter.write_line("| %s | %.1f | %s |" % (" ".join(case.split()), seconds, outcome))
    return makereport, terminal_summary
