"""What the tests of looking at a run share: needs of a test, a browser, and the table of cases at the end."""

import os

import pytest

from tests.engines.conftest import pytest_configure, pytest_runtest_setup  # noqa: F401
from tests.integration.conftest import nothing_left, own_generators, pictures, python36, worker_python  # noqa: F401
from tests.support.browser import Browser
from tests.support.case_table import hooks

pytest_runtest_makereport, pytest_terminal_summary = hooks("monitoring table")


@pytest.fixture
def browser(nothing_left):  # noqa: F811     before the browser starts, and after its end
    """A headless Chromium of its own. The test needs "chromium"."""
    with Browser(os.environ["STOKER_TEST_CHROMIUM"]) as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A tab of it. At the end, nothing of the page has gone wrong."""
    page = browser.page()
    yield page
    assert page.complaints() == []
