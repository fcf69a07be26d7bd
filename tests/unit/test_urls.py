"""Roots as URLs: one normal form, nothing secret in them, and nothing that leads out of them."""

import pytest

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.storage.urls import is_below, is_url, joined, normal, parent, problem_of, split


@pytest.mark.parametrize("text, form", [
    ("s3://photos", "s3://photos"),
    ("S3://photos/", "s3://photos"),
    ("s3://photos/train//", "s3://photos/train"),
    ("gs://a-bucket/ü and b", "gs://a-bucket/ü and b"),
    ("az://box/100%/a?b#c", "az://box/100%/a?b#c"),
    ("HTTP://Data.Example.org:80/a%20b/%c3%BC/", "http://data.example.org/a%20b/%C3%BC"),
    ("https://data.example.org:443", "https://data.example.org"),
    ("https://data.example.org:8443/a", "https://data.example.org:8443/a"),
    ("http://[::1]:8080/a", "http://[::1]:8080/a"),
    ("http://münchen.example/x", "http://xn--mnchen-3ya.example/x"),
])
def test_the_normal_form(text, form):
    assert is_url(text)
    assert normal(text) == form
    assert normal(form) == form


@pytest.mark.parametrize("text, said", [
    ("s3://key:secret@photos/train", "AWS"),
    ("https://user:secret@host/a", "netrc"),
    ("http://user@host", "netrc"),
    ("https://host/a?X-Amz-Signature=secret", "query"),
    ("s3://photos?secret=secret", "query"),
    ("https://host/a#b", "'#'"),
    ("s3://photos/../other", "'..'"),
    ("http://host/a/%2e%2e/b", "'..'"),
    ("http://host/a/..%2Fb", "%2F"),
    ("s3://photos/a//b", "two in a row"),
    ("s3://photos//a", "two in a row"),
    ("s3://photos/a\nb", "control"),
    ("s3://", "bucket"),
    ("s3:///a", "bucket"),
    ("http://", "host"),
    ("http://:80/a", "host"),
    ("http://host:99999/", "host"),
    ("http://a b/", "host"),
    ("ftp://host/a", "does not read"),
    ("s3a://photos/a", "write s3://"),
    ("s3://photos/" + "a" * 5000, "4096"),
])
def test_what_no_root_can_be_is_refused_with_a_sentence_without_the_secret(text, said):
    assert is_url(text)
    with pytest.raises(ConfigError) as caught:
        normal(text)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_folders_are_no_urls():
    for text in ("photos", "/data/photos", "../photos", "a:b", "train.tar//512+3", "C:/x", "", "s3:/photos"):
        assert not is_url(text)


def test_a_path_below_a_root():
    assert joined("s3://photos/train", "a b/ü%.jpg") == "s3://photos/train/a b/ü%.jpg"
    assert joined("http://host/a%20b", "a b/ü%?#.jpg") == "http://host/a%20b/a%20b/%C3%BC%25%3F%23.jpg"
    assert joined("http://host", "\udcff") == "http://host/%FF"
    assert joined("s3://photos", "") == "s3://photos"
    assert split("http://host/a%20b/%FF").path == "a b/\udcff"
    assert parent("s3://photos/train/0.tar") == ("s3://photos/train", "0.tar")
    assert parent("https://host/a%20b/0%25.tar") == ("https://host/a%20b", "0%.tar")
    with pytest.raises(ConfigError):
        parent("s3://photos")


def test_below():
    assert is_below("s3://photos/train/a", "s3://photos/train")
    for other in ("s3://photos/train", "s3://photos/train/", "s3://photos/training", "gs://photos/train/a"):
        assert not is_below(other, "s3://photos/train")


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\0b", "a\x7f"])
def test_paths_that_no_file_has(path):
    assert problem_of(path)
    assert not problem_of("a.b/c..d/...")


def test_a_plus_is_a_plus_also_where_a_server_takes_it_for_a_space():
    """Amazon's S3 does, over https:// too."""
    assert joined("https://photos.example/a", "b+c d.jpg") == "https://photos.example/a/b%2Bc%20d.jpg"
    assert normal("https://photos.example/a+b") == normal("https://photos.example/a%2Bb")
    assert joined("s3://photos", "b+c.jpg") == "s3://photos/b+c.jpg"
