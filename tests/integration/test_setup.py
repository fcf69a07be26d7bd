"""How `make train` gets CPython 3.6 where the machine has none: with the first of pyenv, micromamba, mamba and conda
that works.

The tools are scripts that write down how they were called. The interpreter that they install only tells its version: to
make an environment with it fails, which ends environment.sh.
"""

import fcntl
import os
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

INTERPRETER = """\
case "$2" in
    -c) echo "3.6.15 $0" ;;
    *) echo "error: the interpreter of the test makes no environment" >&2; exit 1 ;;
esac
"""
#: Installs INTERPRETER where pyenv and conda would.
INSTALL = """\
echo "$(basename "$0") $*" >> "$CALLS"
case "$1" in
    root) echo "$HOME/pyenv" ;;
    install) folder=$HOME/pyenv/versions/$3/bin ;;
    create) folder=$4/bin ;;
    *) exit 1 ;;
esac
[ -z "${folder:-}" ] || { mkdir -p "$folder"; cp "$INTERPRETER" "$folder/python3.6"; }
"""
BROKEN = """\
echo "$(basename "$0") $*" >> "$CALLS"
[ "$1" != create ] || mkdir -p "$4/conda-meta"
echo "no network" >&2
exit 1
"""


class Machine:
    """A copy of .setup/ on a machine without CPython 3.6. ``tools``: name -> what the script of this name does."""

    def __init__(self, folder, **tools):
        self.folder, self._calls = folder, folder / "calls"
        shutil.copytree(os.path.join(ROOT, ".setup"), str(folder / ".setup"))
        bin_folder = folder / "bin"
        for name, text in dict(tools, interpreter=INTERPRETER).items():
            _script(bin_folder / name, text)
        self._environment = {"PATH": "%s:/usr/bin:/bin" % bin_folder, "HOME": str(folder), "CALLS": str(self._calls),
                             "INTERPRETER": str(bin_folder / "interpreter")}

    def make_trainer(self):
        """What `make setup` says while it makes the trainer's environment, on one line."""
        if self._run("find-python.sh", "6", "6").stdout:
            pytest.skip("this machine has a CPython 3.6 in a folder of the system")
        done = self._run("environment.sh", "trainer")
        assert done.returncode == 1
        return " ".join(done.stderr.split())

    def calls(self):
        """The installations that were asked for."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if line.split()[1] in ("install", "create")]

    def _run(self, script, *arguments):
        return subprocess.run(["sh", ".setup/" + script] + list(arguments), cwd=str(self.folder), env=self._environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)


def _script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def conda_call(tool, machine):
    return "%s create --yes --prefix %s/.venv/python36 --override-channels --channel conda-forge python=3.6" % (
        tool, machine.folder)


def test_pyenv_installs_it(tmp_path):
    machine = Machine(tmp_path / "machine", pyenv=INSTALL, conda=INSTALL)
    said = machine.make_trainer()
    assert "found no CPython 3.6, which TensorFlow 1.9.0 needs: installing it with `pyenv install -s 3.6.15`" in said
    assert "creating .venv/trainer with CPython 3.6.15" in said
    assert machine.calls() == ["pyenv install -s 3.6.15"]


@pytest.mark.parametrize("tool", ["conda", "mamba", "micromamba"])
def test_conda_installs_it_into_the_projects_folder(tool, tmp_path):
    machine = Machine(tmp_path / "machine", **{tool: INSTALL})
    said = machine.make_trainer()
    assert "installing it with `%s`" % conda_call(tool, machine) in said
    assert "creating .venv/trainer with CPython 3.6.15" in said
    assert machine.calls() == [conda_call(tool, machine)]


def test_the_next_tool_is_tried_where_one_fails(tmp_path):
    machine = Machine(tmp_path / "machine", pyenv=BROKEN, micromamba=BROKEN, conda=INSTALL)
    said = machine.make_trainer()
    assert "pyenv could not install CPython 3.6: no network" in said
    assert "micromamba could not install CPython 3.6: no network" in said
    assert "creating .venv/trainer with CPython 3.6.15" in said
    assert [call.split()[0] for call in machine.calls()] == ["pyenv", "micromamba", "conda"]
    assert not (machine.folder / ".venv" / "python36" / "conda-meta").exists()


def test_without_a_tool_a_sentence_says_how_to_get_it(tmp_path):
    machine = Machine(tmp_path / "machine")
    assert "CPython 3.6 is needed, and none was found" in machine.make_trainer()
    assert machine.calls() == []


def test_a_python36_of_the_users_own_is_never_replaced(tmp_path):
    machine = Machine(tmp_path / "machine", pyenv=INSTALL)
    machine._environment["PYTHON36"] = "/no/such/python"
    assert "PYTHON36=/no/such/python is not a CPython 3.6 that runs." in machine.make_trainer()
    assert machine.calls() == []


SSE4 = "ssse3 sse4_1 sse4_2 popcnt"
#: As if /proc/cpuinfo had the features in $FEATURES.
GREP = """\
case "$*" in
    *" /proc/cpuinfo") echo "flags		: $FEATURES" ;;
    *) exec /bin/grep "$@" ;;
