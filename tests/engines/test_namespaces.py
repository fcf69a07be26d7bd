"""The namespaces in which the engines run."""

import os

import pytest

from tests.engines.namespaces import Namespaces, only_child
from tests.support.processes import Program, alive, wait_for

pytestmark = pytest.mark.needs("namespaces")

STUBBORN = "trap '' INT TERM HUP; setsid sleep 1000 >/dev/null 2>&1 & echo on; exec >/dev/null 2>&1; wait"


def test_what_runs_in_namespaces_ends_with_them(tmp_path):
    """Namespaces: what runs in them ends with them, and they have a network of their own"""
    with Namespaces("10.78.0.1/24", "of-a-test") as apart:
        said = apart.run("sh", "-c", "hostname; pwd; ip -o -4 addr; ls -d /proc/[0-9]* | wc -l", cwd=str(tmp_path))
        name, folder, *addresses, processes = said.splitlines()
        assert (name, folder) == ("of-a-test", str(tmp_path))
        assert ["127.0.0.1/8" in line or "10.78.0.1/24" in line for line in addresses] == [True, True]
        assert int(processes) < 10
        nsenter, *arguments = apart.command("sh", "-c", STUBBORN)
        with Program(arguments, nsenter) as program:
            program.wait_for_line("on")
            left = [only_child(only_child(program.pid))]
        wait_for(lambda: not alive(program.pid), "the end of nsenter")
        assert alive(left[0])
    wait_for(lambda: not alive(left[0]), "the end of what ran in the namespaces")
    assert not os.path.exists("/sys/class/net/stoker0")
