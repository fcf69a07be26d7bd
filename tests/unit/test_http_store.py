"""The store of a web server, against a real socket whose every answer the test decides."""

import socket
import ssl
import threading
import tracemalloc

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients.http_store import HttpClient
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.retrying import RetryingStore
from stoker.pipeline.storage.store import Damaged, Gone, Refused, TooLarge, TooShort
from tests.support.scripted_server import CUT, ScriptedServer, answer, part

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def store_of(server, path="/data", **settings):
    return RetryingStore(HttpClient(server.url + path, **settings))


def client_of(server, **settings):
    return HttpClient(server.url + "/data", **settings)


def test_parts_of_files_over_one_connection():
    with ScriptedServer(part(CONTENT, 100, 300, ETag='"1"'), part(CONTENT, 0, 10, ETag='"1"'),
                        answer(body=CONTENT, ETag='"1"'), answer(body=b"", ETag='"1"', Content_Length=len(CONTENT))
                        ) as server:
        store = store_of(server)
        data, version = store.read("a b/ü.tar", 100, 200)
        assert data == CONTENT[100:300]
        assert store.read("a b/ü.tar", 0, 10) == (CONTENT[:10], version)
        assert store.read("a b/ü.tar") == (CONTENT, version)
        assert store.size("a b/ü.tar") == ("a b/ü.tar", version)
        assert version.size == len(CONTENT)
    assert server.connections == 1
    lines, fields = zip(*server.requests)
    assert lines == ("GET /data/a%20b/%C3%BC.tar HTTP/1.1",) * 3 + ("HEAD /data/a%20b/%C3%BC.tar HTTP/1.1",)
    assert [field.get("range") for field in fields] == ["bytes=100-299", "bytes=0-9", None, None]
    assert all("authorization" not in field for field in fields)


def test_each_thread_has_a_connection():
    with ScriptedServer(*[part(CONTENT, 0, 10)] * 4) as server:
        store = store_of(server)
        store.read("a", 0, 10)
        thread = threading.Thread(target=lambda: store.read("a", 0, 10))
        thread.start()
        thread.join()
        store.read("a", 0, 10)
    assert server.connections == 2


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure():
    with ScriptedServer((part(CONTENT, 0, 10), CUT), part(CONTENT, 5, 10)) as server:
        client = client_of(server)
        assert client.read("a", 0, 10, 100)[0] == CONTENT[:10]
        assert client.read("a", 5, 5, 100)[0] == CONTENT[5:10]


@pytest.mark.parametrize("bad", [
    CUT, (part(CONTENT, 0, 10)[:-5], CUT), answer("500 Internal Server Error", b"x" * 100),
    answer("503 Slow Down", Retry_After="0"), answer("429 Too Many Requests"), part(CONTENT, 1, 11),
    part(CONTENT, 0, 9), part(CONTENT, 0, 10, Content_Range="bytes 0-9/*"), answer("206 Partial Content", CONTENT[:10]),
    (b"nonsense\r\n\r\n", CUT), answer("416 Out", Content_Range="bytes */10240"),
], ids=["closed", "cut", "500", "503", "429", "other part", "shorter part", "unknown size", "no range", "nonsense",
        "416"])
def test_a_bad_answer_is_followed_by_another_try(bad):
    with ScriptedServer(bad, part(CONTENT, 0, 10)) as server:
        client = client_of(server)
        with pytest.raises(TryAgain):
            client.read("a", 0, 10, 100)
        assert client.read("a", 0, 10, 100)[0] == CONTENT[:10]
    with ScriptedServer(bad, part(CONTENT, 0, 10)) as server:
        assert store_of(server).read("a", 0, 10)[0] == CONTENT[:10]


def test_an_answer_that_is_wrong_each_time_is_damaged():
    with ScriptedServer(*[part(CONTENT, 1, 11)] * 5) as server, pytest.raises(Damaged) as caught:
        store_of(server).read("a", 0, 10)
    assert server.url + "/data/a" in str(caught.value) and "bytes 1-10/10240" in str(caught.value)


