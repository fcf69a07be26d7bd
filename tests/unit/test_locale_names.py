"""Names of files in other locales: what ``os`` takes, what files keep, and what cannot be used."""

import types

import pytest

from stoker.pipeline import text
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.monitoring.bad_samples import BadSamples
from stoker.pipeline.sources import folder
from stoker.pipeline.text import locale_problem, native, own_letters

SURROGATES = "k\udcc3\udca4tze"       # the bytes of "kätze", as Python 3.6 has them under LC_ALL=C


@pytest.fixture(params=["ascii", "utf-8"])
def encoding(request, monkeypatch):
    """The encoding in which this Python reads the names of files."""
    monkeypatch.setattr(text, "os", types.SimpleNamespace(
        fsencode=lambda name: name.encode(request.param, "surrogateescape"),
        fsdecode=lambda name: name.decode(request.param, "surrogateescape")))
    return request.param


@pytest.mark.parametrize("path, under_c", [("katze", "katze"), ("kätze", SURROGATES), (SURROGATES, SURROGATES),
                                           ("ä" + SURROGATES, "\udcc3\udca4" + SURROGATES), ("\udce9", "\udce9"),
                                           ("\ud800", "\ud800")])
def test_what_the_operating_system_gets(encoding, path, under_c):
    assert native(path) == (under_c if encoding == "ascii" else path)


@pytest.mark.parametrize("path, letters", [("kätze", "kätze"), (SURROGATES, "kätze"), ("\udce9", "\udce9"),
                                           ("\ud800", "\ud800")])
def test_what_a_file_keeps(path, letters):
    assert own_letters(path) == letters


def test_a_bad_file_is_listed_once_whatever_the_locale(tmp_path):
    for _ in range(2):
        listing = BadSamples(str(tmp_path / "bad.tsv"), 9)
        listing.begin()
        listing.add(SURROGATES + "/1.png", SURROGATES, "no picture", 3)
        listing.add("kätze/1.png", "kätze", "no picture", 4)
        listing.close()
    assert (tmp_path / "bad.tsv").read_bytes().decode("utf-8").splitlines()[1:] == ["kätze/1.png\tkätze\tno picture\t3"]


@pytest.mark.parametrize("encoding_of_names, names, usable", [
    ("utf-8", ["kätze"], True), ("ANSI_X3.4-1968", [SURROGATES], True), ("iso8859-1", ["cat", "dog"], True),
    ("iso8859-1", ["cat", "kÃ¤tze"], False), ("euc_jp", ["\u65e5"], False)])
def test_a_locale_that_is_neither_utf_8_nor_c(encoding_of_names, names, usable):
    problem = locale_problem(encoding_of_names, names)
    assert (problem == "") == usable
    assert usable or "LC_ALL=C.UTF-8" in problem and problem.isprintable()


def test_a_folder_is_refused_in_such_a_locale(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    monkeypatch.setattr(folder.sys, "getfilesystemencoding", lambda: "iso8859-1")
    folder.scan_folder(str(tmp_path))
    monkeypatch.setattr(folder, "_scanned", lambda *arguments: (["cat/1.png", "kÃ¤tze/1.png"], []))
    with pytest.raises(ConfigError, match="reads? file names as iso8859-1"):
        folder.scan_folder(str(tmp_path))
