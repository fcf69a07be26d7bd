"""The way to a web server: directly or by the proxy of the environment, with the password that ~/.netrc has for it."""

import base64
import http.client
import netrc
import os
import socket
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
        fields = ["Host: " + url.host, "User-Agent: stoker", "Accept-Encoding: identity"]
        password = _password_of(name) if has_password else None
        if password:
            fields.append("Authorization: Basic " + password)
        proxy = "" if proxy_bypass_environment(url.host) else getproxies_environment().get(url.scheme, "")
        self._proxy, self._proxy_headers = _proxy_of(proxy)
        if self._proxy and not self._is_secure:
            fields.extend("%s: %s" % pair for pair in self._proxy_headers.items())
        self._fixed = "".join(field + "\r\n" for field in fields)
        self._start = len("%s://%s" % (url.scheme, url.host))        # of the path in a URL
        self._context = ssl.create_default_context() if self._is_secure else None

    def connected(self, timeout_s: float) -> socket.socket:
        """A new connection. Raises OSError; http.client.HTTPException as OSError."""
        host = self._proxy or self._host
        if self._context is None:
            connection = http.client.HTTPConnection(host, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(host, timeout=timeout_s, context=self._context)
            if self._proxy:
                connection.set_tunnel(self._host, headers=self._proxy_headers)
        try:
            connection.connect()
        except http.client.HTTPException as error:
            raise OSError("the proxy does not answer as one: %r" % error) from error
        return connection.sock

    def request(self, method: str, url: str, headers: Optional[Dict[str, str]] = None) -> bytes:
        """The bytes of a request for ``url`` of this server."""
        target = url if self._proxy and not self._is_secure else "/" + url[self._start:].lstrip("/")
        more = "".join("%s: %s\r\n" % pair for pair in headers.items()) if headers else ""
        return ("%s %s HTTP/1.1\r\n%s%s\r\n" % (method, target, self._fixed, more)).encode("ascii")


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