@pytest.mark.parametrize("status, kind", [("404 Not Found", Gone), ("410 Gone", Gone), ("403 Forbidden", Refused),
                                          ("401 Unauthorized", Refused), ("400 Bad Request", Refused)])
def test_what_no_other_try_helps(status, kind):
    with ScriptedServer(answer(status, b"text")) as server, pytest.raises(kind) as caught:
        store_of(server).read("a", 0, 10)
    assert str(caught.value).startswith(server.url + "/data/a ") and status in str(caught.value)


def test_silence_has_an_end():
    with ScriptedServer(part(CONTENT, 0, 10)[:-3]) as server, pytest.raises(TryAgain) as caught:
        client_of(server, silence_s=0.2).read("a", 0, 10, 100)
    assert "no answer in time" in str(caught.value)


def test_the_file_ends_before():
    with ScriptedServer(part(CONTENT[:50], 40, 50), answer("416 Out", Content_Range="bytes */50"),
                        answer(body=b"", Content_Length=50)) as server:
        store = store_of(server)
        for length, offset in ((20, 40), (20, 60)):
            with pytest.raises(TooShort):
                store.read("a", offset, length)
        with pytest.raises(TooShort):
            store.read("a", 60)


def test_more_than_the_caller_takes_is_not_read():
    with ScriptedServer(answer(body=b"", Content_Length=1 << 40), answer(body=b"", Content_Length=1 << 40)) as server:
        store = store_of(server)
        with pytest.raises(TooLarge):
            store.read("a")
        with pytest.raises(TooLarge):
            store.read("a", 0, 1000, max_bytes=999)
        assert len(server.requests) == 1


def chunked(*pieces, **fields):
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return answer(body=body, Transfer_Encoding="chunked", Content_Length=None, **fields)


def test_chunked_answers():
    whole = chunked(CONTENT[:1000], CONTENT[1000:], b"")
    with ScriptedServer(whole, whole, (chunked(CONTENT[:1000]), CUT), whole) as server:
        client = client_of(server)
        assert client.read("a", 0, None, 1 << 20)[0] == CONTENT
        with pytest.raises(TooLarge):
            client.read("a", 0, None, 5000)
        with pytest.raises(TryAgain):
            client.read("a", 0, None, 1 << 20)
        with pytest.raises(Refused):        # it ignores Range, and has no size
            client.read("a", 10, 10, 1 << 20)


def test_a_length_that_is_not_told_is_refused():
    with ScriptedServer((answer(body=CONTENT, Content_Length=None), CUT)) as server, pytest.raises(Refused) as caught:
        store_of(server).read("a")
    assert "Content-Length" in str(caught.value)


def test_a_server_that_ignores_range():
    large = answer(body=CONTENT[:100], Content_Length=1 << 30)
    with ScriptedServer(answer(body=CONTENT), (large, CUT), answer(body=CONTENT)) as server:
        store = store_of(server)
        assert store.read("a", 100, 200)[0] == CONTENT[100:300]
        with pytest.raises(Refused) as caught:
            store.read("a", 9 << 20, 200)
        assert "ignores Range" in str(caught.value)
        with pytest.raises(TooShort):
            store.read("a", len(CONTENT) - 5, 10)


def test_sizes_of_a_server_without_head():
    with ScriptedServer(answer("405 Method Not Allowed"), part(CONTENT, 0, 1), answer("501 No"),
                        part(CONTENT, 0, 1)) as server:
        store = store_of(server)
        assert store.size("a").version.size == len(CONTENT)
        assert store.size("a").version.size == len(CONTENT)
    with ScriptedServer(answer("404 Not Found")) as server, pytest.raises(Gone):
        store_of(server).size("a")


def test_empty_files_and_empty_parts():
    with ScriptedServer(answer("405 No"), answer("416 Out", Content_Range="bytes */0"), answer(),
                        answer(body=b"", Content_Length=50)) as server:
        store = store_of(server)
        assert store.size("a").version.size == 0
        assert store.read("a")[0] == b""
        assert store.read("a", 50, 0)[0] == b""


