"""The documents: their length, their links, and that their options, files and defaults are those of the code."""

import fnmatch
import glob
import os
import re

import pytest

import stoker
from stoker.inspection.checking.options import check_parser
from stoker.inspection.showing import options as show_parser
from stoker.inspection.terminal import program as top_program
from stoker.packing import options as pack_parser
from stoker.trainer.parser import predict_parser, train_parser
from stoker.workers import cli as workers, ray_launcher
from tests.support import options_page
from tests.support.documents import ROOT, documents, read

#: Options in the documents that belong to other programs than Stoker's.
OF_OTHERS = {
    "--build", "--exit-code-from", "--scale", "--no-recreate", "--volumes", "--rm", "--logdir",    # Docker, TensorBoard
    "--filter",                 # Docker
    "--for", "--timeout",       # kubectl
    "--gloo-timeout-seconds", "--no-deps", "--no-binary", "--no-build-isolation", "--port",   # horovodrun, pip, example
    "--cpus", "--help", "--strict", "--seconds", "--runs", "--guided", "--own", "--stop",  # all; mypy; tests' programs
    "--nodes", "--array", "--partition", "--parsable", "--time", "--signal", "--no-kill", "--gres",     # Slurm
    "--cpus-per-task",
    "--against",                # of pipeline.monitoring.audits
}


def options_of(parser):
    return {name for action in parser._actions for name in action.option_strings}


