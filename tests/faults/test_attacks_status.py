"""Attacks on the status address: web pages, other hosts, clients that are slow, endless, many or broken. The figures go
only to those who may have them, the trainer's memory and threads stay, and the run's bytes are those of an undisturbed
one."""

import os
import random
import socket
import threading
import time

import psutil
import pytest

from stoker.pipeline.errors import ConfigError
from stoker.trainer.feed import open_stream
from stoker.trainer.status.server import MAX_CONNECTIONS, MAX_PER_S, MAX_REQUEST_BYTES
from tests.support.asking import TOKEN, answer_to, ask, connected, figures, token_file, url_of, went_well
from tests.support.processes import opened

OPTIONS = {"image_size": (32, 32), "batch_size": 8, "seed": 3, "workers": 1}      # 120 pictures: 15 steps an epoch


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The content of the undisturbed run of two epochs."""
    with opened(pictures, tmp_path_factory.mktemp("reference") / "audit", epochs=2, **OPTIONS) as run:
        run.take_all()
    return run.content()


@pytest.fixture
def attacked(pictures, tmp_path, worker_python):
    """A run whose status address may be attacked."""
    with opened(pictures, tmp_path / "audit", epochs=2, status="127.0.0.1:0", **OPTIONS) as run:
        run.take(1)
        yield run


def test_a_web_page_by_dns_rebinding(attacked, reference, attacks):
    url = url_of(attacked.stream)
    for host in ("evil.example", "evil.example:8265", "127.0.0.1.evil.example"):
        code, headers, body = ask(url, Host=host)
        assert code == 403 and b"workers" not in body and "Access-Control-Allow-Origin" not in headers
    assert "Access-Control-Allow-Origin" not in ask(url, Origin="http://evil.example")[1]
    refused, = attacked.log.having("status: refused a request from ")
    assert "127.0.0.1: the Host header must name this host" in refused
    went_well(attacked, reference)
    attacks("a web page in the user's browser", "lets its own name lead to 127.0.0.1 (DNS rebinding), to read the "
            "figures at --status", "403: on loopback, the Host header must name this host; logged once")


def test_another_host_without_the_token(reference, pictures, tmp_path, attacks):
    options = dict(OPTIONS, status="0.0.0.0:0", status_token_file=token_file(tmp_path))
    with opened(pictures, tmp_path / "audit", epochs=2, **options) as run:
        url = "http://127.0.0.1:" + url_of(run.stream).rpartition(":")[2]
        for token in (None, "", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "\xff" * 32):
            for page in ("/status.json", "/metrics", "/details.json", "/batch.json", "/nothing"):
                code, headers, body = ask(url, page, token)
                assert code == 401 and headers["WWW-Authenticate"] == "Bearer" and b"workers" not in body
        assert ask(url, token=TOKEN)[0] == 200
        assert len(run.log.having("status: refused a request from ")) == 1
        assert not [line for line in run.log.lines if TOKEN in line]
        run.take_all()
    assert run.content() == reference
    with pytest.raises(ConfigError, match="is open to other hosts: give status_token_file="):
        open_stream(pictures, status="0.0.0.0:0", workers=0)
    os.chmod(options["status_token_file"], 0o644)
    with pytest.raises(ConfigError, match="other users of this host may read "):
        open_stream(pictures, status="0.0.0.0:0", status_token_file=options["status_token_file"], workers=0)
    attacks("another host", "asks for the figures at --status without the token, or with a wrong one", "401 for every "
            "page; an address that other hosts reach does not start without a token, or with one that others can read")


def test_clients_that_are_slow_or_endless(attacked, reference, attacks):
    url, process = url_of(attacked.stream), psutil.Process()
    threads, memory = threading.active_count(), process.memory_info().rss
    slow = [connected(url) for _ in range(150)]
    for number, sock in enumerate(slow):
        sock.setblocking(False)
        if number % 2:
            sock.send(b"GET /status.json HTTP/1.1\r\nX-Slow: ")
    end, endless = time.monotonic() + 8, 0
    while time.monotonic() < end:              # longer than a request may take
        for sock in slow:
            try:
                sock.send(b"x")
            except OSError:
                endless += 1
        assert figures(url)["step"] == 1
        time.sleep(0.2)
    assert endless
    assert len(process.net_connections("tcp")) < 150 + MAX_CONNECTIONS + 20 and threading.active_count() <= threads
    open_at_the_server = [connection for connection in process.net_connections("tcp")
                          if connection.laddr and connection.laddr[1] == int(url.rpartition(":")[2])
                          and connection.status == psutil.CONN_ESTABLISHED]
    assert len(open_at_the_server) <= MAX_CONNECTIONS
    for sock in slow:
        sock.close()
    answer = answer_to(url, b"GET /status.json HTTP/1.1\r\nX: " + b"x" * (4 * MAX_REQUEST_BYTES))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    with connected(url) as sock:
        try:
            for _ in range(512):
                sock.sendall(b"y" * (1 << 20))
        except OSError:
            pass
    assert process.memory_info().rss - memory < 100 << 20
    went_well(attacked, reference)
    attacks("a client of --status", "150 connections that send a byte now and then, a header of 512 MB", "32 "
            "connections, 8 KB and 5 s for a request, in one thread; the oldest connection ends for a new one, so "
            "others get their answer")


def test_a_flood_of_requests(attacked, reference, attacks):
    url, stop, count = url_of(attacked.stream), threading.Event(), [0]

    def flood():
        while not stop.is_set():
            try:
                answer_to(url, b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                count[0] += 1
            except OSError:
                pass
    flooding = [threading.Thread(target=flood, name="flood", daemon=True) for _ in range(8)]
    begun = time.monotonic()
    for thread in flooding:
        thread.start()
    attacked.take(20)
    time.sleep(2)
    stop.set()
    for thread in flooding:
        thread.join()
    assert count[0] <= MAX_PER_S * (time.monotonic() - begun + 2)
    went_well(attacked, reference)
    attacks("a client of --status", "asks as often as it can, on 8 connections at a time", "100 requests a second are "
            "answered, the others wait; the run goes on, with the same bytes")


def test_broken_requests(attacked, reference, attacks):
    url, chance = url_of(attacked.stream), random.Random(5)
    good = b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for number in range(300):
        request = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(request))
            request[at:at + chance.randrange(2)] = bytes(chance.randrange(256) for _ in range(chance.randrange(3)))
        with connected(url) as sock:
            sock.sendall(bytes(request))
            if number % 3:
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(65536)
                assert answer == b"" or answer[:13] in (b"HTTP/1.1 200 ", b"HTTP/1.1 400 ", b"HTTP/1.1 403 ",
                                                        b"HTTP/1.1 404 ", b"HTTP/1.1 405 "), answer
    for request in (b"GET http://169.254.169.254/", b"GET //etc/passwd", b"GET /../../etc/passwd",
                    b"GET /%2e%2e/etc/passwd", b"CONNECT evil.example:80", b"POST /status.json"):
        answer = answer_to(url, request + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer[9:12] in (b"400", b"404", b"405")
    went_well(attacked, reference)
    attacks("a client of --status", "broken requests, other methods, paths that leave the folder, addresses of other "
            "hosts", "400, 404 or 405: its paths are a list, and none leads to a file that another one names")


def test_the_figures_name_no_file(attacked, pictures, reference):
    url = url_of(attacked.stream)
    for page in ("/status.json", "/metrics"):
        text = ask(url, page)[2].decode()
        assert pictures not in text and ".jpg" not in text and os.getcwd() not in text
    went_well(attacked, reference)
