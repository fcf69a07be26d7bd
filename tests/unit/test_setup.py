"""The pins of .setup/ against what setup.cfg promises, for every Python that `make` may find on a machine."""

import configparser
import functools
import os
import re
from typing import Dict, List

import pytest
from packaging.requirements import Requirement

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORKER_PYTHONS = ["3.%d" % minor for minor in range(7, 15)]
TRAINER_PYTHON = "3.6"


parse = functools.lru_cache(maxsize=None)(Requirement)


def selected(lines: List[str], python: str) -> List[Requirement]:
    requirements = [parse(line) for line in lines if line.strip() and not line.startswith("#")]
    return [each for each in requirements if not each.marker or each.marker.evaluate({"python_version": python})]


def pins(name: str, python: str) -> Dict[str, str]:
    """Package -> its version in .setup/``name``.txt for this Python; fails unless there is exactly one."""
    with open(os.path.join(ROOT, ".setup", name + ".txt")) as file:
        requirements = selected(file.read().splitlines(), python)
    versions = {}  # type: Dict[str, str]
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, requirement
        assert requirement.name not in versions, "two versions of %s on Python %s" % (requirement.name, python)
        versions[requirement.name] = specifier.version
    return versions


def promised(python: str, *extras: str) -> List[Requirement]:
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")
    lines = [config["options"]["install_requires"]] + [config["options.extras_require"][extra] for extra in extras]
    return selected("\n".join(lines).splitlines(), python)


def assert_kept(promises: List[Requirement], versions: Dict[str, str]) -> None:
    for requirement in promises:
        assert requirement.name in versions
        assert versions[requirement.name] in requirement.specifier, requirement


def test_the_trainers_pins_keep_what_setup_cfg_promises() -> None:
    versions = {**pins("trainer", TRAINER_PYTHON), **pins("tests", TRAINER_PYTHON), **pins("metrics", TRAINER_PYTHON),
                **pins("storage", TRAINER_PYTHON)}
    assert_kept(promised(TRAINER_PYTHON, "trainer", "cache", "metrics", "top", "dev", "s3", "gs", "az", "crc", "hdf5",
                         "parquet"), versions)


@pytest.mark.parametrize("python", WORKER_PYTHONS)
def test_the_workers_pins_keep_what_setup_cfg_promises(python: str) -> None:
    versions = {**pins("workers", python), **pins("tests", python), **pins("storage", python)}
    assert_kept(promised(python, "cache", "dev", "s3", "gs", "az", "crc"), versions)
    if int(python.split(".")[1]) >= 11:         # the tests of these formats run where they have wheels
        assert_kept(promised(python, "hdf5", "parquet"), versions)


@pytest.mark.parametrize("python", WORKER_PYTHONS)
def test_the_clients_of_stores_change_no_version_of_the_workers(python: str) -> None:
    others = {**pins("workers", python), **pins("tests", python)}
    assert all(others.get(name, version) == version for name, version in pins("storage", python).items())


def test_the_pins_of_ray_keep_what_setup_cfg_promises() -> None:
    assert_kept(promised("3.13", "ray"), dict(pins("workers", "3.13"), **pins("ray", "3.13")))


@pytest.mark.parametrize("added", ["storage", "tests", "metrics"])
def test_what_is_added_to_the_trainers_environment_changes_no_version_of_it(added: str) -> None:
    before, more = pins("trainer", TRAINER_PYTHON), pins(added, TRAINER_PYTHON)
    before.update(pins("tests", TRAINER_PYTHON) if added == "metrics" else {})
    assert {name: more[name] for name in more if name in before} == \
        {name: before[name] for name in more if name in before}


def test_horovod_changes_no_version_of_the_trainer() -> None:
    assert not set(pins("trainer", TRAINER_PYTHON)) & set(pins("horovod", TRAINER_PYTHON))


@pytest.mark.parametrize("python", ["3.7", "3.8", "3.9", "3.10"])
def test_same_pillow_is_the_trainers(python: str) -> None:
    versions = pins("same-pillow", python)
    assert versions["pillow"] == pins("trainer", TRAINER_PYTHON)["pillow"]
    assert_kept(promised(python, "cache"), versions)


@pytest.mark.parametrize("python", WORKER_PYTHONS[4:])
def test_lint_changes_no_version_of_the_workers(python: str) -> None:
    others = dict(pins("workers", python), **pins("tests", python))
    assert all(others.get(name, version) == version for name, version in pins("lint", python).items())


def requirements(path: str) -> Dict[str, List[str]]:
    """Requirement as a file of pins has it -> its hashes."""
    with open(os.path.join(ROOT, ".setup", path)) as file:
        text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n|^\s*\n", "", file.read()))
    return {line.split(" --hash=")[0].strip(): re.findall(r"--hash=(\S+)", line) for line in text.splitlines()}


HASHED = ("build", "fuzz", "horovod", "lint", "metrics", "same-pillow", "storage", "tests", "trainer",
          "workers", "workers-simd")


@pytest.mark.parametrize("name", HASHED)
def test_each_pin_has_the_hashes_of_its_files(name: str) -> None:
    hashed = requirements("hashes/%s.txt" % name)
    assert list(hashed) == list(requirements(name + ".txt")), "run .setup/hashes.py"
    for requirement, hashes in hashed.items():
        assert hashes and len(set(hashes)) == len(hashes), requirement
        assert all(re.match("sha256:[0-9a-f]{64}$", each) for each in hashes), requirement


@pytest.mark.parametrize("name, wanted", [("trainer", ["pip", "setuptools", "wheel"]),
                                          ("workers-simd", ["pybind11", "setuptools"])])
def test_the_build_tools_have_them_too(name: str, wanted: List[str]) -> None:
    whole = requirements("hashes/%s.txt" % name)
    tools = requirements("hashes/%s-tools.txt" % name)
    assert [tool.split("==")[0] for tool in tools] == wanted
    assert {tool: whole[tool] for tool in tools} == tools


@pytest.mark.parametrize("file", [".setup/environment.sh", ".setup/pillow-simd.sh", "trainer/Dockerfile",
                                  "workers/Dockerfile"])
def test_they_are_installed_by_their_hashes(file: str) -> None:
    with open(os.path.join(ROOT, file)) as lines:
        text = lines.read().replace("\\\n    --require", "--require")
    installing = [line for line in text.splitlines() if re.search(r"pip install|\binstall --|\binstall \$", line)
                  and not line.lstrip().startswith("#") and "install() {" not in line and "apt-get" not in line]
    assert len(installing) >= {".setup/environment.sh": 5, ".setup/pillow-simd.sh": 2}.get(file, 1)
    for line in installing:
        assert "--require-hashes" in line or "$(pins " in line, line
