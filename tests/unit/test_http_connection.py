"""Answers of HTTP/1.1 from a real pair of sockets: right ones however they are cut into packets, and wrong ones."""

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipeline.storage.clients.http_connection import (MAX_HEAD_BYTES, BadAnswer, Connection,
                                                                limit_silence)

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"0123456789" * 30
WHOLE = OK + b"Content-Length: 300\r\nETag: \"x\"\r\n\r\n" + BODY
CHUNKED = (OK + b"transfer-encoding: Chunked\r\n\r\n" + b"a;x=y\r\n" + BODY[:10] + b"\r\n122\r\n" + BODY[10:] +
           b"\r\n0\r\nDigest: 1\r\n\r\n")


def answers(sent, pieces=(), count=1, has_body=True, is_open=False):
    """(status, ETag, body) of each answer in the bytes ``sent``, which come in ``pieces`` of these sizes."""
    ours, theirs = socket.socketpair()
    limit_silence(ours, 0.2 if is_open else 5)

    def send():
        start = 0
        for size in pieces:
            theirs.sendall(sent[start:start + size])
            start += size
            time.sleep(0)
        theirs.sendall(sent[start:])
        if not is_open:
            theirs.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        connection, found = Connection(ours), []
        for _ in range(count):
            answer = connection.ask(b"GET / HTTP/1.1\r\n\r\n", has_body)
            body = answer.read(10000, time.monotonic() + 5)
            assert answer.is_over
            found.append((answer.status, answer.headers.get("Etag"), body))
        return found
    finally:
        thread.join()
        ours.close()
        theirs.close()


@given(st.lists(st.integers(1, 60), max_size=12), st.sampled_from([WHOLE, CHUNKED]))
def test_an_answer_is_the_same_however_it_comes(pieces, sent):
    etag = '"x"' if sent is WHOLE else None
    assert answers(sent + sent, pieces, 2) == [(200, etag, BODY)] * 2


def test_bodies():
    assert answers(OK + b"\r\n" + BODY) == [(200, None, BODY)], "to the end of the connection"
    assert answers(WHOLE[:-300] * 2, count=2, has_body=False) == [(200, '"x"', b"")] * 2, "of HEAD"
    assert answers(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE) == [(200, '"x"', BODY)]
    assert answers(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n") == [(304, None, b"")]
    assert answers(OK + b"Content-Length: 0\r\n\r\n") == [(200, None, b"")]


@pytest.mark.parametrize("sent", [
    b"nonsense\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", OK + b"a b: c\r\n\r\n",
    OK + b"a: b\r\n folded\r\n\r\n", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    OK + b"Content-Length: +5\r\n\r\n12345", OK + b"Content-Length: " + b"9" * 500 + b"\r\n\r\n",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", OK + b"Transfer-Encoding: gzip\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 1000, OK + b"a: b\r\n" * 1000 + b"\r\n",
    b"x" * (MAX_HEAD_BYTES + 70000), OK + b"a: \0\r\n\r\n", OK + b"a: \r \r\n\r\n", OK + b"a: \n \r\n\r\n",
    b"HTTP/1.1 200 O\nK\r\n\r\n", OK + b": b\r\n\r\n", OK + b"a\xe4: b\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70000])
def test_what_is_no_answer(sent):
    with pytest.raises(BadAnswer) as caught:
        answers(sent)
    assert len(str(caught.value)) < 300


@pytest.mark.timeout(60)
def test_a_long_field_of_spaces_is_read_in_one_pass():
    """With a pattern that looks for the value's end from every space on, these would take minutes."""
    spaces = b" " * (MAX_HEAD_BYTES - 1000)
    head = OK + b"a: x" + spaces + b"x\r\nContent-Length: 0\r\n\r\n"
    assert answers(head * 100, count=100) == [(200, None, b"")] * 100


def test_a_server_that_takes_nothing():
    ours, theirs = socket.socketpair()
    limit_silence(ours, 0.2)
    with ours, theirs, pytest.raises(socket.timeout):
        Connection(ours).ask(b"x" * (64 << 20), True)


@pytest.mark.parametrize("sent", [b"", OK, WHOLE[:-1], CHUNKED[:-3], CHUNKED[:200], CHUNKED[:60]])
def test_what_is_cut(sent):
    with pytest.raises(ConnectionResetError):
        answers(sent)


@pytest.mark.parametrize("sent", [b"", OK, WHOLE[:-1], CHUNKED[:-3]])
def test_silence(sent):
    with pytest.raises(socket.timeout):
        answers(sent, is_open=True)


@given(st.binary(max_size=200), st.sampled_from([b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n", WHOLE[:-290]]))
def test_any_bytes_end_in_an_answer_or_one_of_these_errors(sent, before):
    try:
        answers(before + sent)
    except (BadAnswer, OSError):
        pass
