"""``stoker-top``: what a run does, in a terminal. It asks the trainer's status address again and again.

``page`` decides what is shown; here are the command line, the keys and the network.
"""

import argparse
import os
import re
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Callable, List, NamedTuple, Optional, Sequence

from stoker.inspection.terminal.figures import MAX_BYTES, Figures, parse
from stoker.inspection.terminal.page import ASCII_BARS, BARS, SORTS, Table, View, page
from stoker.inspection.terminal.screen import Terminal, is_utf8, rendered, size
from stoker.pipeline.errors import ConfigError
from stoker.pipeline.output import protect
from stoker.trainer.fleet_options import read_token
from stoker.workers.status_client import StatusThread, fetch, headers_of, reason_of, split_status

DETAILS = "/details.json"
ADDRESS = "127.0.0.1:8265"
TEXT_WIDTH = 160                  # where the output is no terminal
TICK_S = 1.0                      # the time that has passed is shown anew so often
SLOW_S = 10.0                     # longer than an answer may take
EXIT_FAILED, EXIT_USAGE = 1, 2
KEYS = {b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1,
        b"\x1b[5~": -10, b"\x1b[6~": 10, b" ": 10}
EPILOG = """\
examples:
  stoker-top                                    the trainer on this host: stoker-train --status 127.0.0.1:8265
  stoker-top trainer:8265 --token-file token    on another one
  stoker-top --once | head -20                  once, as text
  docker-compose exec trainer stoker-top
  ssh -t trainer stoker-top

Keys: q ends it, as Ctrl-C does; s sorts the workers by state, rate, name or host; the arrows scroll. Where the output
is no terminal, or TERM is dumb, it prints the figures once. It goes on trying while the trainer does not answer, and
ends with the run. Exit codes: 0 the run is over, or q; 1 no answer, with --once; 2 wrong options; 130 Ctrl-C.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="stoker-top", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG, allow_abbrev=False,
        description="Shows in a terminal what a run does: its rate, its bottleneck, its workers, what happened.")
    parser.add_argument("url", nargs="?", default=ADDRESS, metavar="URL",
                        help="status address of the trainer, HOST:PORT or as its log has it (default: %(default)s)")
    parser.add_argument("--token-file", metavar="FILE", default=os.environ.get("STOKER_STATUS_TOKEN_FILE") or None,
                        help="file with the token that the status address needs (default: STOKER_STATUS_TOKEN_FILE)")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S",
                        help="seconds between two questions, at least; the trainer may ask for more (default: 1)")
    parser.add_argument("--once", action="store_true", help="print the figures once, as text, and end")
    return parser


class State(NamedTuple):
    """What is known, and since when: unix times."""
    figures: Optional[Figures]
    problem: str
    since_s: float


def sentence(state: State, now: float) -> str:
    """Why there are no new figures; '' if there are."""
    silent_s, problem = max(0.0, now - state.since_s), state.problem
    if not problem and silent_s > SLOW_S + (state.figures.next_s if state.figures is not None else 0.0):
        problem = "the last question is not answered yet"      # by a server that sends a byte now and then
    if problem:
        return "no answer since %s, for %.0f s: %s. It asks again ..." % (clock(state.since_s), silent_s, problem)
    return "" if state.figures is not None else "it asks for the first time ..."


def clock(unix_s: float) -> str:
    """The time of day, here."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(unix_s))
    except (OverflowError, ValueError, OSError):
        return "?"


def once(ask: Callable[[], Figures], address: str) -> int:
    """Prints the figures as text; returns the exit code."""
    try:
        figures = ask()
    except Exception as error:       # of the network, or of a library
        say("error: no answer from %s: %s" % (address, reason_of(error)))
        return EXIT_FAILED
    is_tty = sys.stdout.isatty()
    width = size().columns if is_tty else TEXT_WIDTH
    print_page(figures, address, width, True)
    return 0


def print_page(figures: Figures, address: str, width: int, is_text: bool) -> None:
    """All lines, in the terminal's ordinary screen or a file. ``is_text``: without colours."""
    view = View(address, width, None, has_keys=False, bars=BARS if is_utf8() else ASCII_BARS)
    print("\n".join(rendered(page(figures, "", view, clock), width, is_text)), flush=True)


