"""The programs and commands of docs/DATA.md, word for word; those of buckets and web servers are in tests/stores."""

import gzip
import re
import shlex
import shutil
import zipfile

import pytest

import stoker
from tests.support import data_page, stored
from tests.support.documents import block, read

#: In the order of the page: "packed" reads what the command before it writes.
LOCAL = [("tfrecord", r"^\(32, 64, 64, 3\) \[[01] [01] [01]\] train-\S+//\d+\+\d+$"), ("tar", r"^\(8, \d+\)$"),
         ("packed", r"^\[[01] [01] [01]\]$"),
         ("arrays", r"^(\(16, 64, 64, 3\)\n){3}\(16, 64, 64, 3\)$")]
ELSEWHERE = {"bucket", "web"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    data_page.make(folder)
    return folder


def pack(folder, command):
    """Runs a ``stoker-pack`` of the page, into packed/."""
    words = shlex.split(command)
    assert words[0] == "stoker-pack"
    shutil.rmtree(str(folder / "packed"), ignore_errors=True)
    return data_page.run(folder, "-m", "stoker.packing.pack", *words[1:])


@pytest.fixture(scope="module")
def packed(folder):
    """What the first command packs."""
    return pack(folder, block(data_page.PAGE, "command: pack"))


@pytest.mark.parametrize("name, says", LOCAL)
def test_a_program_of_the_page_does_what_it_says(folder, packed, name, says):
    assert re.search(says, data_page.run_program(folder, name))


def test_every_program_of_the_page_is_run():
    programs = re.findall(r"<!-- program: (\S+) -->", read(data_page.PAGE))
    assert set(programs) == {name for name, _ in LOCAL} | ELSEWHERE


def test_the_command_of_the_page_trains(folder):
    command, = re.findall(r"^stoker-train (.*)$", read(data_page.PAGE), re.MULTILINE)
    said = data_page.run(folder, "-m", "stoker.trainer", *command.replace('"', "").split(), STOKER_WORKERS="1",
                         STOKER_IMAGE_SIZE="32")
    assert "done after step" in said


def test_the_commands_of_the_page_pack(folder, packed, tmp_path):
    """In a copy of the folder, with the sources that the table names: compressed ones, too."""
    page = tmp_path / "page"
    shutil.copytree(str(folder), str(page))
    with open(str(page / "shards" / "train-000.tar"), "rb") as tar, \
            gzip.open(str(page / "train.tar.gz"), "wb") as packing:
        shutil.copyfileobj(tar, packing)
    with zipfile.ZipFile(str(page / "photos.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for picture in stored.drawn(page / "drawn"):
            archive.writestr(picture.path, picture.data)
    write_parquet(page)
    commands = re.findall(r"^\| .* \|.*`(stoker-pack [^`]* packed/[^`]*)`", read(data_page.PAGE), re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        if "s3://" not in command:                      # tests/stores has it
            pack(page, command)
            assert len(stoker.tar(str(page / "packed" / "train-*.tar"))) in (30, 60), command


def write_parquet(folder):
    """As datasets of Hugging Face are: a picture is {"bytes": ..., "path": ...}."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = stored.drawn(folder / "pictures")
    table = arrow.table({"image": [{"bytes": picture.data, "path": picture.path} for picture in pictures],
                         "label": [picture.label for picture in pictures]})
    (folder / "data").mkdir()
    parquet.write_table(table, str(folder / "data" / "train.parquet"))
