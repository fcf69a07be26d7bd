"""--data and --allow-data of a worker: folders and URLs, checked before a process is started."""

import os

import pytest

from stoker.workers import cli

CONNECT = ["--connect", "tcp://trainer:5555"]


@pytest.fixture
def started(monkeypatch):
    """The options of the workers that were started."""
    found = []
    monkeypatch.setattr(cli, "run", lambda options, processes, lifeline: found.append(options) or 0)
    monkeypatch.setattr(cli, "warnings", lambda environment: ())
    for name in list(os.environ):
        if name.startswith("STOKER_"):
            monkeypatch.delenv(name)
    return found


@pytest.mark.parametrize("given, data, allowed", [
    (["--data", "S3://bucket/photos/"], "s3://bucket/photos", ()),
    (["--data", "http://Data.Example:80/a%20b"], "http://data.example/a%20b", ()),
    (["--allow-data", "gs://bucket", "--allow-data", "{}"], None, ("gs://bucket", "{}")),
    (["--data", "{}"], "{}", ())])
def test_folders_and_urls(started, tmp_path, given, data, allowed):
    assert cli.main(CONNECT + [each.format(tmp_path) for each in given]) == 0
    options, = started
    assert options.data == (data and data.format(tmp_path))
    assert options.allow_data == tuple(each.format(tmp_path) for each in allowed)
    assert type(options).from_json(options.to_json()) == options


@pytest.mark.parametrize("given, sentence", [
    (["--data", "ftp://host/x"], "Stoker does not read ftp://"),
    (["--data", "s3://user:password@bucket/x"], "has a user's name or password in it"),
    (["--allow-data", "https://h/x?token=1"], "has a '?' or '#'"), (["--data", "https://h/a/../b"], "'..' in it"),
    (["--data", "s3://bucket/x", "--allow-data", "s3://bucket"], "exclude each other"),
    (["--data", "/no/such"], "there is no folder '/no/such'")])
def test_what_cannot_be_the_data(started, capsys, given, sentence):
    with pytest.raises(SystemExit) as caught:
        cli.main(CONNECT + given)
    assert caught.value.code == 2 and sentence in capsys.readouterr().err and not started
    assert "password" not in sentence or "user:password" not in capsys.readouterr().err
