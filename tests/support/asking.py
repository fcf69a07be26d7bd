"""A client of the status address, which can also send what no client should."""

import json
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

TOKEN = "0123456789abcdef0123456789abcdef"


def url_of(stream):
    """Of the status address of a stream."""
    return stream.status_url.rpartition("/")[0]


def token_file(folder):
    """The path of a new file with TOKEN."""
    path = folder / "status-token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return str(path)


def ask(url, page="/status.json", token=None, method="GET", **headers):
    """(code, headers, body) of a request."""
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(url + page, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def figures(url, token=None):
    """What /status.json says."""
    code, _, body = ask(url, token=token)
    assert code == 200, body
    return json.loads(body.decode())


def connected(url):
    """A socket that is connected to the address."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), 60)


def answer_to(url, request):
    """All that the server sends for these bytes."""
    with connected(url) as sock:
        sock.sendall(request)
        got = b""
        while True:
            try:
                more = sock.recv(65536)
            except ConnectionResetError:
                return got
            if not more:
                return got
            got += more


def went_well(run, reference):
    """The rest of the run is as it should be, and the address still answers."""
    assert figures(url_of(run.stream))["over"] is False
    run.take_all()
    assert run.content() == reference
    assert not run.log.having("(a bug in Stoker)")
