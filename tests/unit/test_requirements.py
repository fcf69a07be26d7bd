"""What an interpreter needs to run workers, and the sentences for those that cannot."""

import configparser
import os
import sys

import pytest

from stoker.pipeline import requirements
from stoker.trainer import current_folder
from stoker.trainer.interpreter import _reason
from stoker.workers import launch
from tests.support.documents import ROOT


def test_the_versions_are_those_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(os.path.join(ROOT, "setup.cfg"))
    wanted = {line.split(";")[0].strip() for line in setup["options"]["install_requires"].split("\n") if line}
    assert {requirement for group in (requirements.PACKAGES, requirements.BACKPORTS, requirements.COMMAND_LINE)
            for _, requirement in group} == wanted
    assert setup["options"]["python_requires"] == ">=%d.%d" % requirements.LEAST_PYTHON


def test_what_is_missing(monkeypatch):
    assert requirements.missing() == []
    monkeypatch.setattr(requirements, "PACKAGES", (("numpy", "numpy>=1"), ("no_such_module", "nothing>=2"),
                                                   ("no_such.inner", "inner>=3")))
    assert requirements.missing() == ["nothing>=2", "inner>=3"]


def test_the_command_can_be_pasted():
    assert requirements.complaint("/my env/python", ["pillow>=8.4"]) == (
        "/my env/python cannot run workers: it has no pillow: install it with  '/my env/python' -m pip install "
        "'pillow>=8.4'")


@pytest.mark.parametrize("needed, lacking", [
    ("ssse3 sse4_1 sse4_2 popcnt\n", []), ("", []),
    ("sse4_2 popcnt avx avx2\n", ["avx", "avx2"]), ("sse4\n", ["sse4"])])
def test_a_build_for_another_cpu_is_refused_with_a_sentence(needed, lacking):
    cpuinfo = "processor\t: 0\nflags\t\t: fpu ssse3 sse4_1 sse4_2 popcnt avx512f\n\nflags\t\t: avx2\n"
    assert requirements._not_in(needed, cpuinfo) == lacking
    assert requirements._not_in(needed, "Features\t: fp asimd\n") == []      # of another architecture
    said = requirements.complaint("p", [], lacking)
    assert said.startswith("p cannot decode pictures here: its pillow-simd was built for a CPU with %s, which this "
                           "machine's has not: build it again" % " and ".join(lacking)) if lacking else said == ""


def test_the_features_are_read_beside_pil_which_is_not_imported(monkeypatch, tmp_path):
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise SystemExit('imported on a CPU that it is not for')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "PIL", raising=False)
    assert requirements.lacking_features() == []
    (tmp_path / requirements.CPU_FILE).write_text("fpu no_such_feature\n")
    with open("/proc/cpuinfo") as cpuinfo:
        if "flags" in cpuinfo.read():
            assert requirements.lacking_features() == ["no_such_feature"]


@pytest.mark.parametrize("version, text, code, says", [
    (None, "", 1, "'p': it is no Python interpreter (it ended with exit code 1)"),
    (None, "y\n" * 9, None, "'p': it is no Python interpreter (it did not end within 60 s)"),
    ("2.7", "SyntaxError: invalid syntax", 1, "'p': it runs Python 2.7, and workers need 3.6 or newer"),
    ("3.5", "SyntaxError: invalid syntax", 1, "'p': it runs Python 3.5, and workers need 3.6 or newer"),
    ("3.13", "Traceback\n  File ...\nOSError: no space\n\n", 1, "'p': it fails at its start: OSError: no space"),
    ("3.13", "", 0, "'p': it fails at its start: without a word")])
def test_why_an_interpreter_cannot(version, text, code, says):
    assert _reason("p", version, text, code) == "cannot start workers with " + says


@pytest.mark.parametrize("folder, is_other", [
    ("/env/lib/python2.7/site-packages", True), ("/env/lib/python3.99/site-packages/inner", True),
    ("/env/lib/python%d.%d/site-packages" % sys.version_info[:2], False), ("/usr/lib/python3/dist-packages", False),
    ("/home/me/site-packages", False), ("/home/python2.7/mine", False)])
