"""Where a host finds S3 and its keys: the environment first, then ~/.aws."""

import os

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients.aws_settings import Keys, settings


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


def test_nothing_is_set():
    found = settings()
    assert found.endpoint is found.region is found.keys is None and not found.needs and not found.is_public


def test_files_and_profiles(home, monkeypatch):
    (home / "credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B%B\n"
                                      "[work]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n")
    (home / "config").write_text("[default]\nregion = eu-west-1\n[profile work]\nregion = eu-north-1\n"
                                 "[profile sso]\nsso_session = x\n")
    assert settings().keys == Keys("A", "B%B", "") and settings().region == "eu-west-1" and settings().are_in_files
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert settings().keys == Keys("C", "D", "E") and settings().region == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "sso")
    assert settings().keys is None and settings().needs == "sso_session"
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(ConfigError):
        settings()


def test_the_environment_goes_first(home, monkeypatch):
    (home / "credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    for name, value in (("ACCESS_KEY_ID", "X"), ("SECRET_ACCESS_KEY", "Y"), ("REGION", "r"), ("SKIP_SIGNATURE", "true"),
                        ("ENDPOINT_URL", "http://a:9000/"), ("ENDPOINT_URL_S3", "http://b:9000/")):
        monkeypatch.setenv("AWS_" + name, value)
    found = settings()
    assert found.keys == Keys("X", "Y", "") and not found.are_in_files and found.region == "r" and found.is_public
    assert found.endpoint == "http://b:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(ConfigError):
        settings()


def test_a_broken_file_is_one_sentence_without_its_content(home):
    (home / "credentials").write_text("secret without a section\n")
    with pytest.raises(ConfigError) as caught:
        settings()
    assert "secret without" not in str(caught.value) and "credentials" in str(caught.value)
