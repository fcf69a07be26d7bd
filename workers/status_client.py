"""Asks the status addresses of trainers, again and again, how many workers they want. By HTTP, without proxies."""

import http.client
import os
import re
import threading
import time
from typing import Any, Callable, Dict, Optional, Tuple

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import printable
from stoker.workers.trainers import ANSWER_S, MAX_CHARS, Answer, parse, reachable

STATUS_PATH = "/status.json"
MAX_ANSWER_BYTES = 64 << 10
INTERVAL_S = 0.5       # between two questions


def split_status(address: str) -> Tuple[str, int]:
    """The host and the port of a status address, HOST:PORT or as the trainer logs it. Raises ConfigError."""
    match = re.match(r"(?:http://)?(\[[0-9a-fA-F:.%\w]+\]|[^:/\s\[\]]+):(\d{1,5})(?:/(?:status\.json)?)?$", address)
    if match is None or not 1 <= int(match.group(2)) <= 65535:
        raise ConfigError("--status must look like HOST:PORT, the trainer's status address, not %r" % address)
    host = match.group(1).strip("[]")
    try:
        host.encode("idna")      # also loads that codec here: its import in a thread has failed beside Ray (3.13.0)
    except UnicodeError as error:
        raise ConfigError("--status: %r is no name of a host: %s" % (host, error)) from None
    return host, int(match.group(2))


class StatusThread(threading.Thread):
    """Asks the status address ``host``:``port`` every INTERVAL_S and tells ``answered`` or ``unanswered``, both called
    in this thread. ``token``: see the trainer's --status-token-file. Started at once."""

    def __init__(self, host: str, port: int, token: Optional[str], answered: Callable[[Answer], None],
                 unanswered: Callable[[str], None]) -> None:
        super().__init__(name="stoker-status", daemon=True)
        self._host, self._port, self._answered, self._unanswered = host, port, answered, unanswered
        # the trainer's end waits for the last question of each client: a launcher is one, known by this name
        self._headers = {"Connection": "close", "User-Agent": "stoker-ray/%d" % os.getpid()}
        if token is not None:
            self._headers["Authorization"] = "Bearer " + token
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            began_s = time.monotonic()
            try:
                answer = ask(self._host, self._port, self._headers)
            except Exception as error:      # of the network, or of a library: the next question may be answered
                self._unanswered(_reason(error))
            else:
                self._answered(answer)
            self._ended.wait(max(0.0, began_s + INTERVAL_S - time.monotonic()))

    def end(self) -> None:
        """It asks no more; it may still wait for an answer."""
        self._ended.set()


def ask(host: str, port: int, headers: Dict[str, str]) -> Answer:
    """The answer of a status address, within ANSWER_S for each part of it that the network brings, with the host of
    ``connect`` as workers reach it. Raises OSError, HTTPException, ValueError."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", STATUS_PATH, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            hint = {401: ": give the token that it needs with --status-token-file"}
            raise ValueError("it answers %d %s%s" % (response.status, printable(response.reason)[:MAX_CHARS],
                                                     hint.get(response.status, "")))
        text = response.read(MAX_ANSWER_BYTES + 1)
    finally:
        connection.close()
    if len(text) > MAX_ANSWER_BYTES:
        raise ValueError("its answer is longer than %d bytes" % MAX_ANSWER_BYTES)
    answer = parse(text)
    return answer._replace(connect=reachable(answer.connect, host))


def _reason(error: Any) -> str:
    """Why there was no answer, short and printable."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text)[:MAX_CHARS]
