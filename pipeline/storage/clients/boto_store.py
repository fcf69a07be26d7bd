"""Buckets of S3 by boto3, where obstore does not install: on a trainer's Python 3.6."""

import logging
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar

import boto3
import botocore
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients import aws_settings
from stoker.pipeline.storage.clients.bucket_errors import BehindEnd, error_of
from stoker.pipeline.storage.folder_store import part_length, too_large, too_short
from stoker.pipeline.storage.clients.http_answers import asked_pause_s
from stoker.pipeline.storage.clients.http_store import CONNECT_S, MIN_BYTES_PER_S, SILENCE_S
from stoker.pipeline.storage.retries import TryAgain, is_unknown_host
from stoker.pipeline.storage.store import Entry, Refused, StoreError, Version, etag_version
from stoker.pipeline.storage.urls import joined, problem_of, split
from stoker.pipeline.text import printable

MAX_CONNECTIONS = 32
_PIECE_BYTES = 1 << 20
_WITHOUT_KEYS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError,
                 exceptions.CredentialRetrievalError, exceptions.TokenRetrievalError
                 if hasattr(exceptions, "TokenRetrievalError") else exceptions.NoCredentialsError)
_SETTINGS = (exceptions.ProfileNotFound, exceptions.ConfigParseError, exceptions.ConfigNotFound,
             exceptions.NoRegionError, ValueError)
T = TypeVar("T")
_lock = threading.Lock()            # sessions of boto3 are for one thread at a time, clients for all
_clients: Dict[aws_settings.Settings, Any] = {}


