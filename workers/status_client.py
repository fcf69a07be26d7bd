"""Asks the status addresses of trainers, again and again: ``stoker-ray`` how many workers they want, ``stoker-top`` for
all that it shows. By HTTP, without proxies."""

import http.client
import os
import re
import threading
import time
from typing import Any, Callable, Dict, Generic, Optional, Tuple, TypeVar

from stoker.pipeline.errors import ConfigError
from stoker.pipeline.text import printable
from stoker.workers.trainers import ANSWER_S, MAX_CHARS, Answer, parse, reachable

STATUS_PATH = "/status.json"
MAX_ANSWER_BYTES = 64 << 10
INTERVAL_S = 0.5       # between two questions

Found = TypeVar("Found")


def split_status(address: str, name: str = "--status") -> Tuple[str, int]:
    """The host and the port of a status address, HOST:PORT or as the trainer logs it. Raises ConfigError, which calls
    it ``name``."""
    match = re.match(r"(?:http://)?(\[[0-9a-fA-F:.%\w]+\]|[^:/\s\[\]]+):(\d{1,5})(?:/(?:status\.json)?)?$", address)
    if match is None or not 1 <= int(match.group(2)) <= 65535:
        raise ConfigError("%s must look like HOST:PORT, the trainer's status address, not %r" % (name, address))
    host = match.group(1).strip("[]")
    try:
        host.encode("idna")      # also loads that codec here: its import in a thread has failed beside Ray (3.13.0)
    except UnicodeError as error:
        raise ConfigError("%s: %r is no name of a host: %s" % (name, host, error)) from None
    return host, int(match.group(2))


class StatusThread(threading.Thread, Generic[Found]):
    """Calls ``ask`` again and again, ``interval_s()`` seconds from one call to the next, and tells ``answered`` or,
    with the reason, ``unanswered``; all in this thread. Started at once."""

    def __init__(self, ask: Callable[[], Found], answered: Callable[[Found], None], unanswered: Callable[[str], None],
                 interval_s: Callable[[], float] = lambda: INTERVAL_S) -> None:
        super().__init__(name="stoker-status", daemon=True)
        self._ask, self._answered, self._unanswered, self._interval_s = ask, answered, unanswered, interval_s
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            began_s = time.monotonic()
            try:
                answer = self._ask()
            except Exception as error:      # of the network, or of a library: the next question may be answered
                self._unanswered(reason_of(error))
            else:
                self._answered(answer)
            self._ended.wait(max(0.0, began_s + self._interval_s() - time.monotonic()))

    def end(self) -> None:
        """It asks no more; it may still wait for an answer."""
        self._ended.set()


def headers_of(program: str, token: Optional[str]) -> Dict[str, str]:
    """Of each request of ``program``. ``token``: see the trainer's --status-token-file."""
    # the trainer's end waits for the last question of each client, which it knows by this name
    headers = {"Connection": "close", "User-Agent": "%s/%d" % (program, os.getpid())}
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    return headers


def fetch(host: str, port: int, path: str, headers: Dict[str, str], most: int,
          token_option: str = "--status-token-file") -> bytes:
    """The page at ``path``, of at most ``most`` bytes, within ANSWER_S for each part of it that the network brings.
    Raises OSError, HTTPException, ValueError."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            said = response.read(MAX_CHARS).decode("utf-8", "replace").strip()
            why = "give the token that it needs with " + token_option if response.status == 401 else said
            raise ValueError("it answers %d %s%s" % (response.status, printable(response.reason)[:MAX_CHARS],
                                                     (": " + printable(why)) * bool(why)))
        text = response.read(most + 1)
    finally:
        connection.close()
    if len(text) > most:
        raise ValueError("its answer is longer than %d bytes" % most)
    return text


def ask(host: str, port: int, headers: Dict[str, str]) -> Answer:
    """The answer of a status address, with the host of ``connect`` as workers reach it. Raises as ``fetch`` does."""
    answer = parse(fetch(host, port, STATUS_PATH, headers, MAX_ANSWER_BYTES))
    return answer._replace(connect=reachable(answer.connect, host))


def reason_of(error: Any) -> str:
    """Why there was no answer, short and printable."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text)[:MAX_CHARS]