class Watch:
    """Shows the figures until the run is over, or a key or a signal ends it."""

    def __init__(self, ask: Callable[[], Figures], address: str, interval_s: float) -> None:
        self._address, self._interval_s, self._ask = address, interval_s, ask
        self._state = State(None, "", time.time())
        self._signals: List[int] = []
        self._sort, self._first = 0, 0
        self._news, self._tell = os.pipe()
        for fd in (self._news, self._tell):
            os.set_blocking(fd, False)

    def run(self) -> int:
        """Returns the exit code."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT,
                       signal.SIGTSTP):
            signal.signal(signum, lambda signum, frame: self._signals.append(signum))
        signal.set_wakeup_fd(self._tell)
        thread = StatusThread(self._ask, self._answered, self._unanswered, self._wait_s)
        try:
            with Terminal() as terminal:
                code = self._loop(terminal)
        finally:
            thread.end()
        figures = self._state.figures
        if code == 0 and figures is not None and figures.over:
            print_page(figures._replace(workers=[], events=[]), self._address, size().columns, False)
        return code

    def _answered(self, figures: Figures) -> None:
        self._state = State(figures, "", time.time())
        self._wake()

    def _unanswered(self, reason: str) -> None:
        self._state = self._state._replace(problem=reason)
        self._wake()

    def _wait_s(self) -> float:
        figures, problem, _ = self._state
        return self._interval_s if figures is None or problem else max(self._interval_s, figures.next_s)

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._tell, b"\0")

    def _loop(self, terminal: Terminal) -> int:
        while True:
            state = self._state
            if state.figures is not None and state.figures.over:
                return 0
            self._show(terminal, state)
            ready, _, _ = select.select([self._news] + [0] * terminal.has_keys, [], [], TICK_S)
            if self._news in ready:
                with suppress(BlockingIOError):
                    os.read(self._news, 4096)
            for signum in self._taken_signals():
                if signum in (signal.SIGWINCH, signal.SIGCONT):
                    terminal.forget()
                elif signum == signal.SIGTSTP:
                    self._suspend(terminal)
                else:
                    return 128 + signum
            if 0 in ready and not self._pressed(terminal.keys()):
                return 0

    def _taken_signals(self) -> List[int]:
        taken, self._signals = self._signals, []
        return taken

    def _pressed(self, keys: bytes) -> bool:
        """Returns whether to go on."""
        for key in re.findall(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", keys, re.DOTALL):
            if key in (b"q", b"Q"):
                return False
            if key == b"s":
                self._sort, self._first = (self._sort + 1) % len(SORTS), 0
            self._first += KEYS.get(key, 0)
        return bool(keys)

    def _show(self, terminal: Terminal, state: State) -> None:
        width, height = size()
        view = View(self._address, width, height, SORTS[self._sort], self._first, terminal.has_keys,
                    BARS if is_utf8() else ASCII_BARS)
        parts = page(state.figures, sentence(state, time.time()), view, clock)
        self._first = max([0] + [part.first for part in parts if isinstance(part, Table)])
        terminal.show(rendered(parts, width, False)[:height])

    @staticmethod
    def _suspend(terminal: Terminal) -> None:
        """Ctrl-Z: the shell has its terminal back until it continues this program."""
        terminal.__exit__()
        os.kill(os.getpid(), signal.SIGSTOP)
        terminal.__enter__()


def say(text: str) -> None:
    """A line for the user."""
    print("stoker-top: " + text, file=sys.stderr, flush=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns the exit code. Exits with code 2 if an option is wrong."""
    protect()
    try:
        return _main(make_parser(), argv)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _main(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]]) -> int:
    args = parser.parse_args(argv)
    try:
        host, port = split_status(args.url, "URL")
        token = None if args.token_file is None else read_token(args.token_file, "--token-file").decode("ascii")
    except ConfigError as error:
        parser.error(str(error))
    if not 0.1 <= args.interval <= 3600:
        parser.error("--interval must be from 0.1 to 3600 seconds")
    try:
        import rich  # noqa: F401
    except ImportError as error:
        say("error: the package rich is missing in %s (%s): pip install 'stoker[top]'" % (sys.executable, error))
        return EXIT_USAGE
    address = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
    headers = headers_of("stoker-top", token)

    def ask() -> Figures:
        return parse(fetch(host, port, DETAILS, headers, MAX_BYTES, "--token-file"))
    has_screen = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown", "")
    if args.once or not has_screen:
        return once(ask, address)
    return Watch(ask, address, args.interval).run()
