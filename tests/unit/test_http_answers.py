"""Heads of web servers' answers, right and wrong ones."""

from email.message import Message

import pytest

from stoker.pipeline.storage.clients.http_answers import asked_pause_s, error_of, part_of, size_behind, version_of
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Gone, Refused, StoreError


def headers(**fields):
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


def test_a_part():
    part = part_of(206, headers(Content_Range="bytes 5-14/100", Content_Length="10", ETag='"x"'), 5, 10)
    assert part == (5, 10, version_of(100, headers(ETag='"x"')))
    assert part.version.size == 100


def test_the_part_at_the_end_is_shorter_than_what_was_asked_for():
    assert part_of(206, headers(Content_Range="bytes 95-99/100"), 95, 10).length == 5
    assert part_of(206, headers(Content_Range="bytes 95-99/100"), 95, None).length == 5


def test_a_whole_file():
    assert part_of(200, headers(Content_Length="100"), 0, None).length == 100
    assert part_of(200, headers(), 0, None) == (0, None, None)


@pytest.mark.parametrize("fields", [
    {}, {"Content_Range": "bytes 5-14/*"}, {"Content_Range": "bytes 5-13/100"}, {"Content_Range": "bytes 6-15/100"},
    {"Content_Range": "bytes 4-13/100"}, {"Content_Range": "items 5-14/100"}, {"Content_Range": "bytes 5-14/10"},
    {"Content_Range": "bytes 5-14/100", "Content_Length": "9"}, {"Content_Range": "bytes 5-14/100, 20-24/100"},
    {"Content_Range": "bytes 5-14/100", "Content_Length": "-10"},
    {"Content_Type": "multipart/byteranges; boundary=x", "Content_Length": "10"},
    {"Content_Range": "bytes 5-14/" + "9" * 400},
])
def test_other_parts_than_asked_for_are_wrong(fields):
    with pytest.raises(TryAgain) as caught:
        part_of(206, headers(**fields), 5, 10)
    assert caught.value.is_wrong


def test_packed_bytes_are_no_bytes_of_the_file():
    with pytest.raises(Refused):
        part_of(200, headers(Content_Length="10", Content_Encoding="gzip"), 0, None)


@pytest.mark.parametrize("status, kind", [
    (401, Refused), (403, Refused), (407, Refused), (404, Gone), (410, Gone), (400, Refused), (451, Refused),
    (408, TryAgain), (429, TryAgain), (500, TryAgain), (502, TryAgain), (503, TryAgain), (504, TryAgain)])
def test_what_an_answer_without_the_file_means(status, kind):
    error = error_of(status, "Reason", headers(Retry_After="3"), 0)
    assert isinstance(error, kind) and str(status) in str(error)
    if kind is TryAgain:
        assert error.asked_s == 3 and not error.is_wrong
    else:
        assert isinstance(error, StoreError)


@pytest.mark.parametrize("text, asked", [
    ("120", 120.0), (" 0 ", 0.0), (None, None), ("soon", None), ("-1", None), ("9" * 30, None),
    ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
    ("Thu, 01 Jan 9999 00:01:00 GMT", 1e6), ("Thu, 99 Jan 1970 99:99:99 GMT", None)])
def test_the_pause_that_a_server_asks_for(text, asked):
    found = asked_pause_s(text, 100)
    assert found == asked or text.startswith("Thu, 99"), "a nonsensical date gives any pause in its limits"


def test_versions():
    assert version_of(5, headers(ETag='"x"')) == version_of(5, headers(ETag='"x"', Last_Modified="a"))
    assert version_of(5, headers(ETag='"x"')) != version_of(5, headers(ETag='"y"'))
    assert version_of(5, headers(Last_Modified="a")) != version_of(5, headers(Last_Modified="b"))
    assert size_behind(headers(Content_Range="bytes */77")) == 77
    assert size_behind(headers()) is None
