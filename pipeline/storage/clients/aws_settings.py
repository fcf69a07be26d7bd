"""Where this host finds S3, and its credentials: as the AWS clients do it, for a client that knows only a part of that.

obstore reads the environment and asks the machine for its role. It does not read ~/.aws: this module does, for plain
keys. What needs more, such as a login by SSO, is boto3's, which obstore can ask where it is installed.
"""

import configparser
import os
from typing import Dict, NamedTuple, Optional

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.urls import normal
from stoker.pipeline.text import printable

_NEEDS_MORE = ("role_arn", "sso_session", "sso_start_url", "sso_account_id", "credential_process", "source_profile",
               "web_identity_token_file", "login_session")


class Keys(NamedTuple):
    """Credentials. ``token``: of temporary ones, else ''."""
    access_key_id: str
    secret_access_key: str
    token: str


class Settings(NamedTuple):
    """``endpoint``: None for Amazon's own. ``keys``: from the environment, or from files (``are_in_files``); None if
    the client is to find them by itself. ``needs``: the setting of the profile that only boto3 understands, or ''.
    ``is_public``: nothing is signed. ``authorities``: the file with certificates."""
    endpoint: Optional[str]
    region: Optional[str]
    keys: Optional[Keys]
    are_in_files: bool
    needs: str
    is_public: bool
    authorities: Optional[str]


def settings() -> Settings:
    """What the environment and ~/.aws say now. Raises ConfigError if a file cannot be read or has no such profile."""
    env = os.environ
    profile = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or "default"
    keys_file = _sections(env.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    config_file = _sections(env.get("AWS_CONFIG_FILE") or "~/.aws/config")
    section = dict(config_file.get("default" if profile == "default" else "profile " + profile, {}),
                   **keys_file.get(profile, {}))
    if not section and profile != "default":
        raise ConfigError("AWS_PROFILE=%s names no profile of ~/.aws on this host" % printable(profile))
    keys, needs, are_in_files = None, "", False
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        keys = Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", ""))
    else:
        needs = next((name for name in _NEEDS_MORE if name in section), "")
        if not needs and section.get("aws_access_key_id") and section.get("aws_secret_access_key"):
            keys = Keys(section["aws_access_key_id"], section["aws_secret_access_key"],
                        section.get("aws_session_token", ""))
            are_in_files = True
    return Settings(
        _endpoint(env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or section.get("endpoint_url")),
        env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or section.get("region") or None, keys, are_in_files,
        needs,
        env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"),
        env.get("AWS_CA_BUNDLE") or section.get("ca_bundle") or None)


def _endpoint(text: Optional[str]) -> Optional[str]:
    if not text:
        return None
    try:
        return normal(text)
    except ConfigError as error:
        raise ConfigError("AWS_ENDPOINT_URL is wrong: %s" % error) from error


def _sections(path: str) -> Dict[str, Dict[str, str]]:
    path = os.path.expanduser(path)
    parser = configparser.RawConfigParser(strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError, configparser.Error) as error:
        raise ConfigError("%s, which has the credentials of AWS, cannot be read: %s" % (
            printable(path), type(error).__name__)) from None
    return {" ".join(name.split()): dict(parser.items(name)) for name in parser.sections()}
