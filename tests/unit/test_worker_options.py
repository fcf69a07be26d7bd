"""WorkerOptions: what reaches a worker process is what the trainer or the command line said, or an error."""

from dataclasses import replace

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.options import WorkerOptions

OPTIONS = WorkerOptions("tcp://10.0.0.7:5555", "/keys", "/data/\udcff", ("mine:make", "own:other"), True, "/cache", 0.1,
                        "/run/health", True, True, shared_memory=False, shared_memory_folder="/run/\udcfe")


@pytest.mark.parametrize("options", [OPTIONS, WorkerOptions("tcp://trainer:5555"), WorkerOptions((
    "tcp://trainer:5555-5558", "tcp://other:5555"))])
def test_options_travel_unchanged(options):
    assert WorkerOptions.from_json(options.to_json()) == options
    options.to_json().encode("ascii")            # an argument in any locale, whatever bytes a path has


def test_a_wrong_address_is_named():
    with pytest.raises(ConfigError, match="--connect must look like tcp://HOST:5555, .* not '10.0.0.7'"):
        replace(OPTIONS, connect="10.0.0.7")


@pytest.mark.parametrize("connect, addresses", [
    ("tcp://trainer:5555", ["tcp://trainer:5555"]), ("tcp://trainer:5555-5557", [
        "tcp://trainer:5555", "tcp://trainer:5556", "tcp://trainer:5557"]),
    ("tcp://a:1, tcp://b:2-3", ["tcp://a:1", "tcp://b:2", "tcp://b:3"]),
    (("tcp://[::1]:5-6", "tcp://b:7"), ["tcp://[::1]:5", "tcp://[::1]:6", "tcp://b:7"]), ("tcp://a:5-5", ["tcp://a:5"])])
def test_several_trainers_and_ranges_of_ports(connect, addresses):
    assert list(replace(OPTIONS, connect=connect).addresses) == addresses


@pytest.mark.parametrize("connect, sentence", [
    ("tcp://a:7-5", "must have the lower port first, not 'tcp://a:7-5'"),
    ("tcp://a:1-65", "at most 64 trainers"), (("tcp://a:5", "tcp://a:4-6"), "each trainer once, not 'tcp://a:5'"),
    ((), "must name a trainer"), ("tcp://a:5,", "must look like tcp://HOST:5555"), ("tcp://a:5-70000", "at most 64"),
    ("tcp://a:65535-65536", "a port from 1 to 65535, not 'tcp://a:65536'"), (5, "must look like"), ("", "must look")])
def test_wrong_addresses_among_several_are_named(connect, sentence):
    with pytest.raises(ConfigError, match="--connect .*" + sentence):
        replace(OPTIONS, connect=connect)


def test_only_trainers_of_this_host_may_choose_the_folder():
    assert WorkerOptions("tcp://127.0.0.1:5555-5556").data_folders == ("/",)
    assert WorkerOptions(("tcp://127.0.0.1:5555", "tcp://other:5555")).data_folders == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", OPTIONS.to_json()[:-1],
                                  OPTIONS.to_json().replace('"once"', '"twice"')])
def test_damaged_options_are_an_error(text):
    with pytest.raises(ConfigError, match="are damaged"):
        WorkerOptions.from_json(text)
