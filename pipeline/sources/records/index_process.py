"""A process that indexes files for the trainer: which file comes in, which index goes out.

Requests are lines of JSON. A reply is its kind (one byte), the length of its content (uint64), and the content:
HELLO once, then of each file any number of PROGRESS (the bytes read since the last one, in decimal), and INDEX
(``index_bytes``) or ERROR (JSON: the name of the exception and its sentence). NOTE is a line about a store that is
asked again.
"""

import json
import logging
import struct
import threading
import time
from typing import Any, BinaryIO

from stoker.pipeline.errors import ConfigError, DatasetError
from stoker.pipeline.sources.records.formats import VERSIONS
from stoker.pipeline.sources.records.index_bytes import Key, to_bytes
from stoker.pipeline.sources.records.index_one import index_one
from stoker.pipeline.storage import folder
from stoker.pipeline.text import quoted

HELLO, PROGRESS, INDEX, ERROR, NOTE = b"H", b"P", b"I", b"E", b"N"
HEAD = struct.Struct("<cQ")
PROGRESS_S = 0.2            # between two reports
ERRORS = {"ConfigError": ConfigError, "DatasetError": DatasetError}


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Indexes files until there are no more requests."""
    logging.disable(logging.CRITICAL)           # the trainer says it once

    lock = threading.Lock()                     # a note may come from a thread that reads ahead

    def reply(kind: bytes, content: bytes) -> None:
        with lock:
            replies.write(HEAD.pack(kind, len(content)) + content)
            replies.flush()
    folder.note_of_store = lambda line: reply(NOTE, line.encode("utf-8", "backslashreplace"))
    reply(HELLO, b"")
    for line in requests:
        request = json.loads(line.decode("ascii"))
        try:
            reply(INDEX, _indexed(request, lambda count: reply(PROGRESS, b"%d" % count)))
        except (ConfigError, DatasetError) as error:
            reply(ERROR, json.dumps([type(error).__name__, str(error)]).encode("ascii"))
        except MemoryError:
            reply(ERROR, json.dumps(["DatasetError", "there is not enough memory to index %s: give fewer columns, or "
                                     "more memory" % quoted(request["path"])]).encode("ascii"))


def _indexed(request: Any, report: Any) -> bytes:
    counted, next_s = 0, time.monotonic() + PROGRESS_S

    def progress(count: int) -> None:
        nonlocal counted, next_s
        counted += count
        now = time.monotonic()
        if now >= next_s:
            report(counted)
            counted, next_s = 0, now + PROGRESS_S
    name = request["format"]
    indexed = index_one(request["root"], request["path"], name, request["options"], progress)
    return to_bytes(Key.of(name, VERSIONS[name], request["options"], request["path"].rpartition("/")[2]), indexed)
