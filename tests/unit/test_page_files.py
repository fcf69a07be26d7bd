"""The files of the status page: small, without anything from outside, and without a way for data to become HTML."""

import os
import re

from tests.support.documents import ROOT, read

FOLDER = "trainer/status/page"
FILES = [FOLDER + "/" + name for name in os.listdir(os.path.join(ROOT, FOLDER))]
MAX_BYTES = 40000        # of all together


def test_the_page_is_three_small_files():
    assert sorted(os.path.basename(path) for path in FILES) == ["index.html", "page.css", "page.js"]
    assert sum(os.path.getsize(os.path.join(ROOT, path)) for path in FILES) <= MAX_BYTES


def test_data_cannot_become_html_or_code():
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(|srcdoc"
    assert not re.findall(ways, read("trainer/status/page/page.js"))


def test_nothing_in_it_needs_more_than_the_content_security_policy_allows():
    html = read("trainer/status/page/index.html")
    assert not re.findall(r"\sstyle=|\son\w+=|<style|javascript:", html)
    assert re.findall(r"<script[^>]*>", html) == ['<script src="page.js" type="module">']


def test_nothing_comes_from_outside():
    names_of_namespaces = {"http://www.w3.org/2000/svg"}
    for path in FILES:
        assert set(re.findall(r"https?://[^\s\"')]+", read(path))) <= names_of_namespaces, path
    assert not re.findall(r"@import|url\(", read("trainer/status/page/page.css"))


def test_each_element_that_the_script_asks_for_exists_once():
    identifiers = re.findall(r"\bid=\"([\w-]+)\"", read("trainer/status/page/index.html"))
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r"\$\(\"([\w-]+)\"\)", read("trainer/status/page/page.js"))) <= set(identifiers)
    labels = re.findall(r"(?:aria-labelledby|for)=\"([\w-]+)\"|href=\"#([\w-]+)\"",
                        read("trainer/status/page/index.html"))
    assert {"".join(label) for label in labels} <= set(identifiers)
