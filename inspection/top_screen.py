"""The terminal of ``stoker-top``: its size, its other screen, its keys, and how rich draws lines and tables in it."""

import os
import sys
import termios
import tty
from contextlib import suppress
from typing import Any, List, Sequence, Union

from stoker.inspection.top_page import MAX_CELL, Line, Table

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"      # the other screen, without a cursor
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def rendered(parts: Sequence[Union[Line, Table]], width: int, is_text: bool) -> List[str]:
    """The lines of the terminal. ``is_text``: without colours."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text
    overflow: Any = "ellipsis" if is_utf8() else "crop"

    def text(spans: Line, end: str = "\n") -> Text:
        made = Text(no_wrap=True, overflow=overflow, end=end)
        for content, style in spans:
            made.append(content, style)      # no markup is looked for: names may be anything
        return made
    console = Console(file=sys.stdout, width=width, height=1000, force_terminal=not is_text, highlight=False,
                      markup=False, emoji=False, **({"color_system": None} if is_text else {}))
    with console.capture() as captured:
        for part in parts:
            if not isinstance(part, Table):
                console.print(text(part), no_wrap=True, overflow=overflow, crop=True)
                continue
            table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True, header_style="dim")
            for title, is_right in part.columns:
                table.add_column(title, justify="right" if is_right else "left", no_wrap=True, overflow=overflow,
                                 max_width=None if title == part.columns[-1][0] else MAX_CELL)
            for row in part.rows:
                table.add_row(*[text([cell], "") for cell in row])
            console.print(table)
    return [line.rstrip() if is_text else line for line in captured.get().rstrip("\n").split("\n")]


def is_utf8() -> bool:
    """Whether the output can have any letter."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"


class Terminal:
    """The terminal's other screen, while in the ``with``; it reads keys if its input is a terminal."""

    def __init__(self) -> None:
        self.has_keys = os.isatty(0)
        self._saved: Any = None
        self._shown: List[str] = []

    def __enter__(self) -> "Terminal":
        if self.has_keys:
            self._saved = termios.tcgetattr(0)
            tty.setcbreak(0)
        self._shown = []
        self._write(ENTER)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._write(LEAVE)
        if self._saved is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._saved)

    def show(self, lines: List[str]) -> None:
        """Replaces what is shown."""
        if lines != self._shown:
            self._shown = lines
            self._write(HOME + "\r\n".join(line + END_OF_LINE for line in lines) + END_OF_SCREEN)

    def keys(self) -> bytes:
        """What was pressed; b"" if the terminal is gone."""
        with suppress(OSError):
            return os.read(0, 1024)
        return b""

    def forget(self) -> None:
        """The size has changed: what is shown has, too."""
        self._shown = []

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def size() -> "os.terminal_size":
    """Of the terminal, in columns and lines. Not what COLUMNS says: that does not change with it."""
    with suppress(OSError):
        found = os.get_terminal_size(1)
        if found.columns > 0 and found.lines > 0:
            return found
    return os.terminal_size((80, 24))
