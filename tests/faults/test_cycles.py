"""The start/kill cycles in short: that nothing is left, and that what is left is seen."""

from tests.soak import cycles
from tests.support.processes import CONSUMER

#: Leaves a process and a file behind, however it ends.
LITTERER = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open(os.path.join(os.environ["TMPDIR"], "litter"), "w").close()
""" + CONSUMER


def test_a_few_cycles_leave_nothing(capsys):
    assert cycles.cycles(12, 0) == 0, capsys.readouterr().out


def test_what_is_left_is_seen(capsys, monkeypatch, pictures):
    monkeypatch.setattr(cycles, "GONE_WITHIN_S", 0.5)
    monkeypatch.setattr(cycles, "MOMENT_S", 3.0)
    seed = 1                            # one that waits long enough for the litter
    left = [line for number in range(seed, seed + 4) for line in cycles.cycle(number, pictures, LITTERER)[2]]
    assert any("time.sleep(60)" in line for line in left) and any("litter" in line for line in left)
