"""The client of a bucket: which library this Python has for it."""

import importlib.util
import sys

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.retrying import Client
from stoker.pipeline.storage.urls import split
from stoker.pipeline.text import printable_path


def bucket_client(root: str) -> Client:
    """The client of the bucket in ``root``. Raises ConfigError, which names the extra, if there is none here."""
    scheme = split(root).scheme
    if _is_there("obstore"):
        from stoker.pipeline.storage.clients.object_store import ObjectStoreClient
        return ObjectStoreClient(root)
    if scheme == "s3" and _is_there("boto3"):
        from stoker.pipeline.storage.clients.boto_store import BotoClient
        return BotoClient(root)
    if scheme == "gs" and _is_there("google.auth") and _is_there("urllib3"):
        from stoker.pipeline.storage.clients.google_store import GoogleClient
        return GoogleClient(root)
    if scheme == "az":
        raise ConfigError("%s: Azure's containers need Python 3.11 or newer, and pip install 'stoker[az]': a worker "
                          "can have that, and a trainer on an older Python names their files in a table (docs/DATA.md)"
                          % root)
    raise ConfigError("%s needs a client that the Python %s lacks: pip install 'stoker[%s]' there" % (
        root, printable_path(sys.executable), scheme))


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