class BotoClient:
    """The files below the URL ``root``, in normal form: see ``retrying.Client``. Raises ConfigError if this host lacks
    settings."""

    def __init__(self, root: str) -> None:
        self.root = root
        url = split(root)
        self._bucket, self._above = url.host, url.path + "/" if url.path else ""
        self._s3 = _client(root)

    def pages(self, prefix: str, after: str) -> Iterator[List[Entry]]:
        """See ``Client``."""
        more = {"StartAfter": self._above + after} if after else {}
        while True:
            page = self._asked(lambda: self._s3.list_objects_v2(
                Bucket=self._bucket, Prefix=self._above + prefix, **more), "")      # noqa: B023
            yield [Entry(path, _version(item["Size"], item)) for item in page.get("Contents", ())
                   for path in [item["Key"][len(self._above):]] if not problem_of(path)]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        found = self._asked(lambda: self._s3.head_object(Bucket=self._bucket, Key=self._above + path), path)
        return Entry(path, _version(found["ContentLength"], found))

    def read(self, path: str, offset: int, length: Optional[int], max_bytes: int) -> Tuple[bytes, Version]:
        """See ``Store``."""
        url = joined(self.root, path)
        if length is not None and length > max_bytes:
            raise too_large(url, length, max_bytes)
        if length == 0 or length is None and offset:
            version = self.size(path).version
            length = part_length(url, version.size, offset, length, max_bytes)
            if length == 0:
                return b"", version
        more = {} if length is None else {"Range": "bytes=%d-%d" % (offset, offset + length - 1)}
        try:
            found = self._asked(lambda: self._s3.get_object(Bucket=self._bucket, Key=self._above + path, **more), path)
        except BehindEnd as error:
            raise too_short(url, self.size(path).version.size, offset, length or 0) from error
        body = found["Body"]
        is_over = False
        try:
            version, wanted = _part(found, url, offset, length)
            if wanted > max_bytes:
                raise too_large(url, wanted, max_bytes)
            data = self._asked(lambda: _content(body, wanted), path)
            is_over = True
            return data, version
        finally:
            if not is_over:
                body.close()        # with its connection

    def _asked(self, ask: Callable[[], T], path: str) -> T:
        try:
            return ask()
        except (exceptions.BotoCoreError, exceptions.ClientError, ResponseParserError, HTTPError, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise self._meaning(error, path) from error

    def _meaning(self, error: Exception, path: str) -> Exception:
        url = printable(joined(self.root, path))
        said = printable(" ".join(str(error).split()))[:300]
        if isinstance(error, exceptions.ClientError):
            answer = error.response.get("ResponseMetadata", {})
            problem = error.response.get("Error", {})
            code, status = str(problem.get("Code", "")), int(answer.get("HTTPStatusCode", 0))
            said = "%s %s" % (problem.get("Message", ""), "<Region>%s</Region>" % problem["Region"]
                              if "Region" in problem else "")
            asked_s = asked_pause_s(answer.get("HTTPHeaders", {}).get("retry-after"), time.time())
            return error_of(url, "" if code == str(status) else code, status, said, asked_s)
        if isinstance(error, _WITHOUT_KEYS):
            return Refused("%s: this host has no credentials for S3 (%s): set AWS_ACCESS_KEY_ID and "
                           "AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials; AWS_SKIP_SIGNATURE=true for a public "
                           "bucket" % (url, said))
        if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in said:
            return Refused("%s: the server's certificate is not valid for this host: AWS_CA_BUNDLE can name your own "
                           "authority (%s)" % (url, said))
        if isinstance(error, (exceptions.ParamValidationError, exceptions.InvalidRegionError)):
            return Refused("%s cannot be asked for: %s" % (url, said))
        if isinstance(error, ResponseParserError):
            return TryAgain("an answer that is no XML: %s" % said[:100], is_wrong=True)
        return TryAgain("%s: %s" % (type(error).__name__, said), is_unknown_host=is_unknown_host(error))


def _part(found: Dict[str, Any], url: str, offset: int, length: Optional[int]) -> Tuple[Version, int]:
    """The file's version, and how many bytes come. Raises TryAgain, if it is another part than asked for."""
    got, said = found["ContentLength"], found.get("ContentRange")
    if length is None:
        if said is not None:
            raise TryAgain("all was asked for, and %.60s came" % said, is_wrong=True)
        return _version(got, found), got
    first, _, rest = (said or "").replace("bytes ", "").partition("-")
    last, _, total = rest.partition("/")
    if not (first.isdigit() and last.isdigit() and total.isdigit() and len(total) < 16):
        raise TryAgain("a part was asked for, and the answer is Content-Range: %.60s" % said, is_wrong=True)
    size = int(total)
    if offset + length > size and offset < size and int(first) == offset:
        raise too_short(url, size, offset, length)
    if int(first) != offset or int(last) != offset + length - 1 or got != length:
        raise TryAgain("bytes %d to %d were asked for, and the answer is Content-Range: %.60s, Content-Length: %s"
                       % (offset, offset + length - 1, said, got), is_wrong=True)
    return _version(size, found), length


def _content(body: Any, wanted: int) -> bytes:
    pieces, left = [], wanted
    until = time.monotonic() + SILENCE_S + wanted / MIN_BYTES_PER_S
    while left:
        piece = body.read(min(left, _PIECE_BYTES))
        if not piece:
            raise TryAgain("the connection was cut after %d of %d bytes" % (wanted - left, wanted))
        pieces.append(piece)
        left -= len(piece)
        if time.monotonic() > until:
            raise TryAgain("only %d bytes came in %.0f s" % (wanted - left, SILENCE_S + wanted / MIN_BYTES_PER_S))
    body.read(1)        # to the end: the connection is free, and the client checks the length
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _version(size: int, found: Dict[str, Any]) -> Version:
    return etag_version(size, found.get("ETag"), found.get("LastModified"))


def _client(root: str) -> Any:
    """A client for all buckets, by the settings of this moment."""
    settings = aws_settings.settings()
    with _lock:
        if settings in _clients:
            return _clients[settings]
        for name in ("boto3", "botocore", "urllib3"):       # where they found the keys is no news
            logger = logging.getLogger(name)
            logger.setLevel(logger.level or logging.WARNING)
        more: Dict[str, Any] = {"signature_version": botocore.UNSIGNED} if settings.is_public else {}
        if settings.endpoint:
            more["s3"] = {"addressing_style": "path"}
        try:
            session = boto3.session.Session()
            client = session.client(
                "s3", endpoint_url=settings.endpoint, region_name=settings.region or session.region_name or "us-east-1",
                verify=settings.authorities, config=Config(
                    connect_timeout=CONNECT_S, read_timeout=SILENCE_S, retries={"max_attempts": 0},
                    max_pool_connections=MAX_CONNECTIONS, **more))
        except _SETTINGS as error:
            raise ConfigError("%s cannot be opened: %s" % (root, printable(str(error))[:300])) from error
        _clients.clear()
        _clients[settings] = client
        return client
