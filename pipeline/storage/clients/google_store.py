"""Google's buckets where obstore does not install: by our own web client, with the credentials of google-auth."""

import json
import threading
import time
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import quote, urlencode

import google.auth
import urllib3
from google.auth import exceptions
from google.auth.transport.urllib3 import Request

from stoker.pipeline.storage.clients import google_settings, http_answers
from stoker.pipeline.storage.clients.bucket_errors import error_of
from stoker.pipeline.storage.clients.http_connection import Answer, BadAnswer
from stoker.pipeline.storage.clients.http_store import CONNECT_S, SILENCE_S, HttpClient
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Entry, Gone, Refused, remote_version
from stoker.pipeline.storage.urls import joined, problem_of, split
from stoker.pipeline.text import printable

SERVICE = "https://storage.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_only",)
_MAX_PAGE_BYTES = 32 << 20      # a page of 1,000 names of 1,024 bytes has less


class GoogleClient(HttpClient):
    """The files below the URL ``root``, in normal form: see ``retrying.Client``. Raises ConfigError if this host lacks
    settings."""

    def __init__(self, root: str) -> None:
        emulator = google_settings.emulator()
        super().__init__(root, server=emulator or SERVICE)
        url = split(root)
        self._above = url.path + "/" if url.path else ""
        self._files = "%s/storage/v1/b/%s/o" % (emulator or SERVICE, url.host)
        self._tokens = None if emulator or google_settings.is_public() else _Tokens(root)
        self._bucket_is_there = False

    def pages(self, prefix: str, after: str) -> Iterator[List[Entry]]:
        """See ``Client``."""
        query = {"prefix": self._above + prefix, "fields": "items(name,size,generation),nextPageToken"}
        if after:
            query["startOffset"] = self._above + after
        while True:
            page = self._json("", self._files + "?" + urlencode(query))
            try:
                entries = [_entry(item, item["name"][len(self._above):]) for item in page.get("items", ())]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise TryAgain("a list of files that cannot be read: %r" % error, is_wrong=True) from error
            yield [entry for entry in entries if not problem_of(entry.path) and entry.path != after]
            token = page.get("nextPageToken")
            if not token:
                return
            query["pageToken"] = str(token)

    def size(self, path: str) -> Entry:
        """See ``Store``."""
        item = self._json(path, self._file(path) + "?fields=size,generation")
        try:
            return _entry(item, path)
        except (KeyError, TypeError, ValueError) as error:
            raise TryAgain("an answer that cannot be read: %r" % error, is_wrong=True) from error

    def _file(self, path: str) -> str:
        return "%s/%s" % (self._files, quote(self._above + path, safe=""))

    def _target(self, path: str) -> str:
        return self._file(path) + "?alt=media"

    def _json(self, path: str, target: str) -> Dict[str, Any]:
        answer = self._answer("GET", path, None, target)
        try:
            value = json.loads(self._body(answer, _MAX_PAGE_BYTES).decode("utf-8"))
            if answer.status != 200 or not isinstance(value, dict):
                raise ValueError("no object")
            return value
        except (ValueError, RecursionError) as error:
            raise TryAgain("an answer that is no JSON: %s" % error, is_wrong=True) from error
        except (OSError, BadAnswer) as error:
            raise TryAgain("%s: %s" % (type(error).__name__, printable(str(error)))) from error
        finally:
            self._finish(answer)

    def _answer(self, method: str, path: str, headers: Optional[Dict[str, str]] = None, target: str = "") -> Answer:
        if self._tokens is not None:
            headers = dict(headers or {}, Authorization="Bearer " + self._tokens.current())
        found = super()._answer(method, path, headers, target)
        self._bucket_is_there = True
        return found

    def _meaning(self, path: str, status: int, reason: str, headers: http_answers.Headers) -> Exception:
        name = joined(self.root, path)
        if status == 404 and not path:
            return error_of(name, "NoSuchBucket", status, reason)
        if status == 404 and not self._bucket_is_there:
            self._json("", self._files + "?maxResults=1&fields=nextPageToken")      # raises if there is no bucket
            return Gone("%s is not there (404)" % name)
        return error_of(name, "", status, reason, http_answers.asked_pause_s(headers.get("Retry-After"), time.time()))


def _entry(item: Dict[str, Any], path: str) -> Entry:
    size = int(item["size"])
    if not 0 <= size < 1 << 60:
        raise ValueError("a size of %d" % size)
    return Entry(path, remote_version(size, "generation", str(item["generation"])))


class _Tokens:
    """The tokens of this host's account, for all threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._credentials: Optional[Any] = None
        self._request = Request(urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_S, read=SILENCE_S), retries=False))

    def current(self) -> str:
        """A token that is valid now. Raises Refused, TryAgain."""
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials, _ = google.auth.default(scopes=_SCOPES, request=self._request)
                if not self._credentials.valid:
                    self._credentials.refresh(self._request)
                return str(self._credentials.token)
        except exceptions.TransportError as error:
            raise TryAgain("a token for Google's storage: %s" % printable(str(error))) from error
        except (exceptions.GoogleAuthError, ValueError) as error:
            raise Refused("%s: this host has no credentials for Google's storage (%s): set "
                          "GOOGLE_APPLICATION_CREDENTIALS, or call gcloud auth application-default login; "
                          "GOOGLE_SKIP_SIGNATURE=true for a public bucket"
                          % (self._root, printable(" ".join(str(error).split()))[:200])) from error
