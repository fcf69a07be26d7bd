"""Which requests to the status address get an answer, and the head of each answer. Pure."""

import hmac
import re
from typing import Collection, Dict, List, Optional, Tuple

from stoker.pipeline.options import is_loopback
from stoker.trainer.status.status import Page

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
           405: "Method Not Allowed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
           501: "Not Implemented"}
#: Of every answer: a browser must neither run nor load anything else for the page, nor show it in another one.
HEADERS = ("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
           "X-Frame-Options: DENY\r\nCross-Origin-Resource-Policy: same-origin\r\n"
           "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
           "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([ -~\x80-\xff\t]*)")


class Refused(Exception):
    """The request gets the HTTP status ``code`` and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Gate:
    """Decides whether a request gets an answer. Pure. ``token``: that each must have, or None, but those for the paths
    ``public``; ``is_local``: the server listens on loopback."""

    def __init__(self, token: Optional[bytes], is_local: bool, public: Collection[str] = ()) -> None:
        self._token, self._is_local, self._public = token, is_local, public

    def path(self, request: bytes) -> Tuple[str, str]:
        """The path of the whole head of a request, without the query, and the name of the client's program. Raises
        Refused."""
        first, *lines = request.split(b"\r\n\r\n")[0].split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise Refused(400, "this is no request of HTTP/1.1")
        headers: Dict[bytes, List[bytes]] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise Refused(400, "a header of the request is malformed")
            headers.setdefault(header.group(1).lower(), []).append(header.group(2).strip())
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            raise Refused(400, "the request must have one Host header")
        if self._is_local and not _is_this_host(hosts[0]):
            raise Refused(403, "the Host header must name this host, such as localhost or 127.0.0.1")
        method, target = match.groups()
        path = target.partition(b"?")[0].decode("ascii")
        is_open = self._token is None or path in self._public and method in (b"GET", b"HEAD")
        if not is_open and not self._has_token(headers.get(b"authorization", [])):
            raise Refused(401, "the request needs the header  Authorization: Bearer TOKEN  with the token of the "
                               "trainer's --status-token-file")
        if method not in (b"GET", b"HEAD"):
            raise Refused(405, "only GET and HEAD are possible")
        return path, b" ".join(headers.get(b"user-agent", [])).decode("latin-1")

    def _has_token(self, values: List[bytes]) -> bool:
        scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token or b"\0")


def _is_this_host(value: bytes) -> bool:
    host = re.sub(r":\d{1,5}$", "", value.decode("latin-1"))
    return host.lower() == "localhost" or is_loopback("tcp://%s:1" % host)


def head_of(page: Page) -> bytes:
    """The head of an answer."""
    more = {401: "WWW-Authenticate: Bearer\r\n", 405: "Allow: GET, HEAD\r\n"}.get(page.code, "")
    head = ("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n"
            "%s%s\r\n") % (page.code, REASONS[page.code], page.content_type, len(page.body), HEADERS, more)
    return head.encode("ascii")
