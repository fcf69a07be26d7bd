"""Where this host finds Google's storage: the service itself, or an emulator that STORAGE_EMULATOR_HOST names."""

import json
import os

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.urls import normal


def emulator() -> str:
    """The URL of the emulator; '' for the service. Raises ConfigError."""
    text = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if not text:
        return ""
    try:
        return normal(text if "://" in text else "http://" + text)
    except ConfigError as error:
        raise ConfigError("STORAGE_EMULATOR_HOST is wrong: %s" % error) from error


def key_for_emulator(url: str) -> str:
    """What obstore takes for the key of an account, with the place of an emulator in it, which asks for none."""
    return json.dumps({"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "",
                       "private_key_id": ""})


def is_public() -> bool:
    """Whether requests are not signed, for public buckets."""
    return os.environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")
