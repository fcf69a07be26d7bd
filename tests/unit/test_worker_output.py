"""What of the workers' output is kept for an error."""

import pytest

from stoker.trainer.worker_output import MAX_CHARS, MAX_LINES, last_lines


@pytest.mark.parametrize("said, lines", [
    (b"", []),
    (b"\n \n\r\n", []),
    (b"one\ntwo", ["one", "two"]),
    (b"Traceback\n  File \"x\"\n\nKeyError: 'a'\n", ["Traceback", "  File \"x\"", "KeyError: 'a'"]),
    (b"error: no\nworker 0 ended, restart 1\nerror: no\nworker 0 ended, restart 2\nerror: no\n",
     ["worker 0 ended, restart 1", "worker 0 ended, restart 2", "error: no"]),
    (b" 10%\r 50%\r100%\n", [" 10%", " 50%", "100%"]),                          # a progress bar
    (b"\x1b[31mred\x07\n\xff\xc3\xbc\n", ["\\x1b[31mred\\x07", "\ufffd\u00fc"]),
])
def test_the_last_lines_without_what_a_terminal_obeys(said, lines):
    assert last_lines(said) == lines


def test_as_much_as_an_error_can_show():
    found = last_lines(b"".join(b"x" * 9999 + b"end %d\n" % number for number in range(99)))
    assert len(found) == MAX_LINES and {len(line) for line in found} == {MAX_CHARS}
    assert [line[-8:] for line in found] == ["xxend %d" % number for number in range(89, 99)]
