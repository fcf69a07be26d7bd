"""Who hears that a store gives nothing yet: the log of any program; a worker's own line; the trainer of a process that
indexes for it."""

import io
import json
import logging

import pytest

from stoker.pipeline.sources.records import index_process
from stoker.pipeline.storage import folder, opening
from stoker.pipeline.storage.retries import seldom

URL = "http://127.0.0.1:9/data"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(folder, "note_of_store", None)


def note_of(**given):
    return opening.open_store(URL, **given)._note


def test_a_program_logs_it_once_in_a_while(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(opening, "log_wait", seldom(opening.log_wait, lambda: now[0]))
    with caplog.at_level(logging.WARNING, "stoker"):
        for _ in range(3):
            note_of()("reading it gives nothing yet")
    assert caplog.messages == ["reading it gives nothing yet"]


def test_a_worker_prints_it_and_a_caller_may_have_its_own_way(monkeypatch):
    printed, own = [], []
    monkeypatch.setattr(folder, "note_of_store", printed.append)
    note_of()("a")
    note_of(note=own.append)("b")
    assert (printed, own) == (["a"], ["b"])


def test_a_process_that_indexes_hands_it_to_the_trainer(monkeypatch):
    def indexed(request, report):
        note_of()("reading \u00e4 gives nothing yet")
        return b"index"
    monkeypatch.setattr(logging, "disable", lambda level: None)
    monkeypatch.setattr(index_process, "_indexed", indexed)
    replies = io.BytesIO()
    index_process.serve(io.BytesIO(json.dumps({"path": "a"}).encode() + b"\n"), replies)
    data, found = replies.getvalue(), []
    while data:
        kind, length = index_process.HEAD.unpack_from(data)
        found.append((kind, data[index_process.HEAD.size:index_process.HEAD.size + length].decode()))
        data = data[index_process.HEAD.size + length:]
    assert found == [(index_process.HELLO, ""), (index_process.NOTE, "reading \u00e4 gives nothing yet"),
                     (index_process.INDEX, "index")]
