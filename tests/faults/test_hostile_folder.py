"""A run over a folder in which one file in twenty is hostile: it goes on, names exactly those that are bad, and costs
little more memory and time than a run over as many good files."""

import pytest

from tests.support.hostile_folder import ALL, Outcome, bad_names, make
from tests.support.processes import LIMIT_S, interpreter

PYTHON = interpreter("STOKER_TEST_WORKER_PYTHON")      # before a test changes the current folder
WORKERS = 4
GOOD = 19 * len(ALL)                                   # 95 %
LIMIT_MB = 1000                                        # of all processes of the workers together
CPU_S = 0.5                                            # of a picture: bounds what a slow one costs
PIXELS, MEMORY_MB = 10 ** 7, 64                        # so that four workers at their largest stay below LIMIT_MB
OPTIONS = {"image_size": 64, "batch_size": 32, "decode": "exact", "max_pixels": PIXELS, "picture_cpu_s": CPU_S,
           "picture_memory_mb": MEMORY_MB}
SIZE = (720, 960)                                      # of a good picture: ordinary ones take some milliseconds


@pytest.mark.parametrize("python", [None, PYTHON], ids=["3.6", "newest"])
def test_one_file_in_twenty_is_hostile(tmp_path, python, figures, attacks):
    clean_root, root = make(str(tmp_path / "clean"), GOOD + len(ALL), SIZE, ()), make(
        str(tmp_path / "hostile"), GOOD, SIZE)
    clean = Outcome(clean_root, tmp_path / "clean.audit", WORKERS, python, **OPTIONS)
    assert not clean.bad
    run = Outcome(root, tmp_path / "hostile.audit", WORKERS, python, **OPTIONS)
    run.check(bad_names(python is None, PIXELS, MEMORY_MB), GOOD + len(ALL))
    assert run.peak_mb < LIMIT_MB, "%d processes" % run.processes
    # processor time, which neighbours on this machine do not change much; real time for what only waits, as for leases
    assert run.cpu_s < 2 * clean.cpu_s
    assert run.seconds < 4 * clean.seconds + LIMIT_S
    figures("a folder with %d hostile files of %d (%s): %d named bad, %.1f s and %.1f s CPU; clean: %.1f s and %.1f s "
            "CPU; ratio %.2f; %d workers and what they started: at most %.0f MB, clean %.0f MB"
            % (len(ALL), GOOD + len(ALL), "3.6" if python is None else "newest",
               len(run.bad), run.seconds, run.cpu_s, clean.seconds, clean.cpu_s, run.seconds / clean.seconds, WORKERS,
               run.peak_mb, clean.peak_mb))
    if python is not None:
        attacks("the data: pictures", "%d hostile files among %d good ones, four workers"
                % (len(ALL), GOOD), "exactly the bad ones are named; all workers together stay below "
                "1 GB; the run takes less than twice as long as one without them")
