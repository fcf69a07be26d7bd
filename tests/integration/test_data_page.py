"""The programs and commands of docs/DATA.md, word for word; those of buckets and web servers are in tests/stores."""

import re

import pytest

from tests.support import data_page
from tests.support.documents import read

LOCAL = [("tfrecord", r"^\(32, 64, 64, 3\) \[[01] [01] [01]\] train-\S+//\d+\+\d+$"), ("tar", r"^\(8, \d+\)$"),
         ("arrays", r"^(\(16, 64, 64, 3\)\n){3}\(16, 64, 64, 3\)$")]
ELSEWHERE = {"bucket", "web"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    data_page.make(folder)
    return folder


@pytest.mark.parametrize("name, says", LOCAL)
def test_a_program_of_the_page_does_what_it_says(folder, name, says):
    assert re.search(says, data_page.run_program(folder, name))


def test_every_program_of_the_page_is_run():
    programs = re.findall(r"<!-- program: (\S+) -->", read(data_page.PAGE))
    assert set(programs) == {name for name, _ in LOCAL} | ELSEWHERE


def test_the_command_of_the_page_trains(folder):
    command, = re.findall(r"^stoker-train (.*)$", read(data_page.PAGE), re.MULTILINE)
    said = data_page.run(folder, "-m", "stoker.trainer", *command.replace('"', "").split(), STOKER_WORKERS="1",
                         STOKER_IMAGE_SIZE="32")
    assert "done after step" in said