esac
"""
#: Programs of a machine where pillow-simd cannot be built -> what is said.
NOT_FOR_SIMD = {
    "another architecture": ({"uname": "echo aarch64\n"},
                             "stoker: pillow-simd is made for x86-64 only, and this is aarch64: use Pillow, without"),
    "no compiler": ({"uname": "echo x86_64\n", "cc": "exit 1\n", "id": "echo 1000\n", "grep": GREP},
                    "for which this machine lacks a compiler or headers: apt-get install -y gcc libc6-dev "),
}


@pytest.mark.parametrize("name", sorted(NOT_FOR_SIMD))
def test_where_pillow_simd_cannot_be_built_a_sentence_says_why(tmp_path, name):
    tools, says = NOT_FOR_SIMD[name]
    machine = Machine(tmp_path / "machine", **tools)
    machine._environment["FEATURES"] = SSE4
    done = machine._run("environment.sh", "workers-simd")
    assert done.returncode == 1 and says in done.stderr and done.stderr.count("stoker: ") == 1, done.stderr


#: Writes down for which CPU it would build.
BUILDS = """\
case "$2" in
    -m) echo "$CC" >> "$CALLS" ;;
    *) pwd ;;
esac
"""


@pytest.mark.parametrize("features, compiler, needed", [
    ("fpu avx2 avx " + SSE4, "cc -mavx2", SSE4 + " avx avx2"), ("fpu avx avx512f " + SSE4, "cc -msse4", SSE4),
    ("fpu ssse3 sse4_1", "", "")])
def test_pillow_simd_is_built_for_the_cpu_of_this_machine_which_is_written_down(tmp_path, features, compiler, needed):
    machine = Machine(tmp_path / "machine", uname="echo x86_64\n", cc="", grep=GREP, python=BUILDS)
    machine._environment["FEATURES"] = features
    done = machine._run("pillow-simd.sh", str(machine.folder / "bin" / "python"), "hashes")
    assert (done.returncode == 0) == bool(compiler), done.stderr
    if compiler:
        assert (machine.folder / "calls").read_text().split("\n")[1] == compiler
        assert (machine.folder / "pillow_simd.cpu").read_text() == needed + "\n"
    else:
        assert done.stderr == "stoker: pillow-simd needs a CPU with SSE4, which this one has not: use Pillow\n"


@pytest.mark.parametrize("given, python", [((), ".venv/workers/bin/python"), (("SIMD=0",), ".venv/workers/bin/python"),
                                           (("SIMD=1",), ".venv/workers-simd/bin/python")])
@pytest.mark.parametrize("target", ["train", "example"])
def test_simd_is_all_it_takes(tmp_path, target, given, python):
    for file in ("Makefile", ".setup/train.sh", ".setup/example.sh"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(os.path.join(ROOT, file), str(tmp_path / file))
    (tmp_path / ".setup" / "environment.sh").write_text('echo "made $1"\n')
    for path in (".venv/trainer/bin/python", ".venv/workers/bin/python"):
        _script(tmp_path / path, 'echo "with $STOKER_WORKER_PYTHON"\n')
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("STOKER_WORKER_PYTHON", "MAKEFLAGS", "MAKELEVEL", "SIMD")}
    said = subprocess.run(["make", target, "NAME=driving"] + list(given), cwd=str(tmp_path), env=environment,
                          check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout.split("\n")
    assert ("made workers-simd" in said) == (given == ("SIMD=1",)) and said[-2] == "with " + python


def test_two_makes_at_once_make_one_environment_after_the_other(tmp_path):
    if not os.path.exists("/usr/bin/flock"):
        pytest.skip("this machine has no flock")
    machine = Machine(tmp_path / "machine", uname="echo aarch64\n")
    (machine.folder / ".venv").mkdir()
    first = os.open(str(machine.folder / ".venv"), os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    second = subprocess.Popen(["sh", ".setup/environment.sh", "workers-simd"], cwd=str(machine.folder),
                              env=machine._environment, stderr=subprocess.PIPE, universal_newlines=True)
    try:
        assert second.stderr.readline() == "stoker: waiting for another make in this folder ...\n"
        assert second.poll() is None and not (machine.folder / ".venv" / "workers-simd.missing").exists()
        os.close(first)
        assert "x86-64 only" in second.communicate(timeout=60)[1]
    finally:
        second.kill()
        second.wait()


def test_the_tools_of_tests_bring_what_they_need_in_any_order_of_commands(tmp_path):
    """`make compose-test` may be the first command after `git clone`."""
    machine = Machine(tmp_path / "machine")
    _script(machine.folder / ".venv" / "trainer" / "bin" / "python", 'echo "pip $*" >> "$CALLS"\n')
    (machine.folder / ".venv" / "trainer" / ".installed").mkdir()
    shutil.copy(os.path.join(ROOT, ".setup", "trainer.txt"),
                str(machine.folder / ".venv" / "trainer" / ".installed" / "trainer.txt"))
    done = machine._run("environment.sh", "trainer", "tests", "metrics")
    assert done.returncode == 0, done.stderr
    calls = (machine.folder / "calls").read_text().splitlines()
    added = [line.split("/")[-1] for line in calls if " install " in line]
    assert added == ["storage.txt", "tests.txt", "metrics.txt"] and calls[1].endswith("pip check")
    assert machine._run("environment.sh", "trainer", "storage", "tests").stderr == ""      # they are there


#: Fails, with the line in $SAYS, in as many calls as $TIMES.
PIP_FAILS_AT_FIRST = """\
echo "pip $*" >> "$CALLS"
[ "$(grep -c " install " "$CALLS")" -gt "$TIMES" ] || { echo "$SAYS" >&2; exit 1; }
"""
CUT = "ConnectionResetError(104, 'Connection reset by peer')"


@pytest.mark.parametrize("says, times, code, calls", [
    (CUT, 1, 0, 2), (CUT, 2, 1, 2), ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", 1, 0, 2),
    ("ERROR: No matching distribution found", 1, 1, 1)])
def test_a_download_that_is_cut_is_made_once_more(tmp_path, says, times, code, calls):
    machine = Machine(tmp_path / "machine", sleep="")
    machine._environment.update(SAYS=says, TIMES=str(times))
    _script(machine.folder / ".venv" / "trainer" / "bin" / "python", PIP_FAILS_AT_FIRST)
    (machine.folder / ".venv" / "trainer" / ".installed").mkdir()
    shutil.copy(os.path.join(ROOT, ".setup", "trainer.txt"),
                str(machine.folder / ".venv" / "trainer" / ".installed" / "trainer.txt"))
    done = machine._run("environment.sh", "trainer", "metrics")
    assert done.returncode == code and (says in done.stderr) == (code == 1), done.stderr
    assert (machine.folder / "calls").read_text().count(" install ") == calls


PIP_FAILS = """\
echo "pip" >> "$CALLS"
echo "ERROR: no network" >&2
exit 1
"""
#: Saves sources with one picture to the folder behind -d.
PIP_DOWNLOADS = """\
echo "pip" >> "$CALLS"
while [ "$1" != -d ]; do shift; done
mkdir -p pillow-9/Tests/images pillow-9/src
echo picture > pillow-9/Tests/images/a.png
echo code > pillow-9/src/a.c
tar -czf "$2/pillow-9.tar.gz" pillow-9
rm -r pillow-9
"""


class Pictures:
    """A copy of .setup/ and an interpreter of the workers that is a script."""

    def __init__(self, folder, pip):
        self.folder, self.calls = folder, folder / "calls"
        shutil.copytree(os.path.join(ROOT, ".setup"), str(folder / ".setup"))
        _script(folder / ".venv" / "workers" / "bin" / "python", pip)

    def fetch(self, **environment):
        """(exit code, what was said, calls of pip so far)"""
        done = subprocess.run(["sh", ".setup/pillow-pictures.sh"], cwd=str(self.folder), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True,
                              env=dict(environment, PATH="/usr/bin:/bin", CALLS=str(self.calls)))
        return done.returncode, done.stderr, self.calls.read_text().count("pip")


def test_pillows_pictures_are_fetched_once_and_again_when_their_pin_changes(tmp_path):
    machine, pictures = Pictures(tmp_path, PIP_DOWNLOADS), tmp_path / ".venv" / "pillow-pictures"
    code, said, calls = machine.fetch()
    assert (code, calls) == (0, 1) and "fetching Pillow's test pictures" in said
    assert sorted(path.name for path in pictures.iterdir()) == [".installed", "a.png"]
    assert machine.fetch() == (0, "", 1)
    with open(str(tmp_path / ".setup" / "pillow-pictures.txt"), "a") as pins:
        pins.write("# changed\n")
    assert machine.fetch()[2] == 2 and (pictures / "a.png").exists()
    assert sorted(path.name for path in (tmp_path / ".venv").iterdir()) == ["pillow-pictures", "pillow-pictures.log",
                                                                           "workers"]


def test_without_network_tests_of_pillows_pictures_are_skipped_or_an_error_as_asked(tmp_path):
    machine = Pictures(tmp_path, PIP_FAILS)
    code, said, _ = machine.fetch()
    assert code == 0 and "they cannot be fetched (ERROR: no network): the tests that need them are skipped" in said
    code, said, calls = machine.fetch(STOKER_REQUIRE_PICTURES="1")
    assert (code, calls) == (1, 2) and "they cannot be fetched" in said
    assert not (tmp_path / ".venv" / "pillow-pictures").exists()
