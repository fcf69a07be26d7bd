"""The client of a bucket: which library this Python has for it."""

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.retrying import Client
from stoker.pipeline.storage.urls import split


def bucket_client(root: str) -> Client:
    """The client of the bucket in ``root``. Raises ConfigError, which names the extra, if there is none here."""
    scheme = split(root).scheme
    raise ConfigError("%s needs a client that is not installed here: pip install 'stoker[%s]'" % (root, scheme))