def anchors(path):
    """The anchors that GitHub gives to the headings of a document."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", read(path), re.MULTILINE)}


def test_the_page_of_options_is_up_to_date():
    assert read("docs/OPTIONS.md") == options_page.page(), "run: python -m tests.support.options_page > docs/OPTIONS.md"


#: What a command of the documents writes, unless it lies in a folder of the user's: its option, or its redirection.
WRITES = re.compile(r"(?:--audit |--keys |--cache |-o |--checkpoint-dir |keys worker > |transport\.keys |stoker-keys )"
                    r"([a-z][\w./-]*)|audit=\"([a-z][\w./-]*)\"")


@pytest.mark.parametrize("path", [path for path in documents() if path not in ("CONTRIBUTING.md", "CHANGELOG.md")])
def test_git_ignores_what_the_commands_of_the_documents_write(path):
    """Keys, audits, caches, runs, predictions: none of them gets into a repository by ``git add .``."""
    ignored = [line.strip("/") for line in read(".gitignore").splitlines()]
    code = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", read(path), re.DOTALL)
    for written in WRITES.findall("\n".join(block or span for block, span in code)):
        names = "".join(written), "".join(written).split("/")[0]
        assert any(fnmatch.fnmatch(name, pattern) for pattern in ignored for name in names), (
            "%s is not in .gitignore" % names[0])


def test_git_ignores_the_examples_of_each():
    found = {"".join(written) for path in documents() for written in WRITES.findall(read(path))}
    assert found >= {"keys", "alpha", "audit.jsonl", "predictions.csv", "worker-keys.tar"}


@pytest.mark.parametrize("path, words, lines", [("README.md", 900, 120), ("ARCHITECTURE.md", 10000, 150)])
def test_documents_are_short(path, words, lines):
    assert len(read(path).split()) <= words and len(read(path).splitlines()) <= lines


def test_every_command_is_named():
    """docs/INSTALL.md has all, by their number too; docs/OPTIONS.md has a section for each whose options are many."""
    commands = set(re.findall(r"^    (stoker-\w+) = ", read("setup.cfg"), re.MULTILINE))
    numbers = {9: "nine", 10: "ten"}
    listed, = re.findall(r"and %s commands: (.*?)\. In a checkout" % numbers[len(commands)], read("docs/INSTALL.md"),
                         re.DOTALL)
    assert set(re.findall(r"`(stoker-\w+)`", listed)) == commands
    assert set(re.findall(r"(?:^|installed: )`(stoker-\w+)", read("docs/OPTIONS.md"), re.MULTILINE)) == commands - {
        "stoker-keys"}


@pytest.mark.parametrize("path", documents())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", read(path)):
        file, _, anchor = target.partition("#")
        to = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        assert os.path.exists(os.path.join(ROOT, to)), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("path", documents())
def test_files_and_modules_of_the_documents_exist(path):
    text = read(path)
    folders = "pipeline|workers|trainer|inspection|packing"
    for name in re.findall(r"`((?:%s|tests|benchmarks|stoker)/[\w/.*-]*)`" % folders, text):
        assert glob.glob(os.path.join(ROOT, name)) or glob.glob(os.path.join(ROOT, name + ".*")), name
    for name in re.findall(r"(?<![\w-])(?:stoker\.(?:%s)|tests)\.[\w.]*\w" % folders, text):
        parts = name.replace("stoker.", "").split(".")
        module = os.path.join(ROOT, *parts)
        assert (os.path.exists(module + ".py") or os.path.exists(module + "/__init__.py")
                or os.path.exists(os.path.dirname(module) + ".py")), name          # the last: a name in that module


@pytest.mark.parametrize("path", documents())
def test_public_names_of_the_documents_exist(path):
    names = set(re.findall(r"(?<![\w/])stoker\.(\w+)", read(path)))
    files = {"json", "lock"}        # stoker.json and stoker.lock, of a run
    assert names <= set(stoker.__all__) | {"pipeline", "workers", "trainer", "inspection", "packing"} | files


@pytest.mark.parametrize("path", documents())
def test_options_of_the_documents_exist(path):
    known = options_of(train_parser()) | options_of(predict_parser()) | options_of(workers.make_parser()) | OF_OTHERS
    known |= options_of(check_parser()) | options_of(ray_launcher.make_parser()) | options_of(top_program.make_parser())
    known |= options_of(show_parser.make_parser()) | options_of(pack_parser.make_parser())
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\b", re.sub(r"<!--.*?-->", "", read(path)))) <= known


@pytest.mark.parametrize("page", ["DOCKER", "HOROVOD", "HOSTS", "KUBERNETES", "MONITORING", "RAY", "REPLAY",
                                  "SEVERAL_TRAINERS", "SLURM", "WORKERS_WANTED"])
def test_commands_of_engines_have_a_mark_by_which_tests_find_them(page):
    lines = read("docs/%s.md" % page).splitlines()
    marks = [lines[number - 1] for number, line in enumerate(lines) if line == "```sh"]
    assert marks and all(re.match(r"<!-- \w+: .+ -->$", mark) for mark in marks)


@pytest.mark.parametrize("path", [path for path in documents() if path != "docs/BENCHMARKS.md"] + [".env"])
def test_the_language_is_plain(path):
    assert not re.findall(r"(?i)\b(?:nobody|somebody|whoever)\b", read(path))


def test_env_has_every_setting_of_the_compose_files_with_its_default():
    settings = dict(re.findall(r"^#(\w+)=(.*)$", read(".env"), re.MULTILINE))
    for path in glob.glob(os.path.join(ROOT, "docker-compose*.yml")):
        for name, default in re.findall(r"\$\{(\w+)(?::-([^}]*))?", re.sub(r"(^|\s)#.*", "", read(path))):
            assert name in settings, (path, name)
            assert not default or settings[name] == default, (path, name)


def test_env_has_the_defaults_of_the_trainer():
    defaults = {"STOKER_" + name[2:].upper().replace("-", "_"): action.default
                for action in train_parser()._actions for name in action.option_strings}
    settings = re.findall(r"^#(STOKER_\w+)=(.*)$", read(".env"), re.MULTILINE)
    for name, value in settings:
        if name != "STOKER_USER" and defaults[name] is not None:
            default = defaults[name][0] if isinstance(defaults[name], tuple) else defaults[name]
            assert value == ("%g" % default if isinstance(default, float) else str(default)), name
    assert len(settings) > 10
