"""The way to a web server: directly or by the proxy of the environment, with the password that ~/.netrc has for it."""

import base64
import http.client
import netrc
import os
import ssl
from typing import Dict, Optional, Tuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.urls import Url
from stoker.pipeline.text import printable


class Access:
    """How to reach the server of ``url``, as the environment says it now. ``has_password``: it may be in ~/.netrc.
    Raises ConfigError."""

    def __init__(self, url: Url, has_password: bool = True) -> None:
        self._is_secure = url.scheme == "https"
        self._host = url.host
        name = url.host.rpartition(":")[0] if url.host.rpartition(":")[2].isdigit() else url.host
        self._headers = {"User-Agent": "stoker", "Accept-Encoding": "identity"}
        password = _password_of(name) if has_password else None
        if password:
            self._headers["Authorization"] = "Basic " + password
        proxy = "" if proxy_bypass_environment(url.host) else getproxies_environment().get(url.scheme, "")
        self._proxy, self._proxy_headers = _proxy_of(proxy)
        self._context = ssl.create_default_context() if self._is_secure else None

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A new connection, which is not open yet."""
        host = self._proxy or self._host
        if self._context is None:
            return http.client.HTTPConnection(host, timeout=timeout_s)
        connection = http.client.HTTPSConnection(host, timeout=timeout_s, context=self._context)
        if self._proxy:
            connection.set_tunnel(self._host, headers=self._proxy_headers)
        return connection

    def target(self, url: str) -> str:
        """What the first line of a request says of ``url``."""
        if self._proxy and not self._is_secure:
            return url
        parts = urlsplit(url)
        return (parts.path or "/") + ("?" + parts.query if parts.query else "")

    def headers(self, more: Dict[str, str]) -> Dict[str, str]:
        """Those of a request."""
        headers = dict(self._headers, **more)
        if self._proxy and not self._is_secure:
            headers.update(self._proxy_headers)
        return headers


def _password_of(host: str) -> Optional[str]:
    """What ~/.netrc, or the file that NETRC names, has for ``host``, as HTTP sends it."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError, UnicodeError) as error:
        raise ConfigError("%s, which has the passwords of web servers, cannot be read: %s" % (
            printable(path), printable(str(error))[:200])) from error
    if not found:
        return None
    return base64.b64encode(("%s:%s" % (found[0] or "", found[2] or "")).encode("utf-8")).decode("ascii")


def _proxy_of(text: str) -> Tuple[str, Dict[str, str]]:
    """The host of the proxy, and the headers that it needs."""
    if not text:
        return "", {}
    parts = urlsplit(text if "://" in text else "http://" + text)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError("the proxy of the environment must be http://host:port; web servers are reached by no other")
    host = "[%s]" % parts.hostname if ":" in parts.hostname else parts.hostname
    headers = {}
    if parts.username is not None:
        pair = "%s:%s" % (unquote(parts.username), unquote(parts.password or ""))
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return "%s:%d" % (host, parts.port or 80), headers
