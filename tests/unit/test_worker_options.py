"""WorkerOptions: what reaches a worker process is what the trainer or the command line said, or an error."""

from dataclasses import replace

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import WorkerOptions

OPTIONS = WorkerOptions("tcp://10.0.0.7:5555", "/keys", "/data/\udcff", ("mine:make", "own:other"), True, "/cache", 0.1,
                        "/run/health", True, True)


@pytest.mark.parametrize("options", [OPTIONS, WorkerOptions("tcp://trainer:5555")])
def test_options_travel_unchanged(options):
    assert WorkerOptions.from_json(options.to_json()) == options
    options.to_json().encode("ascii")            # an argument in any locale, whatever bytes a path has


def test_a_wrong_address_is_named():
    with pytest.raises(ConfigError, match="--connect must look like tcp://HOST:5555, .* not '10.0.0.7'"):
        replace(OPTIONS, connect="10.0.0.7")


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", OPTIONS.to_json()[:-1],
                                  OPTIONS.to_json().replace('"once"', '"twice"')])
def test_damaged_options_are_an_error(text):
    with pytest.raises(ConfigError, match="are damaged"):
        WorkerOptions.from_json(text)
