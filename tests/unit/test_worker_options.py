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


@pytest.mark.parametrize("name, value, words", [
    ("connect", "10.0.0.7", "--connect must look like"), ("keys", "keys", "keys must be an absolute path, not 'keys'"),
    ("data", 3, "data must be an absolute path"), ("allow_generators", "mine:make", "must be names of generators"),
    ("once", 1, "once must be True or False, not 1"), ("cache_gb", True, "cache_gb must be a number")])
def test_wrong_options_are_named(name, value, words):
    with pytest.raises(ConfigError, match=words):
        replace(OPTIONS, **{name: value})


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", OPTIONS.to_json()[:-1],
                                  OPTIONS.to_json().replace('"once"', '"twice"')])
def test_damaged_options_are_an_error(text):
    with pytest.raises(ConfigError, match="are damaged"):
        WorkerOptions.from_json(text)