def test_redirects_stay_below_the_root():
    with ScriptedServer(answer("302 Found", Location="/data/other/a"), part(CONTENT, 0, 10)) as server:
        assert store_of(server).read("a", 0, 10)[0] == CONTENT[:10]
        assert server.requests[1][0] == "GET /data/other/a HTTP/1.1"
    for place in ("https://127.0.0.1/a", "http://evil.example/a?secret=1", "//evil.example/a", "ftp://x/",
                  "file:///etc", "/secret", "/data/../secret", "/data/%2e%2e/secret", "/data/..%2fsecret", "../secret",
                  "/data", "/data2/a", "/data/a%00b", "http://[x/a"):
        with ScriptedServer(answer("301 Moved", Location=place)) as server, pytest.raises(Refused) as caught:
            store_of(server).read("a", 0, 10)
        assert "not below the root" in str(caught.value) and "secret=1" not in str(caught.value)
    with ScriptedServer(*[answer("307 Moved", Location="/data/a")] * 6) as server, pytest.raises(Refused) as caught:
        store_of(server).read("a", 0, 10)
    assert "redirects" in str(caught.value)


def test_passwords_come_from_netrc_and_go_to_their_server_only(tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\nmachine other login a password b\n")
    with ScriptedServer(part(CONTENT, 0, 10)) as server:
        store_of(server).read("a", 0, 10)
    assert server.requests[0][1]["authorization"] == "Basic bWU6c2VjcmV0"
    (tmp_path / "netrc").write_text("nonsense here")
    with ScriptedServer() as server, pytest.raises(ConfigError):
        store_of(server)


def test_the_environments_proxy(monkeypatch):
    with ScriptedServer(part(CONTENT, 0, 10)) as server:
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:secret@"))
        assert RetryingStore(HttpClient("http://data.example/x")).read("a", 0, 10)[0] == CONTENT[:10]
    assert server.requests[0][0] == "GET http://data.example/x/a HTTP/1.1"
    assert server.requests[0][1]["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert server.requests[0][1]["host"] == "data.example"


def test_paths_stay_below_the_root():
    with ScriptedServer() as server:
        for path in ("../a", "/etc/passwd", "a/../../b", "", "a\nb"):
            with pytest.raises(Gone):
                store_of(server).read(path, 0, 1)
        with pytest.raises(Refused) as caught:
            list(store_of(server).listed())
        assert "no list" in str(caught.value) and not server.requests


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nServer: ",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
                                  b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_an_answer_that_comes_byte_by_byte_has_a_limit(sent):
    listener, over = socket.socket(), threading.Event()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    def serve():
        connection = listener.accept()[0]
        with connection:
            connection.recv(10000)
            connection.sendall(sent)
            for _ in range(200):        # then it cuts the connection
                if over.wait(0.05):
                    return
                connection.sendall(b"x")
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = HttpClient("http://127.0.0.1:%d/data" % listener.getsockname()[1], silence_s=0.3)
    with pytest.raises(TryAgain, match="in time"):
        client.read("a", 0, None, 1 << 30)
    over.set()
    thread.join(10)
    listener.close()


def test_what_is_skipped_takes_no_memory():
    content = bytes(6 << 20) + b"end"
    with ScriptedServer(answer(body=content, ETag='"1"')) as server:
        store = store_of(server)
        tracemalloc.start()
        try:
            assert store.read("a", 6 << 20, 3)[0] == b"end"
            assert tracemalloc.get_traced_memory()[1] < 3 << 20
        finally:
            tracemalloc.stop()


def test_a_certificate_for_another_name_is_refused(monkeypatch):
    """Python 3.6 says so by a ValueError."""
    client = HttpClient("https://photos.example/a")

    def connected(timeout_s):
        raise ssl.CertificateError("hostname 'photos.example' doesn't match 'other'")
    monkeypatch.setattr(client._access, "connected", connected)
    with pytest.raises(Refused, match="certificate is not valid"):
        client.read("a", 0, 10, 100)
