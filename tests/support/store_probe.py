"""Asks stores in an interpreter of its own, so that each client is tested on the Pythons that it is for. A question is
a line of JSON on standard input, its answer a line of standard output."""

import hashlib
import json
import os
import subprocess
import sys
import time

from tests.support.processes import ROOT


class Probe:
    """The process, of the interpreter ``python``."""

    def __init__(self, python):
        self._process = subprocess.Popen([python, "-m", "tests.support.store_probe"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, cwd=ROOT, universal_newlines=True)

    def ask(self, do, root, *arguments, environment=None, limit_s=60.0, noted=None):
        """The answer: {"value": ...} or {"error": its class, "text": ...}, with "notes" and "took_s". ``do``: "read"
        (the bytes' length, SHA-256 and version), "size", "listed" (paths with versions) or "lines" (of a file that is
        opened and read in small parts: its length and SHA-256). ``noted``: called with each note, when it comes."""
        question = dict(do=do, root=root, arguments=arguments, environment=environment or {}, limit_s=limit_s)
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        while True:
            said = json.loads(self._process.stdout.readline())
            if "note" not in said:
                return said
            if noted is not None:
                noted(said["note"])

    def value(self, *arguments, **settings):
        """The value of an answer, which has to be no error."""
        answer = self.ask(*arguments, **settings)
        assert "value" in answer, answer
        return answer["value"]

    def stop(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def digest(data):
    """As in answers about ``data``."""
    return hashlib.sha256(data).hexdigest()


def _answer(store, do, path="", *arguments):
    from stoker.pipeline.storage.remote_file import open_file
    if do == "read":
        data, version = store.read(path, *arguments)
        return [len(data), digest(data), list(version)]
    if do == "size":
        return list(store.size(path).version)
    if do == "listed":
        return [[entry.path, list(entry.version)] for entry in store.listed(path)]
    with open_file(store, path) as file:
        hashed, size = hashlib.sha256(), 0
        for piece in iter(lambda: file.read(9999), b""):
            hashed.update(piece)
            size += len(piece)
        return [size, hashed.hexdigest()]


def _main():
    from stoker.pipeline.errors import StokerError
    from stoker.pipeline.storage import opening
    from stoker.pipeline.storage.store import StoreError
    before = dict(os.environ)

    def note(text):
        notes.append(text)
        sys.stdout.write(json.dumps({"note": text}) + "\n")        # in one piece: threads may note at once
        sys.stdout.flush()

    for line in sys.stdin:
        question = json.loads(line)
        if dict(before, **question["environment"]) != dict(os.environ):
            os.environ.clear()
            os.environ.update(before, **question["environment"])
            opening.forget()
        notes, start = [], time.monotonic()
        try:
            store = opening.open_store(question["root"], note)
            store._limit_s = question["limit_s"]
            answer = {"value": _answer(store, question["do"], *question["arguments"])}
        except (StoreError, StokerError) as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(dict(answer, notes=notes, took_s=time.monotonic() - start)), flush=True)


if __name__ == "__main__":
    _main()
