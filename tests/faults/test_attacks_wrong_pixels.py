"""A member with a valid key that sends wrong pixels: ``--verify`` finds it, and the error names it."""

import os
import re

import pytest

from stoker.pipeline.errors import RunFailed
from stoker.pipeline.transport import keys
from tests.support.processes import opened, workers_program

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3}      # 120 pictures: 15 steps an epoch
LYING = "user_generators:lying"
NAMES = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of four epochs."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", workers=1, epochs=4, **OPTIONS) as run:
        run.take_all()
    return run.content()


@pytest.fixture
def folder(tmp_path):
    """Keys of a trainer and of three hosts."""
    keys.make(str(tmp_path / "keys"), NAMES)
    return str(tmp_path / "keys")


def worker(run, folder, name, **environment):
    """A worker process with the key ``name``."""
    return workers_program(run.stream.address, "--keys", os.path.join(folder, "workers", name), "--processes", "1",
                           "--allow-generator", LYING, **environment)


def test_honest_workers_are_compared_and_equal(reference, pictures, tmp_path, folder, own_generators):
    with opened(pictures, tmp_path / "audit", workers=0, generator=LYING, epochs=4, keys=folder, verify=0.3,
                **OPTIONS) as run:
        with worker(run, folder, "alpha"), worker(run, folder, "beta"):
            run.joined(2)
            run.take_all()
        report = run.stream.report().splitlines()
    assert run.content() == reference and len(run.batches) == 60        # none of the second batches was used
    verified, = re.findall(r"^verification: (\d+) batches were made twice, and all are equal", report[3])
    assert 5 <= int(verified) <= 40 and len(report) == 4


def test_a_function_that_is_not_deterministic_is_found_on_one_host(pictures, tmp_path, own_generators):
    with opened(pictures, tmp_path / "audit", workers=2, generator="user_generators:of_its_process", epochs=100,
                verify=0.3, **OPTIONS) as run:
        with pytest.raises(RunFailed) as failed:
            run.take_all()
    assert re.match(r"step \d+ of epoch \d+ was made twice to verify it, and the batches differ in the array images: "
                    r"\S+/[01] \(at loopback, .*\) made the one that is used, \S+/[01] \(at loopback, .*\) the other; "
                    r"no third worker could tell which one is right\. Without a faulty or dishonest worker, their "
                    r"copies of the data differ, or your function is not deterministic\. ", str(failed.value))


def test_a_member_that_sends_wrong_pixels_is_found_and_named(pictures, tmp_path, folder, own_generators, attacks):
    with opened(pictures, tmp_path / "audit", workers=0, generator=LYING, epochs=100, keys=folder, verify=0.3,
                **OPTIONS) as run:
        with worker(run, folder, "alpha"), worker(run, folder, "gamma"):
            run.joined(2)              # else the first wrong batch may be found before a third worker can tell
            with worker(run, folder, "beta", STOKER_TEST_LIES="1"):
                run.joined(3)
                with pytest.raises(RunFailed) as failed:
                    run.take_all()
    said = str(failed.value)
    liar = re.search(r"(\S+) \(at loopback, key beta, python [^)]*\)", said).group(1)
    assert re.match(r"step \d+ of epoch \d+ was made twice to verify it, and the batches differ in the array images: ",
                    said), said
    assert re.search(r"; \S+ \(at loopback, key (alpha|gamma), [^)]*\), a third worker, made the same as \S+, so that "
                     "of %s is wrong" % re.escape(liar), said), said
    assert len(run.batches) < 1500
    attacks("a member with a valid key", "sends wrong pixels, a changed byte in every third batch, and the trainer "
            "verifies a share of the steps (`--verify`)", "the run ends at the first comparison that fails, and names "
            "the step, both workers with host and key, and, by a third worker, which of them is wrong")
