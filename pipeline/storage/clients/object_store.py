"""Buckets by obstore, where it installs: s3://, gs:// and az:// by one client, which is written in Rust and quick."""

import os
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar

import obstore
from obstore import exceptions

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients import aws_settings, google_settings
from stoker.pipeline.storage.clients.bucket_errors import BehindEnd, error_of, facts_of
from stoker.pipeline.storage.folder_store import part_length, too_large, too_short
from stoker.pipeline.storage.clients.http_store import CONNECT_S, SILENCE_S
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Entry, Refused, StoreError, Version, etag_version
from stoker.pipeline.storage.urls import joined, problem_of, split
from stoker.pipeline.text import printable

ANSWER_S = 300.0        # for all of an answer
PAGE = 1000             # what stores give at a time
KEYS_FOR = timedelta(minutes=5)     # then the files with credentials are read again
_NO_TRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}    # they are ours: see retries.py
_CAUSE = re.compile(r"""(?:message|error): "([^"\n]{1,150})\"""")
T = TypeVar("T")


class ObjectStoreClient:
    """The files below the URL ``root``, in normal form: see ``retrying.Client``. Raises ConfigError if this host lacks
    settings."""

    def __init__(self, root: str) -> None:
        self.root = root
        url = split(root)
        self._prefix = url.path
        try:
            self._store = {"s3": _s3, "gs": _gs, "az": _az}[url.scheme](url.host, url.path or None)
        except (exceptions.BaseError, ValueError) as error:
            raise ConfigError("%s cannot be opened: %s" % (root, _shown(error))) from error

    def pages(self, prefix: str, after: str) -> Iterator[List[Entry]]:
        """See ``Client``. obstore lists folders: it is asked for the one of ``prefix``."""
        folder = prefix.rpartition("/")[0]
        stream = iter(self._asked(lambda: obstore.list(
            self._store, folder or None, offset=after or None, chunk_size=PAGE), ""))
        while True:
            page = self._asked(lambda: next(stream, None), "")
            if page is None:
                return
            yield [Entry(meta["path"], _version(meta)) for meta in page
                   if meta["path"].startswith(prefix) and not problem_of(meta["path"])]

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        return Entry(path, _version(self._asked(lambda: obstore.head(self._store, path), path)))

    def read(self, path: str, offset: int, length: Optional[int], max_bytes: int) -> Tuple[bytes, Version]:
        """See ``Store``."""
        url = joined(self.root, path)
        if length is not None and length > max_bytes:
            raise too_large(url, length, max_bytes)
        if length == 0 or length is None and offset:        # obstore asks for no empty part
            version = self.size(path).version
            length = part_length(url, version.size, offset, length, max_bytes)
            if length == 0:
                return b"", version
        options: Any = None if length is None else {"range": (offset, offset + length)}
        try:
            result = self._asked(lambda: obstore.get(self._store, path, options=options), path)
        except BehindEnd as error:
            raise too_short(url, self.size(path).version.size, offset, length or 0) from error
        version = _version(result.meta)
        wanted = version.size - offset if length is None else length
        if offset + wanted > version.size:
            raise too_short(url, version.size, offset, wanted)
        if tuple(result.range) != (offset, offset + wanted):
            raise TryAgain("bytes %d to %d were asked for, and %s came" % (offset, offset + wanted, result.range),
                           is_wrong=True)
        if wanted > max_bytes:
            raise too_large(url, wanted, max_bytes)
        data = bytes(self._asked(result.bytes, path))
        if len(data) != wanted:
            raise TryAgain("%d bytes came of %d" % (len(data), wanted), is_wrong=True)
        return data, version

    def _asked(self, ask: Callable[[], T], path: str) -> T:
        try:
            return ask()
        except (exceptions.BaseError, OSError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise self._meaning(error, path) from error

    def _meaning(self, error: Exception, path: str) -> Exception:
        url, text = joined(self.root, path), str(error)
        if _is_without_credentials(text):
            return Refused("%s: this host has no credentials: %s" % (url, _HOW[self.root.split(":")[0]]))
        code, status = facts_of(text)
        if isinstance(error, FileNotFoundError) and not status:
            status = 404
        elif isinstance(error, exceptions.PermissionDeniedError) and not status:
            status = 403
        elif isinstance(error, exceptions.UnauthenticatedError) and not status:
            status = 401
        elif not status and "InvalidCertificate" in text:
            return Refused("%s: the server's certificate is not valid for this host: AWS_CA_BUNDLE can name your own "
                           "authority" % url)
        return error_of(printable(url), code, status, _shown(error))


_HOW = {"s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials; AWS_SKIP_SIGNATURE=true "
              "for a public bucket",
        "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or call gcloud auth application-default login",
        "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"}


def _is_without_credentials(text: str) -> bool:
    """Whether the client looked for a role of this machine, which is its last way, and there is none."""
    return any("//" + host in text for host in ("169.254.169.254", "metadata.google.internal", "169.254.170.2"))


def _version(meta: Any) -> Version:
    return etag_version(meta["size"], meta["e_tag"], meta["last_modified"])


def _shown(error: Exception) -> str:
    """The end of obstore's text, without the name of the file that it begins with."""
    head = str(error).split("\nDebug source")[0].split("\n\nDebug")[0]
    for mark in ("Server returned non-2xx status code: ", " - "):
        if mark in head:
            head = head.split(mark, 1)[1]
            break
    cause = _CAUSE.findall(str(error))      # why a connection failed stands in the middle of a tree of Rust's values
    return printable(" ".join((head + (" (%s)" % cause[-1] if cause else "")).split()))[:300]


def _client_options(endpoint: Optional[str], authorities: Optional[str] = None) -> Any:
    options: Dict[str, Any] = {"connect_timeout": timedelta(seconds=CONNECT_S), "timeout": timedelta(seconds=ANSWER_S),
                               "read_timeout": timedelta(seconds=SILENCE_S),
                               "allow_http": bool(endpoint) and str(endpoint).startswith("http://")}
    if authorities:
        try:
            with open(authorities, encoding="ascii") as file:
                options["root_certificate"] = file.read()
        except (OSError, UnicodeError) as error:
            raise ConfigError("AWS_CA_BUNDLE=%s cannot be read: %s" % (printable(authorities), error)) from error
    return options


def _s3(bucket: str, prefix: Optional[str]) -> Any:
    from obstore.store import S3Store
    found = aws_settings.settings()
    config: Dict[str, Any] = {}
    if found.endpoint:
        config["endpoint"] = found.endpoint
    if found.region:
        config["region"] = found.region
    if found.is_public:
        config["skip_signature"] = True
    elif found.keys is not None and found.are_in_files:
        config["credential_provider"] = _from_files
    elif found.needs:
        config["credential_provider"] = _from_boto3(found.needs)
    return S3Store(bucket, prefix=prefix, client_options=_client_options(found.endpoint, found.authorities),
                   retry_config=_NO_TRIES, **config)


def _from_files() -> Dict[str, Any]:
    """Keys for some minutes, as ~/.aws has them now."""
    keys = aws_settings.settings().keys
    if keys is None:
        raise ValueError("the credentials are gone from ~/.aws of this host")
    return {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key,
            "token": keys.token or None, "expires_at": datetime.now(timezone.utc) + KEYS_FOR}


def _from_boto3(needs: str) -> Any:
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
        return Boto3CredentialProvider(ttl=KEYS_FOR)
    except ImportError:
        raise ConfigError("the profile of ~/.aws has %s, which boto3 understands: pip install boto3 on this host"
                          % needs) from None


def _gs(bucket: str, prefix: Optional[str]) -> Any:
    from obstore.store import GCSStore
    endpoint = google_settings.emulator()
    config: Dict[str, Any] = {}
    if endpoint:
        config["service_account_key"] = google_settings.key_for_emulator(endpoint)
    elif google_settings.is_public():
        config["skip_signature"] = True
    return GCSStore(bucket, prefix=prefix, client_options=_client_options(endpoint), retry_config=_NO_TRIES, **config)


def _az(container: str, prefix: Optional[str]) -> Any:
    from obstore.store import AzureStore
    endpoint = os.environ.get("AZURE_ENDPOINT") or os.environ.get("AZURE_STORAGE_ENDPOINT")
    return AzureStore(container, prefix=prefix, client_options=_client_options(endpoint), retry_config=_NO_TRIES)
