"""Streams and logs that do not fail: what the run's own code sees of a broken one, which is nothing."""

import io
import logging
import os
import signal
import sys
import types

import pytest

from stoker.pipeline import output
from stoker.pipeline.output import _Steady, encoding_of, keep_descriptors, protect, say_now, steady, survive_hangup


@pytest.fixture
def pipe():
    """(reader, writer)"""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def text_on(fd, encoding="utf-8", errors="backslashreplace"):
    return io.TextIOWrapper(_Steady(fd), encoding, errors, line_buffering=True)


# ------------------------------------------------------------------------------------------------------------ streams

def test_a_line_is_written_at_once_and_as_it_is(pipe):
    print("für", "日本", file=text_on(pipe[1]))
    assert os.read(pipe[0], 99) == "für 日本\n".encode("utf-8")


@pytest.mark.parametrize("broken", ["reader gone", "disk full", "closed"])
def test_a_stream_that_fails_raises_nothing(pipe, broken):
    fd = os.open("/dev/full", os.O_WRONLY) if broken == "disk full" else os.dup(pipe[1])
    if broken == "reader gone":
        os.close(pipe[0])
    stream = text_on(fd)
    if broken == "closed":
        os.close(fd)
    for _ in range(3):
        print("a line", file=stream, flush=True)
    assert stream.fileno() == fd and not stream.isatty()
    if broken != "closed":
        os.close(fd)


def test_a_reader_that_does_not_wait_loses_no_line_that_it_is_ready_for(pipe, monkeypatch):
    os.set_blocking(pipe[1], False)
    size = 0
    with pytest.raises(BlockingIOError):
        while True:
            size += os.write(pipe[1], b"x" * 4096)
    waits = []

    def select(readers, writers, errors, seconds):
        waits.append(seconds)
        if len(waits) == 1:
            os.read(pipe[0], size)               # the reader has time
            return [], writers, []
        return [], [], []
    monkeypatch.setattr("select.select", select)
    stream = _Steady(pipe[1])
    assert stream.write(b"first") == 5 and os.read(pipe[0], 99) == b"first" and waits == [output.BUSY_S]
    while size > 0:
        size -= stream.write(b"y" * 4096)        # to the brim, and then it is lost
    assert stream.write(b"z" * (1 << 17)) == 1 << 17 and len(waits) >= 2


@pytest.mark.parametrize("encoding, asked, wanted", [
    ("ANSI_X3.4-1968", False, ("utf-8", output.RAW_NAMES)),       # LC_ALL=C on Python 3.6
    (None, False, ("utf-8", output.RAW_NAMES)),                   # closed
    ("ascii", True, ("ascii", "backslashreplace")),               # PYTHONIOENCODING
    ("UTF-8", False, ("UTF-8", "backslashreplace")),
    ("ISO-8859-1", False, ("ISO-8859-1", "backslashreplace")),
])
def test_the_encoding_of_a_stream(encoding, asked, wanted):
    assert encoding_of(encoding, asked) == wanted


@pytest.mark.parametrize("encoding, asked, written", [
    ("ascii", False, "für ".encode("utf-8") + b"f\xc3\xbcr \xe9 \\ud800\n"),
    ("ascii", True, b"f\\xfcr f\\udcc3\\udcbcr \\udce9 \\ud800\n"),
    ("utf-8", False, "für ".encode("utf-8") + b"f\\udcc3\\udcbcr \\udce9 \\ud800\n"),
    ("latin-1", False, b"f\xfcr f\\udcc3\\udcbcr \\udce9 \\ud800\n"),
])
def test_every_text_can_be_printed(pipe, monkeypatch, encoding, asked, written):
    protect()                                    # pytest's own streams stay
    print("für", "f\udcc3\udcbcr", "\udce9", "\ud800", file=text_on(pipe[1], *encoding_of(encoding, asked)))
    assert os.read(pipe[0], 99) == written


def test_a_stream_that_was_replaced_stays(monkeypatch):
    own = io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    protect()
    assert sys.stdout is own


def test_a_descriptor_that_is_closed_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(output, "CLOSED", [])
    monkeypatch.setattr(output, "os", types.SimpleNamespace(
        devnull="/dev/null", O_RDWR=os.O_RDWR, close=opened.append,
        fstat=lambda fd: None if fd == 0 else os.stat("/nowhere"),
        open=lambda path, flags: opened.append(path) or len(opened),
        set_inheritable=lambda fd, inheritable: opened.append((fd, inheritable))))
    keep_descriptors()
    assert opened == ["/dev/null", (1, True), "/dev/null", 3] and output.CLOSED == [1]      # 2 was taken meanwhile


def test_what_is_said_in_a_hurry_waits_for_no_reader(monkeypatch, pipe):
    written = []
    monkeypatch.setattr("os.write", lambda fd, data: written.append((fd, data)))
    monkeypatch.setattr("select.select", lambda *lists: ([], [], []))
    say_now("lost")
    monkeypatch.setattr("select.select", lambda *lists: ([], [2], []))
    say_now("für \ud800\n")
    assert written == [(2, "für \\ud800\n".encode("utf-8"))]
    monkeypatch.setattr("os.write", lambda fd, data: os.stat("/nowhere"))
    say_now("fails")


@pytest.mark.parametrize("before, survives", [(signal.SIG_DFL, True), (signal.SIG_IGN, False), (print, False)],
                         ids=["default", "nohup", "own"])
def test_the_end_of_the_terminal(monkeypatch, before, survives):
    handlers = {}
    monkeypatch.setattr("signal.getsignal", lambda signum: before)
    monkeypatch.setattr("signal.signal", handlers.__setitem__)
    survive_hangup("the terminal is gone\n")
    assert list(handlers) == [signal.SIGHUP] * survives


# --------------------------------------------------------------------------------------------------------------- logs

class Broken(logging.Handler):
    def emit(self, record):
        raise ValueError("this handler is broken")


@pytest.fixture
def logger():
    made = logging.Logger("test-output")
    made.addHandler(Broken())
    return made


def test_a_handler_that_raises_is_no_error_of_the_run(logger, capsys):
    with pytest.raises(ValueError):
        logger.warning("a line")
    steady(logger)
    handle = logger.handle
    steady(logger)
    assert logger.handle is handle               # once is enough
    seen = []
    logger.addHandler(logging.NullHandler())
    logger.addFilter(lambda record: seen.append(record.getMessage()) or True)
    logger.warning("line %d", 2)
    assert seen == ["line 2"]
    said = capsys.readouterr().err
    assert "ValueError: this handler is broken" in said and "line %d" in said


def test_a_filter_that_raises_and_no_standard_error(logger, monkeypatch):
    logger.handlers, logger.filters = [], [lambda record: 1 / 0]
    steady(logger)
    monkeypatch.setattr(sys, "stderr", None)
    logger.warning("a line")


def test_ctrl_c_in_a_handler_is_still_ctrl_c(logger):
    def interrupt(record):
        raise KeyboardInterrupt
    logger.filters = [interrupt]
    steady(logger)
    with pytest.raises(KeyboardInterrupt):
        logger.warning("a line")
