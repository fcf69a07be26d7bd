"""A store that asks again says so, and not once for each of the many reads that wait for it."""

from stoker.pipeline.storage import retries, retrying
from stoker.pipeline.storage.store import Entry, Version


class Busy:
    """Answers each second call."""
    root = "http://data.example.org/photos"

    def __init__(self):
        self.calls = 0

    def size(self, path):
        self.calls += 1
        if self.calls % 2:
            raise retries.TryAgain("503 Slow Down")
        return Entry(path, Version(1, (0, 0, 0, 0)))


def test_one_note_in_a_while(monkeypatch):
    notes, seconds = [], [1000.0]
    monkeypatch.setattr(retries, "NOTE_AFTER_S", 0.0)
    monkeypatch.setattr(retrying.time, "monotonic", lambda: seconds[0])
    store = retrying.RetryingStore(Busy(), notes.append)
    for _ in range(5):
        store.size("a.jpg")
    assert notes == ["the size of http://data.example.org/photos/a.jpg gives nothing yet (503 Slow Down): it is tried "
                     "again for 60 s"]
    seconds[0] += retrying.NOTE_INTERVAL_S
    store.size("a.jpg")
    assert len(notes) == 2


def test_without_one_who_hears_it():
    assert retrying.RetryingStore(Busy()).size("a.jpg").path == "a.jpg"
