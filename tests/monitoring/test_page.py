"""The status page in a real Chromium, over real runs."""

import os

import pytest

from tests.support.browser import Browser

pytestmark = pytest.mark.needs("chromium")


def test_the_browser_of_these_tests_is_cut_off():
    """No test reaches anything but this host, and each request is recorded."""
    with Browser(os.environ["STOKER_TEST_CHROMIUM"]) as browser:
        page = browser.page()
        page.goto("data:text/html,<title>here</title><img src=http://stoker.example/picture.png>")
        assert page.evaluate("document.title") == "here"
        assert page.requests()[-1] == "http://stoker.example/picture.png"
        page.wait_for("document.images[0].complete && !document.images[0].naturalWidth")
