"""The soak in short: that it finds nothing where nothing is, and a leak where there is one."""

import pytest

from tests.soak.soak import fitted, soak


def test_a_short_soak_without_shared_memory_finds_nothing(capsys):
    assert soak(2500, 1, 0, pause_s=0.1, sample_s=0.05, growth_kb=8192, shared_memory=False) == 0, (
        capsys.readouterr().out)


def test_a_short_soak_of_own_data_in_shared_memory_finds_nothing(capsys):
    assert soak(2500, 1, 0, pause_s=0.1, sample_s=0.05, growth_kb=8192, own=True) == 0, capsys.readouterr().out


def test_a_leak_is_found(capsys):
    assert soak(2500, 1, 0, pause_s=0.1, sample_s=0.05, growth_kb=8192, leak=20000) == 1
    assert "trainer" in capsys.readouterr().out


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_the_line_s_error_knows_that_neighbours_are_alike(slope):
    """Of noise that wanders, one sample tells little about the next hundred: plain least squares would be too sure."""
    x = list(range(400))
    found, error = fitted(x, [slope * one + (one // 50 % 2) * 10 for one in x])
    assert abs(found - slope) < 3 * error and error > 0.003