def test_packages_of_another_python_are_known_by_their_folder(folder, is_other):
    assert launch._is_of_another_python(folder) == is_other


@pytest.mark.parametrize("same", [True, False])
def test_the_pythonpath_of_another_version_comes_last_without_its_packages(monkeypatch, tmp_path, same):
    for name in ("mine", "packages"):
        (tmp_path / name).mkdir()
    (tmp_path / "packages" / "numpy-1.0.dist-info").mkdir()
    mine, packages = str(tmp_path / "mine"), str(tmp_path / "packages")
    version = list(sys.version_info[:2]) if same else [2, 7]
    monkeypatch.setenv("STOKER_PROGRAM_PATH", '{"version": %s, "pythonpath": ["%s", "%s"], "folders": ["/program"]}'
                       % (version, mine, packages))
    monkeypatch.setattr(sys, "path", ["/lib/python", "/lib/python/site-packages"])
    launch._add_program_folders()
    assert sys.path == (["/lib/python", mine, packages, "/lib/python/site-packages", "/program"] if same else
                        ["/lib/python", "/lib/python/site-packages", "/program", mine])


@pytest.mark.parametrize("layout, moves", [("workers", True), ("stoker/workers", True), ("site/stoker/workers", False)])
def test_a_checkout_of_stoker_comes_last_and_an_installed_one_stays(monkeypatch, tmp_path, layout, moves):
    """A user's pipeline.py or workers.py beside the program must not be hidden by the repository's folders."""
    (tmp_path / layout).mkdir(parents=True)
    (tmp_path / layout).parent.joinpath("__init__.py").write_text("")
    if moves:
        (tmp_path / "stoker").mkdir(exist_ok=True)
        (tmp_path / "stoker" / "__init__.py").write_text("")
    if layout == "stoker/workers":          # a link, as in the repository
        (tmp_path / layout).rmdir()
        (tmp_path / "workers").mkdir()
        (tmp_path / layout).symlink_to(tmp_path / "workers")
    monkeypatch.setattr(launch, "LAUNCH", str(tmp_path / layout / "launch.py"))
    folder = str(tmp_path / "site") if layout.startswith("site") else str(tmp_path)
    monkeypatch.setattr(sys, "path", ["/lib/python", folder, "/lib/python/site-packages", "/program"])
    launch._put_checkout_last()
    assert sys.path == (["/lib/python", "/lib/python/site-packages", "/program", folder] if moves else
                        ["/lib/python", folder, "/lib/python/site-packages", "/program"])


@pytest.mark.parametrize("pythonpath, last", [("", []), ("relative", []), (os.pathsep, []), (".", ["here"]),
                                              ("{here}", ["here"])])
def test_the_current_folder_is_no_place_to_import_from_unless_pythonpath_names_it(monkeypatch, tmp_path, pythonpath,
                                                                                 last):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    here = os.getcwd()
    monkeypatch.setenv("PYTHONPATH", pythonpath.format(here=here))
    monkeypatch.setattr(sys, "path", ["", here, "/lib/python", here, os.path.dirname(launch.LAUNCH)])
    launch._repair_path()
    assert sys.path == ["/lib/python"] + [here for _ in last]
    monkeypatch.setattr(launch, "_put_checkout_last", lambda: None)
    launch.add_current_folder()
    assert sys.path == ["/lib/python", here]


def test_the_command_lines_leave_the_current_folder_and_search_it_for_functions(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["", here, "/lib/python"])
    current_folder.leave()
    assert sys.path == ["/lib/python"]
    current_folder.search_for(None, "image")
    assert sys.path == ["/lib/python"]
    current_folder.search_for("image", "mine:f")
    current_folder.search_for("mine:f")
    assert sys.path == ["/lib/python", here]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/other", "."]))
    current_folder.leave()
    assert sys.path == ["/lib/python", here]
