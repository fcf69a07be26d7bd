"""What errors of object stores mean."""

import sys

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.clients import buckets
from stoker.pipeline.storage.clients.bucket_errors import BehindEnd, error_of, facts_of
from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Gone, Refused

URL = "s3://photos/a.jpg"


@pytest.mark.parametrize("code, status, kind, said", [
    ("NoSuchKey", 404, Gone, "is not there"), ("", 404, Gone, "404"), ("NoSuchBucket", 404, Refused, "no such bucket"),
    ("AccessDenied", 403, Refused, "rights to list and read the bucket; aws"), ("", 401, Refused, "credentials"),
    ("", 403, Refused, "the right credentials"), ("403", 403, Refused, "the right credentials"),
    ("InvalidAccessKeyId", 403, Refused, "credentials"), ("SignatureDoesNotMatch", 403, Refused, "credentials"),
    ("ExpiredToken", 400, Refused, "expired"), ("RequestTimeTooSkewed", 403, Refused, "clock"),
    ("PermanentRedirect", 301, Refused, "AWS_REGION=eu-west-1"), ("InvalidObjectState", 403, Refused, "archive"),
    ("SlowDown", 503, TryAgain, "SlowDown"), ("Throttling", 400, TryAgain, "Throttling"), ("", 429, TryAgain, "429"),
    ("InternalError", 500, TryAgain, "InternalError"), ("", 502, TryAgain, "502"), ("", 0, TryAgain, "text"),
    ("RequestTimeout", 400, TryAgain, "RequestTimeout"), ("InvalidRange", 416, BehindEnd, ""), ("", 416, BehindEnd, ""),
    ("Strange", 418, Refused, "Strange")])
def test_the_meaning_of_an_error(code, status, kind, said):
    error = error_of(URL, code, status, "text\nof <Region>eu-west-1</Region>\x1b[0m", 3.0)
    assert type(error) is kind and said in str(error)
    assert "\n" not in str(error) and "\x1b" not in str(error)
    if kind in (Gone, Refused):
        assert URL in str(error)
    if status in (429, 503):
        assert error.asked_s == 3.0


@pytest.mark.parametrize("text, is_unknown", [
    ("HTTP error: error sending request (failed to lookup address information: Name or service not known)", True),
    ("HTTP error: error sending request (Connection refused (os error 111))", False)])
def test_an_unknown_name_in_a_text_of_obstore(text, is_unknown):
    assert error_of(URL, "", 0, text).is_unknown_host is is_unknown


def test_facts_in_a_text_of_obstore():
    text = ("Object at location a not found: Error performing GET http://h/photos/a in 1ms - Server returned non-2xx "
            "status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>\n\nDebug source:\nstatus code: 500")
    assert facts_of(text) == ("NoSuchBucket", 404)
    assert facts_of("HTTP error: error sending request") == ("", 0)


def test_a_missing_client_names_the_python_and_the_extra(monkeypatch):
    """The trainer prints it of a worker, which may run by another Python."""
    monkeypatch.setattr(buckets, "_is_there", lambda name: False)
    with pytest.raises(ConfigError) as raised:
        buckets.bucket_client("s3://photos/a")
    assert str(raised.value) == (
        "s3://photos/a needs a client that the Python %s lacks: pip install 'stoker[s3]' there" % sys.executable)
