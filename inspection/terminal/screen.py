"""The terminal of ``stoker-top``: its size, its other screen, its keys, and how rich draws lines and tables in it."""

import os
import sys
import termios
import tty
from contextlib import suppress
from typing import Any, List, Sequence, Union

from stoker.inspection.terminal.page import GAP, MAX_CELL, Line, Table

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[?1049l"      # the other screen, without a cursor
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def rendered(parts: Sequence[Union[Line, Table]], width: int, is_text: bool) -> List[str]:
    """The lines of the terminal, cut at ``width``. ``is_text``: without colours."""
    from rich.console import Console
    from rich.text import Text
    overflow: Any = "ellipsis" if is_utf8() else "crop"
    lines = [line for part in parts for line in (aligned(part, width) if isinstance(part, Table) else [part])]
    text = Text(no_wrap=True, overflow=overflow, end="")
    for line in lines:
        for content, style in line:
            text.append(content, style)      # no markup is looked for: names may be anything
        text.append("\n")
    console = Console(file=sys.stdout, width=width, height=len(lines) + 1, force_terminal=not is_text, highlight=False,
                      markup=False, emoji=False, **({"color_system": None} if is_text else {}))
    with console.capture() as captured:
        console.print(text, no_wrap=True, overflow=overflow)
    return [line.rstrip() if is_text else line for line in captured.get().split("\n")[:len(lines)]]


def aligned(table: Table, width: int) -> List[Line]:
    """The lines of a table; the last column has the room that is left. (rich's own tables take five times as long.)"""
    from rich.cells import cell_len, set_cell_size
    titles: Line = [(title, "dim") for title, _ in table.columns]
    rows = [titles] + table.rows
    widths = [min(MAX_CELL, max(cell_len(row[i][0]) for row in rows)) for i in range(len(titles))]
    if not table.columns[-1][1]:
        widths[-1] = width
    lines: List[Line] = []
    for row in rows:
        line: Line = []
        for (content, style), room, (_, is_right) in zip(row, widths, table.columns):
            if cell_len(content) > room:
                content = set_cell_size(content, room - 1) + ("…" if is_utf8() else " ")
            padding = " " * (room - cell_len(content))
            line += [(padding + content if is_right else content + padding, style), (" " * GAP, "")]
        lines.append(line[:-1])
    return lines


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
